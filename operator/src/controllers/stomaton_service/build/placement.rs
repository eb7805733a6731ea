//! Takes a checked service; says in its pods where they run and when they take requests. Pure.

use super::{super::validate::Deployed, selector};
use crate::controllers::workload::placement;
use k8s_openapi::api::core::v1::{PodReadinessGate, PodSpec};

/// `pod`, where `wanted` says.
pub fn place(wanted: &Deployed, pod: PodSpec) -> PodSpec {
    let shape = &wanted.shape;
    let gates = shape.rollout.readiness_gates.iter();
    let gates: Vec<_> = gates.map(|gate| PodReadinessGate { condition_type: gate.clone() }).collect();
    PodSpec {
        service_account_name: shape.service_account.clone(),
        readiness_gates: (!gates.is_empty()).then_some(gates),
        ..placement::place(&shape.placement, &selector(&wanted.name), pod)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::wanted, *};
    use crate::controllers::stomaton_service::in_use::Around;
    use serde_json::json;

    #[test]
    fn pods_go_where_they_are_told() {
        let spec = json!({
            "image": "i", "serviceAccountName": "reader",
            "placement": {"spread": "Nodes", "priorityClassName": "high", "nodeSelector": {"disk": "ssd"}},
            "rollout": {"readinessGates": ["example.com/warm"]},
        });
        let around = Around { accounts: "reader".parse().unwrap(), ..Around::default() };
        insta::assert_yaml_snapshot!("placed", place(&wanted(spec, around), PodSpec::default()));
    }

    #[test]
    fn pods_are_spread_unless_told_otherwise() {
        let keys = |spec| {
            let pod = place(&wanted(spec, Around::default()), PodSpec::default());
            let constraints = pod.topology_spread_constraints.unwrap_or_default();
            constraints.into_iter().map(|c| c.topology_key).collect::<Vec<_>>()
        };
        assert_eq!(keys(json!({"image": "i"})), ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
        assert!(keys(json!({"image": "i", "placement": {"spread": "None"}})).is_empty());
    }
}
