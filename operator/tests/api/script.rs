//! A life of everything the operator cares for, step by step: created, changed, moved, deleted. Each step waits until
//! the operator has done its part, whoever that is and however often it is started anew meanwhile.
//!
//! A kind or a field that is added later gets its line in the step where it belongs.

use crate::world::{World, plan_body};
use futures::{FutureExt, future::LocalBoxFuture};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{fmt::Debug, time::Duration};
use stomaton_crds::v1alpha1::{
    EdgeConfig, Gateway, MigrationPlan, PlanAction, PlanActionStatus, StomatonService,
};

/// What is done, and the name by which a test speaks of it.
pub type Step = (&'static str, for<'a> fn(&'a mut World) -> LocalBoxFuture<'a, ()>);

/// From nothing to nothing.
pub const LIFE: [Step; 5] = [
    ("create", |world| create(world).boxed_local()),
    ("change", |world| change(world).boxed_local()),
    ("move", |world| migrate(world).boxed_local()),
    ("move back", |world| move_back(world).boxed_local()),
    ("delete", |world| delete(world).boxed_local()),
];

/// Waits until `Ready` of the object is true and speaks of its present spec.
pub async fn ready<K>(world: &World, name: &str)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + serde::Serialize,
{
    let api = world.api::<K>();
    world
        .eventually(&format!("{} {name} that is Ready", K::kind(&())), async || {
            let object = serde_json::to_value(api.get(name).await.unwrap()).unwrap();
            let is_ready = |c: &&Value| {
                c["type"] == "Ready"
                    && c["status"] == "True"
                    && c["observedGeneration"] == object["metadata"]["generation"]
            };
            let conditions = object["status"]["conditions"].as_array();
            let found = conditions.into_iter().flatten().find(is_ready);
            found.map(drop).ok_or_else(|| object["status"].to_string())
        })
        .await;
}

pub async fn patch<K>(world: &World, name: &str, body: Value)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned,
{
    world.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
}

pub async fn create(world: &mut World) {
    world.fleet().await;
    world.create::<Secret>(json!({"metadata": {"name": "shop-keys"}, "stringData": {"key": "1"}})).await;
    let shop = json!({
        "image": "fleet:1",
        "config": [{"path": "/etc/shop", "content": "a"}],
        "dependsOn": [{"name": "cart"}],
        "secretEnv": [{"name": "KEY", "secret": "shop-keys", "key": "key"}],
    });
    let cart = json!({"image": "fleet:1", "replicas": 2, "networkPolicy": {}, "serviceAuth": {}});
    for (name, spec) in [("cart", cart), ("shop", shop)] {
        world.create::<StomatonService>(json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    world.start_agents().await;
    ready::<StomatonService>(world, "shop").await;
    ready::<StomatonService>(world, "cart").await;
    ready::<Gateway>(world, "edge").await;
}

async fn change(world: &mut World) {
    let env = json!([{"name": "GREETING", "value": "hello"}]);
    let config = json!([{"path": "/etc/shop", "content": "b"}]);
    let spec = json!({"image": "fleet:2", "env": env, "config": config});
    patch::<StomatonService>(world, "shop", json!({ "spec": spec })).await;
    ready::<StomatonService>(world, "shop").await;
    patch::<Gateway>(world, "edge", json!({"spec": {"diagnostics": {"responseHeader": true}}})).await;
    ready::<Gateway>(world, "edge").await;
}

pub async fn migrate(world: &mut World) {
    let ramp = json!([{"permille": 500, "minHold": "0s"}, {"permille": 1000, "minHold": "1h"}]);
    world.create::<MigrationPlan>(plan_body("plan", &["content"], ramp)).await;
    let id = world.compiled("content").await;
    world.route("plan", "content", "first weight", |r| r.weights.applied == 500).await;
    act(world, "Hold", Some("content")).await;
    act(world, "Resume", None).await;
    let plans: Api<MigrationPlan> = world.api();
    world
        .eventually("second weight", async || {
            // An operator that was started anew counts anew.
            world.answers(&id, 10, 0);
            let status = plans.get("plan").await.unwrap().status.unwrap_or_default();
            match status.routes.first() {
                Some(route) if route.weights.applied == 1000 => Ok(()),
                route => Err(format!("{route:?}")),
            }
        })
        .await;
    ready::<Gateway>(world, "edge").await;
}

/// An act of a person, which the operator has to answer.
pub async fn act(world: &World, action: &str, route: Option<&str>) -> PlanActionStatus {
    let name = format!("plan-{}", action.to_lowercase());
    let mut spec = json!({"plan": "plan", "action": action, "user": "somebody"});
    if let Some(route) = route {
        spec["route"] = json!(route);
    }
    world.create::<PlanAction>(json!({"metadata": {"name": name}, "spec": spec})).await;
    let acts = world.api::<PlanAction>();
    world
        .eventually("an answer to the act", async || {
            acts.get(&name).await.unwrap().status.ok_or_else(|| format!("no status of {name}"))
        })
        .await
}

async fn move_back(world: &mut World) {
    world.api::<MigrationPlan>().delete("plan", &DeleteParams::default()).await.unwrap();
    let configs: Api<EdgeConfig> = world.api();
    world
        .eventually("route without a target", async || {
            let routes = configs.get("edge").await.unwrap().spec.routes;
            if routes.iter().all(|route| route.target.is_none()) {
                Ok(())
            } else {
                Err(format!("{routes:?}"))
            }
        })
        .await;
    ready::<Gateway>(world, "edge").await;
}

async fn delete(world: &mut World) {
    let background = DeleteParams::background();
    world.api::<StomatonService>().delete("cart", &background).await.unwrap();
    world.api::<Gateway>().delete("edge", &background).await.unwrap();
    let (deployments, pods) = (world.api::<Deployment>(), world.api::<Pod>());
    world
        .eventually("end of all that was deleted", async || {
            let deployments = deployments.list(&ListParams::default()).await.unwrap().items;
            let pods = pods.list(&ListParams::default()).await.unwrap().items;
            let left: Vec<_> = deployments.iter().map(|d| d.name_any()).collect();
            if left == ["shop"] && pods.len() == 1 {
                Ok(())
            } else {
                Err(format!("{left:?} with {} pods", pods.len()))
            }
        })
        .await;
}

/// Lets pods of StomatonServices run, as a kubelet would, for as long as it is polled.
pub async fn kubelet(client: kube::Client, namespace: String) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let of_services = ListParams::default().labels("fleet.stomaton.com/service");
    let running =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    loop {
        let found = pods.list(&of_services).await.map(|list| list.items).unwrap_or_default();
        let phase = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.clone());
        for pod in found.iter().filter(|pod| phase(pod).as_deref() == Some("Pending")) {
            // A pod that is gone by now needs nothing.
            let _ =
                pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&running)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
