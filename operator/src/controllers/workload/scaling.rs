//! Who decides how many pods a Deployment has. Pure.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
    MetricTarget, ResourceMetricSource,
};
use kube::api::ObjectMeta;

/// Who decides how many pods a Deployment has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// The number, when the operator holds it. None: somebody else does, and the operator leaves it alone.
    pub held: Option<i32>,
    /// Where a new Deployment begins, when the operator does not hold the number.
    pub begin: Option<i32>,
    /// Where a Deployment without pods is brought to, when nobody else would: an HPA does nothing at 0.
    pub wake: Option<i32>,
}

/// An HPA that keeps the Deployment of its own name between `min` and `max` pods, by use of CPU and of memory in
/// percent of what is requested.
pub fn hpa(
    metadata: ObjectMeta,
    (min, max): (i32, i32),
    cpu: Option<i32>,
    memory: Option<i32>,
) -> HorizontalPodAutoscaler {
    let metric = |name: &str, percent: Option<i32>| {
        percent.map(|percent| MetricSpec {
            type_: "Resource".into(),
            resource: Some(ResourceMetricSource {
                name: name.into(),
                target: MetricTarget {
                    type_: "Utilization".into(),
                    average_utilization: Some(percent),
                    ..MetricTarget::default()
                },
            }),
            ..MetricSpec::default()
        })
    };
    HorizontalPodAutoscaler {
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".into()),
                kind: "Deployment".into(),
                name: metadata.name.clone().unwrap_or_default(),
            },
            min_replicas: Some(min.max(1)),
            max_replicas: max,
            metrics: Some([metric("cpu", cpu), metric("memory", memory)].into_iter().flatten().collect()),
            behavior: None,
        }),
        metadata,
        status: None,
    }
}
