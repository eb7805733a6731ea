//! Every reason that a plan can have for its condition Ready, on a real API server: where the plan stands then, and that
//! the message names who is to blame and what to do. Those of gates are in [`crate::gates`], Frozen is in
//! [`crate::frozen`].

use crate::script::{act, patch};
use crate::world::{World, plan_body, ramp, runtime};
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};
use stomaton_crds::{
    conditions::{Reason, State, Summary, conditions},
    v1alpha1::{MigrationPlan, Phase},
};

/// Waits until the plan stands so for this reason, with all of these words.
pub async fn says(world: &World, plan: &str, state: State, reason: Reason, words: &[&str]) {
    let summary = Summary { state, reason, message: String::new() };
    let wanted = conditions(&[], &summary, None, Timestamp::UNIX_EPOCH);
    let wanted: Vec<_> = wanted.into_iter().map(|c| (c.type_, c.status, c.reason)).collect();
    let what = format!("plan that is {}", reason.as_str());
    world
        .eventually(&what, async || {
            let status = world.api::<MigrationPlan>().get(plan).await.unwrap().status.unwrap_or_default();
            let told = status.conditions.iter().all(|c| words.iter().all(|word| c.message.contains(word)));
            let found: Vec<_> = status
                .conditions
                .iter()
                .map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone()))
                .collect();
            if found == wanted && told { Ok(()) } else { Err(format!("{:#?}", status.conditions)) }
        })
        .await;
}

/// A plan of these routes, with more of a spec.
async fn plan(world: &World, name: &str, routes: &[&str], ramp: Value, more: Value) {
    let mut body = plan_body(name, routes, ramp);
    let spec = body["spec"].as_object_mut().unwrap();
    spec.extend(more.as_object().unwrap().clone());
    world.create::<MigrationPlan>(body).await;
}

/// Makes the only endpoint of a Service ready or not.
async fn endpoint(world: &World, service: &str, ready: bool) {
    let endpoints = json!([{ "addresses": ["10.9.9.9"], "conditions": { "ready": ready } }]);
    patch::<EndpointSlice>(world, &format!("{service}-1"), json!({ "endpoints": endpoints })).await;
}

#[test]
fn a_plan_that_cannot_work_is_stalled_and_says_what_to_mend() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let steps = || ramp(&[50, 1000], "1h");
        plan(&world, "lost", &["content"], steps(), json!({})).await;
        let words = ["route content", "Gateway edge does not exist", "create it", "spec.gatewayRef"];
        says(&world, "lost", State::Stalled, Reason::NotFound, &words).await;

        let mut body = plan_body("round", &["content", "search"], steps());
        body["spec"]["routes"][0]["dependsOn"] = json!(["search"]);
        body["spec"]["routes"][1]["dependsOn"] = json!(["content"]);
        world.create::<MigrationPlan>(body).await;
        let words = ["content", "search", "wait for each other", "take one name out of their dependsOn"];
        says(&world, "round", State::Stalled, Reason::Invalid, &words).await;

        let nowhere = json!([{ "from": "09:00", "lasts": "8h", "timeZone": "Europe/Nowhere" }]);
        plan(&world, "zone", &["content"], steps(), json!({ "windows": { "advance": nowhere } })).await;
        says(&world, "zone", State::Stalled, Reason::Invalid, &["no time zone Europe/Nowhere"]).await;
    });
}

#[test]
fn a_plan_that_may_not_move_says_who_stopped_it_and_what_it_waits_for() {
    runtime().block_on(async {
        let world = World::new().await;
        let steps = json!([{ "permille": 50, "approval": true }, { "permille": 1000 }]);
        plan(&world, "plan", &["content"], steps, json!({ "mode": "Observe" })).await;
        let words = ["spec.mode", "Observe", "to be Enforce"];
        says(&world, "plan", State::Ready, Reason::Observing, &words).await;

        let change =
            async |spec: Value| patch::<MigrationPlan>(&world, "plan", json!({ "spec": spec })).await;
        let freeze =
            json!({ "from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "reason": "christmas" });
        change(json!({ "mode": "Enforce", "windows": { "freezes": [freeze] } })).await;
        let words = ["a freeze until 2100-01-01", "christmas"];
        says(&world, "plan", State::Ready, Reason::OutsideWindow, &words).await;

        change(json!({ "windows": null, "halt": "HoldAll" })).await;
        let words = ["spec.halt", "HoldAll", "to be None"];
        says(&world, "plan", State::Waiting, Reason::Halted, &words).await;

        change(json!({ "halt": "None" })).await;
        let words = ["route content", "approval of step 1", "kubectl stomaton approve content"];
        says(&world, "plan", State::Waiting, Reason::ApprovalNeeded, &words).await;

        act(&world, "Hold", Some("content")).await;
        let words = ["route content", "Resume", "held by somebody"];
        says(&world, "plan", State::Waiting, Reason::Held, &words).await;

        act(&world, "Halt", None).await;
        let words = ["Resume", "somebody halted the plan"];
        says(&world, "plan", State::Waiting, Reason::Halted, &words).await;
        assert_eq!(world.weights().await, None, "nothing has moved all the while");
    });
}

#[test]
fn a_plan_whose_route_comes_back_says_why_and_what_comes_next() {
    runtime().block_on(async {
        let world = World::new().await;
        let more = json!({
            "budget": { "badPerDay": 3 }, "rollback": { "cooldown": "1h", "maxAttempts": 2 },
        });
        plan(&world, "plan", &["content"], ramp(&[50, 250, 1000], "0s"), more).await;
        let id = world.compiled("content").await;
        let words = ["route content waits for", "0 of 20 counted"];
        says(&world, "plan", State::Ready, Reason::Migrating, &words).await;

        world.agents[0].freeze(true);
        world.answers(&id, 40, 0);
        let words = ["route content", "every edge pod to acknowledge the weight"];
        says(&world, "plan", State::ReadyReconciling, Reason::WaitingForEdge, &words).await;
        world.agents[0].freeze(false);
        world.route("plan", "content", "acknowledged weight", |r| r.weights.applied == 250).await;

        // Too few answers for the next step, and too few bad ones for the guard.
        world.answers(&id, 10, 3);
        let words = ["the budget", "3 bad answers of services", "3 are allowed"];
        says(&world, "plan", State::Waiting, Reason::BudgetExhausted, &words).await;

        let change =
            async |spec: Value| patch::<MigrationPlan>(&world, "plan", json!({ "spec": spec })).await;
        change(json!({ "budget": null })).await;
        world.answers(&id, 10, 10);
        let words = ["route content", "the cooldown, until"];
        says(&world, "plan", State::Ready, Reason::RolledBack, &words).await;

        change(json!({ "rollback": { "maxAttempts": 1 } })).await;
        let words = ["route content", "all 1 attempts are used", "raise spec.rollback.maxAttempts", "resume"];
        says(&world, "plan", State::Stalled, Reason::AttemptsExhausted, &words).await;

        act(&world, "Resume", Some("content")).await;
        world
            .route("plan", "content", "another attempt", |r| r.attempt == 2 && r.weights.applied == 50)
            .await;
        // Both are in one watch: that there is no way back is known before there is a reason for it.
        endpoint(&world, "monolith", false).await;
        endpoint(&world, "content", false).await;
        let words =
            ["route content", "the target has no ready endpoint", "the monolith has no ready endpoint"];
        says(&world, "plan", State::Stalled, Reason::MonolithDown, &words).await;
        endpoint(&world, "monolith", true).await;
        world.route("plan", "content", "rollback", |r| r.phase == Phase::RolledBack).await;
    });
}

#[test]
fn a_plan_that_is_at_its_end_or_has_nobody_to_go_to_says_so() {
    runtime().block_on(async {
        let world = World::new().await;
        // A Service without a pod.
        let spec = json!({ "ports": [{ "port": 8000 }] });
        world.create::<Service>(json!({ "metadata": { "name": "idle" }, "spec": spec })).await;
        let mut body = plan_body("early", &["search"], ramp(&[1000], "0s"));
        body["spec"]["routes"][0]["target"]["name"] = json!("idle");
        world.create::<MigrationPlan>(body).await;
        let words = ["route search", "the target to have a ready endpoint"];
        says(&world, "early", State::Ready, Reason::NoEndpoints, &words).await;

        plan(&world, "plan", &["content"], ramp(&[1000], "0s"), json!({ "deletionPolicy": "KeepDone" }))
            .await;
        let id = world.compiled("content").await;
        world.route("plan", "content", "acknowledged weight", |r| r.weights.applied == 1000).await;
        world.answers(&id, 40, 0);
        let words = ["every route is answered by its service"];
        says(&world, "plan", State::Ready, Reason::Migrated, &words).await;

        world.api::<MigrationPlan>().delete("plan", &DeleteParams::default()).await.unwrap();
        let words = ["being deleted", "Gateway edge", "route content", "set its `backend` to content"];
        says(&world, "plan", State::Waiting, Reason::Deleting, &words).await;
    });
}

/// Reasons that a text of Rust names.
fn named(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(char::is_ascii_alphabetic).collect::<String>();
    text.split("Reason::").skip(1).map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn no_reason_of_a_plan_is_without_a_test() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/controllers/migration_plan");
    let mut given = BTreeSet::new();
    for entry in fs::read_dir(sources).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.to_string_lossy().ends_with("_tests.rs");
        if !is_test && path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            given.extend(named(text.split("#[cfg(test)]").next().unwrap()));
        }
    }
    assert!(given.len() > 10, "{given:?}");
    let tests = [include_str!("reasons.rs"), include_str!("gates.rs"), include_str!("frozen.rs")];
    let seen: BTreeSet<_> = tests.into_iter().flat_map(named).collect();
    assert_eq!(given, seen, "left: what plans give; right: what is seen here");
}
