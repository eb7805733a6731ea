//! What the operator counts about itself, for Prometheus. Label sets are closed: kinds, reasons and verbs come from
//! the code, never from an object, so the number of series does not grow with the cluster. No I/O.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;
use stomaton_crds::conditions::Reason;

/// All families, and the registry that prints them.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<ReconcileLabels, Histogram, fn() -> Histogram>,
    errors: Family<ErrorLabels, Counter>,
    writes: Family<WriteLabels, Counter>,
    watch_errors: Family<KindLabels, Counter>,
    invalid: Family<KindLabels, Counter>,
    leader: Gauge,
    running: Family<KindLabels, Gauge>,
    watch_healthy: Family<WatchLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReconcileLabels {
    kind: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabels {
    kind: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteLabels {
    verb: &'static str,
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WatchLabels {
    watch: String,
}

/// A way to change something through the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// POST.
    Create,
    /// PUT.
    Replace,
    /// PATCH, server-side apply included.
    Patch,
    /// DELETE.
    Delete,
}

impl Verb {
    /// As RBAC and the audit log name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// From a pass that writes nothing to one whose every call runs into its timeout.
fn reconcile_buckets() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("stomaton");
        let reconciles = Family::new_with_constructor(reconcile_buckets as fn() -> Histogram);
        let (errors, writes) = (Family::default(), Family::default());
        let (watch_errors, invalid) = (Family::default(), Family::default());
        registry.register_with_unit("reconcile", "Passes over objects", Unit::Seconds, reconciles.clone());
        registry.register("reconcile_errors", "Passes that failed", errors.clone());
        registry.register("api_writes", "Requests that may change something", writes.clone());
        registry.register("watch_errors", "Errors of watches", watch_errors.clone());
        registry.register("invalid_objects", "Objects seen that do not fit their kind", invalid.clone());
        let leader = Gauge::default();
        registry.register("leader", "Whether this process works: 1, or stands by: 0", leader.clone());
        let (running, watch_healthy) = (Family::default(), Family::default());
        registry.register("reconciles_running", "Passes under way", running.clone());
        registry.register(
            "watch_healthy",
            "Whether a watch is complete and does not fail",
            watch_healthy.clone(),
        );
        Self { registry, reconciles, errors, writes, watch_errors, invalid, leader, running, watch_healthy }
    }
}

impl Metrics {
    /// A pass over an object of `kind` is under way, until what is given is dropped.
    pub fn reconciling(&self, kind: &str) -> Running {
        let gauge = self.running.get_or_create(&KindLabels { kind: kind.to_owned() }).clone();
        gauge.inc();
        Running(gauge)
    }

    /// Whether a watch can be relied on.
    pub fn watch_is(&self, watch: String, healthy: bool) {
        self.watch_healthy.get_or_create(&WatchLabels { watch }).set(i64::from(healthy));
    }

    /// A pass over an object of `kind` ended.
    pub fn reconciled(&self, kind: &str, outcome: Result<(), Reason>, took: Duration) {
        let kind = kind.to_owned();
        if let Err(reason) = outcome {
            self.errors.get_or_create(&ErrorLabels { kind: kind.clone(), reason: reason.as_str() }).inc();
        }
        let outcome = if outcome.is_ok() { "ok" } else { "error" };
        self.reconciles.get_or_create(&ReconcileLabels { kind, outcome }).observe(took.as_secs_f64());
    }

    /// A request that may change an object of `kind` is sent.
    pub fn wrote(&self, verb: Verb, kind: &str) {
        self.writes.get_or_create(&WriteLabels { verb: verb.as_str(), kind: kind.to_owned() }).inc();
    }

    /// A watch on `kind` reported an error.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_errors.get_or_create(&KindLabels { kind: kind.to_owned() }).inc();
    }

    /// An object of `kind` could not be read as one.
    pub fn invalid_object(&self, kind: &str) {
        self.invalid.get_or_create(&KindLabels { kind: kind.to_owned() }).inc();
    }

    /// This process works, or no longer does.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Requests sent so far that may have changed something, over all verbs and kinds.
    pub fn writes(&self, verb: Verb, kind: &str) -> u64 {
        self.writes.get_or_create(&WriteLabels { verb: verb.as_str(), kind: kind.to_owned() }).get()
    }

    /// Everything, in OpenMetrics text.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A pass under way, as it is counted.
pub struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_printed_with_its_labels() {
        let metrics = Metrics::default();
        metrics.reconciled("Gateway", Err(Reason::NotFound), Duration::from_millis(3));
        metrics.reconciled("Gateway", Ok(()), Duration::from_millis(3));
        metrics.wrote(Verb::Patch, "Deployment");
        metrics.watch_failed("Service");
        metrics.invalid_object("Gateway");
        metrics.leads(true);
        metrics.watch_is("pods for edges".to_owned(), false);
        drop(metrics.reconciling("Gateway"));
        let _running = metrics.reconciling("Gateway");
        let text = metrics.text().unwrap();
        for line in [
            r#"stomaton_reconcile_seconds_count{kind="Gateway",outcome="ok"} 1"#,
            r#"stomaton_reconcile_errors_total{kind="Gateway",reason="NotFound"} 1"#,
            r#"stomaton_api_writes_total{verb="patch",kind="Deployment"} 1"#,
            r#"stomaton_watch_errors_total{kind="Service"} 1"#,
            r#"stomaton_invalid_objects_total{kind="Gateway"} 1"#,
            "stomaton_leader 1",
            r#"stomaton_reconciles_running{kind="Gateway"} 1"#,
            r#"stomaton_watch_healthy{watch="pods for edges"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
