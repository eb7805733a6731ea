//! Whether a named object has the condition that a gate waits for. Takes the gate and the object; gives what it says.
//! Pure.

use super::Says;
use kube::api::{ApiResource, DynamicObject};
use serde_json::Value;
use stomaton_crds::v1alpha1::ObjectGate;

/// What the object says, if it is there.
pub fn says(gate: &ObjectGate, object: Option<&DynamicObject>) -> Says {
    let ObjectGate { kind, name, condition, status, .. } = gate;
    let Some(object) = object else { return Says::NotYet(format!("{kind} {name} does not exist")) };
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let is_it = |found: &&Value| text(found, "type") == condition;
    let Some(found) = conditions.into_iter().flatten().find(is_it) else {
        return Says::NotYet(format!("{kind} {name} has no condition {condition}"));
    };
    // Not every controller says which spec it speaks of.
    let observed = [Some(found), object.data.get("status")];
    let observed = observed.into_iter().flatten().find_map(|said| said.get("observedGeneration")?.as_i64());
    if observed.is_some_and(|observed| Some(observed) < object.metadata.generation) {
        return Says::NotYet(format!("condition {condition} of {kind} {name} is of an older spec"));
    }
    let (is, reason) = (text(found, "status"), text(found, "reason"));
    if is == status {
        Says::Passed(format!("condition {condition} of {kind} {name} is {is}"))
    } else {
        let because = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        Says::NotYet(format!("condition {condition} of {kind} {name} is {is}{because}, not {status}"))
    }
}

/// Whether this can be a part of a path at the API server and nothing else: a name out of a plan must not lead out of
/// the plan's namespace.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    name.chars().all(plain) && !["", ".", ".."].contains(&name)
}

/// What to do when the operator may not read the object.
pub fn no_right(resource: &ApiResource, namespace: &str) -> String {
    let ApiResource { plural, group, .. } = resource;
    let of_group = if group.is_empty() { String::new() } else { format!(".{group}") };
    format!(
        "the operator may not read {plural}{of_group} in namespace {namespace}: put them into the Role of \
         manifests/install/gate-grant, and run `kubectl apply -n {namespace} -k manifests/install/gate-grant`"
    )
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn gate() -> ObjectGate {
        serde_json::from_value(json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "shop",
            "condition": "Ready", "status": "True",
        }))
        .unwrap()
    }

    fn object(status: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
            "metadata": {"name": "shop", "generation": 3}, "status": status,
        }))
        .unwrap()
    }

    fn ready(status: &str, observed: Option<i64>) -> Value {
        let mut condition = json!({"type": "Ready", "status": status, "reason": "Issuing"});
        if let Some(observed) = observed {
            condition["observedGeneration"] = json!(observed);
        }
        json!({"conditions": [{"type": "Issued", "status": "True"}, condition]})
    }

    fn words(status: Value) -> String {
        match says(&gate(), Some(&object(status))) {
            Says::NotYet(words) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_condition_passes_when_it_is_as_wanted_and_speaks_of_the_present_spec() {
        for observed in [None, Some(3)] {
            let said = says(&gate(), Some(&object(ready("True", observed))));
            assert!(matches!(said, Says::Passed(_)), "{said:?}");
        }
        assert!(words(ready("True", Some(2))).contains("older spec"));
        let mut of_the_whole = ready("True", None);
        of_the_whole["observedGeneration"] = json!(2);
        assert!(words(of_the_whole).contains("older spec"));
    }

    #[test]
    fn a_name_is_one_part_of_a_path() {
        for name in ["shop", "shop.example.com", "system:shop", "v1", "A_b"] {
            assert!(is_name(name), "{name}");
        }
        for other in ["", ".", "..", "../x", "a/b", "a?watch=true", "a%2fb", "a b", "a#b", "\u{e9}"] {
            assert!(!is_name(other), "{other}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        assert!(words(ready("False", None)).contains("is False (Issuing), not True"));
        assert!(words(json!({})).contains("has no condition Ready"));
        let absent = says(&gate(), None);
        assert_eq!(absent, Says::NotYet("Certificate shop does not exist".to_owned()));
    }
}
