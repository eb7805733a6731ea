//! Takes a checked service; gives who decides how many pods there are. Pure.

use super::super::validate::Deployed;
use crate::{
    controllers::workload::scaling::{self, Replicas},
    foreign::ScaledObject,
    optional::Optional,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};
use stomaton_crds::{
    conditions::{Reason, State, Summary},
    v1alpha1::{Scaling, Trigger},
};

/// Who decides how many pods there are.
#[derive(Debug, Default)]
pub struct Count {
    /// The number, as far as it is the operator's.
    pub replicas: Replicas,
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
        let replicas = Replicas { begin, wake: Some(min), held: None };
        return Count { replicas, autoscaler: Some(autoscaler), note: None };
    }
    if shape.around.served.contains(&Optional::ScaledObject) {
        let autoscaler = Autoscaler::Keda(Box::new(scaled_object(wanted, scaling, min)));
        // Should KEDA not do it.
        let wake = (!shape.around.weighted.is_empty()).then_some(min);
        let replicas = Replicas { begin, wake, held: None };
        return Count { replicas, autoscaler: Some(autoscaler), note: None };
    }
    let meanwhile = if by_load {
        "CPU and memory scale the service meanwhile"
    } else {
        "the number of pods stays as it is meanwhile"
    };
    Count {
        replicas: Replicas { begin: begin.map(|n| n.max(1)), wake: Some(min.max(1)), held: None },
        autoscaler: by_load.then(|| Autoscaler::Hpa(Box::new(hpa(wanted, scaling, min.max(1))))),
        note: Some(Summary {
            state: State::ReadyReconciling,
            reason: Reason::KedaMissing,
            message: format!(
                "`scaling.triggers` needs KEDA, and the cluster has no ScaledObject of keda.sh/v1alpha1: install it, or take the triggers out; {meanwhile}"
            ),
        }),
    }
}

/// Without an autoscaler: what the spec says, or what anybody made of it.
fn held(replicas: Option<i32>, weighted: &[String]) -> Count {
    if replicas != Some(0) || weighted.is_empty() {
        return Count { replicas: Replicas { held: replicas, ..Replicas::default() }, ..Count::default() };
    }
    let note = Summary {
        state: State::ReadyReconciling,
        reason: Reason::InUse,
        message: format!(
            "`replicas` is 0, but one pod is kept while traffic comes by {}: take the weight away first",
            weighted.join(", ")
        ),
    };
    Count {
        replicas: Replicas { held: Some(1), ..Replicas::default() },
        note: Some(note),
        ..Count::default()
    }
}

fn hpa(wanted: &Deployed, scaling: &Scaling, min: i32) -> HorizontalPodAutoscaler {
    let metadata = wanted.family.child(&wanted.name);
    scaling::hpa(metadata, (min, scaling.max), scaling.cpu_percent, scaling.memory_percent)
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
            let Count { replicas, autoscaler, note } = count(&wanted(spec, around(false, weighted)));
            let Replicas { held, begin, wake } = replicas;
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
        assert_eq!(count.replicas, Replicas { held: None, begin: Some(6), wake: Some(2) });
        let Some(Autoscaler::Hpa(hpa)) = count.autoscaler else { panic!("no HPA") };
        insta::assert_yaml_snapshot!("hpa", hpa);
    }

    #[test]
    fn triggers_scale_by_keda_and_never_to_nothing_under_traffic() {
        let spec = json!({"image": "i", "scaling": {"min": 0, "max": 6, "cpuPercent": 70, "triggers": [
            {"type": "prometheus", "metadata": {"query": "up"}, "authentication": "prom"},
        ]}});
        let idle = count(&wanted(spec.clone(), around(true, &[])));
        assert_eq!(idle.replicas, Replicas { held: None, begin: Some(0), wake: None });
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
            (only.replicas.begin, only.replicas.wake, only.note.unwrap().reason),
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
