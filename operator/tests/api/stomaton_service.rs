//! StomatonServices on a real API server.

use crate::world::{World, runtime};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
    events::v1::Event,
};
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::fmt::Debug;
use stomaton_crds::v1alpha1::StomatonService;

/// `Ready` of a service: status, reason and message.
pub fn ready(service: &StomatonService) -> Option<(String, String, String)> {
    let conditions = &service.status.as_ref()?.conditions;
    let ready = conditions.iter().find(|c| c.type_ == "Ready")?;
    let current = ready.observed_generation == service.metadata.generation;
    current.then(|| (ready.status.clone(), ready.reason.clone(), ready.message.clone()))
}

/// Waits until `Ready` of `name` has this status and this reason, and gives the object.
pub async fn until(world: &World, name: &str, status: &str, reason: &str) -> StomatonService {
    let api = world.api::<StomatonService>();
    world
        .eventually(&format!("Ready={status} {reason}"), async || {
            let object = api.get(name).await.unwrap();
            match ready(&object) {
                Some((s, r, _)) if (s.as_str(), r.as_str()) == (status, reason) => Ok(object),
                _ => Err(format!("{:#?}", object.status)),
            }
        })
        .await
}

pub async fn patch<K>(world: &World, name: &str, body: Value) -> K
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + serde::de::DeserializeOwned,
{
    world.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(body)).await.unwrap()
}

/// Lets the pods of a service run, as a kubelet would: there is none here.
pub async fn let_pods_run(world: &World, service: &str, count: usize) {
    let pods = world.api::<Pod>();
    let of_service = ListParams::default().labels(&format!("fleet.stomaton.com/service={service}"));
    let found = world
        .eventually("pods", async || {
            let found = pods.list(&of_service).await.unwrap().items;
            if found.len() == count { Ok(found) } else { Err(format!("{} pods", found.len())) }
        })
        .await;
    let running =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    for pod in found {
        patch_status::<Pod>(world, &pod.name_any(), &running).await;
    }
}

pub async fn patch_status<K>(world: &World, name: &str, body: &Value)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + serde::de::DeserializeOwned,
{
    world.api::<K>().patch_status(name, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
}

pub async fn service(world: &World, name: &str, spec: Value) {
    world.create::<StomatonService>(json!({"metadata": {"name": name}, "spec": spec})).await;
}

#[test]
fn a_service_is_deployed_and_its_status_is_what_runs() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        service(&world, "shop", json!({"image": "fleet:1", "replicas": 2, "port": 8001})).await;
        let waiting = until(&world, "shop", "False", "RollingOut").await;
        assert_eq!(waiting.status.unwrap().ready_replicas, 0);
        assert_eq!(
            world.api::<Service>().get("shop").await.unwrap().spec.unwrap().ports.unwrap()[0].port,
            8001
        );

        let_pods_run(&world, "shop", 2).await;
        let status = until(&world, "shop", "True", "AsSpecified").await.status.unwrap();
        assert_eq!((status.replicas, status.ready_replicas), (2, 2));
        assert_eq!(status.url, Some(format!("http://shop.{}.svc:8001", world.namespace)));

        // The scale subresource, as an autoscaler or `kubectl scale` uses it.
        let api = world.api::<StomatonService>();
        api.patch_scale("shop", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 1}})))
            .await
            .unwrap();
        world
            .eventually("one replica", async || {
                let status = api.get("shop").await.unwrap().status.unwrap();
                if status.replicas == 1 { Ok(()) } else { Err(format!("{status:#?}")) }
            })
            .await;
        assert_eq!(api.get_scale("shop").await.unwrap().status.unwrap().replicas, 1);
        until(&world, "shop", "True", "AsSpecified").await;

        let events = world.api::<Event>();
        world
            .eventually("an Event for each transition", async || {
                let events = events.list(&ListParams::default()).await.unwrap().items;
                let of_shop = events
                    .iter()
                    .filter(|e| e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some("shop"));
                let reasons: Vec<_> = of_shop.filter_map(|e| e.reason.clone()).collect();
                let all =
                    ["RollingOut", "AsSpecified"].iter().all(|r| reasons.iter().any(|reason| reason == r));
                if all { Ok(()) } else { Err(format!("{reasons:?}")) }
            })
            .await;
    });
}

#[test]
fn drift_is_repaired_and_what_is_no_longer_wanted_goes() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let env = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)"}]);
        service(&world, "shop", json!({"image": "fleet:1", "env": env})).await;
        until(&world, "shop", "False", "RollingOut").await;

        let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "service", "image": image}]}}}});
        let deployments = world.api::<Deployment>();
        deployments.patch("shop", &PatchParams::default(), &Patch::Strategic(image("evil:1"))).await.unwrap();
        world.api::<Service>().delete("shop", &DeleteParams::default()).await.unwrap();
        let names = |d: &Deployment| {
            let container = &d.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0];
            let env = container.env.iter().flatten().map(|e| (e.name.clone(), e.value.clone().unwrap_or_default()));
            (container.image.clone().unwrap(), env.collect::<Vec<_>>())
        };
        let shop = |env: &[(&str, &str)]| {
            let own = [("SERVICE_NAME", "shop"), ("PORT", "8080")];
            let env = own.iter().chain(env).map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            ("fleet:1".to_owned(), env.collect::<Vec<_>>())
        };
        world
            .eventually("the Deployment as it was", async || {
                let found = names(&deployments.get("shop").await.unwrap());
                if found == shop(&[("A", "1"), ("B", "$$(A)")]) { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await;
        world
            .eventually("the Service again", async || {
                world.api::<Service>().get_opt("shop").await.unwrap().ok_or("none".to_owned())
            })
            .await;

        patch::<StomatonService>(&world, "shop", json!({"spec": {"env": [{"name": "B", "value": "2"}]}})).await;
        world
            .eventually("the variable gone", async || {
                let found = names(&deployments.get("shop").await.unwrap());
                if found == shop(&[("B", "2")]) { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await;
    });
}

#[test]
fn a_foreign_object_is_left_alone_and_named() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let pods = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let foreign = world
            .create::<Deployment>(json!({
                "metadata": {"name": "shop"},
                "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": pods},
            }))
            .await;
        service(&world, "shop", json!({"image": "fleet:1"})).await;
        let stalled = until(&world, "shop", "False", "NotOurs").await;
        assert!(ready(&stalled).unwrap().2.starts_with("Deployment shop exists already and belongs to nobody"));
        let now = world.api::<Deployment>().get("shop").await.unwrap();
        assert_eq!((now.spec, now.metadata.labels), (foreign.spec, foreign.metadata.labels));

        world.api::<Deployment>().delete("shop", &DeleteParams::default()).await.unwrap();
        until(&world, "shop", "False", "RollingOut").await;
    });
}

#[test]
fn an_external_service_is_only_referred_to() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let spec = json!({"role": "External", "external": {"serviceName": "legacy"}});
        service(&world, "mono", spec).await;
        let missing = until(&world, "mono", "False", "NotFound").await;
        assert!(ready(&missing).unwrap().2.contains("create it, or correct `external.serviceName`"));
        let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 443}]);
        world.create::<Service>(json!({"metadata": {"name": "legacy"}, "spec": {"ports": ports}})).await;
        until(&world, "mono", "False", "NoPort").await;
        patch::<StomatonService>(&world, "mono", json!({"spec": {"port": 443}})).await;
        let found = until(&world, "mono", "True", "AsSpecified").await;
        assert_eq!(found.status.unwrap().url, Some(format!("http://legacy.{}.svc:443", world.namespace)));
        assert!(world.api::<Deployment>().get_opt("mono").await.unwrap().is_none());
    });
}

#[test]
fn a_pod_that_cannot_start_is_explained() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        service(&world, "shop", json!({"image": "fleet:none"})).await;
        let pods = world.api::<Pod>();
        let pod = world
            .eventually("a pod", async || {
                pods.list(&ListParams::default()).await.unwrap().items.pop().ok_or("none".to_owned())
            })
            .await;
        let waiting = json!({"status": {"containerStatuses": [{
            "name": "service", "image": "fleet:none", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff"}},
        }]}});
        patch_status::<Pod>(&world, &pod.name_any(), &waiting).await;
        let api = world.api::<StomatonService>();
        world
            .eventually("the reason in the condition", async || {
                let (_, _, message) = ready(&api.get("shop").await.unwrap()).unwrap_or_default();
                if message.ends_with("the image fleet:none of service cannot be pulled") {
                    Ok(())
                } else {
                    Err(message)
                }
            })
            .await;
    });
}

#[test]
fn nothing_to_do_is_nothing_written() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let resources = json!({"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {}});
        let env = json!([{"name": "EMPTY", "value": ""}, {"name": "DOLLAR", "value": "a$b$$c"}]);
        service(&world, "shop", json!({"image": "fleet:1", "resources": resources, "env": env})).await;
        let_pods_run(&world, "shop", 1).await;
        until(&world, "shop", "True", "AsSpecified").await;
        world.assert_nothing_written().await;
    });
}

#[test]
fn bad_input_is_refused_by_the_api_server() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let bad = [
            json!({"role": "Domain"}),
            json!({"role": "External"}),
            json!({"image": "i", "port": 0}),
            json!({"image": "i", "env": [{"name": "PORT", "value": "1"}]}),
            json!({"image": "i", "env": [{"name": "A B", "value": "1"}]}),
            json!({"image": "i", "replicas": -1}),
        ];
        for spec in bad {
            let refused =
                world.try_create::<StomatonService>(json!({"metadata": {"name": "bad"}, "spec": spec})).await;
            assert!(
                matches!(&refused, Err(kube::Error::Api(status)) if status.code == 422),
                "{spec}: {refused:?}"
            );
        }
    });
}
