//! What is wrong with the edge as a workload. Pure.

use crate::controllers::workload::disruption;
use stomaton_crds::v1alpha1::{EdgeScaling, GatewayService, GatewaySpec, ServiceType};

/// What is wrong with how many edge pods there are, and with how they are reached.
pub fn fault(spec: &GatewaySpec) -> Option<String> {
    fault_of_service(&spec.service)
        .or_else(|| fault_of_scaling(spec.scaling.as_ref()?))
        .or_else(|| fault_of_requests(spec))
        .or_else(|| {
            disruption::fault(&spec.disruption.as_ref()?.max_unavailable, "disruption.maxUnavailable")
        })
}

fn fault_of_service(service: &GatewayService) -> Option<String> {
    if service.external_traffic_policy.is_some() && service.type_ == ServiceType::ClusterIP {
        return Some("`service.externalTrafficPolicy` goes with the types NodePort and LoadBalancer".into());
    }
    let own = service.annotations.keys().find(|key| key.starts_with("fleet.stomaton.com/"))?;
    Some(format!("`service.annotations` has {own}: annotations of fleet.stomaton.com are the operator's"))
}

fn fault_of_scaling(EdgeScaling { min, max, .. }: &EdgeScaling) -> Option<String> {
    let out = |number: &i32| !(1..=32).contains(number);
    if out(min) || out(max) {
        return Some("`scaling.min` and `scaling.max` must be between 1 and 32".into());
    }
    (min > max).then(|| format!("`scaling.min` {min} is more than `scaling.max` {max}"))
}

/// An autoscaler that has no request to measure CPU against would do nothing.
fn fault_of_requests(spec: &GatewaySpec) -> Option<String> {
    let (Some(_), Some(resources)) = (&spec.scaling, &spec.resources) else { return None };
    let mut amounts =
        [&resources.requests, &resources.limits].into_iter().flatten().filter(|amounts| !amounts.is_empty());
    let says = amounts.clone().next().is_some();
    let has_cpu = amounts.any(|amounts| amounts.contains_key("cpu"));
    (says && !has_cpu).then(|| "`scaling` goes by the CPU that `resources` requests: request some".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(more: Value) -> Option<String> {
        let mut spec = json!({"defaultBackend": {"name": "mono"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fault(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            (json!({"scaling": {"min": 3, "max": 2}}), "`scaling.min` 3 is more than `scaling.max` 2"),
            (json!({"scaling": {"max": 33}}), "must be between 1 and 32"),
            (json!({"scaling": {"max": 4}, "resources": {"requests": {"memory": "1Gi"}}}), "request some"),
            (json!({"disruption": {"maxUnavailable": "0%"}}), "must be at least 1, or 1% to 100%"),
            (json!({"service": {"externalTrafficPolicy": "Local"}}), "goes with the types"),
            (json!({"service": {"annotations": {"fleet.stomaton.com/x": "y"}}}), "are the operator's"),
        ];
        for (more, words) in cases {
            let said = said(more.clone()).unwrap_or_default();
            assert!(said.contains(words), "{more}: {said}");
        }
    }

    #[test]
    fn what_is_right_is_let_through() {
        for more in [
            json!({}),
            json!({"scaling": {"max": 4}}),
            json!({"scaling": {"max": 4}, "resources": {}}),
            json!({"scaling": {"max": 4}, "resources": {"limits": {"cpu": "1"}}}),
            json!({"resources": {"requests": {"memory": "1Gi"}}}),
            json!({"disruption": {"maxUnavailable": 2}}),
            json!({"service": {"type": "NodePort", "externalTrafficPolicy": "Local", "annotations": {"a/b": "c"}}}),
        ] {
            assert_eq!(said(more.clone()), None, "{more}");
        }
    }
}
