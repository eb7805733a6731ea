//! What is asked of an API server for a Job gate, and what its refusals make of it.

use super::*;
use crate::testing::{Call, refusal, scripted};
use http::StatusCode;
use kube::runtime::reflector::{self, Store};
use serde_json::{Value, json};
use stomaton_crds::v1alpha1::{MigrationPlanStatus, StageStatus};

fn store<K>() -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    reflector::store::<K>().0
}

/// Caches that know nothing.
fn caches() -> Caches {
    Caches {
        plans: store(),
        gateways: store(),
        configs: store(),
        weights: store(),
        slices: store(),
        actions: store(),
        services: store(),
        jobs: store(),
        gates: Memory::default(),
    }
}

/// A plan whose only gate, for a Job of this CronJob, is in this state.
fn plan(cron_job: &str, state: GateState) -> MigrationPlan {
    let gate = json!({"name": "data", "job": {"cronJob": cron_job, "within": "1m"}});
    let mut plan: MigrationPlan = serde_json::from_value(json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan",
        "metadata": {"name": "shop", "namespace": "fleet", "uid": "1-2-3"},
        "spec": {
            "gatewayRef": {"name": "edge"},
            "routes": [{"name": "r", "target": {"name": "t"}, "profile": "p", "stage": "first"}],
            "profiles": [{"name": "p", "ramp": [{"permille": 1000, "minHold": "1s"}]}],
            "stages": [{"name": "first", "gates": [gate]}],
        },
    }))
    .unwrap();
    let of = format!("{}.0123", plan.spec.stages[0].gates[0].hash());
    let known = GateStatus {
        name: "data".into(),
        state,
        attempt: 1,
        of,
        message: "it failed".into(),
        ..GateStatus::default()
    };
    let stage = StageStatus { name: "first".into(), gates: vec![known], ..StageStatus::default() };
    plan.status = Some(MigrationPlanStatus { stages: vec![stage], ..MigrationPlanStatus::default() });
    plan
}

fn cron_job() -> (StatusCode, Value) {
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    let spec = json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": pod}}}});
    (
        StatusCode::OK,
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": spec}),
    )
}

fn nothing() -> (StatusCode, Value) {
    refusal(StatusCode::NOT_FOUND, "NotFound")
}

/// What an API server that answers like this makes of the gate, and what it was asked.
async fn asked(plan: &MigrationPlan, answers: Vec<(StatusCode, Value)>) -> (Fact, Vec<Call>) {
    let (ctx, calls) = scripted(answers);
    let facts = facts(&ctx, plan, &caches()).await;
    drop(ctx);
    (facts.into_values().next().unwrap(), calls.await.unwrap())
}

#[tokio::test]
async fn a_refusal_is_words_and_no_failure() {
    let forbidden = refusal(StatusCode::FORBIDDEN, "Forbidden");
    let (fact, _) = asked(&plan("c", GateState::Asked), vec![forbidden]).await;
    assert!(matches!(&fact.says, Says::Unknown(why) if why.contains("cannot read Job")), "{fact:?}");
    assert_eq!(fact.of, "");
}

#[tokio::test]
async fn a_job_is_made_when_there_is_none_and_one_that_was_made_meanwhile_is_found_later() {
    let conflict = refusal(StatusCode::CONFLICT, "AlreadyExists");
    let (fact, calls) = asked(&plan("c", GateState::Asked), vec![nothing(), cron_job(), conflict]).await;
    assert!(matches!(&fact.says, Says::NotYet(what) if what.contains("is there already")), "{fact:?}");
    let body = &calls.last().unwrap().body;
    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "1-2-3");
    assert_eq!(body["spec"]["activeDeadlineSeconds"], 60);
    assert_eq!(calls.len(), 3);
}

#[tokio::test]
async fn of_a_job_that_failed_only_the_template_is_read() {
    let (fact, calls) = asked(&plan("c", GateState::Failed), vec![cron_job()]).await;
    assert_eq!(fact.says, Says::Failed("it failed".into()));
    assert!(!fact.of.is_empty());
    assert_eq!(calls.len(), 1);
    let (fact, _) = asked(&plan("c", GateState::Failed), vec![nothing()]).await;
    assert_eq!(fact.of, "", "without a template nothing was mended");
}

#[tokio::test]
async fn a_name_that_is_a_path_is_not_sent() {
    let (fact, calls) = asked(&plan("../../jobs/x", GateState::Asked), vec![nothing()]).await;
    assert!(matches!(&fact.says, Says::Unknown(why) if why.contains("cannot be a name")), "{fact:?}");
    assert!(calls.iter().all(|call| !call.path.contains("..")), "{calls:?}");
}

#[tokio::test]
async fn a_plan_that_is_being_deleted_asks_nothing() {
    let mut plan = plan("c", GateState::Asked);
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
    plan.metadata.deletion_timestamp = Some(now);
    let (ctx, _calls) = scripted(vec![]);
    assert!(facts(&ctx, &plan, &caches()).await.is_empty());
}
