//! What the operator is told: command line and environment, made into [`Settings`]. No I/O beyond reading both.

use clap::Parser;
use std::{net::SocketAddr, time::Duration};
use tracing_subscriber::EnvFilter;

/// Moves routes from a monolith to services, and back by itself when users would be hurt.
///
/// The operator reconciles StomatonService, Gateway and MigrationPlan (fleet.stomaton.com/v1alpha1). It finds
/// the cluster as kubectl does: KUBECONFIG, ~/.kube/config, or the service account of its pod.
#[derive(Clone, Debug, Parser)]
#[command(version, about)]
pub struct Args {
    /// Image of edge pods: NGINX and its agent. Must have /bin/edge and /bin/nginx.
    #[arg(long, env = "EDGE_IMAGE", default_value = "stomaton/edge:dev", value_name = "IMAGE")]
    pub edge_image: String,
    /// Where /livez, /readyz and /metrics are answered.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Reconcile this namespace only; a Role there is enough then. Left out: all namespaces.
    #[arg(long, env = "WATCH_NAMESPACE", value_name = "NAMESPACE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub namespace: Option<String>,
    /// What is logged, as in RUST_LOG: `info`, `debug`, `info,stomaton_operator=trace`.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub log: EnvFilter,
    /// How often each object is reconciled although nothing happened.
    #[arg(long, env = "RESYNC", default_value = "30m", value_name = "DURATION", value_parser = positive_duration)]
    pub resync: Duration,
    /// How many objects of a kind are reconciled at the same time.
    #[arg(long, env = "CONCURRENCY", default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
}

/// What the operator is told, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of edge pods.
    pub edge_image: String,
    /// Where /livez, /readyz and /metrics are answered.
    pub listen: SocketAddr,
    /// The one namespace to reconcile; none: all.
    pub namespace: Option<String>,
    /// What is logged.
    pub log: String,
    /// Time between two passes over an object to which nothing happened.
    pub resync: Duration,
    /// Passes of one kind at the same time.
    pub concurrency: u16,
}

impl Args {
    /// The settings these arguments mean.
    pub fn into_settings(self) -> Settings {
        let Self { edge_image, listen, namespace, log, resync, concurrency } = self;
        Settings { edge_image, listen, namespace, log: log.to_string(), resync, concurrency }
    }
}

impl Default for Settings {
    /// What `stomaton-operator` without arguments means.
    fn default() -> Self {
        Self {
            edge_image: "stomaton/edge:dev".into(),
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            namespace: None,
            log: "info".into(),
            resync: Duration::from_secs(30 * 60),
            concurrency: 8,
        }
    }
}

/// A duration as people write it in Kubernetes objects: `90s`, `1h30m`.
fn positive_duration(text: &str) -> Result<Duration, String> {
    let parsed: kube::core::Duration = text.parse().map_err(|e| format!("{e}; write 30s, 5m or 1h30m"))?;
    let duration = Duration::from(parsed);
    if parsed.is_negative() || duration.is_zero() {
        return Err("must be more than zero: 30s, 5m, 1h30m".into());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_resync_is_a_positive_duration() {
        assert_eq!(positive_duration("1m30s"), Ok(Duration::from_secs(90)));
        for wrong in ["0s", "-5m", "5", "soon"] {
            assert!(positive_duration(wrong).is_err(), "{wrong}");
        }
    }
}
