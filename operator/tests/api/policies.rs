//! Who may write what, by the policies and the roles of the installation. The policies hold in the namespaces of these
//! tests alone: other tests on the same API server do on purpose what they refuse, as a restored etcd would.

use crate::{
    roles::{bind, make_roles},
    world::{OPERATOR, World, create_cluster_wide, documents, plan_body, ramp, runtime},
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        core::v1::Namespace,
        rbac::v1::Role,
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::fmt::Debug;
use stomaton_crds::{
    GROUP,
    v1alpha1::{
        EdgeConfig, EdgeWeights, EdgeWeightsSpec, Gateway, MigrationPlan, Phase, PlanAction, StomatonService,
    },
};

const GARBAGE_COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const NAMESPACE_CONTROLLER: &str = "system:serviceaccount:kube-system:namespace-controller";
/// Whose client [`World::client`] is, of system:masters.
const ADMIN: &str = "admin";
const ACTS: [&str; 6] = ["Approve", "Hold", "Resume", "Promote", "Rollback", "Halt"];

/// A namespace in which the policies are in force, with the roles for people.
async fn guarded() -> World {
    let world = World::bare().await;
    // Something to try them on, made while nobody minds.
    world.create::<EdgeWeights>(json!({"metadata": {"name": "probe"}, "spec": weights(1)})).await;
    world.create::<PlanAction>(act("Halt", ADMIN)).await;
    make_roles(&world.client).await;
    for mut object in documents(include_str!("../../../manifests/install/policies.yaml")) {
        let here = |name: &Value| json!(format!("{}-{}", name.as_str().unwrap(), world.namespace));
        object["metadata"]["name"] = here(&object["metadata"]["name"]);
        if object["kind"] == "ValidatingAdmissionPolicy" {
            create_cluster_wide::<ValidatingAdmissionPolicy>(&world.client, object).await;
            continue;
        }
        object["spec"]["policyName"] = here(&object["spec"]["policyName"]);
        let only_here = json!({"matchLabels": {"kubernetes.io/metadata.name": world.namespace}});
        object["spec"]["matchResources"] = json!({"namespaceSelector": only_here});
        create_cluster_wide::<ValidatingAdmissionPolicyBinding>(&world.client, object).await;
    }
    are_in_force(&world).await;
    let collector: Api<EdgeWeights> = api_of(&world, GARBAGE_COLLECTOR);
    collector.delete("probe", &DeleteParams::default()).await.unwrap();
    let acts = world.api::<PlanAction>();
    acts.delete(&act_name("Halt", ADMIN), &DeleteParams::default()).await.unwrap();
    world
}

/// Waits until each policy refuses what nobody may do: the API server looks for new ones each second. What is tried
/// changes nothing, even when nobody refuses it yet.
async fn are_in_force(world: &World) {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let dry_patch = PatchParams { dry_run: true, ..PatchParams::default() };
    let weights_api = world.api::<EdgeWeights>();
    let acts = world.api::<PlanAction>();
    in_force(world, "edge-objects", async || {
        let other = EdgeWeights::new("other", serde_json::from_value(weights(1)).unwrap());
        weights_api.create(&dry, &other).await
    })
    .await;
    in_force(world, "break-glass", async || {
        let more = json!({"spec": {"revision": 2, "routes": {"a": {"permille": {"public": 1000}}}}});
        weights_api.patch("probe", &dry_patch, &Patch::Merge(more)).await
    })
    .await;
    in_force(world, "status", async || {
        let done = json!({"status": {"outcome": "Done", "message": "I say so"}});
        acts.patch_status(&act_name("Halt", ADMIN), &dry_patch, &Patch::Merge(done)).await
    })
    .await;
    in_force(world, "plan-actions", async || {
        let forged = serde_json::from_value(typed::<PlanAction>(act("Hold", "somebody"))).unwrap();
        acts.create(&dry, &forged).await
    })
    .await;
}

async fn in_force<T>(world: &World, policy: &str, attempt: impl AsyncFn() -> kube::Result<T>) {
    let name = format!("stomaton-{policy}-{}", world.namespace);
    world
        .eventually(&name, async || match attempt().await {
            Ok(_) => Err("nobody refuses it".to_owned()),
            Err(error) if error.to_string().contains(&name) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .await;
}

/// Waits until this is refused with these words. A right that was just given is not known at once, so others may refuse
/// it first; that it is accepted is wrong at any time.
async fn refused<T>(world: &World, says: &[&str], attempt: impl AsyncFn() -> kube::Result<T>) {
    world
        .eventually(&format!("refusal that says {says:?}"), async || match attempt().await {
            Ok(_) => panic!("accepted, and not refused with {says:?}"),
            Err(error) => {
                let error = error.to_string();
                if says.iter().all(|words| error.contains(*words)) { Ok(()) } else { Err(error) }
            }
        })
        .await;
}

/// Waits until this is accepted, which a right that was just given may take a moment for.
async fn accepted<T>(world: &World, attempt: impl AsyncFn() -> kube::Result<T>) -> T {
    world
        .eventually("acceptance", async || attempt().await.map_err(|error: kube::Error| error.to_string()))
        .await
}

/// The objects of this namespace, as this user.
fn api_of<K>(world: &World, user: &str) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(world.server.client_as(user, &["system:authenticated"]).unwrap(), &world.namespace)
}

/// The object with its type, which JSON of tests leaves out.
fn typed<K: Resource<DynamicType = ()>>(mut object: Value) -> Value {
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    object
}

/// One route under way, and one that was taken back.
fn weights(revision: i64) -> Value {
    json!({"revision": revision, "routes": {
        "a": {"permille": {"public": 100, "internal": 500}, "attempt": 2, "step": 3},
        "b": {"permille": {"public": 50}, "latched": true, "attempt": 1, "step": 1},
    }})
}

/// Weights of a Gateway that exists, written by the operator.
async fn weights_of_an_edge(world: &World) {
    let spec = json!({"defaultBackend": {"name": "monolith"}});
    let gateway: Gateway = world.create(json!({"metadata": {"name": "edge"}, "spec": spec})).await;
    let mut object = EdgeWeights::new("edge", serde_json::from_value(weights(5)).unwrap());
    object.metadata.owner_references = Some(vec![gateway.controller_owner_ref(&()).unwrap()]);
    let operator: Api<EdgeWeights> = api_of(world, OPERATOR);
    operator.create(&PostParams::default(), &object).await.unwrap();
}

fn structure(revision: i64) -> EdgeConfig {
    let spec = json!({"revision": revision, "backends": {"m": "10.9.9.9:80"}, "defaultBackend": "m"});
    EdgeConfig::new("edge", serde_json::from_value(spec).unwrap())
}

fn act_name(action: &str, user: &str) -> String {
    format!("{}-{user}", action.to_lowercase())
}

/// The JSON of an act of this user.
fn act(action: &str, user: &str) -> Value {
    let mut spec = json!({"plan": "shop", "action": action, "user": user});
    if action != "Halt" {
        spec["route"] = json!("content");
    }
    if action == "Approve" {
        spec["approves"] = json!({"attempt": 1, "step": 1, "specHash": "0123456789abcdef"});
    }
    json!({"metadata": {"name": act_name(action, user)}, "spec": spec})
}

async fn does(api: &Api<PlanAction>, action: &str, user: &str) -> kube::Result<PlanAction> {
    let object = serde_json::from_value(typed::<PlanAction>(act(action, user))).unwrap();
    api.create(&PostParams::default(), &object).await
}

type Change = fn(&mut Value);

/// Writes the weights with the next revision and this change.
async fn change(api: &Api<EdgeWeights>, change: Change) -> kube::Result<EdgeWeights> {
    let mut object = serde_json::to_value(api.get("edge").await?).unwrap();
    object["spec"]["revision"] = json!(object["spec"]["revision"].as_i64().unwrap() + 1);
    change(&mut object);
    api.replace("edge", &PostParams::default(), &serde_json::from_value(object).unwrap()).await
}

fn route<'a>(object: &'a mut Value, id: &str) -> &'a mut Value {
    &mut object["spec"]["routes"][id]
}

/// What nobody may do who breaks the glass, and what the refusal says.
const NOT_BY_BREAKING: [(Change, &str); 9] = [
    (|o| route(o, "a")["permille"]["public"] = json!(101), "weights only become lower"),
    (|o| route(o, "a")["permille"]["suppliers"] = json!(1), "audiences may only go"),
    (|o| route(o, "b")["latched"] = json!(false), "lift a latch"),
    (|o| *route(o, "c") = json!({"latched": true, "attempt": 1}), "add or remove a route"),
    (
        |o| o["spec"]["routes"] = json!({"b": {"latched": true, "attempt": 1, "step": 1}}),
        "add or remove a route",
    ),
    (|o| route(o, "a")["attempt"] = json!(3), "change the attempt or the step"),
    (|o| route(o, "a")["step"] = json!(4), "change the attempt or the step"),
    (|o| o["metadata"]["ownerReferences"] = json!([]), "change the owners"),
    (
        |o| {
            o["spec"]["revision"] = json!(o["spec"]["revision"].as_i64().unwrap() - 1);
            o["metadata"]["labels"] = json!({"seen": "yes"});
        },
        "write a higher revision",
    ),
];

#[test]
fn who_breaks_the_glass_takes_back_and_nothing_else() {
    runtime().block_on(async {
        let world = guarded().await;
        weights_of_an_edge(&world).await;
        bind(&world, "night", "ClusterRole", "stomaton-break-glass").await;
        let (night, admin) = (api_of::<EdgeWeights>(&world, "night"), world.api::<EdgeWeights>());
        // An administrator has every verb of RBAC, this one too, and is held to the same.
        for api in [&night, &admin] {
            for (forbidden, says) in NOT_BY_BREAKING {
                refused(&world, &["break-glass", says], async || change(api, forbidden).await).await;
            }
        }
        let unchanged: EdgeWeightsSpec = serde_json::from_value(weights(5)).unwrap();
        assert_eq!(admin.get("edge").await.unwrap().spec, unchanged);

        let lower: Change = |o| route(o, "a")["permille"] = json!({"public": 0});
        let lowered = accepted(&world, async || change(&night, lower).await).await;
        assert_eq!(lowered.spec.routes["a"].effective("internal"), 0);
        accepted(&world, async || change(&night, |o| route(o, "a")["latched"] = json!(true)).await).await;
        let empty: Change = |o| route(o, "b")["permille"] = json!({});
        let emptied = accepted(&world, async || change(&night, empty).await).await;
        assert_eq!(emptied.spec.revision, 8);
        assert!(emptied.spec.routes.values().all(|route| route.latched));
        let again: Change = |o| route(o, "b")["permille"] = json!({"public": 50});
        refused(&world, &["break-glass", "audiences may only go"], async || change(&night, again).await)
            .await;
        // And they delete nothing.
        assert!(night.delete("edge", &DeleteParams::default()).await.is_err());
    });
}

#[test]
fn structure_and_weights_are_the_operators() {
    runtime().block_on(async {
        let world = guarded().await;
        weights_of_an_edge(&world).await;
        let operator: Api<EdgeConfig> = api_of(&world, OPERATOR);
        let written = operator.create(&PostParams::default(), &structure(1)).await.unwrap();
        let next = EdgeConfig { metadata: written.metadata, ..structure(2) };
        operator.replace("edge", &PostParams::default(), &next).await.unwrap();

        let says =
            ["only the Stomaton operator", "kubectl stomaton rollback --direct", "stomaton-break-glass"];
        let (configs, weights_api) = (world.api::<EdgeConfig>(), world.api::<EdgeWeights>());
        let other = EdgeWeights::new("other", serde_json::from_value(weights(1)).unwrap());
        let (post, delete) = (PostParams::default(), DeleteParams::default());
        refused(&world, &says, async || weights_api.create(&post, &other).await).await;
        refused(&world, &says, async || weights_api.delete("edge", &delete).await).await;
        refused(&world, &says, async || configs.delete("edge", &delete).await).await;
        let hidden = Patch::Merge(json!({"spec": {"revision": 3, "hiddenPaths": ["/"]}}));
        refused(&world, &says, async || configs.patch("edge", &PatchParams::default(), &hidden).await).await;

        // The right to update is not the right to break the glass, whatever is written.
        let rule = json!({"apiGroups": [GROUP], "resources": ["edgeweights"], "verbs": ["get", "update"]});
        world.create::<Role>(json!({"metadata": {"name": "writer"}, "rules": [rule]})).await;
        bind(&world, "eve", "Role", "writer").await;
        let eve: Api<EdgeWeights> = api_of(&world, "eve");
        let lower: Change = |o| route(o, "a")["permille"] = json!({"public": 0});
        let says = ["eve may not UPDATE edgeweights", says[1], says[2]];
        refused(&world, &says, async || change(&eve, lower).await).await;
        assert_eq!(weights_api.get("edge").await.unwrap().spec.revision, 5);
    });
}

#[test]
fn the_control_plane_clears_away_and_changes_nothing() {
    runtime().block_on(async {
        let world = guarded().await;
        weights_of_an_edge(&world).await;
        api_of::<EdgeConfig>(&world, OPERATOR).create(&PostParams::default(), &structure(1)).await.unwrap();
        let collector: Api<EdgeWeights> = api_of(&world, GARBAGE_COLLECTOR);
        let merge = PatchParams::default();
        let less = Patch::Merge(json!({"spec": {"revision": 6, "routes": {"a": {"latched": true}}}}));
        let says = ["only the Stomaton operator"];
        refused(&world, &says, async || collector.patch("edge", &merge, &less).await).await;
        // As when the Gateway goes and its children stay.
        let orphan = Patch::Merge(json!({"metadata": {"ownerReferences": null}}));
        collector.patch("edge", &merge, &orphan).await.unwrap();
        collector.delete("edge", &DeleteParams::default()).await.unwrap();
        let other: Api<EdgeConfig> = api_of(&world, NAMESPACE_CONTROLLER);
        other.delete("edge", &DeleteParams::default()).await.unwrap();
    });
}

#[test]
fn a_namespace_goes_with_its_structure_and_weights() {
    runtime().block_on(async {
        let world = guarded().await;
        weights_of_an_edge(&world).await;
        api_of::<EdgeConfig>(&world, OPERATOR).create(&PostParams::default(), &structure(1)).await.unwrap();
        let namespaces = Api::<Namespace>::all(world.client.clone());
        namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
        world
            .eventually("end of the namespace", async || {
                match namespaces.get_opt(&world.namespace).await.unwrap() {
                    Some(namespace) => Err(format!("{:#?}", namespace.status)),
                    None => Ok(()),
                }
            })
            .await;
    });
}

/// The status of this object is written by the operator, and by nobody else.
async fn status_is_the_operators<K>(world: &World, object: Value, status: Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    let name = world.create::<K>(object).await.name_any();
    let patch = Patch::Merge(json!({"status": status}));
    let (admin, operator) = (world.api::<K>(), api_of::<K>(world, OPERATOR));
    let plural = K::plural(&());
    let says = ["only the Stomaton operator", "kubectl stomaton", &*plural];
    refused(world, &says, async || admin.patch_status(&name, &PatchParams::default(), &patch).await).await;
    operator.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
    // Everything else of it is still for people.
    let label = Patch::Merge(json!({"metadata": {"labels": {"seen": "yes"}}}));
    admin.patch(&name, &PatchParams::default(), &label).await.unwrap();
}

#[test]
fn status_is_written_by_the_operator_alone() {
    runtime().block_on(async {
        let world = guarded().await;
        let seen = json!({"observedGeneration": 1});
        let service = json!({"metadata": {"name": "shop"}, "spec": {"image": "fleet:1"}});
        status_is_the_operators::<StomatonService>(&world, service, seen.clone()).await;
        let gateway = json!({"metadata": {"name": "edge"}, "spec": {"defaultBackend": {"name": "monolith"}}});
        status_is_the_operators::<Gateway>(&world, gateway, seen.clone()).await;
        let plan = plan_body("shop", &["content"], ramp(&[1000], "1h"));
        status_is_the_operators::<MigrationPlan>(&world, plan, seen).await;
        let outcome = json!({"outcome": "Done", "message": "done"});
        status_is_the_operators::<PlanAction>(&world, act("Rollback", ADMIN), outcome).await;
    });
}

#[test]
fn nobody_acts_in_the_name_of_another_or_beyond_their_role() {
    runtime().block_on(async {
        let world = guarded().await;
        let people = [
            ("ann", "stomaton-on-duty", ["Hold", "Halt", "Rollback"], "stomaton-approver"),
            ("bea", "stomaton-approver", ["Approve", "Promote", "Resume"], "stomaton-on-duty"),
        ];
        for (user, role, may, other) in people {
            bind(&world, user, "ClusterRole", role).await;
            let api: Api<PlanAction> = api_of(&world, user);
            for action in ACTS {
                if may.contains(&action) {
                    // Not even what they may do is done for somebody who may do it, too.
                    let comes_from = format!("comes from {user}");
                    let says = ["spec.user is carl", comes_from.as_str()];
                    refused(&world, &says, async || does(&api, action, "carl").await).await;
                    accepted(&world, async || does(&api, action, user).await).await;
                } else {
                    let may_not = format!("{user} may not {}", action.to_lowercase());
                    let says = [may_not.as_str(), other];
                    refused(&world, &says, async || does(&api, action, user).await).await;
                }
            }
        }
        let admin = world.api::<PlanAction>();
        refused(&world, &["spec.user is ann"], async || does(&admin, "Resume", "ann").await).await;
        accepted(&world, async || does(&admin, "Resume", ADMIN).await).await;
        let other = Patch::Merge(json!({"spec": {"user": "ann"}}));
        let name = act_name("Resume", ADMIN);
        let says = ["an act cannot be changed"];
        refused(&world, &says, async || admin.patch(&name, &PatchParams::default(), &other).await).await;
    });
}

#[test]
fn the_policies_are_not_in_the_operators_way() {
    runtime().block_on(async {
        let mut world = guarded().await;
        world.fleet().await;
        world.start_operator().await;
        world.start_agents().await;
        world.plan("shop", "content", ramp(&[250, 1000], "1h")).await;
        let id = world.compiled("content").await;
        world.route("shop", "content", "acknowledged weight", |r| r.weights.applied == 250).await;
        world.answers(&id, 20, 20);
        world.route("shop", "content", "rollback", |r| r.phase == Phase::RolledBack || r.attempt == 2).await;
    });
}
