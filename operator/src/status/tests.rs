use super::*;
use crate::testing::{refusal, scripted};
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::json;
use stomaton_crds::{
    conditions::{Reason, State, Summary, conditions},
    v1alpha1::{StomatonService, StomatonServiceStatus},
};

fn object() -> StomatonService {
    serde_json::from_value(json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
        "metadata": {"name": "content", "namespace": "fleet", "uid": "u"},
        "spec": {"image": "i"},
    }))
    .unwrap()
}

fn status(state: State, old: &[Condition], second: i64) -> StomatonServiceStatus {
    let summary = Summary { state, reason: Reason::AsSpecified, message: "m".into() };
    let now = Timestamp::from_second(second).unwrap();
    StomatonServiceStatus { conditions: conditions(old, &summary, None, now), ..Default::default() }
}

#[tokio::test]
async fn a_status_that_says_the_same_is_not_written() {
    let (ctx, calls) = scripted(vec![]);
    let old = status(State::Ready, &[], 1);
    let new = status(State::Ready, &old.conditions, 2);
    assert!(write(&ctx, &object(), Some(&old), &new).await.unwrap().is_none());
    announce(&ctx, &object(), &old.conditions, &new.conditions).await;
    drop(ctx);
    assert_eq!(calls.await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_new_status_is_written_for_this_object_alone_and_announced() {
    let written = serde_json::to_value(object()).unwrap();
    let (ctx, calls) =
        scripted(vec![(StatusCode::OK, written), (StatusCode::CREATED, json!({"metadata": {}}))]);
    let old = status(State::Ready, &[], 1);
    let new = status(State::Stalled, &old.conditions, 2);
    assert!(write(&ctx, &object(), Some(&old), &new).await.unwrap().is_some());
    announce(&ctx, &object(), &old.conditions, &new.conditions).await;
    drop(ctx);
    let calls = calls.await.unwrap();
    let place = "/apis/fleet.stomaton.com/v1alpha1/namespaces/fleet/stomatonservices/content/status?";
    assert!(calls[0].path.starts_with(place), "{}", calls[0].path);
    assert!(calls[0].path.contains(field_managers::STATUS));
    assert_eq!(calls[0].body["metadata"], json!({"name": "content", "uid": "u"}));
    assert_eq!(calls[0].body["status"]["conditions"][0]["status"], "False");
    assert_eq!(calls[1].method, Method::POST);
    assert_eq!(
        (&calls[1].body["type"], &calls[1].body["regarding"]["name"]),
        (&json!("Warning"), &json!("content"))
    );
}

#[tokio::test]
async fn an_object_that_is_gone_needs_no_status() {
    let (ctx, _) = scripted(vec![refusal(StatusCode::NOT_FOUND, "NotFound")]);
    assert!(write(&ctx, &object(), None, &status(State::Ready, &[], 1)).await.unwrap().is_none());
}

#[tokio::test]
async fn an_event_that_cannot_be_published_is_let_go() {
    let (ctx, calls) = scripted(vec![refusal(StatusCode::FORBIDDEN, "no")]);
    announce(&ctx, &object(), &[], &status(State::Ready, &[], 1).conditions).await;
    drop(ctx);
    assert_eq!(calls.await.unwrap().len(), 1);
}
