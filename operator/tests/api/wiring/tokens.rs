//! Tokens by which services know their callers.

use super::{condition, deployment, gone, patch};
use crate::{
    stomaton_service::{let_pods_run, service, until},
    world::{World, runtime},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Secret},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use stomaton_crds::v1alpha1::StomatonService;

/// A service that asks for tokens, and one that calls it.
async fn both(world: &World, auth: Value) {
    service(world, "database", json!({"image": "fleet:1", "serviceAuth": auth})).await;
    calling(world, "shop").await;
}

async fn calling(world: &World, name: &str) {
    service(world, name, json!({"image": "fleet:1", "dependsOn": [{"name": "database"}]})).await;
}

/// The lines under `key` of the Secret `name`.
async fn lines(world: &World, name: &str, key: &str) -> Vec<String> {
    let secret = world.api::<Secret>().get_opt(name).await.unwrap();
    let data = secret.and_then(|secret| secret.data).unwrap_or_default();
    let text = data.get(key).map(|value| String::from_utf8(value.0.clone()).unwrap()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The pod volumes of `name`.
async fn volumes(world: &World, name: &str) -> Vec<String> {
    let found = world.api::<Deployment>().get(name).await.unwrap();
    let pod = found.spec.unwrap().template.spec.unwrap();
    pod.volumes.into_iter().flatten().map(|volume| volume.name).collect()
}

async fn run(world: &World, name: &str) {
    deployment(world, name, "the Deployment", |_| true).await;
    let_pods_run(world, name, 1).await;
    until(world, name, "True", "AsSpecified").await;
}

#[test]
fn tokens_are_replaced_and_never_unknown_to_the_callee_nor_seen_anywhere_else() {
    runtime().block_on(async {
        let world = World::with_slow_resync().await;
        both(&world, json!({"rotateEvery": "3s", "overlap": "1s"})).await;
        run(&world, "database").await;
        run(&world, "shop").await;
        assert_eq!(volumes(&world, "database").await, ["tmp", "service-callers"]);
        assert_eq!(volumes(&world, "shop").await, ["tmp", "service-tokens"]);
        let generation = |d: Deployment| d.metadata.generation;
        let before = generation(world.api::<Deployment>().get("shop").await.unwrap());

        let mut seen = BTreeSet::new();
        let seen = world
            .eventually("three tokens, one after the other", async || {
                let shown = lines(&world, "shop-tokens", "database").await;
                let accepted = lines(&world, "database-callers", "shop").await;
                assert!(shown.iter().all(|token| accepted.contains(token)), "a call would be refused");
                seen.extend(shown);
                if seen.len() == 3 { Ok(seen.clone()) } else { Err(format!("{}", seen.len())) }
            })
            .await;
        assert_eq!(
            generation(world.api::<Deployment>().get("shop").await.unwrap()),
            before,
            "no pod is replaced"
        );

        let mut everything = Vec::new();
        for name in ["database", "shop"] {
            everything.push(json!(world.api::<StomatonService>().get(name).await.unwrap()).to_string());
            everything.push(json!(world.api::<Deployment>().get(name).await.unwrap()).to_string());
        }
        everything
            .push(json!(world.api::<Event>().list(&ListParams::default()).await.unwrap().items).to_string());
        for token in &seen {
            assert!(token.len() >= 43, "32 random bytes");
            assert!(!everything.iter().any(|text| text.contains(token)));
        }
    });
}

#[test]
fn a_new_caller_waits_until_pods_that_ask_know_it_and_a_gone_one_is_forgotten() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        both(&world, json!({"rotateEvery": "1h", "overlap": "3s"})).await;
        run(&world, "database").await;
        run(&world, "shop").await;
        world.assert_nothing_written().await;

        calling(&world, "cart").await;
        let services = world.api::<StomatonService>();
        world
            .eventually("the moment from which on pods of cart are known", async || {
                let object = services.get("cart").await.unwrap();
                let said = json!(object.status).to_string();
                if said.contains("all pods of database know its token at") { Ok(()) } else { Err(said) }
            })
            .await;
        assert!(world.api::<Deployment>().get_opt("cart").await.unwrap().is_none());
        run(&world, "cart").await;
        condition(&world, "cart", "SecretsReady", "True", "AsSpecified").await;

        world.api::<StomatonService>().delete("cart", &DeleteParams::default()).await.unwrap();
        crate::shape::gone::<StomatonService>(&world, "cart").await;
        gone::<Secret>(&world, "cart-tokens").await;
        world
            .eventually("no token of cart", async || {
                let accepted = lines(&world, "database-callers", "cart").await;
                if accepted.is_empty() { Ok(()) } else { Err(format!("{}", accepted.len())) }
            })
            .await;
        assert_eq!(lines(&world, "database-callers", "shop").await.len(), 1);
    });
}

#[test]
fn a_service_that_runs_asks_when_its_callers_have_tokens_and_asks_no_more() {
    runtime().block_on(async {
        let world = World::with_slow_resync().await;
        service(&world, "database", json!({"image": "fleet:1"})).await;
        calling(&world, "shop").await;
        run(&world, "database").await;
        run(&world, "shop").await;

        let auth = json!({"rotateEvery": "1h", "overlap": "2s"});
        patch::<StomatonService>(&world, "database", json!({"spec": {"serviceAuth": auth}})).await;
        let message = condition(&world, "database", "SecretsReady", "False", "WaitingForTokens").await;
        assert!(message.contains("all pods of shop"), "{message}");
        assert_eq!(volumes(&world, "database").await, ["tmp"]);
        let mounts = |c: &k8s_openapi::api::core::v1::Container| c.volume_mounts.as_ref().unwrap().len() == 2;
        deployment(&world, "shop", "tokens of shop", mounts).await;
        crate::shape::run(&world, "shop", "fleet:1").await;
        deployment(&world, "database", "callers of database", mounts).await;
        condition(&world, "database", "SecretsReady", "True", "AsSpecified").await;

        patch::<StomatonService>(&world, "database", json!({"spec": {"serviceAuth": null}})).await;
        let bare = |c: &k8s_openapi::api::core::v1::Container| c.volume_mounts.as_ref().unwrap().len() == 1;
        for (name, secret) in [("database", "database-callers"), ("shop", "shop-tokens")] {
            deployment(&world, name, "no tokens", bare).await;
            assert!(
                world.api::<Secret>().get_opt(secret).await.unwrap().is_some(),
                "old pods may start anew"
            );
            crate::shape::run(&world, name, "fleet:1").await;
            gone::<Secret>(&world, secret).await;
        }
    });
}

#[test]
fn lost_and_changed_tokens_come_back_and_a_secret_of_somebody_else_stays() {
    runtime().block_on(async {
        let world = World::with_slow_resync().await;
        world
            .create::<Secret>(json!({"metadata": {"name": "foreign-callers"}, "stringData": {"a": "b"}}))
            .await;
        both(&world, json!({"rotateEvery": "1h", "overlap": "1s"})).await;
        run(&world, "database").await;
        run(&world, "shop").await;
        let shown = lines(&world, "shop-tokens", "database").await;
        let secrets = world.api::<Secret>();
        secrets.delete("database-callers", &DeleteParams::default()).await.unwrap();
        let same = |name: &'static str, key: &'static str| {
            let (world, shown) = (&world, &shown);
            async move {
                let found = lines(world, name, key).await;
                if found == *shown { Ok(()) } else { Err(format!("{} lines", found.len())) }
            }
        };
        world.eventually("what is shown is accepted", async || same("database-callers", "shop").await).await;
        patch::<Secret>(&world, "shop-tokens", json!({"stringData": {"database": "x"}})).await;
        world.eventually("what is accepted is shown", async || same("shop-tokens", "database").await).await;

        service(&world, "foreign", json!({"image": "fleet:1", "serviceAuth": {}})).await;
        until(&world, "foreign", "False", "NotOurs").await;
        assert_eq!(lines(&world, "foreign-callers", "a").await, ["b"]);
        assert!(secrets.get("foreign-callers").await.unwrap().owner_references().is_empty());
    });
}

#[test]
fn tokens_wait_for_the_grant() {
    runtime().block_on(async {
        let world = World::without_grant().await;
        both(&world, json!({})).await;
        for name in ["database", "shop"] {
            let message = condition(&world, name, "SecretsReady", "Unknown", "NoGrant").await;
            assert!(message.contains("-k manifests/install/namespace-grant"), "{message}");
        }
        world.grant().await;
        run(&world, "database").await;
        run(&world, "shop").await;
    });
}
