//! `export`: plan and Gateway as they should stand in Git. Pure: works on what the API server gave, so that a field
//! this program does not know stays.

use crate::{error::Error, find};
use kube::ResourceExt as _;
use serde_json::{Map, Value};
use stomaton_crds::v1alpha1::{BackendRef, MigrationPlan, Phase};

/// What Git has to know of an object.
const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];
/// Annotations that belong to a cluster.
const OF_KUBECTL: &str = "kubectl.kubernetes.io/";

/// YAML of both, the Gateway first, with what was changed and why on top. A route that is done belongs to its service in
/// the Gateway, and the plan no longer has it.
pub fn export(plan: &Value, gateway: &Value) -> Result<String, Error> {
    let unreadable =
        |why: serde_json::Error| Error::Unreadable { what: "the plan".into(), why: why.to_string() };
    let typed: MigrationPlan = serde_json::from_value(plan.clone()).map_err(unreadable)?;
    find::current(&typed)?;
    let done = done(&typed);
    let mut comments =
        vec![format!("# Plan {} and its Gateway, as the cluster has them now.", typed.name_any())];
    let mut gateway = bare(gateway);
    for (name, target) in &done {
        comments.push(retire(&mut gateway, name, target)?);
    }
    if done.is_empty() {
        comments
            .push("# No route is done: nothing but status and what the cluster adds was left out.".into());
    } else {
        comments.push(
            "# Apply all of this file at once, the Gateway first: it says who answers from now on.".into(),
        );
    }
    let mut plan = bare(plan);
    without(&mut plan, &done);
    let is_left = plan["spec"]["routes"].as_array().is_some_and(|routes| !routes.is_empty());
    let plan = if is_left {
        format!("---\n{}", yaml(&plan)?)
    } else {
        let name = typed.name_any();
        comments.push(format!(
            "# Every route of plan {name} is done, so the plan is left out. Take it out of Git too, after the Gateway is applied."
        ));
        String::new()
    };
    Ok(format!("{}\n---\n{}{plan}", comments.join("\n"), yaml(&gateway)?))
}

/// Routes that are done, and who answers them.
fn done(plan: &MigrationPlan) -> Vec<(String, BackendRef)> {
    let is_done = |name: &str| find::route_status(plan, name).is_some_and(|s| s.phase == Phase::Done);
    let routes = plan.spec.routes.iter().filter(|route| is_done(&route.name));
    routes.map(|route| (route.name.clone(), route.target.clone())).collect()
}

/// The object without what only a cluster has to say.
fn bare(object: &Value) -> Value {
    let mut bare = object.clone();
    let Some(fields) = bare.as_object_mut() else { return bare };
    fields.remove("status");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| METADATA.contains(&key.as_str()));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| !key.starts_with(OF_KUBECTL));
        }
        metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
    bare
}

/// Gives the Gateway's route to the service; says so.
fn retire(gateway: &mut Value, name: &str, target: &BackendRef) -> Result<String, Error> {
    let unreadable =
        |why: serde_json::Error| Error::Unreadable { what: format!("route {name}"), why: why.to_string() };
    let backend = serde_json::to_value(target).map_err(unreadable)?;
    let routes = gateway.pointer_mut("/spec/routes").and_then(Value::as_array_mut);
    let route = routes.into_iter().flatten().find(|route| route["name"] == name);
    Ok(match route.and_then(Value::as_object_mut) {
        Some(route) => {
            route.insert("backend".to_owned(), backend);
            format!(
                "# Route {name} is done: the Gateway gives it to {}, and the plan no longer has it.",
                target.name
            )
        }
        None => format!("# Route {name} is done, but the Gateway has no such route: only the plan lost it."),
    })
}

/// Takes routes out of the plan, and out of what others and stages wait for: that has come.
fn without(plan: &mut Value, done: &[(String, BackendRef)]) {
    let is_done = |name: &Value| done.iter().any(|(done, _)| name == done);
    let Some(routes) = plan.pointer_mut("/spec/routes").and_then(Value::as_array_mut) else { return };
    routes.retain(|route| !is_done(&route["name"]));
    for route in routes.iter_mut().filter_map(Value::as_object_mut) {
        wait_for_less(route, &is_done);
    }
    let stages = plan.pointer_mut("/spec/stages").and_then(Value::as_array_mut);
    for gates in stages.into_iter().flatten().filter_map(|stage| stage.get_mut("gates")?.as_array_mut()) {
        gates.retain(|gate| !gate.pointer("/drill/route").is_some_and(&is_done));
    }
}

fn wait_for_less(route: &mut Map<String, Value>, is_done: &impl Fn(&Value) -> bool) {
    let Some(others) = route.get_mut("dependsOn").and_then(Value::as_array_mut) else { return };
    others.retain(|other| !is_done(other));
    if others.is_empty() {
        route.remove("dependsOn");
    }
}

/// An object as YAML.
pub fn yaml(object: &Value) -> Result<String, Error> {
    let unreadable =
        |why: serde_saphyr::ser::Error| Error::Unreadable { what: "the object".into(), why: why.to_string() };
    serde_saphyr::to_string(object).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::json;

    fn gateway() -> Value {
        json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway",
            "metadata": {
                "name": "edge", "uid": "u", "resourceVersion": "7", "managedFields": [], "generation": 3,
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "labels": {"team": "shop"},
            },
            "spec": {
                "defaultBackend": {"name": "monolith"}, "fieldOfTomorrow": 1,
                "routes": [
                    {"name": "content", "match": {"pathPrefix": "/c"}}, {"name": "media", "match": {"pathPrefix": "/m"}},
                ],
            },
            "status": {"address": "1.2.3.4"},
        })
    }

    fn read(text: &str) -> Vec<Value> {
        serde_saphyr::from_multiple(text).unwrap()
    }

    #[test]
    fn a_route_that_is_done_belongs_to_its_service() {
        let plan = serde_json::to_value(testing::plan()).unwrap();
        let text = export(&plan, &gateway()).unwrap();
        assert!(text.contains("# Route media is done: the Gateway gives it to media,"), "{text}");
        let objects = read(&text);
        let [gateway, plan] = objects.as_slice() else { panic!("{text}") };
        assert_eq!(gateway["metadata"], json!({"name": "edge", "labels": {"team": "shop"}}));
        assert_eq!((gateway.get("status"), plan.get("status")), (None, None));
        assert_eq!(gateway["spec"]["fieldOfTomorrow"], 1);
        assert_eq!(gateway["spec"]["routes"][1]["backend"], json!({"name": "media", "port": 80}));
        assert_eq!(gateway["spec"]["routes"][0].get("backend"), None);
        let routes = plan["spec"]["routes"].as_array().unwrap();
        assert_eq!(
            routes.iter().map(|r| r["name"].as_str().unwrap()).collect::<Vec<_>>(),
            ["content", "orders"]
        );
        assert_eq!(routes[1].get("dependsOn"), None, "what it waited for has come");
        assert_eq!(plan["metadata"], json!({"name": "shop", "namespace": "fleet"}));
    }

    #[test]
    fn a_plan_whose_routes_are_all_done_is_left_out() {
        let mut plan = testing::plan();
        plan.spec.routes.retain(|route| route.name == "media");
        let text = export(&serde_json::to_value(plan).unwrap(), &gateway()).unwrap();
        assert!(text.contains("# Every route of plan shop is done"), "{text}");
        assert_eq!(read(&text).len(), 1);
    }

    #[test]
    fn a_status_of_the_past_decides_nothing() {
        let mut plan = testing::plan();
        plan.metadata.generation = Some(5);
        let error = export(&serde_json::to_value(plan).unwrap(), &gateway()).unwrap_err();
        assert!(error.to_string().contains("has not looked at that yet"));
    }
}
