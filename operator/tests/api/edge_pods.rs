//! How many edge pods a Gateway has, and what is around them: on a real API server.

use crate::{
    shape::{child, gone, replicas},
    stomaton_service::patch,
    world::{World, runtime},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Pod, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use stomaton_crds::{
    edge_state::{CertificateFault, CertificateState},
    ids,
    v1alpha1::{EdgeConfig, Gateway},
};

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

#[test]
fn a_limit_for_all_clients_is_shared_among_the_pods_that_are_ready() {
    runtime().block_on(async {
        let world = World::new().await;
        let total = json!({"requestsPerSecond": 60});
        let routes =
            json!([{"name": "content", "match": {"pathPrefix": "/api"}, "rateLimit": {"total": total}}]);
        change(&world, json!({ "routes": routes })).await;
        let shared = async |pods: i32, per_minute: i32| {
            child::<EdgeConfig>(&world, "edge", "the share", |config| {
                let total = config.spec.routes[0].handling.total;
                total.is_some_and(|total| total.per_minute == per_minute)
            })
            .await;
            child::<Gateway>(&world, "edge", "what the status says", |gateway| {
                let limits = gateway.status.as_ref().and_then(|status| status.limits.as_ref());
                limits.is_some_and(|l| l.shared_by == pods && l.totals[0].per_minute == per_minute)
            })
            .await;
        };
        shared(2, 1800).await;

        // A third pod is wanted: nothing changes until it is ready, and everything at once then.
        change(&world, json!({"replicas": 3})).await;
        let pods = world.api::<Pod>();
        let of_edge = ListParams::default().labels("app.kubernetes.io/component=edge");
        let third = world
            .eventually("a third pod", async || {
                let found = pods.list(&of_edge).await.unwrap().items;
                let new = found.into_iter().find(|pod| {
                    pod.status.as_ref().is_none_or(|status| status.phase.as_deref() != Some("Running"))
                });
                new.map(|pod| pod.name_any()).ok_or_else(|| "none".to_owned())
            })
            .await;
        shared(2, 1800).await;
        let ready = |ready: &str| {
            Patch::Merge(json!({"status": {
                "phase": "Running", "podIP": "127.9.9.9", "podIPs": [{"ip": "127.9.9.9"}],
                "conditions": [{"type": "Ready", "status": ready}],
            }}))
        };
        pods.patch_status(&third, &PatchParams::default(), &ready("True")).await.unwrap();
        shared(3, 1200).await;
        let is = async |reason: &str| {
            child::<Gateway>(&world, "edge", reason, |gateway| {
                let mut conditions = gateway.status.iter().flat_map(|status| &status.conditions);
                conditions.any(|c| c.type_ == "Ready" && c.reason == reason)
            })
            .await;
        };
        // All are ready, and the third has no agent.
        is("WaitingForEdge").await;

        // It fails for a moment: that costs no reload.
        pods.patch_status(&third, &PatchParams::default(), &ready("False")).await.unwrap();
        is("RollingOut").await;
        shared(3, 1200).await;
    });
}

#[test]
fn the_status_says_which_certificate_serves_and_what_is_wrong_with_it() {
    runtime().block_on(async {
        let mut world = World::with_operator().await;
        let tls = json!({"certificates": [{"secret": "shop-tls"}]});
        gateway(&world, json!({ "tls": tls })).await;
        world.start_agents().await;
        let is = async |reason: &str, status: &str| {
            child::<Gateway>(&world, "edge", reason, |gateway| {
                let mut conditions = gateway.status.iter().flat_map(|status| &status.conditions);
                conditions.any(|c| c.type_ == "CertificatesReady" && c.reason == reason && c.status == status)
            })
            .await
        };
        is("WaitingForEdge", "Unknown").await;

        let missing = CertificateState {
            id: ids::secret_dir("shop-tls"),
            fault: Some(CertificateFault::Missing),
            ..CertificateState::default()
        };
        let good = CertificateState {
            fingerprint: Some("f00d".into()),
            not_after: 4_000_000_000,
            fault: None,
            ..missing.clone()
        };
        world.agents[0].has(std::slice::from_ref(&missing));
        is("CertificateMissing", "False").await;
        for agent in &world.agents {
            agent.has(std::slice::from_ref(&good));
        }
        let status = is("AsSpecified", "True").await.status.unwrap();
        assert_eq!(status.certificates[0].fingerprint.as_deref(), Some("f00d"));
        assert!(status.certificates[0].not_after.is_some() && status.certificates[0].message.is_none());
        world.assert_nothing_written().await;

        world.agents[1].has(&[CertificateState { not_after: 1, ..good }]);
        is("CertificateExpired", "False").await;
    });
}
