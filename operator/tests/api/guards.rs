//! Rollbacks that the edge begins, and rollbacks without an API server.

use crate::world::{World, ramp, runtime};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;
use stomaton_crds::{
    edge_state::Why,
    v1alpha1::{MigrationPlan, Phase},
};

/// A plan whose only route is at 250 per mille, for long; gives the route's identity.
async fn at_a_quarter(world: &World) -> String {
    world.plan("shop", "content", ramp(&[250, 1000], "1h")).await;
    let id = world.compiled("content").await;
    world.route("shop", "content", "acknowledged weight", |r| r.weights.applied == 250).await;
    id
}

#[test]
fn what_an_edge_pod_takes_back_by_itself_is_taken_back_everywhere() {
    runtime().block_on(async {
        let world = World::new().await;
        let id = at_a_quarter(&world).await;
        world.agents[1].latch(&id, 1, Why::BadShare);
        world
            .eventually("latched weights", async || {
                let weights = world.weights().await.unwrap().spec;
                if weights.routes[&id].latched { Ok(()) } else { Err(format!("{weights:?}")) }
            })
            .await;
        world.route("shop", "content", "rollback", |r| r.phase != Phase::Ramp && r.attempt == 1).await;
        let history = world.api::<MigrationPlan>().get("shop").await.unwrap().status.unwrap().history;
        let said = |t: &stomaton_crds::v1alpha1::Transition| t.message.contains("took it back: BadShare");
        assert!(history.iter().any(said), "{history:#?}");
        // The agents were told of latched weights, and a further attempt supersedes them.
        world
            .route("shop", "content", "second attempt", |r| r.attempt == 2 && r.weights.applied == 250)
            .await;
        assert!(world.agents.iter().all(|agent| !agent.holds(&id)));
    });
}

#[test]
fn an_operator_that_starts_adopts_what_edge_pods_took_back_meanwhile() {
    runtime().block_on(async {
        let mut world = World::new().await;
        let id = at_a_quarter(&world).await;
        world.kill_operator().await;
        world.agents[0].latch(&id, 1, Why::NoEndpoints);
        assert!(!world.weights().await.unwrap().spec.routes[&id].latched, "nobody is there to write it");
        world.start_operator().await;
        world
            .eventually("latched weights", async || {
                let weights = world.weights().await.unwrap().spec;
                if weights.routes[&id].latched { Ok(()) } else { Err(format!("{weights:?}")) }
            })
            .await;
        world.route("shop", "content", "rollback", |r| r.phase == Phase::RolledBack).await;
        let history = world.api::<MigrationPlan>().get("shop").await.unwrap().status.unwrap().history;
        assert!(history.iter().any(|t| t.message.contains("took it back: NoEndpoints")), "{history:#?}");
    });
}

#[test]
fn a_route_comes_back_while_the_api_server_is_away() {
    runtime().block_on(async {
        let mut world = World::alone().await;
        world.fleet().await;
        world.start_operator().await;
        world.start_agents().await;
        let id = at_a_quarter(&world).await;
        world.answers(&id, 100, 0);
        world.interrupt();
        world.answers(&id, 10, 10);
        world
            .eventually("edge pods that were told", async || {
                let all = world.agents.iter().all(|agent| agent.holds(&id));
                if all { Ok(()) } else { Err("not all hold it".to_owned()) }
            })
            .await;
        world.resume().await;
        world.route("shop", "content", "rollback", |r| r.phase == Phase::RolledBack || r.attempt == 2).await;
        world
            .eventually("end of the latches", async || {
                let none = world.agents.iter().all(|agent| !agent.holds(&id));
                if none { Ok(()) } else { Err("one still holds it".to_owned()) }
            })
            .await;
    });
}

#[test]
fn an_edge_pod_that_does_not_follow_a_rollback_is_named_and_then_deleted() {
    runtime().block_on(async {
        let world = World::new().await;
        let id = at_a_quarter(&world).await;
        let (pods, name) = (world.api::<Pod>(), world.agents[0].pod());
        world.agents[0].freeze(true);
        world.agents[1].count(&id, 10, 10);
        let named = world
            .route("shop", "content", "the pod's name", |r| {
                r.phase == Phase::RollingBack && r.waits_for.ends_with(&name)
            })
            .await;
        assert_eq!(named.weights.desired, 0);
        world
            .eventually("end of the pod", async || {
                let found = pods.get_opt(&name).await.unwrap();
                let gone = found.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
                if gone { Ok(()) } else { Err(name.clone()) }
            })
            .await;
        assert!(pods.get_opt(&world.agents[1].pod()).await.unwrap().is_some(), "who follows stays");
        world.route("shop", "content", "rollback", |r| r.phase == Phase::RolledBack || r.attempt == 2).await;
    });
}

#[test]
fn the_key_is_made_once_and_agents_have_a_name_for_each_other() {
    runtime().block_on(async {
        let world = World::new().await;
        let secrets = world.api::<Secret>();
        let key = async || secrets.get("edge-kill").await.unwrap().data.unwrap()["key"].0.clone();
        let first = world
            .eventually("a key", async || {
                secrets.get_opt("edge-kill").await.unwrap().and_then(|s| s.data).ok_or("none".to_owned())
            })
            .await["key"]
            .0
            .clone();
        let name = world.api::<Service>().get("edge-agents").await.unwrap().spec.unwrap();
        assert_eq!(name.cluster_ip.as_deref(), Some("None"));
        assert_eq!(name.publish_not_ready_addresses, Some(true));
        // The resync is 1 s: passes come and go, and nobody makes another key.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(key().await, first);
        // What somebody has broken or deleted is made anew, since nobody can use it.
        let broken = Patch::Merge(json!({"stringData": {"key": "guess"}}));
        secrets.patch("edge-kill", &PatchParams::default(), &broken).await.unwrap();
        let whole = async |what: &str| {
            world
                .eventually(what, async || {
                    let found = secrets.get_opt("edge-kill").await.unwrap().and_then(|s| s.data);
                    let length = found.map(|data| data["key"].0.len());
                    if length == Some(64) { Ok(()) } else { Err(format!("{length:?} bytes")) }
                })
                .await;
        };
        whole("a whole key").await;
        assert_ne!(key().await, first);
        secrets.delete("edge-kill", &DeleteParams::default()).await.unwrap();
        whole("a key again").await;
    });
}
