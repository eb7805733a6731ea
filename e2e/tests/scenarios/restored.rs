//! Weights that come back from the past, as from a snapshot of etcd: edges do not take them, and the operator finds its
//! way above what edges have seen.

use e2e::harness::{
    Doing as _, Error,
    evidence::Evidence,
    fleet::{EDGE, Fleet, Plan},
    namespace::Namespace,
    scenario::{Turn, scenario},
    traffic::{Mix, Traffic},
    wait::{self, Seen},
};
use kube::api::{DeleteParams, PostParams};
use std::time::Duration;
use stomaton_crds::v1alpha1::EdgeWeights;

const LIMIT: Duration = Duration::from_secs(60);
const PLAN: &str = "steps";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn weights_of_the_past_move_nobody_and_do_not_mute_the_operator() {
    scenario("restored", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        // Needs more answers than there are until the load begins: it waits at each weight for the traffic.
        let ramp = vec![(250, "1s"), (500, "1s"), (750, "1h"), (1000, "1h")];
        let plan = Plan { name: PLAN, ramp, min_requests: 20, cooldown: "1s", max_attempts: 1 };
        fleet.apply_plan(&plan).await?;
        fleet.route_is(PLAN, "the first weight", LIMIT, |r| r.weights.applied == 250).await?;
        let past = namespace.api::<EdgeWeights>().get(EDGE).await.doing("read the weights")?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(150)).await?;
        fleet.route_is(PLAN, "the third weight", LIMIT, |r| r.weights.applied == 750).await?;

        let restored = async || {
            restore(namespace, &past).await?;
            traffic.goes_on(600).await
        };
        namespace.harness.without_operator(restored).await?;
        let seen = fleet.edge_states().await?.values().map(|state| state.seen.weights).max().unwrap_or(0);
        let what = "the third weight to be acknowledged at a revision above all that edges have seen";
        let weights = namespace.api::<EdgeWeights>();
        wait::object(&weights, EDGE, what, LIMIT, |found| {
            let revision = found.map_or(0, |found| found.spec.revision);
            Seen::when(revision >= seen && revision > past.spec.revision, || format!("revision {revision}"))
        })
        .await?;
        wait::until("every edge pod to serve it", LIMIT, async || {
            let revision = weights.get(EDGE).await.doing("read the weights")?.spec.revision;
            let states = fleet.edge_states().await?;
            let behind = states.values().find(|s| s.applied.weights != revision || s.refused.is_some());
            Ok(Seen::when(behind.is_none() && !states.is_empty(), || format!("{revision}, not {behind:?}")))
        })
        .await?;
        traffic.goes_on(300).await?;

        let records = traffic.finish().await?;
        let status = fleet.plan_status(PLAN).await?;
        let evidence = Evidence { records: &records, status: &status };
        evidence.nothing_lost()?;
        let stale = evidence.stale();
        assert!(stale.checked > 600, "only {} answers prove anything", stale.checked);
        match stale.stale.first() {
            None => Ok(()),
            Some(first) => Err(Error::Broken(format!("moved by the past: {}", first.to_line()))),
        }
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
