//! Takes a checked service; gives the PodMonitor by which a Prometheus finds its metrics. Pure.

use super::{super::validate::Deployed, selector};
use crate::{foreign::PodMonitor, optional::Optional};
use serde_json::json;
use std::time::Duration;
use stomaton_crds::v1alpha1::Monitoring;

/// What of `monitoring` can be done.
#[derive(Debug, Default)]
pub struct Monitor {
    /// The monitor; none: there must be none.
    pub object: Option<PodMonitor>,
    /// Whether one is asked for that the cluster does not know.
    pub missing: bool,
}

/// The monitor of `wanted`.
pub fn monitor(wanted: &Deployed) -> Monitor {
    match &wanted.shape.monitoring {
        None => Monitor::default(),
        Some(_) if !wanted.shape.around.served.contains(&Optional::PodMonitor) => {
            Monitor { object: None, missing: true }
        }
        Some(monitoring) => Monitor { object: Some(pod_monitor(wanted, monitoring)), missing: false },
    }
}

fn pod_monitor(wanted: &Deployed, monitoring: &Monitoring) -> PodMonitor {
    let mut metadata = wanted.family.child(&wanted.name);
    let own = metadata.labels.take().unwrap_or_default();
    metadata.labels = Some(monitoring.labels.clone().into_iter().chain(own).collect());
    let endpoint = json!({
        "port": monitoring.port.as_deref().unwrap_or("http"),
        "path": monitoring.path,
        "interval": interval(monitoring.interval.into()),
    });
    let spec = json!({
        "selector": {"matchLabels": selector(&wanted.name)},
        "podMetricsEndpoints": [endpoint],
    });
    PodMonitor::new(metadata, spec)
}

/// As Prometheus writes durations.
fn interval(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::wanted, *};
    use crate::controllers::stomaton_service::in_use::Around;

    #[test]
    fn metrics_are_found_where_they_are() {
        let spec = json!({
            "image": "i", "ports": [{"name": "admin", "port": 9000}],
            "monitoring": {"port": "admin", "interval": "1m30s", "labels": {"release": "prometheus", "app.kubernetes.io/name": "x"}},
        });
        let without = monitor(&wanted(spec.clone(), Around::default()));
        assert!(without.missing && without.object.is_none());
        let around = Around { served: [Optional::PodMonitor].into(), ..Around::default() };
        insta::assert_yaml_snapshot!("pod_monitor", monitor(&wanted(spec, around)).object);
    }

    #[test]
    fn nobody_asked_is_nothing_made() {
        let nothing = monitor(&wanted(json!({"image": "i"}), Around::default()));
        assert!(!nothing.missing && nothing.object.is_none());
    }
}
