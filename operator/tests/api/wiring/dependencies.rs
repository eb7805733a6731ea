//! Services that depend on each other: start order, URLs, circles, and other namespaces.

use super::{condition, container, deployment, patch};
use crate::{
    stomaton_service::{let_pods_run, ready, service, until},
    world::{World, runtime},
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use stomaton_crds::v1alpha1::StomatonService;

fn on(dependencies: &[&str]) -> Value {
    let dependencies: Vec<_> = dependencies.iter().map(|name| json!({"name": name})).collect();
    json!({"image": "fleet:1", "dependsOn": dependencies})
}

/// The value of a variable of the pods.
fn variable(deployment: &Deployment, name: &str) -> Option<String> {
    container(deployment).env.iter().flatten().find(|e| e.name == name)?.value.clone()
}

#[test]
fn a_chain_starts_from_its_far_end() {
    runtime().block_on(async {
        let world = World::with_slow_resync().await;
        let chain = ["a", "b", "c", "d-service"];
        for pair in chain.windows(2) {
            service(&world, pair[0], on(&[pair[1]])).await;
        }
        condition(&world, "c", "DependenciesReady", "False", "NotFound").await;
        service(&world, "d-service", json!({"image": "fleet:1", "port": 9000})).await;
        condition(&world, "c", "DependenciesReady", "False", "WaitingForDependency").await;
        let deployments = world.api::<Deployment>();
        for (i, name) in chain.iter().enumerate().rev() {
            deployment(&world, name, "the Deployment", |_| true).await;
            for waiting in &chain[..i] {
                assert!(
                    deployments.get_opt(waiting).await.unwrap().is_none(),
                    "{waiting} before {name} is ready"
                );
            }
            let_pods_run(&world, name, 1).await;
            until(&world, name, "True", "AsSpecified").await;
        }
        let c = deployments.get("c").await.unwrap();
        let url = format!("http://d-service.{}.svc:9000", world.namespace);
        assert_eq!(variable(&c, "D_SERVICE_URL"), Some(url));

        // A dependency that fails later takes nobody with it.
        world.api::<StomatonService>().delete("d-service", &DeleteParams::default()).await.unwrap();
        condition(&world, "c", "DependenciesReady", "False", "NotFound").await;
        assert_eq!(deployments.get("c").await.unwrap().spec.unwrap().replicas, Some(1));
    });
}

#[test]
fn a_circle_is_spelled_out_by_every_member_and_ends_with_an_edge() {
    runtime().block_on(async {
        let world = World::with_slow_resync().await;
        for (name, needs) in [("a", "b"), ("b", "c"), ("c", "a")] {
            service(&world, name, on(&[needs])).await;
        }
        for name in ["a", "b", "c"] {
            let stalled = until(&world, name, "False", "DependencyCycle").await;
            let message = ready(&stalled).unwrap().2;
            assert!(message.contains("a -> b -> c -> a;"), "{name}: {message}");
            assert!(world.api::<Deployment>().get_opt(name).await.unwrap().is_none());
        }
        let optional = json!({"spec": {"dependsOn": [{"name": "a", "optional": true}]}});
        patch::<StomatonService>(&world, "c", optional).await;
        for name in ["c", "b", "a"] {
            deployment(&world, name, "the Deployment", |_| true).await;
            let_pods_run(&world, name, 1).await;
            until(&world, name, "True", "AsSpecified").await;
        }
    });
}

#[test]
fn another_namespace_is_called_only_while_it_allows_it() {
    runtime().block_on(async {
        let world = World::everywhere().await;
        let shared = World::beside(&world).await;
        service(&shared, "database", json!({"image": "fleet:1"})).await;
        let_pods_run(&shared, "database", 1).await;
        until(&shared, "database", "True", "AsSpecified").await;
        let dependency = json!([{"name": "database", "namespace": shared.namespace}]);
        service(&world, "shop", json!({"image": "fleet:1", "dependsOn": dependency})).await;
        let message = condition(&world, "shop", "DependenciesReady", "False", "NotAllowed").await;
        assert!(message.contains(&format!("create one in namespace {}", shared.namespace)), "{message}");
        assert!(world.api::<Deployment>().get_opt("shop").await.unwrap().is_none());

        // The kind appears, and with it the grant.
        let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1beta1", "ReferenceGrant");
        let kind = ApiResource::from_gvk_with_plural(&kind, "referencegrants");
        world.serve(&kind).await;
        let grants: Api<DynamicObject> = Api::namespaced_with(
            world.client.clone(),
            &shared.namespace,
            &kind,
        );
        let ours = |namespace: Option<&str>| {
            let mut side = json!({"group": "fleet.stomaton.com", "kind": "StomatonService"});
            if let Some(namespace) = namespace {
                side["namespace"] = json!(namespace);
            }
            json!([side])
        };
        let grant = json!({
            "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant", "metadata": {"name": "shop"},
            "spec": {"from": ours(Some(&world.namespace)), "to": ours(None)},
        });
        let grant = serde_json::from_value(grant).unwrap();
        world
            .eventually("the new kind", async || {
                grants.create(&PostParams::default(), &grant).await.map_err(|e| e.to_string())
            })
            .await;
        condition(&world, "shop", "DependenciesReady", "True", "AsSpecified").await;
        let url = format!("http://database.{}.svc:8080", shared.namespace);
        deployment(&world, "shop", "the URL", |c| {
            c.env.iter().flatten().any(|e| e.name == "DATABASE_SERVICE_URL" && e.value.as_ref() == Some(&url))
        })
        .await;

        // Tokens cross with the edge, and are called by both names.
        let auth = json!({"spec": {"serviceAuth": {"rotateEvery": "1h", "overlap": "1s"}}});
        patch::<StomatonService>(&shared, "database", auth).await;
        let secrets = world.api::<Secret>();
        let (shown, accepted) = world
            .eventually("a token", async || {
                let shown = secrets.get_opt("shop-tokens").await.unwrap().and_then(|secret| secret.data);
                let accepted = shared.api::<Secret>().get("database-callers").await.map_err(|e| e.to_string())?;
                Ok((shown.ok_or("none")?, accepted.data.unwrap_or_default()))
            })
            .await;
        let shown = &shown[&format!("{}.database", shared.namespace)].0;
        assert!(accepted[&format!("{}.shop", world.namespace)].0.starts_with(shown));

        // And goes: the edge with it, but not the pods.
        grants.delete("shop", &DeleteParams::default()).await.unwrap();
        condition(&world, "shop", "DependenciesReady", "False", "NotAllowed").await;
        deployment(&world, "shop", "no URL", |c| {
            !c.env.iter().flatten().any(|e| e.name == "DATABASE_SERVICE_URL")
        })
        .await;
    });
}
