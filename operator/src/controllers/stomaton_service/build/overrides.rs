//! Takes the pods as the operator writes them, and what a user wants beside it; gives both in one, or what is refused
//! and where. Pure.
//!
//! Merged as `kubectl patch --type=strategic` does, by a table of the lists that have keys. It only adds: nothing can
//! be taken away, nothing that another field of the spec says can be said again, and nothing can weaken the
//! restricted Pod Security Standard, which every container that comes along has to meet too.

mod guard;

use super::{RESOURCES, USER};
use crate::controllers::{meta::restricted_container, workload::resources};
use guard::{CONTAINER_LISTS, Refused};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use serde_json::{Map, Value, json};
use stomaton_crds::v1alpha1::PodOverrides;

/// Where a path in a message begins.
const ROOT: &str = "podTemplate.spec";

/// `template` with `overrides`. The error is for the user: what is refused, where, and why.
pub fn merged(mut template: PodTemplateSpec, overrides: &PodOverrides) -> Result<PodTemplateSpec, String> {
    guard::names(overrides)?;
    let metadata = template.metadata.get_or_insert_default();
    // The operator's own last: they win.
    let beside = |own: &mut Option<_>, more: &std::collections::BTreeMap<String, String>| {
        if !more.is_empty() {
            *own = Some(more.clone().into_iter().chain(own.take().unwrap_or_default()).collect());
        }
    };
    beside(&mut metadata.labels, &overrides.labels);
    beside(&mut metadata.annotations, &overrides.annotations);
    if let Some(patch) = &overrides.spec {
        template.spec = Some(spec(&template.spec.unwrap_or_default(), patch)?);
    }
    Ok(template)
}

fn spec(own: &PodSpec, patch: &Value) -> Result<PodSpec, String> {
    let own = serde_json::to_value(own).map_err(|e| e.to_string())?;
    guard::check(&own, patch).map_err(|Refused { path, why }| format!("`{path}` is refused: {why}"))?;
    let patch = hardened(&own, patch.clone());
    let merged = merge("", own, patch);
    let pod: PodSpec = serde_json::from_value(merged.clone())
        .map_err(|error| format!("`{ROOT}` is not part of a PodSpec: {error}"))?;
    let known = serde_json::to_value(&pod).map_err(|e| e.to_string())?;
    match unknown(ROOT, &merged, &known) {
        Some(path) => Err(format!("`{path}` is refused: a PodSpec has no such field")),
        None => Ok(pod),
    }
}

/// Every container that comes along, on what the operator gives its own: security, and something requested.
fn hardened(own: &Value, mut patch: Value) -> Value {
    for list in CONTAINER_LISTS {
        for container in patch.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if guard::has(own, list, container) {
                continue;
            }
            let mut base = json!({"securityContext": restricted_container(USER)});
            if container.get("resources").is_none() {
                base["resources"] = json!(resources(None, RESOURCES));
            }
            *container = merge("", base, container.take());
        }
    }
    patch
}

/// `base` with `patch` on it; `field` is the field both are the value of.
fn merge(field: &str, base: Value, patch: Value) -> Value {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => Value::Object(merge_objects(base, patch)),
        (Value::Array(base), Value::Array(patch)) => match key_of(field) {
            Some(key) => Value::Array(merge_lists(key, base, patch)),
            None => Value::Array(patch),
        },
        (_, patch) => patch,
    }
}

fn merge_objects(mut base: Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    for (name, patch) in patch {
        let merged = merge(&name, base.remove(&name).unwrap_or(Value::Null), patch);
        base.insert(name, merged);
    }
    base
}

fn merge_lists(key: &str, mut base: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    for item in patch {
        match base.iter_mut().find(|present| present.get(key) == item.get(key)) {
            Some(present) => *present = merge("", present.take(), item),
            None => base.push(item),
        }
    }
    base
}

/// Key of the lists of a PodSpec that are merged by one; every other list is replaced whole.
fn key_of(field: &str) -> Option<&'static str> {
    match field {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" | "resourceClaims" => {
            Some("name")
        }
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "ports" => Some("containerPort"),
        "hostAliases" => Some("ip"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => None,
    }
}

/// Path of the first field of `given` that `known` has lost: one that the type does not have.
fn unknown(path: &str, given: &Value, known: &Value) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            match known.get(name) {
                Some(known) => unknown(&path, value, known),
                None if value.is_null() => None,
                None => Some(path),
            }
        }),
        (Value::Array(given), Value::Array(known)) => {
            let pairs = given.iter().zip(known).enumerate();
            pairs
                .into_iter()
                .find_map(|(i, (given, known))| unknown(&guard::item(path, i, given), given, known))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
