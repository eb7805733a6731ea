//! The roles for people give what they are for, alone and as parts of Kubernetes' own.

use crate::world::{World, documents, runtime};
use k8s_openapi::api::{
    authorization::v1::SubjectAccessReview,
    rbac::v1::{ClusterRole, RoleBinding},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use stomaton_crds::GROUP;

/// The roles for people. They are of the whole cluster, and the same for every test.
pub async fn make_roles(client: &Client) {
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = ONE_AT_A_TIME.lock().await;
    let api = Api::<ClusterRole>::all(client.clone());
    for role in documents(include_str!("../../../manifests/install/roles.yaml")) {
        let name = role["metadata"]["name"].as_str().unwrap().to_owned();
        api.patch(&name, &PatchParams::apply("test"), &Patch::Apply(role)).await.unwrap();
    }
}

/// Gives the user this role in the namespace.
pub async fn bind(world: &World, user: &str, kind: &str, role: &str) {
    const RBAC: &str = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": format!("{user}-{role}")},
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    });
    world.create::<RoleBinding>(binding).await;
}

/// For roles of Kubernetes, which have ours in them, and for ours alone: what they give, and what they do not.
const ROLES: [(&str, &[&str], &[&str]); 7] = [
    (
        "view",
        &["get edgeweights", "list edgeconfigs", "watch planactions", "get migrationplans", "list gateways"],
        &["create planactions", "hold planactions", "patch migrationplans", "update edgeweights"],
    ),
    (
        "edit",
        &[
            "get planactions",
            "create planactions",
            "hold planactions",
            "halt planactions",
            "rollback planactions",
            "patch migrationplans",
            "update gateways",
            "delete stomatonservices",
            "patch stomatonservices/scale",
        ],
        &[
            "approve planactions",
            "promote planactions",
            "resume planactions",
            "delete planactions",
            "patch migrationplans/status",
            "update edgeweights",
            "breakglass edgeweights",
        ],
    ),
    (
        "admin",
        &["approve planactions", "promote planactions", "resume planactions", "hold planactions"],
        &["update edgeweights", "breakglass edgeweights", "patch planactions/status"],
    ),
    (
        "stomaton-editor",
        &["create gateways", "patch migrationplans"],
        &["create planactions", "patch gateways/status", "update edgeconfigs"],
    ),
    (
        "stomaton-on-duty",
        &["create planactions", "hold planactions", "halt planactions", "rollback planactions"],
        &["approve planactions", "resume planactions", "patch migrationplans"],
    ),
    (
        "stomaton-approver",
        &["create planactions", "approve planactions", "promote planactions", "resume planactions"],
        &["hold planactions", "patch migrationplans", "breakglass edgeweights"],
    ),
    (
        "stomaton-break-glass",
        &["get edgeweights", "update edgeweights", "breakglass edgeweights"],
        &["create edgeweights", "delete edgeweights", "update edgeconfigs", "create planactions"],
    ),
];

async fn allowed(world: &World, user: &str, right: &str) -> bool {
    let (verb, resource) = right.split_once(' ').unwrap();
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = json!({
        "namespace": world.namespace, "group": GROUP, "resource": resource, "subresource": subresource, "verb": verb,
    });
    let body = json!({"metadata": {}, "spec": {"user": user, "resourceAttributes": attributes}});
    let review: SubjectAccessReview = serde_json::from_value(body).unwrap();
    let reviews = Api::<SubjectAccessReview>::all(world.client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
    answer.status.is_some_and(|status| status.allowed)
}

#[test]
fn roles_give_what_they_are_for() {
    runtime().block_on(async {
        let world = World::bare().await;
        make_roles(&world.client).await;
        for (role, gives, gives_not) in ROLES {
            let user = format!("has-{role}");
            bind(&world, &user, "ClusterRole", role).await;
            for right in gives {
                world
                    .eventually(&format!("{right} for {role}"), async || {
                        if allowed(&world, &user, right).await {
                            Ok(())
                        } else {
                            Err("not allowed".to_owned())
                        }
                    })
                    .await;
            }
            for right in gives_not {
                assert!(!allowed(&world, &user, right).await, "{role} gives {right}");
            }
        }
    });
}
