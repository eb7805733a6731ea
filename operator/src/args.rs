//! What the operator is told: command line and environment, made into [`Settings`]. No I/O beyond reading both.

use crate::{leader::Election, prometheus::Source};
use axum::http::Uri;
use clap::Parser;
use std::{
    collections::BTreeSet, convert::Infallible, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration,
};
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
    /// How long an edge pod may go without following a rollback before it is deleted. A pod is silent after 3 s.
    #[arg(long, env = "EVICT_AFTER", default_value = "5s", value_name = "DURATION", value_parser = positive_duration)]
    pub evict_after: Duration,
    /// Work only while leading, so that several operators can stand by for each other.
    #[arg(long, env = "LEADER_ELECT", requires = "lease_namespace")]
    pub leader_elect: bool,
    /// How long a lead lasts that is not renewed: whole seconds. It is renewed each fifth of it, and given up after
    /// seven tenths without an answer.
    #[arg(long, env = "LEASE_DURATION", default_value = "10s", value_name = "DURATION", value_parser = whole_seconds)]
    pub lease_duration: Duration,
    /// Namespace of the Lease that the leader holds: the operator's own.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of the operator's pod: who reports its Events, and who leads.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// UID of the operator's pod: a pod of the same name is another one.
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// ServiceAccounts that pods of StomatonServices may run as, with commas between them; `*` means any. Left out: none.
    #[arg(long, env = "ALLOWED_SERVICE_ACCOUNTS", default_value = "", value_name = "NAMES")]
    pub allowed_service_accounts: ServiceAccounts,
    /// The Prometheus that judges ask, as in http://prometheus.monitoring.svc:9090. Left out: those judges hold.
    #[arg(long, env = "PROMETHEUS_URL", value_name = "URL", value_parser = http_url)]
    pub prometheus_url: Option<Uri>,
    /// A file with a bearer token for it, read anew each minute.
    #[arg(long, env = "PROMETHEUS_TOKEN_FILE", requires = "prometheus_url", value_name = "FILE")]
    pub prometheus_token_file: Option<String>,
    /// A file with the authorities that its certificate may come from (PEM). Left out: those of the system.
    #[arg(long, env = "PROMETHEUS_CA_FILE", requires = "prometheus_url", value_name = "FILE")]
    pub prometheus_ca_file: Option<PathBuf>,
}

/// ServiceAccounts that pods may run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceAccounts {
    /// Any.
    Any,
    /// These only.
    Only(BTreeSet<String>),
}

impl ServiceAccounts {
    /// Whether pods may run as `name`.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

impl Default for ServiceAccounts {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl FromStr for ServiceAccounts {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let names: BTreeSet<String> =
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Into::into).collect();
        Ok(if names.contains("*") { Self::Any } else { Self::Only(names) })
    }
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
    /// How long an edge pod may go without following a rollback.
    pub evict_after: Duration,
    /// Name of the operator's pod.
    pub pod: Option<String>,
    /// The election to win before anything is done; none: it works at once.
    pub election: Option<Election>,
    /// ServiceAccounts that pods may run as.
    pub service_accounts: ServiceAccounts,
    /// The Prometheus that judges ask; none: they hold.
    pub prometheus: Option<Source>,
}

impl Args {
    /// The settings these arguments mean.
    pub fn into_settings(self) -> Settings {
        let Self { edge_image, listen, namespace, log, resync, concurrency, evict_after, .. } = self;
        let service_accounts = self.allowed_service_accounts;
        let (pod, uid, lease) = (self.pod_name, self.pod_uid, self.lease_duration);
        let lease_namespace = self.lease_namespace.filter(|_| self.leader_elect);
        let election = lease_namespace.map(|namespace| Election {
            namespace,
            identity: identity(pod.as_deref(), uid.as_deref()),
            lease,
        });
        let (token_file, ca_file) = (self.prometheus_token_file, self.prometheus_ca_file);
        let prometheus = self.prometheus_url.map(|url| Source { url, token_file, ca_file });
        let log = log.to_string();
        Settings {
            edge_image,
            listen,
            namespace,
            log,
            resync,
            concurrency,
            evict_after,
            pod,
            election,
            service_accounts,
            prometheus,
        }
    }
}

/// Who this process is among operators: its pod, so that a restarted container goes on as who it was. Outside a pod,
/// somebody new each time: two processes must never be the same.
fn identity(pod: Option<&str>, uid: Option<&str>) -> String {
    match uid {
        Some(uid) => format!("{}_{uid}", pod.unwrap_or("stomaton-operator")),
        None => format!("{}_{:016x}", pod.unwrap_or("stomaton-operator"), fastrand::u64(..)),
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
            evict_after: Duration::from_secs(5),
            pod: None,
            election: None,
            service_accounts: ServiceAccounts::default(),
            prometheus: None,
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

/// A duration that a Lease can carry.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    match positive_duration(text)? {
        lease if lease.subsec_nanos() == 0 => Ok(lease),
        _ => Err("must be whole seconds: 10s, 15s, 1m".into()),
    }
}

/// An address that paths can be put behind.
fn http_url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|e| format!("{e}; write http://HOST:PORT"))?;
    let known = matches!(url.scheme_str(), Some("http" | "https"));
    let named = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if known && named && url.query().is_none() {
        return Ok(url);
    }
    Err("must be http://HOST:PORT or https://HOST:PORT, without a user and a query; a path may follow".into())
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
    fn only_named_service_accounts_are_allowed() {
        let allows = |text: &str, name: &str| text.parse::<ServiceAccounts>().unwrap().allows(name);
        assert!(!allows("", "reader"));
        assert!(allows("writer, reader", "reader"));
        assert!(!allows("writer,reader", "read"));
        assert!(allows("*", "reader"));
    }

    #[test]
    fn the_resync_is_a_positive_duration() {
        assert_eq!(positive_duration("1m30s"), Ok(Duration::from_secs(90)));
        for wrong in ["0s", "-5m", "5", "soon"] {
            assert!(positive_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn prometheus_is_at_a_plain_address() {
        for good in ["http://p:9090", "https://p.monitoring.svc/prefix/"] {
            assert!(http_url(good).is_ok(), "{good}");
        }
        for wrong in ["p:9090", "/p", "ftp://p", "http://me:secret@p", "http://p/?a=b", ""] {
            assert!(http_url(wrong).is_err(), "{wrong}");
        }
        let alone = Args::try_parse_from(["stomaton-operator", "--prometheus-token-file=/token"]);
        assert!(alone.is_err(), "a token for whom?");
    }

    fn election(args: &[&str]) -> Result<Option<Election>, clap::Error> {
        let args = [&["stomaton-operator"], args].concat();
        Args::try_parse_from(args).map(|args| args.into_settings().election)
    }

    #[test]
    fn an_election_needs_a_namespace_and_knows_its_pod_again() {
        let of_pod = ["--lease-namespace=system", "--pod-name=operator-a", "--pod-uid=1"];
        assert!(election(&of_pod).unwrap().is_none(), "only who asks for it takes part");
        let chosen = election(&[&of_pod[..], &["--leader-elect"]].concat()).unwrap().unwrap();
        assert_eq!((chosen.namespace.as_str(), chosen.identity.as_str()), ("system", "operator-a_1"));
        assert!(election(&["--leader-elect"]).is_err());
        assert!(election(&["--lease-duration=1500ms"]).is_err());
        assert_ne!(identity(Some("a"), None), identity(Some("a"), None));
    }
}
