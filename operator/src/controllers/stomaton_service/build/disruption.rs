//! Takes a checked service; gives what a drain of nodes may take away from it. Pure.

use super::{super::validate::Deployed, selector};
use crate::controllers::workload::disruption;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

/// The budget of `wanted`.
pub fn budget(wanted: &Deployed) -> Option<PodDisruptionBudget> {
    let shape = &wanted.shape;
    let most = shape.scaling.as_ref().map_or_else(|| shape.replicas.unwrap_or(1), |s| s.max);
    let metadata = wanted.family.child(&wanted.name);
    disruption::budget(metadata, selector(&wanted.name), most, shape.disruption.as_ref())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::wanted, *};
    use crate::controllers::stomaton_service::in_use::Around;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use serde_json::{Value, json};

    fn away(spec: Value) -> Option<IntOrString> {
        budget(&wanted(spec, Around::default()))?.spec?.max_unavailable
    }

    #[test]
    fn several_pods_go_one_at_a_time_and_a_single_one_holds_nothing_up() {
        assert_eq!(away(json!({"image": "i"})), None);
        assert_eq!(away(json!({"image": "i", "replicas": 2})), Some(IntOrString::Int(1)));
        let scaling = json!({"max": 4, "cpuPercent": 50});
        assert_eq!(away(json!({"image": "i", "scaling": scaling})), Some(IntOrString::Int(1)));
        let disruption = json!({"maxUnavailable": "25%"});
        assert_eq!(
            away(json!({"image": "i", "disruption": disruption})),
            Some(IntOrString::String("25%".into()))
        );
        assert_eq!(away(json!({"image": "i", "disruption": {}})), Some(IntOrString::Int(1)));
    }

    #[test]
    fn a_broken_pod_never_holds_a_drain_up() {
        let budget = budget(&wanted(json!({"image": "i", "replicas": 2}), Around::default()));
        insta::assert_yaml_snapshot!("budget", budget);
    }
}
