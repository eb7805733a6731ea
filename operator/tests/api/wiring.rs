//! What services are given, on a real API server: ports, environment, files, data, secrets, other services.

mod dependencies;
mod network;
mod secrets;
mod tokens;

use crate::{
    stomaton_service::{let_pods_run, patch, ready, service, until},
    world::{World, runtime},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Container, PersistentVolumeClaim, Service},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use std::fmt::Debug;
use stomaton_crds::v1alpha1::StomatonService;

/// Waits until no object `name` is left; one that is being deleted does not count.
async fn gone<K>(world: &World, name: &str)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + serde::de::DeserializeOwned,
{
    let api: Api<K> = world.api();
    world
        .eventually(&format!("end of {name}"), async || {
            let left = api.get_opt(name).await.unwrap();
            match left.filter(|left| left.meta().deletion_timestamp.is_none()) {
                None => Ok(()),
                Some(left) => Err(format!("{:?}", left.meta())),
            }
        })
        .await;
}

/// The ConfigMaps with files of `name`, without those that are being deleted.
async fn files(world: &World, name: &str) -> Vec<ConfigMap> {
    let of_service = ListParams::default().labels(&format!("fleet.stomaton.com/service={name}"));
    let found = world.api::<ConfigMap>().list(&of_service).await.unwrap().items;
    found.into_iter().filter(|map| map.metadata.deletion_timestamp.is_none()).collect()
}

/// Waits until the Deployment `name` is as `wanted` says.
async fn deployment(
    world: &World,
    name: &str,
    what: &str,
    wanted: impl Fn(&Container) -> bool,
) -> Deployment {
    let api = world.api::<Deployment>();
    world
        .eventually(what, async || {
            let Some(found) = api.get_opt(name).await.unwrap() else { return Err("none".into()) };
            if wanted(container(&found)) { Ok(found) } else { Err(format!("{:#?}", container(&found))) }
        })
        .await
}

/// Waits until the condition `kind` of `name` is so, and gives its message.
async fn condition(world: &World, name: &str, kind: &str, status: &str, reason: &str) -> String {
    let services = world.api::<StomatonService>();
    world
        .eventually(&format!("{kind}={status} {reason}"), async || {
            let found = services.get(name).await.unwrap().status.unwrap_or_default();
            let condition = found.conditions.iter().find(|c| c.type_ == kind);
            let hit = condition.filter(|c| (c.status.as_str(), c.reason.as_str()) == (status, reason));
            hit.map(|c| c.message.clone()).ok_or_else(|| format!("{:#?}", found.conditions))
        })
        .await
}

fn container(deployment: &Deployment) -> &Container {
    &deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0]
}

fn volume(name: &str, fields: Value) -> Value {
    let mut volume = json!({"name": name, "mountPath": format!("/{name}"), "size": "1Gi"});
    volume.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    volume
}

#[test]
fn files_data_and_ports_come_and_go_with_the_spec() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let volumes = json!([volume("kept", json!({})), volume("scratch", json!({"onDelete": "Delete"}))]);
        let spec = json!({
            "image": "fleet:1",
            "ports": [{"name": "admin", "port": 9090}],
            "config": [{"path": "/etc/shop/a.yaml", "content": "a: 1"}],
            "volumes": volumes,
        });
        service(&world, "shop", spec).await;
        let made =
            deployment(&world, "shop", "the mounts", |c| c.volume_mounts.as_ref().unwrap().len() == 4).await;
        let strategy = made.spec.unwrap().strategy.unwrap();
        assert_eq!((strategy.type_.as_deref(), strategy.rolling_update), (Some("Recreate"), None));
        let ports = world.api::<Service>().get("shop").await.unwrap().spec.unwrap().ports.unwrap();
        assert_eq!(ports.iter().map(|p| p.port).collect::<Vec<_>>(), [8080, 9090]);
        let [made] = &files(&world, "shop").await[..] else { panic!("one ConfigMap") };
        assert_eq!(made.data.as_ref().unwrap().values().collect::<Vec<_>>(), ["a: 1"]);
        let made = made.name_any();
        let_pods_run(&world, "shop", 1).await;
        until(&world, "shop", "True", "AsSpecified").await;
        world.assert_nothing_written().await;

        patch::<StomatonService>(
            &world,
            "shop",
            json!({"spec": {"config": null, "volumes": null, "ports": null}}),
        )
        .await;
        deployment(&world, "shop", "no mounts", |c| c.volume_mounts.as_ref().unwrap().len() == 1).await;
        let scratch = world.api::<PersistentVolumeClaim>().get("shop-scratch").await.unwrap();
        assert_eq!(files(&world, "shop").await.len(), 1, "a pod may still ask for them");
        assert_eq!(scratch.metadata.deletion_timestamp, None, "a pod may still ask for it");
        crate::shape::run(&world, "shop", "fleet:1").await;
        gone::<ConfigMap>(&world, &made).await;
        gone::<PersistentVolumeClaim>(&world, "shop-scratch").await;
        let kept = world.api::<PersistentVolumeClaim>().get("shop-kept").await.unwrap();
        assert!(kept.owner_references().is_empty() && kept.metadata.deletion_timestamp.is_none());
        world.assert_nothing_written().await;
        let record = world.api::<Service>().get("shop").await.unwrap().annotations().clone();
        assert!(!record.contains_key("fleet.stomaton.com/children"), "{record:?}");
    });
}

#[test]
fn a_changed_file_replaces_the_pods_and_drift_of_files_is_repaired() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let file = |content: &str| json!([{"path": "/etc/shop", "content": content}]);
        service(&world, "shop", json!({"image": "fleet:1", "config": file("a")})).await;
        let hash = |d: &Deployment| {
            let metadata = d.spec.as_ref().unwrap().template.metadata.clone().unwrap();
            metadata.annotations.unwrap_or_default()["fleet.stomaton.com/config-hash"].clone()
        };
        let before = hash(&deployment(&world, "shop", "the Deployment", |_| true).await);
        patch::<StomatonService>(&world, "shop", json!({"spec": {"config": file("b")}})).await;
        let deployments = world.api::<Deployment>();
        world
            .eventually("another hash", async || {
                let now = hash(&deployments.get("shop").await.unwrap());
                if now == before { Err(now) } else { Ok(()) }
            })
            .await;
        let both = files(&world, "shop").await;
        assert_eq!(both.len(), 2, "pods of both revisions can start");
        let maps = world.api::<ConfigMap>();
        for map in both {
            maps.delete(&map.name_any(), &DeleteParams::default()).await.unwrap();
        }
        let content = |map: &ConfigMap| map.data.clone().unwrap().into_values().collect::<Vec<_>>();
        world
            .eventually("the files again", async || {
                let found: Vec<_> = files(&world, "shop").await.iter().map(content).collect();
                if found == [["b"]] { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await;
    });
}

#[test]
fn data_outlives_its_service_and_is_taken_up_again() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let spec =
            |size: &str| json!({"image": "fleet:1", "volumes": [volume("data", json!({"size": size}))]});
        service(&world, "shop", spec("2Gi")).await;
        deployment(&world, "shop", "the Deployment", |_| true).await;
        let claims = world.api::<PersistentVolumeClaim>();
        let uid = claims.get("shop-data").await.unwrap().uid();
        world.api::<StomatonService>().delete("shop", &DeleteParams::default()).await.unwrap();
        crate::shape::gone::<StomatonService>(&world, "shop").await;

        service(&world, "shop", spec("1Gi")).await;
        let stalled = until(&world, "shop", "False", "Invalid").await;
        let message = ready(&stalled).unwrap().2;
        assert_eq!(
            message,
            "volume data has 2Gi already and cannot shrink to 1Gi: set `size` to 2Gi at least"
        );
        patch::<StomatonService>(&world, "shop", json!({"spec": spec("2Gi")})).await;
        deployment(&world, "shop", "the Deployment again", |_| true).await;
        assert_eq!(claims.get("shop-data").await.unwrap().uid(), uid);
    });
}

#[test]
fn a_claim_of_somebody_else_is_left_alone() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let claim = json!({
            "metadata": {"name": "shop-data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        world.create::<PersistentVolumeClaim>(claim).await;
        service(&world, "shop", json!({"image": "fleet:1", "volumes": [volume("data", json!({}))]})).await;
        let stalled = until(&world, "shop", "False", "NotOurs").await;
        assert!(ready(&stalled).unwrap().2.contains("PersistentVolumeClaim shop-data"));
    });
}
