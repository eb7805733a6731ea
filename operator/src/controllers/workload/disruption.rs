//! What a drain of nodes may take away. Pure.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::api::ObjectMeta;
use std::collections::BTreeMap;
use stomaton_crds::v1alpha1::Disruption;

/// The budget of pods with these labels, `most` of them at most; none when a budget would only hold drains up: for a
/// single pod that nobody asked one for.
pub fn budget(
    metadata: ObjectMeta,
    selector: BTreeMap<String, String>,
    most: i32,
    wanted: Option<&Disruption>,
) -> Option<PodDisruptionBudget> {
    let away = match wanted {
        Some(disruption) => disruption.max_unavailable.clone(),
        None if most > 1 => IntOrString::Int(1),
        None => return None,
    };
    Some(PodDisruptionBudget {
        metadata,
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(away),
            selector: Some(LabelSelector { match_labels: Some(selector), match_expressions: None }),
            // A pod that is broken anyway must never hold a drain up.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}

/// What is wrong with an amount that must be at least one pod, or one percent.
pub fn fault(amount: &IntOrString, field: &str) -> Option<String> {
    let good = match amount {
        IntOrString::Int(number) => (1..=1000).contains(number),
        IntOrString::String(share) => share
            .strip_suffix('%')
            .and_then(|number| number.parse::<u8>().ok())
            .is_some_and(|number| (1..=100).contains(&number)),
    };
    (!good).then(|| format!("`{field}` must be at least 1, or 1% to 100%"))
}
