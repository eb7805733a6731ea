//! The rollback that nobody can hold up: the operator is down, the API server is, an agent is.

use e2e::{
    harness::{
        Doing as _, Error,
        evidence::Evidence,
        fleet::{EDGE, Fleet, Plan},
        scenario::{Turn, scenario},
        traffic::{Mix, Traffic},
        wait::{self, Seen},
    },
    load::{
        judge::{Guard, breach, last_service_decision_after},
        record::{Record, Side},
    },
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use stomaton_crds::v1alpha1::{Gateway, MigrationPlanStatus, Phase, RouteStatus};

const LIMIT: Duration = Duration::from_secs(60);
const PLAN: &str = "half";
/// From a breach to the last decision for the service.
const BACK_WITHIN_MICROS: u64 = 250_000;
/// The same for a pod that does not hear: 5 s until it is deleted, 4 s until it lets its users go, and slack.
const LEFT_WITHIN_MICROS: u64 = 20_000_000;

/// Half of the route is on the service, for long.
async fn at_half(fleet: &Fleet<'_>, guard: &Guard) -> Result<MigrationPlanStatus, Error> {
    let ramp = vec![(500, "1h"), (1000, "1h")];
    let plan = Plan { name: PLAN, ramp, min_requests: 20, cooldown: "1s", max_attempts: 1 };
    let mut object = plan.object();
    let window = format!("{}ms", guard.window_ms);
    object["spec"]["guards"] = json!([{
        "name": "bad-answers", "minBad": guard.min_bad, "badPermille": guard.bad_permille, "window": window,
    }]);
    fleet.namespace.apply_object(&object).await?;
    fleet.route_is(PLAN, "half of the route to be on the service", LIMIT, |r| r.weights.applied == 500).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn without_an_operator_each_edge_pod_takes_the_route_back_and_a_new_one_never_gives_it() {
    scenario("unattended", Turn::Alone, async |namespace| {
        namespace.grant().await?;
        let fleet = Fleet::deploy(namespace).await?;
        at_half(&fleet, &Plan::GUARD).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(200)).await?;
        let mut of_new = Vec::new();
        namespace
            .harness
            .without_operator(async || {
                fleet.break_content(500).await?;
                is_left(&traffic).await?;
                of_new = through_a_new_pod(&fleet).await?;
                Ok(())
            })
            .await?;
        // The operator that comes back learns of it from the edge.
        fleet.route_is(PLAN, "the rollback", LIMIT, |r| r.phase == Phase::RolledBack).await?;
        let records = traffic.finish().await?;

        let evidence = Evidence { records: &records, status: &MigrationPlanStatus::default() };
        evidence.nothing_lost()?;
        let edges: BTreeSet<_> = records.iter().filter_map(|r| r.pod()).collect();
        let broke = edges.iter().filter_map(|edge| Some((edge, last_decision(&records, edge)?)));
        let broke: Vec<_> = broke.collect();
        println!("last decision for the service after each pod's own breach, in us: {broke:?}");
        for (edge, last) in &broke {
            assert!(*last <= BACK_WITHIN_MICROS, "{edge} chose the service {last} us after its breach");
        }
        assert!(broke.len() >= 2, "fewer than two edge pods saw a breach");
        let given = of_new.iter().filter(|r| r.side() == Some(Side::Service)).count();
        assert_eq!(given, 0, "of {} requests after the rollback", of_new.len());
        Ok(())
    })
    .await;
}

/// How long after the breach that an edge pod could see itself it still chose the service, in microseconds. `None`: it saw
/// none.
fn last_decision(records: &[Record], edge: &str) -> Option<u64> {
    let of_edge = || records.iter().filter(|r| r.pod() == Some(edge));
    let at = breach(&Plan::GUARD, of_edge())?;
    last_service_decision_after(at, u64::MAX, of_edge()).get(edge).copied()
}

/// Waits until nobody is sent to the service any more.
async fn is_left(traffic: &Traffic<'_>) -> Result<(), Error> {
    wait::until("the service to be left", LIMIT, async || {
        let mut records = traffic.records().await?;
        records.sort_by_key(|r| r.sent_micros);
        let last = records.len().saturating_sub(200);
        let on_it = records[last..].iter().filter(|r| r.side() == Some(Side::Service)).count();
        Ok(Seen::when(on_it == 0, || format!("{on_it} of the last requests went there")))
    })
    .await
}

/// Replaces an edge pod, and gives what clients saw after that, some of them through the new one.
async fn through_a_new_pod(fleet: &Fleet<'_>) -> Result<Vec<Record>, Error> {
    let before = fleet.edge_pods().await?;
    let pods = fleet.namespace.api::<Pod>();
    pods.delete(&before[0], &DeleteParams::default()).await.doing("delete an edge pod")?;
    wait::until("a new edge pod to be Ready", Duration::from_secs(90), async || {
        let now = fleet.edge_pods().await?;
        let new = now.iter().filter(|pod| !before.contains(pod)).count();
        Ok(Seen::when(new == 1 && now.len() == before.len(), || format!("{now:?}")))
    })
    .await?;
    let traffic = Traffic::start(fleet, Mix::of_all_kinds(150)).await?;
    traffic.goes_on(600).await?;
    traffic.finish().await
}

/// 150 bad answers: at 100 requests/s, a weight of a half and a service that fails every second time, after 6 s; a pod
/// that has half of the traffic would take 12 s by itself.
const SLOW: Guard = Guard { min_bad: 150, bad_permille: 200, window_ms: 60_000 };

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn without_an_api_server_the_operator_tells_the_edge_pods_itself() {
    scenario("mute", Turn::Alone, async |namespace| {
        namespace.grant().await?;
        let fleet = Fleet::deploy(namespace).await?;
        let status = at_half(&fleet, &SLOW).await?;
        let traffic = Traffic::start(&fleet, Mix { pods: 4, ..Mix::of_all_kinds(100) }).await?;
        // The breach comes 3 s into the stop; an operator that cannot renew its Lease for 7 s ends.
        let breaks = async || fleet.break_content(500).await.map(drop);
        let stopped = namespace.harness.pause_api_server(3, 8, breaks).await?;
        fleet.route_is(PLAN, "the rollback", LIMIT, |r| r.phase == Phase::RolledBack).await?;
        fleet.mend_content().await?;
        let records = traffic.finish().await?;
        Evidence { records: &records, status: &status }.nothing_lost()?;
        let id = status.routes.first().map(|route| route.id.as_str());
        let of_route = || records.iter().filter(|r| r.route() == id);
        let at = breach(&SLOW, of_route()).ok_or_else(|| Error::Broken("no client saw a breach".into()))?;
        assert!(
            stopped.contains(&at),
            "the breach at {at} was not while the API server was stopped {stopped:?}"
        );
        for (edge, last) in last_service_decision_after(at, u64::MAX, of_route()) {
            println!("{edge}: last decision for the service {last} us after the breach");
            assert!(last <= BACK_WITHIN_MICROS, "{edge} chose the service {last} us after the breach");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn an_edge_pod_whose_agent_is_stopped_is_named_and_deleted_and_nobody_stays_on_the_service() {
    scenario("stopped", Turn::Alongside, async |namespace| {
        namespace.grant().await?;
        let fleet = Fleet::deploy(namespace).await?;
        at_half(&fleet, &Plan::GUARD).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(200)).await?;
        let edges = fleet.edge_pods().await?;
        let (stopped, pods) = (&edges[0], namespace.api::<Pod>());
        let mut status = MigrationPlanStatus::default();
        let breaks = async || {
            is_named(&fleet, stopped).await?;
            fleet.break_content(500).await?;
            let named =
                |r: &RouteStatus| r.phase == Phase::RollingBack && r.waits_for.contains(stopped.as_str());
            fleet.route_is(PLAN, "the plan to name the pod that does not follow", LIMIT, named).await?;
            let what = "the rollback, although one agent is stopped";
            // Acknowledged by all means: the pod is gone, and a stopped agent makes it take its whole grace period.
            status = fleet.route_is(PLAN, what, 2 * LIMIT, |r| r.phase == Phase::RolledBack).await?;
            wait::object(&pods, stopped, &format!("{stopped} to be deleted"), LIMIT, |pod| {
                let deleted = pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
                Seen::when(deleted, || "it is not".into())
            })
            .await?;
            traffic.goes_on(600).await
        };
        namespace.harness.pause(&pods, stopped, "agent", 60, breaks).await?;
        assert!(fleet.edge_pods().await?.contains(&edges[1]), "the other pod was deleted, too");
        let records = traffic.finish().await?;
        let evidence = Evidence { records: &records, status: &status };
        evidence.nothing_lost()?;
        let stale = evidence.stale();
        assert!(stale.checked > 600, "only {} answers prove anything", stale.checked);
        assert_eq!(stale.stale, Vec::<&Record>::new(), "on the service after the rollback");
        for edge in &edges {
            let last =
                last_decision(&records, edge).ok_or_else(|| Error::Broken(format!("{edge}: no breach")))?;
            println!("{edge}: last decision for the service {last} us after its breach");
            let within = if edge == stopped { LEFT_WITHIN_MICROS } else { BACK_WITHIN_MICROS };
            assert!(last <= within, "{edge} chose the service {last} us after its breach");
        }
        Ok(())
    })
    .await;
}

/// Waits until the Gateway's status names this pod.
async fn is_named(fleet: &Fleet<'_>, pod: &str) -> Result<(), Error> {
    let gateways = fleet.namespace.api::<Gateway>();
    wait::object(&gateways, EDGE, "the Gateway to name the pod", LIMIT, |gateway| {
        let behind =
            gateway.and_then(|g| g.status.as_ref()).map(|s| s.pods_behind.clone()).unwrap_or_default();
        Seen::when(behind.iter().any(|named| named.pod == pod), || format!("{behind:?}"))
    })
    .await
}
