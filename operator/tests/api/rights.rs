//! The installation gives the operator the rights it uses: no verb more, by the API server's audit log, and no verb
//! less, by taking each away in turn. A new right needs a line in [`exercise`] that uses it, or in the script.

use crate::{
    gates, script,
    shape::gone,
    wire::Wire,
    world::{
        Operator, World, clients, create_cluster_wide, namespace_grant, other_projects, rights, runtime,
    },
};
use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::Deployment,
    authorization::v1::SubjectAccessReview,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding},
};
use kube::{
    Api, Resource,
    api::{ApiResource, DeleteParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Debug, time::Duration};
use stomaton_crds::v1alpha1::{Gateway, StomatonService};
use stomaton_operator::{
    foreign::{PodMonitor, ScaledObject},
    leader,
    optional::Optional,
};

/// API group, resource with its subresource, and verb.
type Right = (String, String, String);

/// The rights that manifests/install grants, in the whole cluster and in a namespace.
fn granted() -> BTreeSet<Right> {
    let rules =
        rights().into_iter().chain(namespace_grant()).filter(|document| document.get("rules").is_some());
    rules.flat_map(|document| rules_of(&document)).collect()
}

fn rules_of(role: &Value) -> BTreeSet<Right> {
    let rules: Vec<PolicyRule> = serde_json::from_value(role["rules"].clone()).unwrap();
    let mut rights = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                rights.extend(rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    rights
}

/// The role without this right; what the same rule says of other verbs and resources stays.
fn reduced(role: &Value, (group, resource, verb): &Right) -> Value {
    let mut rules = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        for one in rule["resources"].as_array().unwrap() {
            let concerned = rule["apiGroups"] == json!([group]) && one == resource;
            let mut rule = rule.clone();
            rule["resources"] = json!([one]);
            if concerned {
                rule["verbs"].as_array_mut().unwrap().retain(|v| v != verb);
            }
            if rule["verbs"] != json!([]) {
                rules.push(rule);
            }
        }
    }
    let mut role = role.clone();
    role["rules"] = json!(rules);
    role
}

/// The rights that these requests took.
fn used(requests: &[Value]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for request in requests {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &request["objectRef"];
        // What kinds there are, everybody may ask.
        if object.is_null() {
            continue;
        }
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

/// Services with every kind of child, each disturbed, and all of them gone again.
async fn services_come_and_go(world: &World) {
    let by_load = json!({"min": 2, "max": 3, "cpuPercent": 50});
    let by_keda = json!({"max": 3, "triggers": [{"type": "cron", "metadata": {}}]});
    for (name, scaling) in [("by-load", by_load), ("by-keda", by_keda)] {
        let spec = json!({"image": "fleet:1", "scaling": scaling, "monitoring": {}});
        world.create::<StomatonService>(json!({"metadata": {"name": name}, "spec": spec})).await;
        script::ready::<StomatonService>(world, name).await;
    }
    disturb::<HorizontalPodAutoscaler>(world, "by-load").await;
    disturb::<ScaledObject>(world, "by-keda").await;
    disturb::<PodDisruptionBudget>(world, "by-load").await;
    disturb::<PodMonitor>(world, "by-load").await;
    for name in ["by-load", "by-keda"] {
        world.api::<StomatonService>().delete(name, &DeleteParams::default()).await.unwrap();
        gone::<StomatonService>(world, name).await;
    }
}

/// A service that is given everything, and then only what it cannot do without.
async fn a_service_is_given_and_taken(world: &World) {
    let keys = json!({"metadata": {"name": "keys"}, "stringData": {"key": "1"}});
    world.create::<Secret>(keys).await;
    let spec = json!({
        "image": "fleet:1",
        "config": [{"path": "/etc/wired", "content": "a"}],
        "networkPolicy": {},
        "secretEnv": [{"name": "KEY", "secret": "keys", "key": "key"}],
        "volumes": [{"name": "data", "mountPath": "/data", "size": "1Gi", "onDelete": "Delete"}],
        "dependsOn": [{"name": "somebody", "namespace": "elsewhere", "optional": true}],
        "serviceAuth": {},
    });
    world.create::<StomatonService>(json!({"metadata": {"name": "wired"}, "spec": spec})).await;
    script::ready::<StomatonService>(world, "wired").await;
    disturb::<NetworkPolicy>(world, "wired").await;
    disturb::<PersistentVolumeClaim>(world, "wired-data").await;
    let other = json!({"spec": {"config": [{"path": "/etc/wired", "content": "b"}]}});
    let bare = json!({"spec": {"config": null, "volumes": null, "networkPolicy": null, "serviceAuth": null}});
    for change in [other, bare] {
        script::patch::<StomatonService>(world, "wired", change).await;
        script::ready::<StomatonService>(world, "wired").await;
    }
}

/// Everything for which the operator has a right, at least once. It holds its Lease meanwhile.
async fn exercise(world: &mut World) {
    script::create(world).await;
    script::migrate(world).await;
    services_come_and_go(world).await;
    a_service_is_given_and_taken(world).await;
    gates::a_job_fails(world).await;

    disturb::<Deployment>(world, "edge-edge").await;
    disturb::<Service>(world, "edge-edge").await;
    disturb::<ServiceAccount>(world, "edge-edge").await;
    disturb::<Role>(world, "edge-edge").await;
    disturb::<RoleBinding>(world, "edge-edge").await;

    // The same transition twice is one Event, counted.
    let api = world.api::<Gateway>();
    let own = json!(api.get("edge").await.unwrap().spec.routes);
    for path in ["/a", "/b"] {
        gateway_is(world, "AsSpecified").await;
        world.agents[0].freeze(true);
        let mut routes = own.clone();
        routes.as_array_mut().unwrap().push(json!({"name": "more", "match": {"pathPrefix": path}}));
        let patch = Patch::Merge(json!({"spec": {"routes": routes}}));
        api.patch("edge", &PatchParams::default(), &patch).await.unwrap();
        gateway_is(world, "WaitingForEdge").await;
        world.agents[0].freeze(false);
    }
    gateway_is(world, "AsSpecified").await;

    // An edge pod that does not follow a rollback is deleted.
    let id = world.compiled("content").await;
    world.agents[1].freeze(true);
    world.answers(&id, 20, 20);
    let (pods, name) = (world.api::<Pod>(), world.agents[1].pod());
    world
        .eventually("end of the edge pod", async || {
            let found = pods.get_opt(&name).await.unwrap();
            if found.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()) {
                Ok(())
            } else {
                Err(name.clone())
            }
        })
        .await;
}

#[test]
fn what_is_granted_is_what_is_used() {
    runtime().block_on(async {
        let _alone = other_projects().await;
        let mut world = World::bare().await;
        serve_other_projects(&world, true).await;
        world.grant_lease().await;
        let mut pods = tokio::task::JoinSet::new();
        pods.spawn(script::kubelet(world.client.clone(), world.namespace.clone()));
        let _operator = Operator::start(world.clients(), world.elected("a", LEASE));
        exercise(&mut world).await;

        let here = |r: &&Value| {
            let namespace = &r["objectRef"]["namespace"];
            // Grants are watched in all namespaces, and read in that of the dependency.
            *namespace == *world.namespace || r["objectRef"]["resource"] == "referencegrants"
        };
        let words = |rights: Vec<&Right>| {
            rights.into_iter().map(|(_, resource, verb)| format!("{verb} {resource}")).collect::<Vec<_>>()
        };
        let granted = granted();
        // A request is in the log after it was answered, so its effect may be seen before.
        world
            .eventually("use of all that is granted", async || {
                let used_here: Vec<_> = world.requests_anywhere().iter().filter(here).cloned().collect();
                let unused = words(granted.difference(&used(&used_here)).collect());
                if unused.is_empty() { Ok(()) } else { Err(format!("{unused:?}")) }
            })
            .await;
        // Of all tests that ran before this one or run beside it.
        let used_anywhere = used(&world.requests_anywhere());
        let ungranted = words(used_anywhere.difference(&granted).collect());
        assert_eq!(ungranted, Vec::<String>::new(), "used and not granted");
        serve_other_projects(&world, false).await;
    });
}

/// The kinds of other projects, from now on or no longer.
async fn serve_other_projects(world: &World, served: bool) {
    let grants = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1beta1", "ReferenceGrant");
    let grants = ApiResource::from_gvk_with_plural(&grants, "referencegrants");
    for kind in [Optional::ScaledObject.resource(), Optional::PodMonitor.resource(), grants] {
        if served { world.serve(&kind).await } else { world.serve_no_longer(&kind).await }
    }
}

/// Short, so that it is renewed while the test looks.
const LEASE: Duration = Duration::from_secs(3);
/// Operators that run at the same time.
const AT_ONCE: usize = 6;

/// The exercise by an operator that lacks one right. Gives the request that was refused, or none.
async fn without(number: usize, right: &Right) -> Option<String> {
    let mut world = World::bare().await;
    let name = format!("without-{number}");
    let user = format!("system:serviceaccount:stomaton-system:{name}");
    for mut object in rights().into_iter().chain(namespace_grant()) {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let renamed = |value: &Value| json!(value.as_str().unwrap().replace("stomaton-operator", &name));
        object["metadata"]["name"] = renamed(&object["metadata"]["name"]);
        object["metadata"]["namespace"] = json!(world.namespace);
        if kind.ends_with("Role") {
            object = reduced(&object, right);
        }
        if kind.ends_with("Binding") {
            object["roleRef"]["name"] = renamed(&object["roleRef"]["name"]);
            object["subjects"][0]["name"] = json!(name);
        }
        match kind.as_str() {
            "ClusterRole" => create_cluster_wide::<ClusterRole>(&world.client, object).await,
            "ClusterRoleBinding" => create_cluster_wide::<ClusterRoleBinding>(&world.client, object).await,
            "Role" => drop(world.create::<Role>(object).await),
            "RoleBinding" => drop(world.create::<RoleBinding>(object).await),
            _ => {}
        }
    }
    // The API server learns of new rights a moment later; a refusal before that would prove nothing.
    for (group, resource, verb) in granted().iter().filter(|r| *r != right) {
        may(&world, &user, group, resource, verb).await;
    }
    let mut pods = tokio::task::JoinSet::new();
    pods.spawn(script::kubelet(world.client.clone(), world.namespace.clone()));
    let wire = Wire::default();
    let _operator = Operator::start(clients(&world.server, &user, &wire), world.elected("a", LEASE));
    tokio::select! {
        refused = wire.is_refused() => Some(refused),
        () = exercise(&mut world) => None,
    }
}

/// Waits until this user may do that.
async fn may(world: &World, user: &str, group: &str, resource: &str, verb: &str) {
    let reviews: Api<SubjectAccessReview> = Api::all(world.client.clone());
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let name = if resource == "leases" { leader::LEASE } else { "" };
    let attributes = json!({
        "namespace": world.namespace, "group": group, "resource": resource, "subresource": subresource,
        "verb": verb, "name": name,
    });
    let body = json!({"metadata": {}, "spec": {"user": user, "resourceAttributes": attributes}});
    let review: SubjectAccessReview = serde_json::from_value(body).unwrap();
    world
        .eventually("the rights of the test", async || {
            let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
            if answer.status.is_some_and(|status| status.allowed) { Ok(()) } else { Err(verb.to_owned()) }
        })
        .await;
}

#[test]
fn without_any_one_right_something_is_refused() {
    runtime().block_on(async {
        let _alone = other_projects().await;
        let world = World::bare().await;
        serve_other_projects(&world, true).await;
        let granted = granted();
        let tried = futures::stream::iter(granted.iter().enumerate())
            .map(async |(number, right)| (right, without(number, right).await));
        let tried: Vec<_> = tried.buffer_unordered(AT_ONCE).collect().await;
        let idle = tried.iter().filter(|(_, refused)| refused.is_none());
        let idle: Vec<_> = idle.map(|((_, resource, verb), _)| format!("{verb} {resource}")).collect();
        assert_eq!(idle, Vec::<String>::new(), "nothing is refused without");
        serve_other_projects(&world, false).await;
        println!("{} rights, each taken away once", tried.len());
    });
}
