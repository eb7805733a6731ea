//! Whether services are Ready that a gate waits for. Takes the gate and StomatonServices; gives what they say. Pure.

use super::Says;
use std::sync::Arc;
use stomaton_crds::v1alpha1::{ServicesGate, StomatonService};

/// What the services say that the gate names, or else the targets of the stage's routes.
pub fn says(
    gate: &ServicesGate,
    targets: &[&str],
    find: impl Fn(&str) -> Option<Arc<StomatonService>>,
) -> Says {
    let named: Vec<&str> = gate.names.iter().map(String::as_str).collect();
    let wanted = if named.is_empty() { targets } else { &named };
    for name in wanted {
        let why = match find(name) {
            Some(service) => unready(name, &service),
            None if named.is_empty() => Some(format!(
                "there is no StomatonService {name}: name the services of this gate, or leave the gate out"
            )),
            None => Some(format!("StomatonService {name} does not exist")),
        };
        if let Some(why) = why {
            return Says::NotYet(why);
        }
    }
    Says::Passed(format!("{} of {} services are Ready", wanted.len(), wanted.len()))
}

/// Why a service cannot be relied on. What it said of an older spec does not count.
fn unready(name: &str, service: &StomatonService) -> Option<String> {
    let conditions = service.status.iter().flat_map(|status| &status.conditions);
    let mut current = conditions.filter(|c| c.observed_generation >= service.metadata.generation);
    match current.find(|c| c.type_ == "Ready") {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(format!("StomatonService {name} is not Ready: {}", ready.message)),
        None => Some(format!("StomatonService {name} has not said whether it is Ready")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(ready: &str, observed: i64) -> Arc<StomatonService> {
        let condition = json!({
            "type": "Ready", "status": ready, "reason": "R", "message": "0 of 1 pods are ready",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": observed,
        });
        let object = json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
            "metadata": {"name": "s", "generation": 2}, "spec": {"image": "i"},
            "status": {"conditions": [condition]},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn of(names: &[&str]) -> ServicesGate {
        serde_json::from_value(json!({ "names": names })).unwrap()
    }

    fn words(says: Says) -> String {
        match says {
            Says::NotYet(words) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_named_service_has_to_be_ready_as_its_spec_is_now() {
        let find = |name: &str| match name {
            "ready" => Some(service("True", 2)),
            "late" => Some(service("True", 1)),
            "down" => Some(service("False", 2)),
            _ => None,
        };
        assert!(matches!(says(&of(&["ready"]), &["down"], find), Says::Passed(_)), "targets are not asked");
        assert!(words(says(&of(&["ready", "down"]), &[], find)).contains("down is not Ready: 0 of 1 pods"));
        assert!(words(says(&of(&["late"]), &[], find)).contains("has not said"));
        assert!(words(says(&of(&["gone"]), &[], find)).contains("StomatonService gone does not exist"));
    }

    #[test]
    fn a_gate_without_names_is_about_the_targets_of_the_stage() {
        let find = |name: &str| (name == "ready").then(|| service("True", 2));
        assert!(matches!(says(&of(&[]), &["ready"], find), Says::Passed(_)));
        assert!(words(says(&of(&[]), &["ready", "plain"], find)).contains("leave the gate out"));
    }
}
