//! Takes a checked service; gives who decides how many pods there are. Pure.

use super::super::validate::Deployed;
use crate::{foreign::ScaledObject, optional::Optional};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
    MetricTarget, ResourceMetricSource,
};
use serde_json::{Value, json};
use stomaton_crds::{
    conditions::{Reason, State, Summary},
    v1alpha1::{Scaling, Trigger},
};

/// Who decides how many pods there are.
#[derive(Debug, Default)]
pub struct Count {
    /// The number, when the operator holds it. None: somebody else does, and the operator leaves it alone.
    pub held: Option<i32>,
    /// Where a new Deployment begins, when the operator does not hold the number.
    pub begin: Option<i32>,
    /// Where a Deployment without pods is brought to, when nobody else would: an HPA does nothing at 0.
    pub wake: Option<i32>,
    /// The autoscaler; none: there must be none.
    pub autoscaler: Option<Autoscaler>,
    /// What is not as the spec says, and what to do.
    pub note: Option<Summary>,
}

/// One of two: never both at a time.
#[derive(Debug)]
pub enum Autoscaler {
    /// Kubernetes' own, by CPU and memory.
    Hpa(Box<HorizontalPodAutoscaler>),
    /// KEDA's, by triggers.
    Keda(Box<ScaledObject>),
}

/// Who decides how many pods `wanted` has.
pub fn count(wanted: &Deployed) -> Count {
    let shape = &wanted.shape;
    let Some(scaling) = &shape.scaling else { return held(shape.replicas, &shape.around.weighted) };
    // Without a pod, the traffic that routes give the service would have nowhere to go.
    let min = if shape.around.weighted.is_empty() { scaling.min } else { scaling.min.max(1) };
    let begin = Some(shape.replicas.unwrap_or(min).clamp(min, scaling.max.max(min)));
    let by_load = scaling.cpu_percent.is_some() || scaling.memory_percent.is_some();
    if scaling.triggers.is_empty() {
        let autoscaler = Autoscaler::Hpa(Box::new(hpa(wanted, scaling, min)));
        return Count { begin, wake: Some(min), autoscaler: Some(autoscaler), ..Count::default() };
    }
    if shape.around.served.contains(&Optional::ScaledObject) {
        let autoscaler = Autoscaler::Keda(Box::new(scaled_object(wanted, scaling, min)));
        // Should KEDA not do it.
        let wake = (!shape.around.weighted.is_empty()).then_some(min);
        return Count { begin, wake, autoscaler: Some(autoscaler), ..Count::default() };
    }
    let meanwhile = if by_load {
        "CPU and memory scale the service meanwhile"
    } else {
        "the number of pods stays as it is meanwhile"
    };
    Count {
        begin: begin.map(|n| n.max(1)),
        wake: Some(min.max(1)),
        autoscaler: by_load.then(|| Autoscaler::Hpa(Box::new(hpa(wanted, scaling, min.max(1))))),
        note: Some(Summary {
            state: State::ReadyReconciling,
            reason: Reason::KedaMissing,
            message: format!(
                "`scaling.triggers` needs KEDA, and the cluster has no ScaledObject of keda.sh/v1alpha1: install it, or take the triggers out; {meanwhile}"
            ),
        }),
        held: None,
    }
}

/// Without an autoscaler: what the spec says, or what anybody made of it.
fn held(replicas: Option<i32>, weighted: &[String]) -> Count {
    if replicas != Some(0) || weighted.is_empty() {
        return Count { held: replicas, ..Count::default() };
    }
    let note = Summary {
        state: State::ReadyReconciling,
        reason: Reason::InUse,
        message: format!(
            "`replicas` is 0, but one pod is kept while traffic comes by {}: take the weight away first",
            weighted.join(", ")
        ),
    };
    Count { held: Some(1), note: Some(note), ..Count::default() }
}

fn hpa(wanted: &Deployed, scaling: &Scaling, min: i32) -> HorizontalPodAutoscaler {
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
    let metrics = [metric("cpu", scaling.cpu_percent), metric("memory", scaling.memory_percent)];
    HorizontalPodAutoscaler {
        metadata: wanted.family.child(&wanted.name),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".into()),
                kind: "Deployment".into(),
                name: wanted.name.clone(),
            },
            min_replicas: Some(min.max(1)),
            max_replicas: scaling.max,
            metrics: Some(metrics.into_iter().flatten().collect()),
            behavior: None,
        }),
        status: None,
    }
}

fn scaled_object(wanted: &Deployed, scaling: &Scaling, min: i32) -> ScaledObject {
    let load = |kind: &str, percent: Option<i32>| {
        percent
            .map(|p| json!({"type": kind, "metricType": "Utilization", "metadata": {"value": p.to_string()}}))
    };
    let mut triggers: Vec<Value> = scaling.triggers.iter().map(trigger).collect();
    triggers.extend(
        [load("cpu", scaling.cpu_percent), load("memory", scaling.memory_percent)].into_iter().flatten(),
    );
    let spec = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": wanted.name},
        "minReplicaCount": min,
        "maxReplicaCount": scaling.max,
        "triggers": triggers,
    });
    ScaledObject::new(wanted.family.child(&wanted.name), spec)
}

fn trigger(trigger: &Trigger) -> Value {
    let mut value = json!({"type": trigger.type_, "metadata": trigger.metadata});
    if let Some(name) = &trigger.authentication {
        value["authenticationRef"] = json!({"name": name});
    }
    value
}

#[cfg(test)]
mod tests {
    use super::{super::tests::wanted, *};
    use crate::controllers::stomaton_service::in_use::Around;

    fn around(keda: bool, weighted: &[&str]) -> Around {
        Around {
            served: keda.then_some(Optional::ScaledObject).into_iter().collect(),
            weighted: weighted.iter().map(|w| (*w).to_owned()).collect(),
            ..Around::default()
        }
    }

    #[test]
    fn the_operator_holds_the_number_only_without_scaling_and_only_when_told() {
        let count = |spec, weighted: &[&str]| {
            let Count { held, begin, wake, autoscaler, note } = count(&wanted(spec, around(false, weighted)));
            assert!(autoscaler.is_none() && begin.is_none() && wake.is_none());
            (held, note.map(|n| (n.reason, n.message)))
        };
        assert_eq!(count(json!({"image": "i"}), &[]), (None, None));
        assert_eq!(count(json!({"image": "i", "replicas": 3}), &["route content"]), (Some(3), None));
        assert_eq!(count(json!({"image": "i", "replicas": 0}), &[]), (Some(0), None));
        let kept = "`replicas` is 0, but one pod is kept while traffic comes by route content: take the weight away first";
        assert_eq!(
            count(json!({"image": "i", "replicas": 0}), &["route content"]),
            (Some(1), Some((Reason::InUse, kept.to_owned())))
        );
    }

    #[test]
    fn load_scales_by_an_hpa() {
        let spec = json!({"image": "i", "replicas": 10, "scaling": {"min": 2, "max": 6, "cpuPercent": 70, "memoryPercent": 80}});
        let count = count(&wanted(spec, around(true, &[])));
        assert_eq!((count.held, count.begin, count.wake), (None, Some(6), Some(2)));
        let Some(Autoscaler::Hpa(hpa)) = count.autoscaler else { panic!("no HPA") };
        insta::assert_yaml_snapshot!("hpa", hpa);
    }

    #[test]
    fn triggers_scale_by_keda_and_never_to_nothing_under_traffic() {
        let spec = json!({"image": "i", "scaling": {"min": 0, "max": 6, "cpuPercent": 70, "triggers": [
            {"type": "prometheus", "metadata": {"query": "up"}, "authentication": "prom"},
        ]}});
        let idle = count(&wanted(spec.clone(), around(true, &[])));
        assert_eq!((idle.held, idle.begin, idle.wake), (None, Some(0), None));
        let Some(Autoscaler::Keda(object)) = idle.autoscaler else { panic!("no ScaledObject") };
        insta::assert_yaml_snapshot!("scaled_object", object);
        let busy = count(&wanted(spec, around(true, &["route content"])));
        let Some(Autoscaler::Keda(object)) = busy.autoscaler else { panic!("no ScaledObject") };
        assert_eq!(object.spec["minReplicaCount"], 1);
    }

    #[test]
    fn without_keda_load_scales_if_it_may() {
        let triggers = json!([{"type": "cron", "metadata": {}}]);
        let only = count(&wanted(
            json!({"image": "i", "scaling": {"min": 0, "max": 6, "triggers": triggers}}),
            around(false, &[]),
        ));
        assert!(only.autoscaler.is_none());
        assert_eq!(
            (only.begin, only.wake, only.note.unwrap().reason),
            (Some(1), Some(1), Reason::KedaMissing)
        );
        let both = count(&wanted(
            json!({"image": "i", "scaling": {"min": 0, "max": 6, "cpuPercent": 50, "triggers": triggers}}),
            around(false, &[]),
        ));
        let Some(Autoscaler::Hpa(hpa)) = both.autoscaler else { panic!("no HPA") };
        assert_eq!(hpa.spec.unwrap().min_replicas, Some(1));
        assert!(both.note.unwrap().message.ends_with("CPU and memory scale the service meanwhile"));
    }
}
