//! How many pods a StomatonService has, how they are replaced, what is around them, and how they go: on a real API
//! server.

use crate::{
    stomaton_service::{patch, ready, service, until},
    world::{World, other_projects, runtime},
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ControllerRevision, Deployment},
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Namespace, Pod, Service},
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use stomaton_crds::v1alpha1::{Gateway, StomatonService};
use stomaton_operator::{
    foreign::{PodMonitor, ScaledObject},
    optional::Optional,
};

/// Waits until the child `name` is there and `wanted` of it is true.
pub async fn child<K>(world: &World, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> K
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api = world.api::<K>();
    world
        .eventually(what, async || match api.get_opt(name).await.unwrap() {
            Some(found) if wanted(&found) => Ok(found),
            other => Err(format!("{other:#?}")),
        })
        .await
}

/// Waits until there is no child `name`.
pub async fn gone<K>(world: &World, name: &str)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api = world.api::<K>();
    let what = format!("end of {} {name}", K::kind(&()));
    world
        .eventually(&what, async || match api.get_metadata_opt(name).await {
            Ok(None) => Ok(()),
            Ok(found) => Err(format!("{found:#?}")),
            Err(error) if matches!(&error, kube::Error::Api(status) if status.is_not_found()) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .await;
}

pub fn replicas(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref()?.replicas
}

fn image(deployment: &Deployment) -> Option<&str> {
    deployment.spec.as_ref()?.template.spec.as_ref()?.containers[0].image.as_deref()
}

/// Lets pods with this image run, as a kubelet would, until the service is Ready.
pub async fn run(world: &World, name: &str, image: &str) -> StomatonService {
    let (pods, services) = (world.api::<Pod>(), world.api::<StomatonService>());
    let of_service = ListParams::default().labels(&format!("fleet.stomaton.com/service={name}"));
    let running =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    world
        .eventually("a service that is Ready", async || {
            for pod in pods.list(&of_service).await.unwrap().items {
                let containers = &pod.spec.as_ref().unwrap().containers;
                let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
                if containers[0].image.as_deref() == Some(image) && phase == Some("Pending") {
                    // It may be gone since it was listed.
                    let patch = Patch::Merge(&running);
                    let _ = pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
                }
            }
            let object = services.get(name).await.unwrap();
            match ready(&object) {
                Some((status, ..)) if status == "True" => Ok(object),
                other => Err(format!("{other:?}")),
            }
        })
        .await
}

#[test]
fn an_autoscaler_takes_the_number_of_pods_over_and_gives_it_back() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        service(&world, "shop", json!({"image": "fleet:1", "replicas": 10})).await;
        child::<Deployment>(&world, "shop", "ten pods", |d| replicas(d) == Some(10)).await;

        let scaling = json!({"min": 2, "max": 20, "cpuPercent": 50});
        patch::<StomatonService>(&world, "shop", json!({"spec": {"scaling": scaling}})).await;
        child::<HorizontalPodAutoscaler>(&world, "shop", "an HPA", |_| true).await;
        run(&world, "shop", "fleet:1").await;
        assert_eq!(replicas(&world.api::<Deployment>().get("shop").await.unwrap()), Some(10));

        // What an autoscaler does.
        let scale = json!({"spec": {"replicas": 7}});
        let deployments = world.api::<Deployment>();
        deployments.patch_scale("shop", &PatchParams::default(), &Patch::Merge(scale)).await.unwrap();
        world.assert_nothing_written().await;
        assert_eq!(replicas(&deployments.get("shop").await.unwrap()), Some(7));

        let without = json!({"spec": {"scaling": null, "replicas": null}});
        patch::<StomatonService>(&world, "shop", without).await;
        gone::<HorizontalPodAutoscaler>(&world, "shop").await;
        world.assert_nothing_written().await;
        assert_eq!(replicas(&deployments.get("shop").await.unwrap()), Some(7));

        let scale = json!({"spec": {"replicas": 3}});
        let services = world.api::<StomatonService>();
        services.patch_scale("shop", &PatchParams::default(), &Patch::Merge(scale)).await.unwrap();
        child::<Deployment>(&world, "shop", "three pods", |d| replicas(d) == Some(3)).await;
    });
}

#[test]
fn triggers_wait_for_keda_and_use_it_while_it_is_there() {
    runtime().block_on(async {
        let _alone = other_projects().await;
        let world = World::with_operator().await;
        let triggers = json!([{"type": "cron", "metadata": {"start": "0 8 * * *"}}]);
        let scaling = json!({"min": 0, "max": 5, "cpuPercent": 60, "triggers": triggers});
        service(&world, "shop", json!({"image": "fleet:1", "scaling": scaling})).await;
        run(&world, "shop", "fleet:1").await;
        until(&world, "shop", "True", "KedaMissing").await;
        child::<HorizontalPodAutoscaler>(&world, "shop", "an HPA meanwhile", |_| true).await;

        let kind = Optional::ScaledObject.resource();
        world.serve(&kind).await;
        let object = child::<ScaledObject>(&world, "shop", "a ScaledObject", |_| true).await;
        assert_eq!(object.spec["minReplicaCount"], 0);
        gone::<HorizontalPodAutoscaler>(&world, "shop").await;
        until(&world, "shop", "True", "AsSpecified").await;

        // Drift is repaired: the kind is watched since it came.
        patch::<ScaledObject>(&world, "shop", json!({"spec": {"maxReplicaCount": 50}})).await;
        child::<ScaledObject>(&world, "shop", "the ScaledObject as it was", |o| {
            o.spec["maxReplicaCount"] == 5
        })
        .await;
        world.assert_nothing_written().await;

        world.serve_no_longer(&kind).await;
        child::<HorizontalPodAutoscaler>(&world, "shop", "an HPA again", |_| true).await;
        until(&world, "shop", "True", "KedaMissing").await;
    });
}

#[test]
fn a_service_with_traffic_keeps_a_pod() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let edge = json!({"metadata": {"name": "edge"}, "spec": {"defaultBackend": {"name": "shop"}}});
        world.create::<Gateway>(edge).await;
        service(&world, "shop", json!({"image": "fleet:1", "replicas": 0})).await;
        run(&world, "shop", "fleet:1").await;
        let kept = until(&world, "shop", "True", "InUse").await;
        assert!(ready(&kept).unwrap().2.contains("the default backend of Gateway edge"));
        assert_eq!(replicas(&world.api::<Deployment>().get("shop").await.unwrap()), Some(1));

        world.api::<Gateway>().delete("edge", &DeleteParams::default()).await.unwrap();
        child::<Deployment>(&world, "shop", "no pods", |d| replicas(d) == Some(0)).await;
        until(&world, "shop", "True", "AsSpecified").await;
    });
}

#[test]
fn a_drain_takes_one_pod_at_a_time() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        service(&world, "shop", json!({"image": "fleet:1", "replicas": 2})).await;
        let budget = child::<PodDisruptionBudget>(&world, "shop", "a budget", |_| true).await.spec.unwrap();
        assert_eq!(budget.unhealthy_pod_eviction_policy.as_deref(), Some("AlwaysAllow"));
        patch::<StomatonService>(&world, "shop", json!({"spec": {"replicas": 1}})).await;
        gone::<PodDisruptionBudget>(&world, "shop").await;
    });
}

#[test]
fn pods_that_may_not_be_made_are_explained() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        service(
            &world,
            "shop",
            json!({"image": "fleet:1", "placement": {"priorityClassName": "nobody-has-it"}}),
        )
        .await;
        let api = world.api::<StomatonService>();
        world
            .eventually("the name of the PriorityClass", async || {
                let (_, _, message) = ready(&api.get("shop").await.unwrap()).unwrap_or_default();
                if message.contains("nobody-has-it") { Ok(()) } else { Err(message) }
            })
            .await;

        service(&world, "other", json!({"image": "fleet:1", "serviceAccountName": "admin"})).await;
        let refused = until(&world, "other", "False", "NotAllowed").await;
        assert!(ready(&refused).unwrap().2.contains("--allowed-service-accounts=admin"));
        assert!(world.api::<Deployment>().get_opt("other").await.unwrap().is_none());
    });
}

#[test]
fn a_revision_that_fails_is_taken_back_until_the_spec_changes() {
    runtime().block_on(async {
        let mut world = World::with_operator().await;
        service(&world, "shop", json!({"image": "fleet:1"})).await;
        let good = run(&world, "shop", "fleet:1").await.status.unwrap().last_good_revision.unwrap();

        let failing = json!({"spec": {"image": "fleet:none", "rollout": {"progressDeadline": "1s"}}});
        patch::<StomatonService>(&world, "shop", failing).await;
        let back = until(&world, "shop", "False", "RolledBackRevision").await;
        let message = ready(&back).unwrap().2;
        assert!(message.contains("fleet:none") && message.contains(&good), "{message}");
        child::<Deployment>(&world, "shop", "the image as it was", |d| image(d) == Some("fleet:1")).await;
        let status = back.status.unwrap();
        assert_eq!(status.last_good_revision.as_ref(), Some(&good));
        let failed = status.failed_revision.unwrap();
        assert!(world.api::<ControllerRevision>().get_opt(&failed).await.unwrap().is_some());

        // Not again, not by another operator either.
        world.kill_operator().await;
        world.start_operator().await;
        world.assert_nothing_written().await;
        assert_eq!(image(&world.api::<Deployment>().get("shop").await.unwrap()), Some("fleet:1"));

        let mended = json!({"spec": {"image": "fleet:2", "rollout": null}});
        patch::<StomatonService>(&world, "shop", mended).await;
        child::<Deployment>(&world, "shop", "the new image", |d| image(d) == Some("fleet:2")).await;
        let status = run(&world, "shop", "fleet:2").await.status.unwrap();
        assert_eq!(status.failed_revision, None);
        assert_ne!(status.last_good_revision, Some(good));
    });
}

#[test]
fn pods_get_what_is_added_and_nothing_that_weakens_them() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let added = json!({"spec": {
            "tolerations": [], "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db"]}],
            "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1024Mi"}}],
            "containers": [{"name": "proxy", "image": "proxy:1", "ports": [{"containerPort": 9000}]}],
            "initContainers": [{"name": "warm", "image": "warm:1"}],
        }, "labels": {"team": "shop"}});
        let scaling = json!({"min": 2, "max": 4, "cpuPercent": 70, "memoryPercent": 80});
        let spec = json!({"image": "fleet:1", "podTemplate": added, "scaling": scaling, "disruption": {}});
        service(&world, "shop", spec).await;
        run(&world, "shop", "fleet:1").await;
        let pods = world.api::<Deployment>().get("shop").await.unwrap().spec.unwrap().template;
        assert_eq!(pods.metadata.unwrap().labels.unwrap()["team"], "shop");
        let pod = pods.spec.unwrap();
        let hardened = pod.containers[1].security_context.as_ref().unwrap();
        assert_eq!(
            (pod.containers[1].name.as_str(), hardened.read_only_root_filesystem),
            ("proxy", Some(true))
        );
        world.assert_nothing_written().await;

        let weaker = json!({"spec": {"podTemplate": {"spec": {"hostNetwork": true}}}});
        patch::<StomatonService>(&world, "shop", weaker).await;
        let refused = until(&world, "shop", "False", "Invalid").await;
        assert!(ready(&refused).unwrap().2.contains("`podTemplate.spec.hostNetwork` is refused"));
    });
}

#[test]
fn metrics_are_collected_when_somebody_can() {
    runtime().block_on(async {
        let _alone = other_projects().await;
        let world = World::with_operator().await;
        service(&world, "shop", json!({"image": "fleet:1", "monitoring": {}})).await;
        let ready_now = run(&world, "shop", "fleet:1").await;
        assert!(ready(&ready_now).unwrap().2.contains("no PodMonitor"), "{ready_now:?}");
        let kind = Optional::PodMonitor.resource();
        world.serve(&kind).await;
        let monitor = child::<PodMonitor>(&world, "shop", "a PodMonitor", |_| true).await;
        assert_eq!(monitor.spec["podMetricsEndpoints"][0]["path"], "/metrics");
        world.assert_nothing_written().await;
        patch::<StomatonService>(&world, "shop", json!({"spec": {"monitoring": null}})).await;
        gone::<PodMonitor>(&world, "shop").await;
        world.serve_no_longer(&kind).await;
    });
}

/// What the operator deleted here, in order, as resources.
fn deleted(world: &World) -> Vec<String> {
    let requests = world.requests().into_iter().filter(|r| r["verb"] == "delete");
    requests.filter_map(|r| Some(r["objectRef"]["resource"].as_str()?.to_owned())).collect()
}

#[test]
fn a_service_in_use_is_not_taken_down_and_then_goes_in_order() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let routes = json!([{"name": "shop", "match": {"pathPrefix": "/shop"}, "backend": {"name": "shop"}}]);
        world.service("mono").await;
        let edge = json!({"defaultBackend": {"name": "mono"}, "routes": routes});
        world.create::<Gateway>(json!({"metadata": {"name": "edge"}, "spec": edge})).await;
        service(&world, "shop", json!({"image": "fleet:1", "replicas": 2})).await;
        run(&world, "shop", "fleet:1").await;
        let services = world.api::<StomatonService>();
        services.delete("shop", &DeleteParams::default()).await.unwrap();
        world
            .eventually("who holds it", async || {
                let status = services.get("shop").await.unwrap().status.unwrap();
                let held = status.conditions.iter().find(|c| c.type_ == "Reconciling").cloned();
                let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
                match held {
                    Some(c)
                        if ready
                            && c.reason == "InUse"
                            && c.message.contains("Gateway edge (route shop)") =>
                    {
                        Ok(())
                    }
                    _ => Err(format!("{status:#?}")),
                }
            })
            .await;
        world.assert_nothing_written().await;
        let deployment = world.api::<Deployment>().get("shop").await.unwrap();
        assert!(deployment.metadata.deletion_timestamp.is_none());

        patch::<Gateway>(&world, "edge", json!({"spec": {"routes": []}})).await;
        gone::<StomatonService>(&world, "shop").await;
        gone::<Deployment>(&world, "shop").await;
        let order = ["poddisruptionbudgets", "deployments", "services", "controllerrevisions"];
        assert_eq!(deleted(&world), order);
    });
}

#[test]
fn a_service_that_becomes_external_leaves_nothing_behind() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        world.service("legacy").await;
        let scaling = json!({"min": 1, "max": 3, "cpuPercent": 70});
        service(&world, "shop", json!({"image": "fleet:1", "scaling": scaling})).await;
        run(&world, "shop", "fleet:1").await;
        // Somebody else's, with our label.
        let labels = json!({"fleet.stomaton.com/service": "shop"});
        let budget = json!({"metadata": {"name": "theirs", "labels": labels}, "spec": {"maxUnavailable": 1}});
        world.create::<PodDisruptionBudget>(budget).await;

        let external = json!({"spec": {
            "role": "External", "external": {"serviceName": "legacy"}, "port": 8000, "image": null, "scaling": null,
        }});
        patch::<StomatonService>(&world, "shop", external).await;
        gone::<Deployment>(&world, "shop").await;
        gone::<HorizontalPodAutoscaler>(&world, "shop").await;
        gone::<PodDisruptionBudget>(&world, "shop").await;
        gone::<Service>(&world, "shop").await;
        let refers = until(&world, "shop", "True", "AsSpecified").await;
        assert!(refers.finalizers().is_empty());
        let ours = ListParams::default().labels("fleet.stomaton.com/service=shop");
        assert!(world.api::<ControllerRevision>().list(&ours).await.unwrap().items.is_empty());
        assert!(world.api::<PodDisruptionBudget>().get_opt("theirs").await.unwrap().is_some());
        world.api::<StomatonService>().delete("shop", &DeleteParams::default()).await.unwrap();
        gone::<StomatonService>(&world, "shop").await;
    });
}

#[test]
fn a_namespace_goes_with_everything_in_it() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let edge = json!({"metadata": {"name": "edge"}, "spec": {"defaultBackend": {"name": "shop"}}});
        world.create::<Gateway>(edge).await;
        service(&world, "shop", json!({"image": "fleet:1", "replicas": 2})).await;
        run(&world, "shop", "fleet:1").await;
        let namespaces = Api::<Namespace>::all(world.client.clone());
        namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
        // The end of the namespace itself is paced by Kubernetes: it looks again every 8 s and more.
        let kept = async || {
            let gateway = world.api::<Gateway>().get_opt("edge").await.unwrap().map(|o| o.metadata);
            let service = world.api::<StomatonService>().get_opt("shop").await.unwrap().map(|o| o.metadata);
            gateway.or(service)
        };
        let gone = async || kept().await.map_or(Ok(()), |kept| Err(format!("{kept:#?}")));
        world.eventually("end of what has our finalizer", gone).await;
    });
}
