use super::*;
use crate::controllers::gateway::Error;
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::{
    edge_state::{Applied as Revisions, EdgeState},
    v1alpha1::DroppedRoute,
};

fn gateway() -> Gateway {
    serde_json::from_value(json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": "fleet", "uid": "u", "generation": 4},
        "spec": {"defaultBackend": {"name": "mono"}, "service": {"port": 8080}},
    }))
    .unwrap()
}

fn applied(ready: i32) -> Outcome {
    outcome(ready, Problems::default())
}

fn outcome(ready: i32, problems: Problems) -> Outcome {
    let deployment: Value = json!({
        "metadata": {"name": "edge-edge", "generation": 1},
        "spec": {"replicas": 2, "selector": {}, "template": {}},
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": ready},
    });
    let deployment = serde_json::from_value(deployment).unwrap();
    let applied = Applied { deployment, words: None, kills: true, revision: Some(7), limits: None };
    Outcome::Applied { applied: Box::new(applied), problems }
}

/// A pod that serves `config`; 0: it is not heard.
fn pod(name: &str, config: i64, refused: Option<&str>) -> EdgePod {
    let state = EdgeState {
        applied: Revisions { config, weights: 0 },
        refused: refused.map(Into::into),
        ..EdgeState::default()
    };
    EdgePod {
        name: name.into(),
        ready: true,
        terminating: false,
        state: (config > 0).then_some(state),
        silent_for: (config > 0).then_some(Duration::ZERO),
    }
}

fn view(pods: &[EdgePod]) -> EdgeView {
    EdgeView { pods: pods.to_vec() }
}

fn said(outcome: &Outcome, edges: &EdgeView) -> (GatewayStatus, Vec<String>) {
    let status = status(&gateway(), outcome, edges, Timestamp::UNIX_EPOCH);
    let say = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        format!("{}={} {}", c.type_, c.status, c.reason)
    };
    let conditions = status.conditions.iter().map(say).collect();
    (status, conditions)
}

#[test]
fn ready_is_when_every_pod_serves_the_newest_structure() {
    let (status, conditions) = said(&applied(2), &view(&[pod("a", 7, None), pod("b", 7, None)]));
    assert_eq!(conditions, ["Ready=True AsSpecified", "Programmed=True AsSpecified"]);
    assert_eq!(status.pods_in_sync.as_deref(), Some("2/2"));
    assert_eq!((status.config_revision, status.observed_generation), (Some(7), Some(4)));
    assert_eq!(status.address.as_deref(), Some("edge-edge.fleet.svc:8080"));
    assert_eq!(status.pods_behind, []);
}

#[test]
fn pods_that_lag_are_named_and_the_edge_stays_usable() {
    let mut silent = pod("c", 7, None);
    silent.silent_for = Some(Duration::from_secs(60));
    let edges = view(&[pod("a", 7, None), pod("b", 6, None), silent, pod("d", 0, None)]);
    let (status, conditions) = said(&applied(2), &edges);
    assert_eq!(
        conditions,
        ["Ready=True WaitingForEdge", "Reconciling=True WaitingForEdge", "Programmed=False WaitingForEdge"]
    );
    assert_eq!(status.pods_in_sync.as_deref(), Some("1/4"));
    let behind: Vec<_> = status.pods_behind.iter().map(|p| (p.pod.as_str(), p.message.as_str())).collect();
    assert_eq!(
        behind,
        [
            ("b", "still serves revision 6"),
            ("c", "silent: its agent was heard before and is not now"),
            ("d", "its agent has not been heard yet"),
        ]
    );
    assert_eq!(
        status.conditions[0].message,
        "3 of 4 edge pods do not serve revision 7: b still serves revision 6"
    );
}

#[test]
fn a_pod_that_refuses_calls_for_a_person_in_its_own_words() {
    let edges = view(&[pod("a", 7, None), pod("b", 6, Some("nginx: no"))]);
    let (status, conditions) = said(&applied(2), &edges);
    assert_eq!(conditions[..2], ["Ready=False EdgeRefused", "Stalled=True EdgeRefused"]);
    let message = "edge pod b refuses the configuration and serves the previous one: nginx: no";
    assert_eq!(status.conditions[0].message, message);
    assert_eq!(status.pods_behind[0].message, "refused: nginx: no");
}

#[test]
fn pods_that_do_not_start_come_before_what_the_others_serve() {
    let (_, conditions) = said(&applied(1), &view(&[pod("a", 7, None)]));
    assert_eq!(
        conditions,
        ["Ready=False RollingOut", "Reconciling=True RollingOut", "Programmed=True AsSpecified"]
    );
    let (_, conditions) = said(&applied(2), &view(&[]));
    let waiting =
        ["Ready=False WaitingForEdge", "Reconciling=True WaitingForEdge", "Programmed=False WaitingForEdge"];
    assert_eq!(conditions, waiting);
}

#[test]
fn dropped_routes_are_told_apart_by_whether_a_person_is_needed() {
    let dropped = vec![DroppedRoute { name: "r".into(), message: "why".into() }];
    let edges = view(&[pod("a", 7, None), pod("b", 7, None)]);
    for (stuck, expected) in [(true, "Ready=False RoutesDropped"), (false, "Ready=True RoutesDropped")] {
        let problems = Problems { dropped: dropped.clone(), stuck, ..Problems::default() };
        let (status, conditions) = said(&outcome(2, problems), &edges);
        assert_eq!(conditions[0], expected);
        assert_eq!(status.dropped_routes, dropped);
        assert_eq!(
            status.conditions[0].message,
            "1 of the routes are not served as written, see `status.droppedRoutes`; r: why"
        );
    }
}

#[test]
fn what_an_older_gateway_has_is_a_conflict() {
    let dropped = vec![DroppedRoute { name: "r".into(), message: "claimed".into() }];
    let problems = Problems { dropped, stuck: true, conflicted: true, ..Problems::default() };
    let (_, conditions) = said(&outcome(2, problems), &view(&[pod("a", 7, None), pod("b", 7, None)]));
    assert_eq!(conditions[..2], ["Ready=False Conflicted", "Stalled=True Conflicted"]);
}

#[test]
fn a_missing_default_backend_comes_before_everything() {
    let summary = Summary { state: State::Stalled, reason: Reason::NotFound, message: "gone".into() };
    let problems = Problems { default_backend: Some(summary), ..Problems::default() };
    let (_, conditions) = said(&outcome(0, problems), &view(&[]));
    assert_eq!(conditions[..2], ["Ready=False NotFound", "Stalled=True NotFound"]);
}

#[test]
fn a_failed_pass_forgets_nothing() {
    let mut gateway = gateway();
    gateway.status = Some(GatewayStatus {
        config_revision: Some(3),
        pods_in_sync: Some("2/2".into()),
        ..GatewayStatus::default()
    });
    let failed = Outcome::Failed(Error::Gather(crate::api::Error::Timeout { doing: "list".into() }));
    let next = status(&gateway, &failed, &EdgeView::default(), Timestamp::UNIX_EPOCH);
    assert_eq!((next.config_revision, next.pods_in_sync.as_deref()), (Some(3), Some("2/2")));
    assert_eq!(next.conditions[0].reason, "ApiError");
}
