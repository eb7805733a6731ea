//! The installation gives the operator the rights it uses: no verb less, or some other test would fail, and no verb
//! more, which is what this one shows by the API server's audit log.

use crate::world::{World, ramp, runtime};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Service, ServiceAccount},
    rbac::v1::{ClusterRole, Role, RoleBinding},
};
use kube::{
    Resource,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Debug};
use stomaton_crds::v1alpha1::{Gateway, Phase, StomatonService};

/// API group, resource with its subresource, and verb.
type Right = (String, String, String);

/// The rights that manifests/install grants.
fn granted() -> BTreeSet<Right> {
    let documents = include_str!("../../../manifests/install/rbac.yaml").split("\n---\n");
    let role =
        documents.map(|d| serde_saphyr::from_str::<Value>(d).unwrap()).find(|d| d["kind"] == "ClusterRole");
    let role: ClusterRole = serde_json::from_value(role.unwrap()).unwrap();
    let mut rights = BTreeSet::new();
    for rule in role.rules.unwrap() {
        for group in rule.api_groups.as_ref().unwrap() {
            for resource in rule.resources.as_ref().unwrap() {
                rights.extend(rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    rights
}

/// The rights that these requests took.
fn used(requests: &[Value]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for request in requests {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &request["objectRef"];
        let mut resource = text(&object["resource"]);
        if let Some(sub) = object["subresource"].as_str() {
            resource = format!("{resource}/{sub}");
        }
        let right = |verb: &str| (text(&object["apiGroup"]), resource.clone(), verb.to_owned());
        rights.insert(right(&text(&request["verb"])));
        // Server-side apply of what is not there takes the right to create, too.
        if request["verb"] == "patch" && request["responseStatus"]["code"] == 201 {
            rights.insert(right("create"));
        }
    }
    rights
}

/// Changes a label that the operator keeps, and waits until it is as before.
async fn disturb<K>(world: &World, name: &str)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + serde::de::DeserializeOwned,
{
    const LABEL: &str = "app.kubernetes.io/managed-by";
    let api = world.api::<K>();
    let other = json!({"metadata": {"labels": {LABEL: "somebody"}}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(other)).await.unwrap();
    world
        .eventually("the label as it was", async || {
            let object = api.get(name).await.unwrap();
            let label = object.meta().labels.as_ref().and_then(|l| l.get(LABEL)).cloned();
            if label.as_deref() == Some("stomaton") { Ok(()) } else { Err(format!("{label:?}")) }
        })
        .await;
}

/// Waits until `Ready` of the Gateway has this reason.
async fn gateway_is(world: &World, reason: &str) {
    let api = world.api::<Gateway>();
    world
        .eventually(reason, async || {
            let status = api.get("edge").await.unwrap().status.unwrap_or_default();
            let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.reason == reason);
            if ready { Ok(()) } else { Err(format!("{status:#?}")) }
        })
        .await;
}

#[test]
fn what_is_granted_is_what_is_used() {
    runtime().block_on(async {
        let world = World::new().await;
        let spec = json!({"image": "fleet:1"});
        world.create::<StomatonService>(json!({"metadata": {"name": "shop"}, "spec": spec})).await;
        world.plan("shop", "content", ramp(&[500, 1000], "0s")).await;
        let id = world.compiled("content").await;
        for permille in [500, 1000] {
            world.route("shop", "content", "acknowledged weight", |r| r.weights.applied == permille).await;
            world.answers(&id, 40, 0);
        }
        world.route("shop", "content", "end", |r| r.phase == Phase::Done).await;

        disturb::<Deployment>(&world, "edge-edge").await;
        disturb::<Service>(&world, "edge-edge").await;
        disturb::<ServiceAccount>(&world, "edge-edge").await;
        disturb::<Role>(&world, "edge-edge").await;
        disturb::<RoleBinding>(&world, "edge-edge").await;

        // The same transition twice is one Event, counted.
        for path in ["/a", "/b"] {
            gateway_is(&world, "AsSpecified").await;
            world.agents[0].freeze(true);
            let routes = json!([{"name": "more", "match": {"pathPrefix": path}}]);
            let api = world.api::<Gateway>();
            let patch = Patch::Merge(json!({"spec": {"routes": routes}}));
            api.patch("edge", &PatchParams::default(), &patch).await.unwrap();
            gateway_is(&world, "WaitingForEdge").await;
            world.agents[0].freeze(false);
        }
        gateway_is(&world, "AsSpecified").await;
        world.assert_nothing_written().await;

        let (granted, used) = (granted(), used(&world.requests()));
        let idle: Vec<_> =
            granted.difference(&used).map(|(_, resource, verb)| format!("{verb} {resource}")).collect();
        assert_eq!(idle, Vec::<String>::new(), "granted and not used");
        assert_eq!(used.difference(&granted).collect::<Vec<_>>(), Vec::<&Right>::new(), "refused");
    });
}
