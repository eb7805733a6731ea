//! Gateways on a real API server, with simulated edge pods.

use crate::world::{World, ramp, runtime};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Service, ServiceAccount},
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PropagationPolicy},
};
use serde_json::{Value, json};
use std::fmt::Debug;
use stomaton_crds::v1alpha1::{EdgeConfig, EdgeConfigSpec, Gateway, GatewayStatus};

/// Status, reason and message of a condition, if it speaks of the present spec.
fn condition(gateway: &Gateway, kind: &str) -> Option<(String, String, String)> {
    let found = gateway.status.as_ref()?.conditions.iter().find(|c| c.type_ == kind)?;
    let current = found.observed_generation == gateway.metadata.generation;
    current.then(|| (found.status.clone(), found.reason.clone(), found.message.clone()))
}

/// Waits until `Ready` has this status and this reason; gives the message and the whole status.
async fn until(world: &World, status: &str, reason: &str) -> (String, GatewayStatus) {
    let api = world.api::<Gateway>();
    world
        .eventually(&format!("Ready={status} {reason}"), async || {
            let object = api.get("edge").await.unwrap();
            match condition(&object, "Ready") {
                Some((s, r, message)) if (s.as_str(), r.as_str()) == (status, reason) => {
                    Ok((message, object.status.unwrap()))
                }
                _ => Err(format!("{:#?}", object.status)),
            }
        })
        .await
}

/// Waits until the structure is as `wanted` says.
async fn structure(world: &World, what: &str, wanted: impl Fn(&EdgeConfigSpec) -> bool) -> EdgeConfigSpec {
    let api = world.api::<EdgeConfig>();
    world
        .eventually(what, async || {
            let found = api.get_opt("edge").await.unwrap().map(|c| c.spec);
            found.clone().filter(&wanted).ok_or_else(|| format!("{found:#?}"))
        })
        .await
}

/// Waits until a child is there.
async fn there<K>(world: &World, name: &str) -> K
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + serde::de::DeserializeOwned,
{
    let api = world.api::<K>();
    world
        .eventually(&format!("{} {name}", K::kind(&())), async || {
            api.get_opt(name).await.unwrap().ok_or("none".into())
        })
        .await
}

async fn patch(world: &World, body: Value) {
    let api = world.api::<Gateway>();
    api.patch("edge", &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
}

async fn gateway(world: &World, routes: Value) {
    world
        .create::<Gateway>(json!({
            "metadata": {"name": "edge"},
            "spec": {"defaultBackend": {"name": "monolith"}, "routes": routes},
        }))
        .await;
}

/// `10.1.2.3:80` of a Service.
async fn address(world: &World, service: &str) -> String {
    let spec = world.api::<Service>().get(service).await.unwrap().spec.unwrap();
    format!("{}:{}", spec.cluster_ip.unwrap(), spec.ports.unwrap()[0].port)
}

#[test]
fn a_gateway_is_ready_when_its_pods_serve_its_structure() {
    runtime().block_on(async {
        let world = World::new().await;
        let (_, status) = until(&world, "True", "AsSpecified").await;
        assert_eq!(status.pods_in_sync.as_deref(), Some("2/2"));
        assert_eq!(status.address, Some(format!("edge-edge.{}.svc:80", world.namespace)));
        let config = world.api::<EdgeConfig>().get("edge").await.unwrap();
        assert_eq!(status.config_revision, Some(config.spec.revision));
        assert_eq!(config.spec.backends[&config.spec.default_backend], address(&world, "monolith").await);
        assert_eq!(
            config.spec.routes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
            ["content", "search"]
        );

        let service: Service = there(&world, "edge-edge").await;
        assert_eq!(service.spec.unwrap().session_affinity.as_deref(), Some("ClientIP"));
        let role: Role = there(&world, "edge-edge").await;
        assert_eq!(role.rules.unwrap()[0].resource_names, Some(vec!["edge".to_owned()]));
    });
}

#[test]
fn pods_that_lag_or_refuse_are_named() {
    runtime().block_on(async {
        let world = World::new().await;
        until(&world, "True", "AsSpecified").await;
        world.agents[1].freeze(true);
        let routes = json!([{"name": "more", "match": {"pathPrefix": "/more"}}]);
        patch(&world, json!({"spec": {"routes": routes}})).await;
        let api = world.api::<Gateway>();
        world
            .eventually("one pod behind", async || {
                let status = api.get("edge").await.unwrap().status.unwrap();
                match status.pods_behind.as_slice() {
                    [one] if one.message.starts_with("still serves revision") => Ok(()),
                    _ => Err(format!("{status:#?}")),
                }
            })
            .await;
        until(&world, "True", "WaitingForEdge").await;
        assert_eq!(condition(&api.get("edge").await.unwrap(), "Programmed").unwrap().0, "False");

        world.agents[1].refuse(Some("nginx: unknown directive"));
        let (message, _) = until(&world, "False", "EdgeRefused").await;
        assert!(message.ends_with("serves the previous one: nginx: unknown directive"), "{message}");
        world.agents[1].refuse(None);
        world.agents[1].freeze(false);
        let (_, status) = until(&world, "True", "AsSpecified").await;
        assert_eq!((status.pods_in_sync.as_deref(), status.pods_behind.len()), (Some("2/2"), 0));
    });
}

#[test]
fn what_others_break_is_made_whole() {
    runtime().block_on(async {
        let world = World::new().await;
        until(&world, "True", "AsSpecified").await;
        let gone = DeleteParams::default();
        let roles = world.api::<Role>();
        let rules = json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]});
        roles.patch("edge-edge", &PatchParams::default(), &Patch::Merge(rules)).await.unwrap();
        world.api::<RoleBinding>().delete("edge-edge", &gone).await.unwrap();
        world.api::<ServiceAccount>().delete("edge-edge", &gone).await.unwrap();
        world.api::<Service>().delete("edge-edge", &gone).await.unwrap();
        there::<RoleBinding>(&world, "edge-edge").await;
        there::<ServiceAccount>(&world, "edge-edge").await;
        there::<Service>(&world, "edge-edge").await;
        world
            .eventually("the rights as they were", async || {
                let rules = roles.get("edge-edge").await.unwrap().rules.unwrap();
                if rules[0].resources == Some(vec!["edgeconfigs".into(), "edgeweights".into()]) {
                    Ok(())
                } else {
                    Err(format!("{rules:?}"))
                }
            })
            .await;
        let image =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "nginx", "image": "evil"}]}}}});
        let deployments = world.api::<Deployment>();
        deployments.patch("edge-edge", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
        world
            .eventually("the image as it was", async || {
                let spec = deployments.get("edge-edge").await.unwrap().spec.unwrap().template.spec.unwrap();
                let images: Vec<_> = spec.containers.into_iter().filter_map(|c| c.image).collect();
                if images == ["stomaton/edge:dev", "stomaton/edge:dev"] {
                    Ok(())
                } else {
                    Err(format!("{images:?}"))
                }
            })
            .await;
    });
}

#[test]
fn a_structure_that_was_lost_comes_back_above_all_that_was_seen() {
    runtime().block_on(async {
        let world = World::new().await;
        until(&world, "True", "AsSpecified").await;
        patch(&world, json!({"spec": {"diagnostics": {"responseHeader": true}}})).await;
        let before = structure(&world, "another revision", |c| c.diagnostics && c.revision > 1).await;
        until(&world, "True", "AsSpecified").await;
        world.api::<EdgeConfig>().delete("edge", &DeleteParams::default()).await.unwrap();
        let after = structure(&world, "the structure again", |_| true).await;
        assert!(after.revision > before.revision, "{} after {}", after.revision, before.revision);
        assert_eq!(EdgeConfigSpec { revision: before.revision, ..after }, before);
        let (_, status) = until(&world, "True", "AsSpecified").await;
        assert_eq!(status.pods_in_sync.as_deref(), Some("2/2"));
    });
}

#[test]
fn a_default_backend_is_waited_for_and_its_last_address_kept() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        gateway(&world, json!([])).await;
        let (message, status) = until(&world, "False", "NotFound").await;
        assert_eq!(message, "`defaultBackend`: there is no Service monolith: create it, or name another one");
        assert_eq!(status.config_revision, None);
        assert!(world.api::<EdgeConfig>().get_opt("edge").await.unwrap().is_none());

        world.service("monolith").await;
        let first = structure(&world, "a structure", |_| true).await;
        let old = address(&world, "monolith").await;
        assert_eq!(first.backends.values().collect::<Vec<_>>(), [&old]);
        until(&world, "False", "RollingOut").await;
        world.api::<Service>().delete("monolith", &DeleteParams::default()).await.unwrap();
        let (message, status) = until(&world, "False", "NotFound").await;
        assert!(message.ends_with("until then its last known address stays in use"), "{message}");
        assert_eq!(status.config_revision, Some(1));
        assert_eq!(world.api::<EdgeConfig>().get("edge").await.unwrap().spec, first);

        let other = json!({"metadata": {"name": "monolith"}, "spec": {"ports": [{"port": 9000}]}});
        world.create::<Service>(other).await;
        let new = address(&world, "monolith").await;
        let second = structure(&world, "the new address", |c| c.backends.values().any(|a| *a == new)).await;
        assert_eq!((second.revision, second.backends.len()), (2, 1));
    });
}

#[test]
fn a_route_that_cannot_be_served_as_written_costs_the_others_nothing() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        world.service("monolith").await;
        let headless =
            json!({"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
        world.create::<Service>(headless).await;
        gateway(
            &world,
            json!([
                {"name": "good", "match": {"pathPrefix": "/good"}},
                {"name": "twin", "match": {"pathPrefix": "/good"}},
                {"name": "lost", "match": {"pathPrefix": "/lost"}, "backend": {"name": "nobody"}},
                {"name": "headless", "match": {"pathPrefix": "/headless"}, "backend": {"name": "headless"}},
                {"name": "moved", "match": {"pathPrefix": "/moved"}},
            ]),
        )
        .await;
        let names = |c: &EdgeConfigSpec| c.routes.iter().map(|r| r.name.clone()).collect::<Vec<_>>();
        let config = structure(&world, "a structure", |_| true).await;
        assert_eq!(names(&config), ["good", "moved"]);
        // The plan names a target that is not there: the route stays on its safe side, under the plan's identity.
        world.plan("shop", "moved", ramp(&[1000], "1h")).await;
        let route = |c: &EdgeConfigSpec| c.routes.iter().find(|r| r.name == "moved").unwrap().clone();
        let planned = structure(&world, "another identity", |c| route(c).id != route(&config).id).await;
        assert_eq!(route(&planned).target, None);
        let api = world.api::<Gateway>();
        let dropped = world
            .eventually("four dropped routes", async || {
                let status = api.get("edge").await.unwrap().status.unwrap_or_default();
                if status.dropped_routes.len() == 4 {
                    Ok(status.dropped_routes)
                } else {
                    Err(format!("{status:#?}"))
                }
            })
            .await;
        let said: Vec<String> = dropped.into_iter().map(|d| format!("{}: {}", d.name, d.message)).collect();
        for (said, words) in said.iter().zip([
            "twin: route good already has such requests",
            "lost: `backend`: there is no Service nobody",
            "headless: `backend`: Service headless has no cluster IP",
            "moved: target of MigrationPlan shop: there is no Service content",
        ]) {
            assert!(said.starts_with(words), "{said}");
        }
        world.service("content").await;
        let moved = structure(&world, "a target", |c| route(c).target.is_some()).await;
        assert_eq!(route(&moved).id, route(&planned).id);
        assert!(route(&moved).salt.is_some());
    });
}

#[test]
fn a_foreign_object_is_left_alone_and_named() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        world.service("monolith").await;
        world.service("edge-edge").await;
        gateway(&world, json!([])).await;
        let (message, _) = until(&world, "False", "NotOurs").await;
        assert!(message.starts_with("Service edge-edge exists already and belongs to nobody"), "{message}");
        let left = world.api::<Service>().get("edge-edge").await.unwrap();
        assert!(left.owner_references().is_empty() && left.annotations().is_empty());
    });
}

#[test]
fn a_gateway_made_anew_gets_children_of_its_own() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        world.service("monolith").await;
        gateway(&world, json!([])).await;
        structure(&world, "a structure", |_| true).await;
        let first: Deployment = there(&world, "edge-edge").await;
        let api: Api<Gateway> = world.api();
        // In the background: the name is free at once, while the old children are still there.
        let background = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        api.delete("edge", &background).await.unwrap();
        gateway(&world, json!([])).await;
        let uid = api.get("edge").await.unwrap().uid();
        let deployments = world.api::<Deployment>();
        world
            .eventually("a Deployment of the new Gateway", async || {
                let found = deployments.get_opt("edge-edge").await.unwrap();
                let ours =
                    found.filter(|d| d.owner_references().iter().any(|o| Some(&o.uid) == uid.as_ref()));
                ours.filter(|d| d.uid() != first.uid()).ok_or("not yet".to_owned())
            })
            .await;
        until(&world, "False", "RollingOut").await;
    });
}

#[test]
fn nothing_to_do_is_nothing_written() {
    runtime().block_on(async {
        let world = World::new().await;
        until(&world, "True", "AsSpecified").await;
        world.assert_nothing_written().await;
    });
}

#[test]
fn bad_input_is_refused_by_the_api_server() {
    runtime().block_on(async {
        let world = World::with_operator().await;
        let paths = ["/a$b", "/a\nb", "/a\"b", "/a'b", "/a;b", "/a{b}", "/a b", "/a//b", "/a/../b", "/a/", "a"];
        let bad = paths.iter().map(|path| json!([{"name": "r", "match": {"pathPrefix": path}}]));
        let good = |name: &str| json!({"name": name, "match": {"pathPrefix": format!("/{name}")}});
        let others = [
            json!([good("a"), good("a")]),
            json!([{"name": "A_b", "match": {"pathPrefix": "/"}}]),
            json!([{"name": "r", "match": {"pathPrefix": "/", "hosts": ["a b"]}}]),
            json!([{"name": "r", "match": {"pathPrefix": "/", "methods": ["FETCH"]}}]),
            json!([{"name": "r", "match": {"pathPrefix": "/"}, "backend": {"name": "a$"}}]),
        ];
        for routes in bad.chain(others) {
            let object = json!({"metadata": {"name": "bad"}, "spec": {"defaultBackend": {"name": "m"}, "routes": routes}});
            let refused = world.try_create::<Gateway>(object).await;
            assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 422), "{routes}: {refused:?}");
        }
    });
}
