//! Weights that come back from the past, as from a snapshot of etcd: edges do not take them, and a rollback after it is
//! not mute, since its revision is above all that edges have seen.

use e2e::harness::{
    Doing as _, Error,
    evidence::Evidence,
    fleet::{EDGE, Fleet, Plan},
    namespace::Namespace,
    scenario::{Turn, scenario},
    traffic::{Mix, Traffic},
};
use kube::api::{DeleteParams, PostParams};
use std::time::Duration;
use stomaton_crds::v1alpha1::{EdgeWeights, Phase};

const LIMIT: Duration = Duration::from_secs(60);
const PLAN: &str = "steps";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn weights_of_the_past_move_nobody_and_do_not_mute_a_rollback() {
    scenario("restored", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        // Without answers no weight is left: the first one waits for the load.
        let ramp = vec![(250, "1s"), (500, "1s"), (750, "1h"), (1000, "1h")];
        let plan = Plan { name: PLAN, ramp, min_requests: 20, cooldown: "1s", max_attempts: 1 };
        fleet.apply_plan(&plan).await?;
        fleet.route_is(PLAN, "the first weight", LIMIT, |r| r.weights.applied == 250).await?;
        let past = namespace.api::<EdgeWeights>().get(EDGE).await.doing("read the weights")?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(150)).await?;
        fleet.route_is(PLAN, "the third weight", LIMIT, |r| r.weights.applied == 750).await?;

        let restored = async || {
            namespace.harness.past_admission(namespace, async || restore(namespace, &past).await).await?;
            traffic.goes_on(600).await
        };
        namespace.harness.without_operator(restored).await?;
        fleet.break_content(500).await?;
        let status = fleet.route_is(PLAN, "the rollback", LIMIT, |r| r.phase == Phase::RolledBack).await?;
        fleet.mend_content().await?;
        traffic.goes_on(300).await?;

        let records = traffic.finish().await?;
        let evidence = Evidence { records: &records, status: &status };
        evidence.nothing_lost()?;
        let stale = evidence.stale();
        assert!(stale.checked > 600, "only {} answers prove anything", stale.checked);
        if let Some(first) = stale.stale.first() {
            return Err(Error::Broken(format!("moved by the past: {}", first.to_line())));
        }
        let rollbacks: Vec<_> = evidence.rollbacks(&Plan::GUARD).into_iter().flatten().collect();
        assert_eq!(rollbacks.len(), 1, "rollbacks whose breach clients saw");
        for (edge, after) in &rollbacks[0].last_decision {
            println!("{edge}: last decision for the service {after} us after the breach");
            assert!(*after < 1_000_000, "{edge} chose the service {after} us after the breach");
        }
        Ok(())
    })
    .await;
}

/// Puts an earlier object in the place of the present one.
async fn restore(namespace: &Namespace<'_>, past: &EdgeWeights) -> Result<(), Error> {
    let weights = namespace.api::<EdgeWeights>();
    weights.delete(EDGE, &DeleteParams::default()).await.doing("delete the weights")?;
    let mut object = EdgeWeights::new(EDGE, past.spec.clone());
    object.metadata.owner_references = past.metadata.owner_references.clone();
    weights.create(&PostParams::default(), &object).await.map(drop).doing("restore the weights")
}
