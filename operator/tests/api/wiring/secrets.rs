//! Secrets and ConfigMaps that services use.

use super::{condition, deployment, patch};
use crate::{
    stomaton_service::{let_pods_run, ready, service, until},
    world::{World, runtime},
};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Secret},
    },
};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use stomaton_crds::v1alpha1::StomatonService;

async fn secret(world: &World, name: &str, content: Value) {
    world.create::<Secret>(json!({"metadata": {"name": name}, "stringData": content})).await;
}

fn uses() -> Value {
    json!({
        "image": "fleet:1",
        "bindings": [{"name": "mongodb", "secret": "mongo", "keys": [{"key": "uri"}]}],
        "secretEnv": [{"name": "API_KEY", "secret": "keys", "key": "api"}],
        "envFrom": [{"configMap": "more"}],
    })
}

/// An annotation of the pods.
fn annotation(deployment: &Deployment, key: &str) -> Option<String> {
    let metadata = deployment.spec.as_ref()?.template.metadata.as_ref()?;
    metadata.annotations.as_ref()?.get(&format!("fleet.stomaton.com/{key}")).cloned()
}

/// Waits until the pods' annotation is another one than `before`, and gives it.
async fn another(world: &World, key: &str, before: Option<&str>) -> Option<String> {
    let deployments = world.api::<Deployment>();
    world
        .eventually("another hash", async || {
            let found = deployments.get_opt("shop").await.unwrap().as_ref().and_then(|d| annotation(d, key));
            if found.as_deref() == before { Err(format!("{found:?}")) } else { Ok(found) }
        })
        .await
}

#[test]
fn pods_wait_for_each_key_and_are_replaced_when_a_value_changes() {
    runtime().block_on(async {
        let world = World::with_slow_resync().await;
        service(&world, "shop", uses()).await;
        let missing = until(&world, "shop", "False", "MissingSecret").await;
        let message = ready(&missing).unwrap().2;
        let all = "ConfigMap more does not exist; Secret keys does not exist; Secret mongo does not exist: ";
        assert!(message.starts_with(all), "{message}");
        assert!(world.api::<Deployment>().get_opt("shop").await.unwrap().is_none());

        // Each wakes the service within moments: there is no resync to wait for.
        world.create::<ConfigMap>(json!({"metadata": {"name": "more"}, "data": {"MODE": "a"}})).await;
        secret(&world, "keys", json!({"api": "1", "unused": "x"})).await;
        secret(&world, "mongo", json!({"user": "u"})).await;
        let lacking = condition(&world, "shop", "SecretsReady", "False", "MissingKey").await;
        assert!(lacking.starts_with("Secret mongo lacks the key uri"), "{lacking}");
        patch::<Secret>(&world, "mongo", json!({"stringData": {"uri": "mongodb://a"}})).await;
        condition(&world, "shop", "SecretsReady", "True", "AsSpecified").await;
        let made = deployment(&world, "shop", "the Deployment", |_| true).await;
        let env: Vec<_> = super::container(&made).env.iter().flatten().map(|e| e.name.as_str()).collect();
        assert_eq!(env, ["SERVICE_NAME", "PORT", "API_KEY", "MONGODB_URI"]);
        let_pods_run(&world, "shop", 1).await;
        until(&world, "shop", "True", "AsSpecified").await;

        let before = annotation(&made, "secrets-hash");
        patch::<Secret>(&world, "mongo", json!({"stringData": {"uri": "mongodb://b"}})).await;
        let after = another(&world, "secrets-hash", before.as_deref()).await;
        let now = world.api::<Deployment>().get("shop").await.unwrap();
        assert_eq!(annotation(&now, "config-hash"), annotation(&made, "config-hash"));
        let config = annotation(&now, "config-hash");
        patch::<ConfigMap>(&world, "more", json!({"data": {"MODE": "b"}})).await;
        another(&world, "config-hash", config.as_deref()).await;
        let now = world.api::<Deployment>().get("shop").await.unwrap();
        assert_eq!(annotation(&now, "secrets-hash"), after);
    });
}

#[test]
fn what_nobody_uses_replaces_nothing_and_values_stay_where_they_are() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        secret(&world, "keys", json!({"api": "value-of-the-key", "unused": "x"})).await;
        let spec = json!({"image": "fleet:1", "secretEnv": [{"name": "A", "secret": "keys", "key": "api"}]});
        service(&world, "shop", spec).await;
        let_pods_run(&world, "shop", 1).await;
        until(&world, "shop", "True", "AsSpecified").await;
        patch::<Secret>(&world, "keys", json!({"stringData": {"unused": "y"}})).await;
        world.assert_nothing_written().await;
        for object in [
            serde_json::to_string(&world.api::<Deployment>().get("shop").await.unwrap()).unwrap(),
            serde_json::to_string(&world.api::<StomatonService>().get("shop").await.unwrap()).unwrap(),
        ] {
            assert!(!object.contains("value-of-the-key"));
        }
    });
}

#[test]
fn a_secret_that_goes_takes_no_pod_with_it() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        secret(&world, "keys", json!({"api": "1"})).await;
        let spec = |image: &str| json!({"image": image, "secretEnv": [{"name": "A", "secret": "keys", "key": "api"}]});
        service(&world, "shop", spec("fleet:1")).await;
        let_pods_run(&world, "shop", 1).await;
        until(&world, "shop", "True", "AsSpecified").await;

        let deployments = world.api::<Deployment>();
        let before = deployments.get("shop").await.unwrap();
        world.api::<Secret>().delete("keys", &DeleteParams::default()).await.unwrap();
        let missing = until(&world, "shop", "False", "MissingSecret").await;
        assert!(ready(&missing).unwrap().2.contains("running pods are left as they are"));
        assert_eq!(missing.status.unwrap().ready_replicas, 1);
        patch::<StomatonService>(&world, "shop", json!({"spec": {"image": "fleet:2"}})).await;
        world.settled("shop").await;
        assert_eq!(deployments.get("shop").await.unwrap().spec, before.spec, "nothing rolls into a broken state");

        secret(&world, "keys", json!({"api": "1"})).await;
        deployment(&world, "shop", "the new image", |c| c.image.as_deref() == Some("fleet:2")).await;
        assert_eq!(
            world.api::<Secret>().get("keys").await.unwrap().data.unwrap()["api"],
            ByteString(b"1".to_vec())
        );
    });
}

#[test]
fn without_the_grant_pods_are_made_and_the_condition_says_what_to_apply() {
    runtime().block_on(async {
        let world = World::without_grant().await;
        secret(&world, "keys", json!({"api": "1"})).await;
        let spec = json!({"image": "fleet:1", "secretEnv": [{"name": "A", "secret": "keys", "key": "api"}]});
        service(&world, "shop", spec).await;
        let message = condition(&world, "shop", "SecretsReady", "Unknown", "NoGrant").await;
        let command = format!("kubectl apply -n {} -k manifests/install/namespace-grant", world.namespace);
        assert!(message.contains(&command), "{message}");
        let made = deployment(&world, "shop", "the Deployment", |_| true).await;
        assert_eq!(annotation(&made, "secrets-hash"), None);

        world.grant().await;
        condition(&world, "shop", "SecretsReady", "True", "AsSpecified").await;
        another(&world, "secrets-hash", None).await;
    });
}

#[test]
fn files_wait_for_the_grant() {
    runtime().block_on(async {
        let world = World::without_grant().await;
        service(
            &world,
            "shop",
            json!({"image": "fleet:1", "config": [{"path": "/etc/shop", "content": "a"}]}),
        )
        .await;
        let waiting = until(&world, "shop", "False", "NoGrant").await;
        assert!(ready(&waiting).unwrap().2.starts_with("`config` needs a ConfigMap"));
        assert!(world.api::<Deployment>().get_opt("shop").await.unwrap().is_none());
        world.grant().await;
        deployment(&world, "shop", "the Deployment", |_| true).await;
        assert_eq!(super::files(&world, "shop").await.len(), 1);
    });
}
