//! Fields, types and bounds of an object, by the schema of its kind. Pure. Rules in CEL and patterns are left to the API
//! server; those of plans stand beside this.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value};

/// What every object has.
const TOP: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// What is wrong with an object.
pub fn problems(kind: &CustomResourceDefinition, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    // A definition is JSON by its nature.
    let kind = serde_json::to_value(kind).unwrap_or_default();
    let Some(schema) = kind.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec") else {
        return found;
    };
    for key in object.as_object().into_iter().flat_map(Map::keys) {
        if !TOP.contains(&key.as_str()) {
            found.push(format!("{key} is no field: an object has {}", TOP.join(", ")));
        }
    }
    match object.get("spec") {
        Some(spec) => check(schema, spec, "spec", &mut found),
        None => found.push("spec is missing: say what is wanted".to_owned()),
    }
    found
}

/// What is wrong with the value at `path`.
fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let wanted = schema["type"].as_str().unwrap_or_default();
    if value.is_null() || wanted.is_empty() || schema["x-kubernetes-int-or-string"] == true {
        return;
    }
    match (wanted, value) {
        ("object", Value::Object(fields)) => object(schema, fields, path, found),
        ("array", Value::Array(items)) => array(schema, items, path, found),
        ("string", Value::String(text)) => {
            within(
                schema,
                ["minLength", "maxLength"],
                text.chars().count() as i64,
                path,
                "characters",
                found,
            );
            one_of(schema, value, path, found);
        }
        ("integer", Value::Number(number)) if number.is_i64() => {
            within(schema, ["minimum", "maximum"], number.as_i64().unwrap_or_default(), path, "", found);
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => {}
        _ => found.push(format!("{path} is {value}: write {}", article(wanted))),
    }
}

fn object(schema: &Value, fields: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let known = schema["properties"].as_object();
    let others = schema.get("additionalProperties").filter(|others| others.is_object());
    let is_open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    within(schema, ["minProperties", "maxProperties"], fields.len() as i64, path, "entries", found);
    for (key, value) in fields {
        let inner = format!("{path}.{key}");
        match (known.and_then(|known| known.get(key)).or(others), known) {
            (Some(schema), _) => check(schema, value, &inner, found),
            (None, Some(known)) if !is_open => {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                found.push(format!("{inner} is no field: here are {}", names.join(", ")));
            }
            _ => {}
        }
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if fields.get(key).is_none_or(Value::is_null) {
            found.push(format!("{path}.{key} is missing: write it"));
        }
    }
}

fn array(schema: &Value, items: &[Value], path: &str, found: &mut Vec<String>) {
    within(schema, ["minItems", "maxItems"], items.len() as i64, path, "entries", found);
    for (at, item) in items.iter().enumerate() {
        check(&schema["items"], item, &format!("{path}[{at}]"), found);
    }
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    if let Some(key) = keys.filter(|keys| keys.len() == 1).and_then(|keys| keys[0].as_str()) {
        twice(items, key, path, found);
    }
}

/// Entries of a list that is a map: no name twice.
fn twice(items: &[Value], key: &str, path: &str, found: &mut Vec<String>) {
    for (at, item) in items.iter().enumerate() {
        let Some(name) = item.get(key) else { continue };
        if items[..at].iter().any(|earlier| earlier.get(key) == Some(name)) {
            found.push(format!("{path}[{at}].{key} is {name} again: each is there once"));
        }
    }
}

/// `size` is within the bounds of these names.
fn within(schema: &Value, bounds: [&str; 2], size: i64, path: &str, of: &str, found: &mut Vec<String>) {
    // The API server has bounds of numbers as numbers with a point.
    let bound = |name: &str| schema[name].as_f64().map(|bound| bound as i64);
    let (least, most) = (bound(bounds[0]), bound(bounds[1]));
    let unit = if of.is_empty() { String::new() } else { format!(" {of}") };
    if let Some(least) = least.filter(|least| size < *least) {
        found.push(format!("{path} is {size}{unit}: at least {least}"));
    }
    if let Some(most) = most.filter(|most| size > *most) {
        found.push(format!("{path} is {size}{unit}: at most {most}"));
    }
}

fn one_of(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) else { return };
    let names: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
    found.push(format!("{path} is {value}: write one of {}", names.join(", ")));
}

fn article(wanted: &str) -> &str {
    match wanted {
        "object" => "fields and their values",
        "array" => "a list",
        "string" => "a text, in quotes where it looks like a number",
        "integer" => "a whole number",
        "boolean" => "true or false",
        other => other,
    }
}
