//! How many edge pods there are, and what a drain may take away of them. Pure.

use super::{
    super::{names, validate::Valid},
    access,
};
use crate::controllers::workload::{
    disruption,
    scaling::{self, Replicas},
};
use k8s_openapi::api::{autoscaling::v2::HorizontalPodAutoscaler, policy::v1::PodDisruptionBudget};

/// Who decides how many edge pods there are, and the autoscaler, if that is one.
pub fn replicas(valid: &Valid<'_>) -> (Replicas, Option<HorizontalPodAutoscaler>) {
    let spec = &valid.gateway.spec;
    let Some(scaling) = &spec.scaling else {
        return (Replicas { held: Some(spec.replicas), ..Replicas::default() }, None);
    };
    let (min, max) = (scaling.min, scaling.max);
    let begin = Some(spec.replicas.clamp(min, max));
    let metadata = valid.family.child(&names::edge(&valid.family.owner.name));
    let hpa = scaling::hpa(metadata, (min, max), Some(scaling.cpu_percent), None);
    (Replicas { begin, wake: Some(min), held: None }, Some(hpa))
}

/// What a drain of nodes may take away.
pub fn budget(valid: &Valid<'_>) -> Option<PodDisruptionBudget> {
    let spec = &valid.gateway.spec;
    let most = spec.scaling.as_ref().map_or(spec.replicas, |scaling| scaling.max);
    let metadata = valid.family.child(&names::edge(&valid.family.owner.name));
    disruption::budget(metadata, access::selector(valid), most, spec.disruption.as_ref())
}
