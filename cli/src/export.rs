//! `export`: plan and Gateway as they should stand in Git. Pure: works on what the API server gave, so that a field
//! this program does not know stays.

use crate::{error::Error, find, places};
use kube::ResourceExt as _;
use serde_json::{Map, Value};
use stomaton_crds::v1alpha1::{BackendRef, MigrationPlan, Phase, StartAt};

/// What Git has to know of an object.
const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];
/// Annotations that belong to a cluster.
const OF_KUBECTL: &str = "kubectl.kubernetes.io/";

/// YAML of both, the Gateway first, with what to know of it on top. Applied where neither exists it puts every route where
/// it is now. With `retire`, a route that is done belongs to its service in the Gateway, and the plan no longer has it.
pub fn export(plan: &Value, gateway: &Value, retire: bool) -> Result<String, Error> {
    let unreadable =
        |why: serde_json::Error| Error::Unreadable { what: "the plan".into(), why: why.to_string() };
    let typed: MigrationPlan = serde_json::from_value(plan.clone()).map_err(unreadable)?;
    find::current(&typed)?;
    let done = if retire { done(&typed) } else { Vec::new() };
    let mut comments = vec![format!(
        "# Plan {} and its Gateway, as the cluster has them now. Where neither exists, this puts every route where it is.",
        typed.name_any()
    )];
    let (mut plan, mut gateway) = (bare(plan), bare(gateway));
    for (name, target) in &done {
        comments.push(give(&mut gateway, name, target)?);
    }
    if !done.is_empty() {
        comments.push(
            "# Apply all of this file at once, the Gateway first: it says who answers from now on.".into(),
        );
    }
    without(&mut plan, &done);
    comments.extend(put(&mut plan, &typed)?);
    comments.extend(places::lost(&typed).iter().map(|line| format!("# {line}")));
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

/// Says in the plan where each of its routes is, and the same in words.
fn put(plan: &mut Value, typed: &MigrationPlan) -> Result<Vec<String>, Error> {
    let mut said = Vec::new();
    for route in plan.pointer_mut("/spec/routes").and_then(Value::as_array_mut).into_iter().flatten() {
        let known = typed.spec.routes.iter().find(|known| route["name"] == known.name.as_str());
        let (Some(known), Some(fields)) = (known, route.as_object_mut()) else { continue };
        // Where it was when the plan was made may be long ago.
        fields.remove("startAt");
        let Some(at) = places::start_at(typed, known) else { continue };
        fields.insert("startAt".to_owned(), as_json(&at, &known.name)?);
        said.push(match at {
            StartAt { step: Some(step), .. } => {
                format!("# Route {} is at step {step} of its ramp.", known.name)
            }
            StartAt { step: None, .. } => format!("# Route {} is done.", known.name),
        });
    }
    Ok(said)
}

fn as_json(part: &impl serde::Serialize, route: &str) -> Result<Value, Error> {
    let unreadable =
        |why: serde_json::Error| Error::Unreadable { what: format!("route {route}"), why: why.to_string() };
    serde_json::to_value(part).map_err(unreadable)
}

/// Routes that are done, or have no way back and are so for the monolith, and who answers them.
fn done(plan: &MigrationPlan) -> Vec<(String, BackendRef)> {
    let is_done = |name: &str| {
        find::route_status(plan, name).is_some_and(|s| s.phase == Phase::Done || s.has_no_way_back())
    };
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
fn give(gateway: &mut Value, name: &str, target: &BackendRef) -> Result<String, Error> {
    let backend = as_json(target, name)?;
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
        let text = export(&plan, &gateway(), true).unwrap();
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
    fn where_nothing_exists_routes_are_put_where_they_are() {
        let mut plan = testing::plan();
        plan.spec.routes.iter_mut().for_each(|route| route.group = None);
        // Of an export that was applied before.
        plan.spec.routes[2].start_at = Some(StartAt { step: Some(1), done: false });
        let plan = serde_json::to_value(plan).unwrap();
        let text = export(&plan, &gateway(), false).unwrap();
        assert_eq!(export(&plan, &gateway(), false).unwrap(), text, "the same each time");
        assert!(
            text.contains("\n# Route content is at step 2 of its ramp.\n# Route media is done.\n"),
            "{text}"
        );
        let objects = read(&text);
        let [gateway, made_anew] = objects.as_slice() else { panic!("{text}") };
        assert!(gateway["spec"]["routes"].as_array().unwrap().iter().all(|r| r.get("backend").is_none()));
        let routes = made_anew["spec"]["routes"].as_array().unwrap();
        let places: Vec<_> = routes.iter().map(|route| route.get("startAt").cloned()).collect();
        assert_eq!(places, [Some(json!({"step": 2})), Some(json!({"done": true})), None]);
        assert_eq!(routes[2]["dependsOn"], json!(["media"]));
        for gone in ["status", "uid", "managedFields", "resourceVersion"] {
            assert!(!text.contains(gone), "{gone} in {text}");
        }
    }

    #[test]
    fn a_plan_whose_routes_are_all_done_is_left_out() {
        let mut plan = testing::plan();
        plan.spec.routes.retain(|route| route.name == "media");
        let text = export(&serde_json::to_value(plan).unwrap(), &gateway(), true).unwrap();
        assert!(text.contains("# Every route of plan shop is done"), "{text}");
        assert_eq!(read(&text).len(), 1);
    }

    #[test]
    fn a_route_without_a_way_back_belongs_to_its_service() {
        let mut plan = testing::plan();
        plan.status.as_mut().unwrap().routes[0].crossing = true;
        let text = export(&serde_json::to_value(plan).unwrap(), &gateway(), true).unwrap();
        assert_eq!(read(&text)[0]["spec"]["routes"][0]["backend"], json!({"name": "content"}));
    }

    #[test]
    fn a_status_of_the_past_decides_nothing() {
        let mut plan = testing::plan();
        plan.metadata.generation = Some(5);
        let error = export(&serde_json::to_value(plan).unwrap(), &gateway(), false).unwrap_err();
        assert!(error.to_string().contains("has not looked at that yet"));
    }
}
