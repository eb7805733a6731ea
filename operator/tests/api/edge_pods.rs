//! How many edge pods a Gateway has, and what is around them: on a real API server.

use crate::{
    shape::{child, gone, replicas},
    stomaton_service::patch,
    world::{World, runtime},
};
use k8s_openapi::api::{
    apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, core::v1::Service,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use stomaton_crds::v1alpha1::Gateway;

/// A Gateway with this spec, beside its default backend.
async fn gateway(world: &World, mut spec: Value) {
    world.service("monolith").await;
    spec["defaultBackend"] = json!({"name": "monolith"});
    world.create::<Gateway>(json!({"metadata": {"name": "edge"}, "spec": spec})).await;
}

async fn change(world: &World, spec: Value) {
    patch::<Gateway>(world, "edge", json!({ "spec": spec })).await;
}

#[test]
fn an_autoscaler_takes_the_edge_over_and_gives_it_back() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        gateway(&world, json!({"replicas": 5})).await;
        child::<Deployment>(&world, "edge-edge", "five pods", |d| replicas(d) == Some(5)).await;

        change(&world, json!({"scaling": {"min": 2, "max": 8}})).await;
        let hpa = child::<HorizontalPodAutoscaler>(&world, "edge-edge", "an HPA", |_| true).await;
        assert_eq!(hpa.spec.unwrap().max_replicas, 8);
        world.assert_nothing_written().await;
        let deployments = world.api::<Deployment>();
        assert_eq!(replicas(&deployments.get("edge-edge").await.unwrap()), Some(5), "nothing was reset");

        // What an autoscaler does.
        let scale = json!({"spec": {"replicas": 7}});
        deployments.patch_scale("edge-edge", &PatchParams::default(), &Patch::Merge(scale)).await.unwrap();
        world.assert_nothing_written().await;
        assert_eq!(replicas(&deployments.get("edge-edge").await.unwrap()), Some(7));

        change(&world, json!({"scaling": null, "replicas": 3})).await;
        gone::<HorizontalPodAutoscaler>(&world, "edge-edge").await;
        child::<Deployment>(&world, "edge-edge", "three pods", |d| replicas(d) == Some(3)).await;
        world.assert_nothing_written().await;
    });
}

#[test]
fn a_drain_takes_one_edge_pod_at_a_time_and_the_budget_goes_with_the_last_but_one() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        gateway(&world, json!({})).await;
        let budget = child::<PodDisruptionBudget>(&world, "edge-edge", "a budget", |_| true).await;
        let deployment = child::<Deployment>(&world, "edge-edge", "a Deployment", |_| true).await;
        let selected = deployment.spec.unwrap().selector.match_labels;
        assert_eq!(budget.spec.unwrap().selector.unwrap().match_labels, selected);
        // Somebody deletes it: it is watched.
        world.api::<PodDisruptionBudget>().delete("edge-edge", &DeleteParams::default()).await.unwrap();
        child::<PodDisruptionBudget>(&world, "edge-edge", "the budget again", |b| {
            b.metadata.deletion_timestamp.is_none() && b.uid() != budget.metadata.uid
        })
        .await;
        change(&world, json!({"replicas": 1})).await;
        gone::<PodDisruptionBudget>(&world, "edge-edge").await;
    });
}

#[test]
fn the_service_of_the_edge_follows_the_spec_there_and_back() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let service = json!({
            "type": "NodePort", "externalTrafficPolicy": "Local", "annotations": {"example.com/name": "shop"},
        });
        gateway(&world, json!({ "service": service })).await;
        let policy = |s: &Service| s.spec.as_ref().and_then(|spec| spec.external_traffic_policy.clone());
        let made = child::<Service>(&world, "edge-edge", "a Service", |_| true).await;
        assert_eq!(policy(&made).as_deref(), Some("Local"));
        assert_eq!(made.annotations()["example.com/name"], "shop");

        change(
            &world,
            json!({"service": {"type": "ClusterIP", "externalTrafficPolicy": null, "annotations": null}}),
        )
        .await;
        let back = |s: &Service| policy(s).is_none() && !s.annotations().contains_key("example.com/name");
        let after = child::<Service>(&world, "edge-edge", "a ClusterIP", back).await;
        assert_eq!(after.spec.unwrap().type_.as_deref(), Some("ClusterIP"));
        assert_eq!(after.metadata.uid, made.metadata.uid);
        world.assert_nothing_written().await;
    });
}
