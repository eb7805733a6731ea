//! NetworkPolicies of services.

use super::{gone, patch};
use crate::{
    stomaton_service::{let_pods_run, service, until},
    world::{World, runtime},
};
use k8s_openapi::api::{core::v1::Service, networking::v1::NetworkPolicy};
use serde_json::{Value, json};
use stomaton_crds::v1alpha1::StomatonService;

/// Waits until a side of the policy mentions `what`, or does not.
async fn mentions(world: &World, name: &str, side: &str, what: &str, wanted: bool) {
    let policies = world.api::<NetworkPolicy>();
    world
        .eventually(&format!("{side} with {what}: {wanted}"), async || {
            let Some(policy) = policies.get_opt(name).await.unwrap() else { return Err("none".into()) };
            let side: Value = serde_json::to_value(policy.spec.unwrap()).unwrap()[side].clone();
            if side.to_string().contains(what) == wanted { Ok(()) } else { Err(format!("{side:#}")) }
        })
        .await;
}

#[test]
fn edges_between_services_are_allowed_on_both_sides_and_go_with_them() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let ports = json!([{"port": 80, "targetPort": 8000}]);
        let spec = json!({"selector": {"app": "legacy"}, "ports": ports});
        world.create::<Service>(json!({"metadata": {"name": "legacy"}, "spec": spec})).await;
        service(&world, "mono", json!({"role": "External", "external": {"serviceName": "legacy"}})).await;
        service(&world, "database", json!({"image": "fleet:1", "networkPolicy": {}})).await;
        let dependencies = json!([{"name": "database", "optional": true}, {"name": "mono"}]);
        let spec = json!({
            "image": "fleet:1", "dependsOn": dependencies,
            "networkPolicy": {"egressTo": [{"cidr": "10.20.0.0/16", "ports": [5432]}]},
        });
        service(&world, "shop", spec).await;
        mentions(&world, "database", "ingress", r#""fleet.stomaton.com/service":"shop""#, true).await;
        mentions(&world, "shop", "egress", r#""fleet.stomaton.com/service":"database""#, true).await;
        mentions(&world, "shop", "egress", r#""app":"legacy""#, true).await;
        mentions(&world, "shop", "egress", "10.20.0.0/16", true).await;
        for name in ["database", "shop"] {
            let_pods_run(&world, name, 1).await;
            until(&world, name, "True", "AsSpecified").await;
        }
        world.assert_nothing_written().await;

        patch::<Service>(&world, "legacy", json!({"spec": {"selector": {"app": "older"}}})).await;
        mentions(&world, "shop", "egress", r#""app":"older""#, true).await;
        patch::<StomatonService>(&world, "shop", json!({"spec": {"dependsOn": null}})).await;
        mentions(&world, "database", "ingress", "shop", false).await;
        mentions(&world, "shop", "egress", "older", false).await;
        patch::<StomatonService>(&world, "shop", json!({"spec": {"networkPolicy": {"mode": "Open"}}})).await;
        gone::<NetworkPolicy>(&world, "shop").await;
    });
}
