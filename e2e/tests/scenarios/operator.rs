//! The operator dies or is away: traffic does not notice, and the plan goes on where it was.

use e2e::harness::{
    Doing as _, Error,
    evidence::Evidence,
    fleet::{Fleet, Plan},
    scenario::{Turn, scenario},
    traffic::{Mix, Traffic},
    wait::{self, Seen},
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};
use stomaton_crds::v1alpha1::Phase;

const KILLS: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_plan_finishes_although_operator_and_agent_are_killed() {
    // `STOMATON_SEED` repeats the moments of an earlier run.
    let given = std::env::var("STOMATON_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| RandomState::new().hash_one("seed") % 1_000_000);
    println!("STOMATON_SEED={seed}");
    // Any spread will do: a multiplicative hash of seed and kill.
    let moment =
        |kill: u64| Duration::from_millis((seed + kill).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 & 0xfff);

    scenario("kills", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(200)).await?;
        let ramp = (1..=8).map(|step| (step * 125, "3s")).collect();
        let plan = Plan { name: "kills", ramp, min_requests: 20, cooldown: "1s", max_attempts: 1 };
        fleet.apply_plan(&plan).await?;
        let limit = Duration::from_secs(60);
        fleet.route_is("kills", "the ramp to begin", limit, |r| r.weights.applied > 0).await?;

        for kill in 0..KILLS {
            tokio::time::sleep(moment(kill)).await;
            let status = fleet.plan_status("kills").await?;
            let phase = status.routes.first().map(|r| r.phase);
            assert_eq!(phase, Some(Phase::Ramp), "kill {kill} comes too late to prove anything");
            let killed = namespace.harness.kill_operator().await?;
            println!("kill {kill} of the operator: {killed}, at {:?}", status.summary.now);
            if kill == 1 {
                let edges = fleet.edge_pods().await?;
                let edge = &edges[seed as usize % edges.len()];
                println!("kill of the agent of {edge}");
                namespace.harness.kill(&namespace.api::<Pod>(), edge, "agent").await?;
            }
        }
        let limit = Duration::from_secs(180);
        let status = fleet.route_is("kills", "the plan to finish", limit, |r| r.phase == Phase::Done).await?;
        let records = traffic.finish().await?;
        let evidence = Evidence { records: &records, status: &status };
        println!("{} requests, {} lost", records.len(), evidence.lost().len());
        evidence.nothing_lost()?;
        let back = status.history.iter().filter(|t| t.phase == Phase::RollingBack).count();
        assert_eq!(back, 0, "a kill of the operator is no reason to roll back");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn without_an_operator_the_edge_serves_on_and_a_new_edge_pod_takes_its_place() {
    scenario("away", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let ramp = vec![(500, "1h"), (1000, "1h")];
        let plan = Plan { name: "half", ramp, min_requests: 20, cooldown: "1s", max_attempts: 1 };
        fleet.apply_plan(&plan).await?;
        let limit = Duration::from_secs(60);
        fleet
            .route_is("half", "half of the route to be on the service", limit, |r| r.weights.applied == 500)
            .await?;

        namespace.harness.without_operator(async || alone(&fleet).await).await?;
        fleet.edge_is_ready().await
    })
    .await;
}

/// What holds while there is no operator.
async fn alone(fleet: &Fleet<'_>) -> Result<(), Error> {
    let (namespace, status) = (fleet.namespace, fleet.plan_status("half").await?);
    let revision = status.routes.first().map_or(0, |route| route.revision);
    let before = fleet.edge_pods().await?;
    let through = Traffic::start(fleet, Mix::of_all_kinds(150)).await?;

    let pods = namespace.api::<Pod>();
    pods.delete(&before[0], &DeleteParams::default()).await.doing("delete an edge pod")?;
    let what = "a new edge pod to serve with the last weights";
    let new = wait::until(what, Duration::from_secs(90), async || {
        let states = fleet.edge_states().await?;
        let new = states.into_iter().find(|(pod, _)| !before.contains(pod));
        Ok(match new {
            Some((pod, state)) if state.applied.weights == revision => Seen::Yes(pod),
            Some((pod, state)) => Seen::NotYet(format!("{pod} applied {:?}", state.applied)),
            None => Seen::NotYet("there is none that is Ready".into()),
        })
    })
    .await?;
    // New clients, some of which meet the new pod.
    let after = Traffic::start(fleet, Mix::of_all_kinds(150)).await?;
    after.reaches(1500, Duration::from_secs(30)).await?;

    let (through, after) = (through.finish().await?, after.finish().await?);
    let records: Vec<_> = through.into_iter().chain(after).collect();
    let evidence = Evidence { records: &records, status: &status };
    evidence.nothing_lost()?;
    let of_new: Vec<_> = records.iter().filter(|r| r.pod() == Some(&new)).cloned().collect();
    let stale = Evidence { records: &of_new, status: &status };
    println!("{} requests, {} of them through the new pod", records.len(), of_new.len());
    assert!(stale.stale().checked > 100, "the new pod answered only {} requests", stale.stale().checked);
    assert_eq!(evidence.stale().stale, Vec::<&e2e::load::record::Record>::new());
    Ok(())
}
