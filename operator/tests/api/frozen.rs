//! A route past its point of no return, on a real API server: nothing leads it back, and a person has the last word.

use crate::reasons::says;
use crate::world::{World, plan_body, ramp, runtime};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use stomaton_crds::{
    conditions::{Reason, State},
    edge_state::Why,
    v1alpha1::{EdgeConfig, EdgeRoute, EdgeWeights, Gateway, MigrationPlan, Phase, PlanAction},
};

async fn compiled(world: &World) -> EdgeRoute {
    let config = world.api::<EdgeConfig>().get("edge").await.unwrap();
    config.spec.routes.into_iter().find(|route| route.name == "content").unwrap()
}

/// A plan whose only route has crossed and is done; gives its identity.
async fn crossed(world: &World) -> String {
    let mut body = plan_body("shop", &["content"], ramp(&[250, 1000], "0s"));
    body["spec"]["routes"][0]["pointOfNoReturn"] = json!("FullWeight");
    body["spec"]["routes"][0]["fallback"] = json!({});
    world.create::<MigrationPlan>(body).await;
    let id = world.compiled("content").await;
    world.route("shop", "content", "first weight", |r| r.weights.applied == 250).await;
    world.answers(&id, 40, 0);
    world.route("shop", "content", "full weight", |r| r.crossed && r.weights.applied == 1000).await;
    world.answers(&id, 40, 0);
    world.route("shop", "content", "end", |r| r.phase == Phase::Done).await;
    id
}

async fn act(world: &World, action: &str) {
    let name = format!("shop-{}", action.to_lowercase());
    let spec = json!({"plan": "shop", "action": action, "route": "content", "user": "admin"});
    world.create::<PlanAction>(json!({"metadata": {"name": name}, "spec": spec})).await;
}

/// Waits until condition `kind` of the plan has this reason; gives its message.
async fn condition(world: &World, kind: &str, reason: &str) -> String {
    world
        .eventually(reason, async || {
            let status = world.api::<MigrationPlan>().get("shop").await.unwrap().status.unwrap();
            let found = status.conditions.iter().find(|c| c.type_ == kind && c.reason == reason);
            found.map(|c| c.message.clone()).ok_or(format!("{:#?}", status.conditions))
        })
        .await
}

async fn patch_plan(world: &World, change: Value) {
    let params = PatchParams::default();
    world.api::<MigrationPlan>().patch("shop", &params, &Patch::Merge(change)).await.unwrap();
}

async fn endpoints_are(world: &World, ready: bool) {
    let endpoint = json!({"addresses": ["10.9.9.9"], "conditions": {"ready": ready}});
    let change = Patch::Merge(json!({"endpoints": [endpoint]}));
    world.api::<EndpointSlice>().patch("content-1", &PatchParams::default(), &change).await.unwrap();
}

#[test]
fn a_route_crosses_and_nothing_leads_it_back() {
    runtime().block_on(async {
        let world = World::new().await;
        let id = crossed(&world).await;
        let route = compiled(&world).await;
        assert_eq!((&route.id, route.crossed, &route.target), (&id, true, &None));
        assert!(route.guards.is_empty() && route.handling.fallback.is_none());

        world.answers(&id, 50, 50);
        world.agents[1].latch(&id, 1, Why::BadShare);
        let revision = world.weights().await.unwrap().spec.revision + 1;
        let latch = json!({"spec": {"revision": revision, "routes": {&id: {"latched": true}}}});
        world
            .api::<EdgeWeights>()
            .patch("edge", &PatchParams::default(), &Patch::Merge(latch))
            .await
            .unwrap();
        let further = |r: &stomaton_crds::v1alpha1::RouteStatus| r.attempt == 2 && r.since.is_some();
        let route = world.route("shop", "content", "further attempt", further).await;
        assert_eq!((route.phase, route.weights.applied), (Phase::Done, 1000));
        assert_eq!(world.weights().await.unwrap().spec.routes[&id].effective("public"), 1000);

        act(&world, "Rollback").await;
        let refused = world
            .eventually("an answer", async || {
                let act = world.api::<PlanAction>().get("shop-rollback").await.unwrap();
                act.status.map(|status| status.message).ok_or("none".to_owned())
            })
            .await;
        assert!(refused.contains("the point of no return is behind it"), "{refused}");
        patch_plan(&world, json!({"spec": {"halt": "RollbackAll"}})).await;
        condition(&world, "Ready", "Halted").await;
        let status = world.api::<MigrationPlan>().get("shop").await.unwrap().status.unwrap();
        assert_eq!((status.routes[0].phase, status.routes[0].weights.applied), (Phase::Done, 1000));
        assert!(status.history.iter().all(|t| t.phase != Phase::RollingBack), "{:#?}", status.history);
        assert!(compiled(&world).await.crossed);
    });
}

#[test]
fn a_frozen_route_waits_for_a_person() {
    runtime().block_on(async {
        let world = World::new().await;
        let id = crossed(&world).await;
        endpoints_are(&world, false).await;
        let words = ["route content", "a person: the target has no ready endpoint"];
        says(&world, "shop", State::Stalled, Reason::Frozen, &words).await;
        assert_eq!(world.weights().await.unwrap().spec.routes[&id].effective("public"), 1000);
        endpoints_are(&world, true).await;
        act(&world, "Resume").await;
        let thawed = world.route("shop", "content", "end of it", |r| r.phase == Phase::Done).await;
        assert_eq!((thawed.frozen_in, thawed.attempt), (None, 2));
        condition(&world, "Ready", "Migrated").await;
    });
}

#[test]
fn a_deleted_plan_stays_until_the_gateway_names_the_service() {
    runtime().block_on(async {
        let world = World::new().await;
        crossed(&world).await;
        world.api::<MigrationPlan>().delete("shop", &DeleteParams::default()).await.unwrap();
        let why = condition(&world, "Ready", "Deleting").await;
        assert!(why.contains("set its `backend` to content"), "{why}");
        assert!(compiled(&world).await.crossed);
        let route =
            json!({"name": "content", "match": {"pathPrefix": "/api/v1/content"}, "backend": {"name": "content"}});
        let change = Patch::Merge(json!({"spec": {"routes": [route]}}));
        world.api::<Gateway>().patch("edge", &PatchParams::default(), &change).await.unwrap();
        world
            .eventually("end of the plan", async || {
                match world.api::<MigrationPlan>().get_opt("shop").await.unwrap() {
                    None => Ok(()),
                    Some(plan) => Err(format!("{:#?}", plan.status)),
                }
            })
            .await;
    });
}
