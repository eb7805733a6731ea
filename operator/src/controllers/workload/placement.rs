//! Where pods run. Pure.

use k8s_openapi::{
    api::core::v1::{PodSpec, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use std::collections::BTreeMap;
use stomaton_crds::v1alpha1::{Placement, Spread};

const NODE: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// `pod`, where `placement` says, apart from others with the labels `selector`.
pub fn place(placement: &Placement, selector: &BTreeMap<String, String>, pod: PodSpec) -> PodSpec {
    let (nodes, tolerations) = (&placement.node_selector, &placement.tolerations);
    PodSpec {
        topology_spread_constraints: spread(placement.spread, selector),
        node_selector: (!nodes.is_empty()).then(|| nodes.clone()),
        tolerations: (!tolerations.is_empty()).then(|| tolerations.clone()),
        priority_class_name: placement.priority_class_name.clone(),
        ..pod
    }
}

/// As evenly as can be; a pod that cannot be placed evenly still runs.
fn spread(over: Spread, selector: &BTreeMap<String, String>) -> Option<Vec<TopologySpreadConstraint>> {
    let over: &[&str] = match over {
        Spread::NodesAndZones => &[NODE, ZONE],
        Spread::Nodes => &[NODE],
        Spread::None => return None,
    };
    let constraint = |key: &&str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: (*key).to_owned(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector { match_labels: Some(selector.clone()), match_expressions: None }),
        ..TopologySpreadConstraint::default()
    };
    Some(over.iter().map(constraint).collect())
}
