//! Takes a checked service; says in its pods where they run and when they take requests. Pure.

use super::{super::validate::Deployed, selector};
use k8s_openapi::{
    api::core::v1::{PodReadinessGate, PodSpec, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use stomaton_crds::v1alpha1::Spread;

const NODE: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// `pod`, where `wanted` says.
pub fn place(wanted: &Deployed, pod: PodSpec) -> PodSpec {
    let shape = &wanted.shape;
    let gates = shape.rollout.readiness_gates.iter();
    let gates: Vec<_> = gates.map(|gate| PodReadinessGate { condition_type: gate.clone() }).collect();
    let nodes = &shape.placement.node_selector;
    PodSpec {
        topology_spread_constraints: spread(wanted),
        node_selector: (!nodes.is_empty()).then(|| nodes.clone()),
        priority_class_name: shape.placement.priority_class_name.clone(),
        service_account_name: shape.service_account.clone(),
        readiness_gates: (!gates.is_empty()).then_some(gates),
        ..pod
    }
}

/// As evenly as can be; a pod that cannot be placed evenly still runs.
fn spread(wanted: &Deployed) -> Option<Vec<TopologySpreadConstraint>> {
    let over: &[&str] = match wanted.shape.placement.spread {
        Spread::NodesAndZones => &[NODE, ZONE],
        Spread::Nodes => &[NODE],
        Spread::None => return None,
    };
    let constraint = |key: &&str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: (*key).to_owned(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector {
            match_labels: Some(selector(&wanted.name)),
            match_expressions: None,
        }),
        ..TopologySpreadConstraint::default()
    };
    Some(over.iter().map(constraint).collect())
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
        assert_eq!(keys(json!({"image": "i"})), [NODE, ZONE]);
        assert!(keys(json!({"image": "i", "placement": {"spread": "None"}})).is_empty());
    }
}
