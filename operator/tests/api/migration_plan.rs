//! MigrationPlans on a real API server, with the whole operator and simulated edge pods.

use crate::world::{World, plan_body, ramp, runtime};
use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use std::time::{Duration, Instant};
use stomaton_crds::v1alpha1::{EdgeConfig, EdgeWeights, Gateway, MigrationPlan, Phase};

/// Condition `kind` of a plan: its status and its message.
async fn condition(world: &World, plan: &str, kind: &str) -> Option<(String, String)> {
    let status = world.api::<MigrationPlan>().get(plan).await.unwrap().status?;
    status.conditions.into_iter().find(|c| c.type_ == kind).map(|c| (c.status, c.message))
}

#[test]
fn a_route_goes_to_the_end_and_then_nothing_is_written() {
    runtime().block_on(async {
        let world = World::new().await;
        world.plan("shop", "content", ramp(&[50, 250, 1000], "0s")).await;
        let id = world.compiled("content").await;
        let mut seen = Vec::new();
        for permille in [50, 250, 1000] {
            let acknowledged =
                |r: &stomaton_crds::v1alpha1::RouteStatus| r.weights.applied == permille && r.since.is_some();
            world.route("shop", "content", "acknowledged weight", acknowledged).await;
            seen.push(world.weights().await.unwrap().spec.routes[&id].effective("public"));
            world.answers(&id, 40, 0);
        }
        assert_eq!(seen, [50, 250, 1000]);
        world.route("shop", "content", "end", |r| r.phase == Phase::Done).await;
        world
            .eventually("condition Migrated", async || {
                let plan = world.api::<MigrationPlan>().get("shop").await.unwrap();
                let ready = plan.status.unwrap().conditions.into_iter().find(|c| c.type_ == "Ready");
                ready.filter(|c| c.reason == "Migrated").map(|_| ()).ok_or("not yet".to_owned())
            })
            .await;

        let versions = async || {
            let plan = world.api::<MigrationPlan>().get("shop").await.unwrap().resource_version();
            let gateway = world.api::<Gateway>().get("edge").await.unwrap().resource_version();
            let config = world.api::<EdgeConfig>().get("edge").await.unwrap().resource_version();
            (plan, gateway, config, world.weights().await.unwrap().resource_version())
        };
        let before = versions().await;
        // The resync is 1 s, so every object is reconciled several times meanwhile.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(versions().await, before);
    });
}

#[test]
fn a_breach_is_latched_in_a_moment_and_the_next_attempt_has_another_salt() {
    runtime().block_on(async {
        let world = World::new().await;
        world.plan("shop", "content", ramp(&[250, 1000], "30s")).await;
        let id = world.compiled("content").await;
        world.route("shop", "content", "acknowledged weight", |r| r.weights.applied == 250).await;
        let salt = async || {
            let config = world.api::<EdgeConfig>().get("edge").await.unwrap();
            config.spec.routes.into_iter().find(|r| r.id == id).and_then(|r| r.salt)
        };
        let first_salt = salt().await;
        world.answers(&id, 100, 0);
        let weights = watcher(world.api::<EdgeWeights>(), watcher::Config::default()).applied_objects();
        let mut weights = std::pin::pin!(weights);
        weights.next().await.unwrap().unwrap();

        let broken = Instant::now();
        world.answers(&id, 6, 6);
        let latched = weights.next().await.unwrap().unwrap();
        let took = broken.elapsed();
        assert!(latched.spec.routes[&id].latched);
        // Generous: the machine is shared. The figure that counts is measured on the node.
        assert!(took < Duration::from_secs(1), "{took:?}");

        let rolled = world.route("shop", "content", "rollback", |r| r.phase == Phase::RolledBack).await;
        assert_eq!((rolled.weights.desired, rolled.weights.applied, rolled.epoch), (0, 0, 1));
        let again = world
            .route("shop", "content", "second attempt", |r| r.attempt == 2 && r.weights.applied == 250)
            .await;
        assert_eq!(again.phase, Phase::Ramp);
        assert_ne!(salt().await, first_salt);
        assert!(!world.weights().await.unwrap().spec.routes[&id].latched);

        world.answers(&id, 10, 10);
        world
            .route("shop", "content", "end of attempts", |r| r.phase == Phase::RolledBack && r.attempt == 2)
            .await;
        world
            .eventually("Stalled", async || {
                let (status, message) = condition(&world, "shop", "Stalled").await.ok_or("no condition")?;
                (status == "True" && message.contains("maxAttempts")).then_some(()).ok_or(message)
            })
            .await;
        let history = world.api::<MigrationPlan>().get("shop").await.unwrap().status.unwrap().history;
        assert!(
            history.iter().any(|t| t.phase == Phase::RollingBack && t.message.contains("bad-answers")),
            "{history:#?}"
        );
    });
}

#[test]
fn a_pod_that_does_not_follow_holds_the_plan_and_is_named() {
    runtime().block_on(async {
        let world = World::new().await;
        world.agents[1].freeze(true);
        world.plan("shop", "content", ramp(&[50, 1000], "0s")).await;
        world
            .eventually("the pod's name", async || {
                let status = world.api::<Gateway>().get("edge").await.unwrap().status.unwrap_or_default();
                (status.pods_behind.len() == 1).then_some(()).ok_or(format!("{status:?}"))
            })
            .await;
        assert_eq!(world.weights().await, None, "nothing begins before every pod has the structure");
        world.agents[1].freeze(false);
        world.route("shop", "content", "acknowledged weight", |r| r.weights.applied == 50).await;
        let id = world.compiled("content").await;
        world.agents[0].freeze(true);
        world.answers(&id, 40, 0);
        let waiting = world.route("shop", "content", "next weight", |r| r.weights.desired == 1000).await;
        assert_eq!(waiting.weights.applied, 50, "one pod has not acknowledged");
        world.agents[0].freeze(false);
        world.route("shop", "content", "acknowledged weight", |r| r.weights.applied == 1000).await;
    });
}

#[test]
fn a_killed_operator_goes_on_where_it_was() {
    runtime().block_on(async {
        let mut world = World::new().await;
        world.plan("shop", "content", ramp(&[50, 250, 500, 1000], "0s")).await;
        let id = world.compiled("content").await;
        for permille in [50, 250, 500, 1000] {
            world.route("shop", "content", "weight", |r| r.weights.desired == permille).await;
            world.kill_operator().await;
            world.start_operator().await;
            world.route("shop", "content", "acknowledged weight", |r| r.weights.applied == permille).await;
            let status = world.route("shop", "content", "a start of the count", |r| r.since.is_some()).await;
            assert_eq!(status.attempt, 1);
            // Evidence begins anew with the operator, so it is given until it is enough.
            world
                .eventually("the next step", async || {
                    world.answers(&id, 10, 0);
                    let plan = world.api::<MigrationPlan>().get("shop").await.unwrap();
                    let route = plan.status.unwrap().routes.remove(0);
                    (route.weights.desired > permille || route.phase == Phase::Done)
                        .then_some(())
                        .ok_or(format!("{route:?}"))
                })
                .await;
        }
        world.route("shop", "content", "end", |r| r.phase == Phase::Done).await;
    });
}

#[test]
fn deleted_weights_come_back_above_every_revision_a_pod_has_seen() {
    runtime().block_on(async {
        let world = World::new().await;
        world.plan("shop", "content", ramp(&[50, 1000], "1h")).await;
        let id = world.compiled("content").await;
        world.route("shop", "content", "acknowledged weight", |r| r.weights.applied == 50).await;
        let before = world.weights().await.unwrap().spec.revision;
        world.api::<EdgeWeights>().delete("edge", &DeleteParams::default()).await.unwrap();
        let again =
            world.eventually("weights again", async || world.weights().await.ok_or("none".to_owned())).await;
        assert!(again.spec.revision > before, "{} is not above {before}", again.spec.revision);
        assert_eq!(again.spec.routes[&id].effective("public"), 50);
    });
}

#[test]
fn two_plans_share_a_gateway_and_a_second_claim_is_refused() {
    runtime().block_on(async {
        let world = World::new().await;
        world.plan("first", "content", ramp(&[50, 1000], "1h")).await;
        world.route("first", "content", "weight of the first", |r| r.weights.applied == 50).await;
        world.plan("second", "search", ramp(&[100, 1000], "1h")).await;
        world.route("second", "search", "weight of the second", |r| r.weights.applied == 100).await;
        let weights: Vec<i32> =
            world.weights().await.unwrap().spec.routes.values().map(|r| r.effective("public")).collect();
        assert_eq!(weights.iter().sum::<i32>(), 150, "{weights:?}");

        world.plan("third", "content", ramp(&[900, 1000], "1h")).await;
        world
            .eventually("a refusal", async || {
                let (_, message) = condition(&world, "third", "Stalled").await.ok_or("no condition")?;
                message.contains("plan first").then_some(()).ok_or(message)
            })
            .await;
        world.route("first", "content", "the first weight as it was", |r| r.weights.applied == 50).await;
    });
}

#[test]
fn what_is_missing_is_said_and_harms_nothing() {
    runtime().block_on(async {
        let world = World::new().await;
        let mut body = plan_body("shop", &["content", "nowhere"], ramp(&[50, 1000], "1h"));
        body["spec"]["routes"][1]["target"]["name"] = json!("content");
        world.create::<MigrationPlan>(body).await;
        world
            .eventually("words", async || {
                let (_, message) = condition(&world, "shop", "Stalled").await.ok_or("no condition")?;
                message.contains("no route named nowhere").then_some(()).ok_or(message)
            })
            .await;
        world.route("shop", "content", "the other route moves", |r| r.weights.applied == 50).await;

        let mut body = plan_body("lost", &["search"], ramp(&[50, 1000], "1h"));
        body["spec"]["routes"][0]["target"]["name"] = json!("missing");
        world.create::<MigrationPlan>(body).await;
        world
            .eventually("words", async || {
                let (_, message) = condition(&world, "lost", "Stalled").await.ok_or("no condition")?;
                message.contains("Service missing").then_some(()).ok_or(message)
            })
            .await;
    });
}

#[test]
fn the_api_server_refuses_what_cannot_be_right() {
    runtime().block_on(async {
        let world = World::new().await;
        let twice = plan_body("twice", &["content", "content"], ramp(&[1000], "1s"));
        let mut orphan = plan_body("orphan", &["content"], ramp(&[1000], "1s"));
        orphan["spec"]["routes"][0]["profile"] = json!("slow");
        let cases = [
            (plan_body("down", &["content"], ramp(&[500, 50, 1000], "1s")), "ascend"),
            (plan_body("short", &["content"], ramp(&[500], "1s")), "1000"),
            (plan_body("same", &["content"], ramp(&[500, 500, 1000], "1s")), "same weight"),
            (plan_body("never", &["content"], ramp(&[0, 1000], "1s")), "greater than or equal to 1"),
            (plan_body("hold", &["content"], ramp(&[1000], "soon")), "minHold"),
            (twice, "Duplicate"),
            (orphan, "names a profile"),
        ];
        for (body, says) in cases {
            let refused = world.try_create::<MigrationPlan>(body).await.unwrap_err().to_string();
            assert!(refused.contains(says), "{says} is not in: {refused}");
        }
        let plan = world.plan("shop", "content", ramp(&[1000], "1h")).await;
        let moved = Patch::Merge(json!({ "spec": { "gatewayRef": { "name": "other" } } }));
        let plans: Api<MigrationPlan> = world.api();
        let refused =
            plans.patch(&plan.name_any(), &PatchParams::default(), &moved).await.unwrap_err().to_string();
        assert!(refused.contains("stays with its Gateway"), "{refused}");
    });
}
