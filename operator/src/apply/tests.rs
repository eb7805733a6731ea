use super::*;
use crate::testing::{Call, refusal, scripted};
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

#[test]
fn defaults_and_fields_of_others_are_no_difference() {
    let wanted = json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}]}}}});
    let live = json!({
        "metadata": {"annotations": {"other": "x"}},
        "spec": {"replicas": 2, "progressDeadlineSeconds": 600, "template": {"spec": {"containers": [
            {"name": "injected"},
            {"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}], "terminationMessagePath": "/dev/termination-log"},
        ]}}},
    });
    assert!(covers(&live, &wanted));
}

#[test]
fn a_changed_removed_or_missing_field_is_a_difference() {
    let wanted = json!({"spec": {"replicas": 2, "args": ["a", "b"], "selector": {"app": "x"}}});
    for live in [
        json!({"spec": {"replicas": 3, "args": ["a", "b"], "selector": {"app": "x"}}}),
        json!({"spec": {"args": ["a", "b"], "selector": {"app": "x"}}}),
        json!({"spec": {"replicas": 2, "args": ["b", "a"], "selector": {"app": "x"}}}),
        json!({"spec": {"replicas": 2, "args": ["a", "b", "c"], "selector": {"app": "x"}}}),
        json!({"spec": {"replicas": 2, "args": ["a", "b"], "selector": {}}}),
    ] {
        assert!(!covers(&live, &wanted), "{live}");
    }
}

#[test]
fn what_is_no_longer_wanted_shows_in_the_hash() {
    let before = with_hash(json!({"metadata": {}, "spec": {"env": [{"name": "A"}, {"name": "B"}]}}));
    let after = with_hash(json!({"metadata": {}, "spec": {"env": [{"name": "A"}]}}));
    assert!(covers(&before, &before));
    assert!(!covers(&before, &after));
}

#[test]
fn what_the_api_server_drops_is_no_difference() {
    let wanted = json!({"spec": {"tolerations": [], "subdomain": "", "nodeSelector": {}}});
    assert!(covers(&json!({"spec": {}}), &wanted));
    for wanted in [json!({"emptyDir": {}}), json!({"hostIPC": false}), json!({"minReplicas": 0})] {
        assert!(!covers(&json!({}), &wanted), "{wanted}");
    }
}

#[test]
fn amounts_are_compared_by_what_they_mean() {
    for (live, wanted) in [("500m", "0.5"), ("1Gi", "1024Mi"), ("1500m", "1.5"), ("2k", "2000")] {
        let amounts = |v: &str| json!({"resources": {"limits": {"cpu": v}}});
        assert!(covers(&amounts(live), &amounts(wanted)), "{live} {wanted}");
    }
    for (live, wanted) in [("500m", "0.6"), ("1Gi", "1G"), ("x", "y")] {
        assert!(!same_amount(live, wanted), "{live} {wanted}");
    }
    assert!(!covers(&json!({"value": "500m"}), &json!({"value": "0.5"})), "only amounts are amounts");
}

fn owned(owner: Option<(&str, &str, &str)>, leaving: bool) -> ConfigMap {
    let owners: Vec<Value> = owner
        .into_iter()
        .map(|(kind, name, uid)| json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": true}))
        .collect();
    let mut map = json!({"metadata": {"name": "x", "namespace": "ns", "ownerReferences": owners}});
    if leaving {
        map["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    serde_json::from_value(map).unwrap()
}

#[test]
fn only_what_our_owner_controls_is_ours() {
    let wanted = owned(Some(("Gateway", "g", "1")), false);
    let standing = |live: ConfigMap| standing(&wanted, Some(&live));
    assert_eq!(standing(owned(Some(("Gateway", "g", "1")), false)), Standing::Ours);
    assert_eq!(standing(owned(Some(("Gateway", "g", "1")), true)), Standing::Leaving);
    assert_eq!(standing(owned(Some(("Gateway", "g", "old")), false)), Standing::Leaving);
    assert_eq!(
        standing(owned(Some(("Gateway", "h", "2")), false)),
        Standing::Foreign { owner: "Gateway h".into() }
    );
    assert_eq!(standing(owned(None, false)), Standing::Foreign { owner: "nobody".into() });
    assert_eq!(super::standing(&wanted, None), Standing::Absent);
}

/// A ConfigMap of the owner `1` as the API server would give it after it was applied.
fn live(wanted: &ConfigMap) -> Value {
    let mut live = with_hash(serde_json::to_value(wanted).unwrap());
    live["metadata"]["uid"] = json!("live");
    live["metadata"]["resourceVersion"] = json!("7");
    live
}

fn wanted() -> ConfigMap {
    ConfigMap {
        data: Some([("a".to_owned(), "1".to_owned())].into()),
        ..owned(Some(("Gateway", "g", "1")), false)
    }
}

/// Applies `wanted` against these answers; gives the outcome, the writes counted and the requests made.
async fn applied(answers: Vec<(StatusCode, Value)>) -> (Result<ConfigMap, Error>, u64, Vec<Call>) {
    let (ctx, calls) = scripted(answers);
    let outcome = apply(&ctx, "test", &wanted()).await;
    let writes = ctx.metrics.writes(Verb::Patch, "ConfigMap");
    drop(ctx);
    (outcome, writes, calls.await.unwrap())
}

#[tokio::test]
async fn what_is_as_wanted_is_not_written() {
    let (outcome, writes, calls) = applied(vec![(StatusCode::OK, live(&wanted()))]).await;
    assert_eq!(outcome.unwrap().metadata.resource_version.as_deref(), Some("7"));
    assert_eq!((writes, calls.len()), (0, 1));
    assert_eq!(calls[0].method, Method::GET);
}

#[tokio::test]
async fn drift_is_repaired_on_the_very_object_that_was_read() {
    let mut drifted = live(&wanted());
    drifted["data"]["a"] = json!("2");
    let answers = vec![(StatusCode::OK, drifted), (StatusCode::OK, live(&wanted()))];
    let (outcome, writes, calls) = applied(answers).await;
    assert!(outcome.is_ok());
    assert_eq!(writes, 1);
    assert_eq!(calls[1].method, Method::PATCH);
    assert!(
        calls[1].path.contains("fieldManager=test") && calls[1].path.contains("force=true"),
        "{}",
        calls[1].path
    );
    assert_eq!(calls[1].body["metadata"]["uid"], "live");
    assert_eq!(calls[1].body["data"]["a"], "1");
}

#[tokio::test]
async fn what_is_absent_is_made_without_force() {
    let absent = refusal(StatusCode::NOT_FOUND, "NotFound");
    let (outcome, writes, calls) = applied(vec![absent, (StatusCode::CREATED, live(&wanted()))]).await;
    assert!(outcome.is_ok());
    assert_eq!(writes, 1);
    assert!(!calls[1].path.contains("force=true"), "{}", calls[1].path);
    assert!(calls[1].body["metadata"]["uid"].is_null());
}

#[tokio::test]
async fn a_foreign_object_is_read_and_never_written() {
    let mut foreign = live(&wanted());
    foreign["metadata"]["ownerReferences"] = json!([]);
    let (outcome, writes, calls) = applied(vec![(StatusCode::OK, foreign)]).await;
    assert_eq!(outcome.unwrap_err().reason(), Reason::NotOurs);
    assert_eq!((writes, calls.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_given_up() {
    let (outcome, writes, _) = applied(vec![]).await;
    assert!(matches!(outcome, Err(Error::Api(api::Error::Timeout { .. }))), "{outcome:?}");
    assert_eq!(writes, 0);
}

#[tokio::test]
async fn a_refusal_is_said_in_the_server_s_words() {
    let refused = refusal(StatusCode::FORBIDDEN, "not you");
    let (outcome, ..) = applied(vec![refused]).await;
    assert_eq!(outcome.unwrap_err().to_string(), "cannot read ConfigMap x: not you");
}
