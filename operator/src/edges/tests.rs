//! The shared picture: who counts, what is acknowledged, and that an alarm is raised once an attempt.

use super::*;
use stomaton_crds::edge_state::{Applied, Counts, Sides, Stretch, Why};
use stomaton_crds::v1alpha1::RouteWeights;

fn gateway() -> Key {
    Key::new("edge").within("shop")
}

fn armed(attempt: i32) -> Armed {
    let window = Duration::from_secs(10).into();
    Armed {
        plan: ObjectRef::new("plan").within("shop"),
        route: "content".into(),
        attempt,
        group: Vec::new(),
        from: Timestamp::from_second(0).unwrap(),
        guards: vec![Guard { name: "bad-answers".into(), min_bad: 5, bad_permille: 200, window }],
        safe_ready: true,
    }
}

fn says(revision: i64) -> EdgeWeightsSpec {
    EdgeWeightsSpec { revision, routes: BTreeMap::new() }
}

fn line(weights: i64, bad: u64) -> EdgeState {
    let sides = Sides { service: Counts { requests: bad, bad, ..Counts::default() }, ..Sides::default() };
    EdgeState {
        boot: "b".into(),
        applied: Applied { config: 1, weights },
        weights_digest: says(weights).digest(),
        seen: Applied { config: 1, weights },
        counters: [("r".to_owned(), [("public".to_owned(), sides)].into())].into(),
        ..EdgeState::default()
    }
}

#[test]
fn acknowledged_is_what_every_pod_serves_and_a_silent_pod_serves_nothing_we_know() {
    let (edges, _alarms) = Edges::new();
    let acknowledges = |revision| edges.view(&gateway()).acknowledges(&says(revision));
    assert!(!acknowledges(7), "no pod acknowledges nothing");
    edges.pod_seen(&gateway(), "p1", true, false);
    edges.state_received(&gateway(), "p1", line(7, 0));
    assert!(acknowledges(7));
    edges.pod_seen(&gateway(), "p2", false, true);
    assert!(!acknowledges(7), "a terminating pod still serves");
    edges.state_received(&gateway(), "p2", line(6, 0));
    assert!(!acknowledges(7) && !acknowledges(6));
    assert_eq!(edges.view(&gateway()).weights_seen(), 7);
    edges.pod_gone(&gateway(), "p2");
    assert!(acknowledges(7));
}

#[test]
fn the_same_revision_that_said_something_else_acknowledges_nothing() {
    let (edges, _alarms) = Edges::new();
    edges.pod_seen(&gateway(), "p", true, false);
    edges.state_received(&gateway(), "p", line(7, 0));
    let routes = [("r".to_owned(), RouteWeights { latched: true, ..RouteWeights::default() })].into();
    assert!(!edges.view(&gateway()).acknowledges(&EdgeWeightsSpec { revision: 7, routes }));
}

#[test]
fn ready_is_a_pod_that_users_are_sent_to() {
    let (edges, _alarms) = Edges::new();
    assert_eq!(edges.ready(&gateway()).now, 0);
    for (pod, ready, terminating) in [("p1", true, false), ("p2", true, false), ("p3", false, false)] {
        edges.pod_seen(&gateway(), pod, ready, terminating);
    }
    assert_eq!(edges.ready(&gateway()).now, 2);
    edges.pod_seen(&gateway(), "p2", true, true);
    assert_eq!(edges.ready(&gateway()).now, 1);
    edges.pod_seen(&gateway(), "p3", true, false);
    edges.pod_gone(&gateway(), "p1");
    assert_eq!(edges.ready(&gateway()), Lately { now: 1, most: None });
}

#[test]
fn a_silent_pod_still_says_what_it_has_seen() {
    let mut view = EdgeView {
        pods: vec![EdgePod {
            name: "p".into(),
            ready: true,
            terminating: false,
            state: Some(line(9, 0)),
            silent_for: Some(SILENT_AFTER),
        }],
    };
    assert_eq!((view.acknowledges(&says(9)), view.weights_seen()), (false, 9));
    view.pods[0].silent_for = Some(Duration::ZERO);
    assert!(view.acknowledges(&says(9)));
}

#[test]
fn an_alarm_is_raised_once_an_attempt() {
    let (edges, mut alarms) = Edges::new();
    edges.pod_seen(&gateway(), "p", true, false);
    edges.state_received(&gateway(), "p", line(1, 0));
    edges.arm(&gateway(), "r", armed(1));
    edges.state_received(&gateway(), "p", line(1, 4));
    assert!(alarms.try_recv().is_err());
    edges.state_received(&gateway(), "p", line(1, 5));
    assert_eq!(alarms.try_recv().unwrap().breach.bad, 5);
    edges.state_received(&gateway(), "p", line(1, 50));
    edges.arm(&gateway(), "r", armed(1));
    assert!(alarms.try_recv().is_err(), "still the same attempt");
    assert!(edges.breach(&gateway(), "r").is_some());
    edges.arm(&gateway(), "r", Armed { from: Timestamp::now(), ..armed(2) });
    assert!(edges.breach(&gateway(), "r").is_none(), "a new attempt begins unbreached");
}

#[test]
fn a_route_that_is_no_longer_guarded_raises_nothing() {
    let (edges, mut alarms) = Edges::new();
    edges.pod_seen(&gateway(), "p", true, false);
    edges.state_received(&gateway(), "p", line(1, 0));
    edges.arm(&gateway(), "r", armed(1));
    edges.disarm_others(&gateway(), &armed(1).plan, &[]);
    edges.state_received(&gateway(), "p", line(1, 50));
    assert!(alarms.try_recv().is_err());
}

fn latched(attempt: i32) -> EdgeState {
    let counted = Some(Stretch { bad: 4, requests: 4, over_millis: 90 });
    let latch = Latch { attempt, revision: 8, why: Why::NoEndpoints, at_micros: 0, counted };
    EdgeState { latches: [("r".to_owned(), latch)].into(), ..line(7, 0) }
}

#[test]
fn what_an_edge_pod_latched_is_a_breach_of_that_attempt() {
    let (edges, mut alarms) = Edges::new();
    edges.pod_seen(&gateway(), "p1", true, false);
    edges.pod_seen(&gateway(), "p2", false, true);
    edges.state_received(&gateway(), "p1", line(7, 0));
    edges.arm(&gateway(), "r", armed(2));
    edges.state_received(&gateway(), "p2", latched(1));
    assert!(alarms.try_recv().is_err(), "of an earlier attempt");
    assert_eq!(edges.view(&gateway()).weights_seen(), 8, "what ends a latch must be above it");
    edges.state_received(&gateway(), "p2", latched(2));
    let alarm = alarms.try_recv().unwrap();
    assert_eq!((alarm.armed.attempt, alarm.breach.bad, alarm.breach.over_ms), (2, 4, 90));
    assert_eq!(
        (alarm.breach.guard.as_str(), alarm.breach.reported_by.as_deref()),
        ("NoEndpoints", Some("p2"))
    );
    edges.state_received(&gateway(), "p1", latched(2));
    assert!(alarms.try_recv().is_err(), "once an attempt");
}

#[test]
fn a_latch_that_was_there_before_is_adopted_and_one_of_a_forgotten_attempt_is_taken_over() {
    for (of, taken) in [(1, 1), (3, 3)] {
        let (edges, mut alarms) = Edges::new();
        edges.pod_seen(&gateway(), "p", true, false);
        edges.state_received(&gateway(), "p", latched(of));
        assert!(alarms.try_recv().is_err(), "nobody asked");
        edges.arm(&gateway(), "r", armed(1));
        assert_eq!(alarms.try_recv().unwrap().armed.attempt, taken);
        assert_eq!(edges.breach(&gateway(), "r").unwrap().0, taken);
    }
}

#[test]
fn every_pod_whose_nginx_may_run_is_told_to_take_a_route_back() {
    let (edges, _alarms) = Edges::new();
    for (pod, ready, terminating) in [("p1", true, false), ("p2", false, false), ("p3", false, true)] {
        edges.pod_seen(&gateway(), pod, ready, terminating);
        edges.pod_is_at(&gateway(), pod, &format!("http://{pod}"), None);
        edges.state_received(&gateway(), pod, line(7, 0));
    }
    assert_eq!(edges.order(&gateway(), "r", 2), None, "without a key");
    let key = KillKey::new([3; 32]);
    edges.share(&gateway(), Some(key.clone()));
    let order = edges.order(&gateway(), "r", 2).unwrap();
    assert!(key.verify(&order.body, &order.signature));
    let kill: Kill = serde_json::from_slice(&order.body).unwrap();
    let expected = Kill { gateway: "shop/edge".into(), route: "r".into(), attempt: 2, revision: 7 };
    assert_eq!(kill, expected);
    assert_eq!(order.pods.len(), 3);
    assert!(edges.is_at(&gateway(), "p3", "http://p3"));
    edges.pod_gone(&gateway(), "p3");
    assert!(!edges.is_at(&gateway(), "p3", "http://p3"), "nobody is told for ever");
}

#[test]
fn evidence_is_of_one_revision_only() {
    let (edges, _alarms) = Edges::new();
    edges.pod_seen(&gateway(), "p", true, false);
    edges.state_received(&gateway(), "p", line(1, 0));
    edges.state_received(&gateway(), "p", line(1, 3));
    assert_eq!(edges.counted_since(&gateway(), "r", 1), ByAudience::default());
    edges.state_received(&gateway(), "p", line(1, 4));
    assert_eq!(edges.counted_since(&gateway(), "r", 1)["public"].service.bad, 1);
    assert_eq!(edges.counted_since(&gateway(), "r", 2), ByAudience::default());
}
