//! What is around a service: its network, its metrics, and what its pods have beyond what the operator writes.

use super::super::DURATION;
use kube::{KubeSchema, core::Duration};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who may talk to the service, and to whom it may talk. Allowed in any case: DNS (ports 53 and 5353), the services it depends on, those
/// that depend on it, and edges that route to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Whether a NetworkPolicy is made.
    #[serde(default)]
    pub mode: NetworkMode,
    /// Further pods that may call, on any port of the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub ingress_from: Vec<Peer>,
    /// Further targets that may be called: a database, an API outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub egress_to: Vec<Target>,
}

/// Whether a NetworkPolicy is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum NetworkMode {
    /// Everything that is not known is denied.
    #[default]
    Restricted,
    /// No NetworkPolicy.
    Open,
}

/// Pods of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("size(self.podLabels) > 0 || size(self.namespaceLabels) > 0").message("name pods by `podLabels`, namespaces by `namespaceLabels`, or both")
)]
pub struct Peer {
    /// Labels of the pods; left out: all pods of the namespaces.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16))]
    pub pod_labels: BTreeMap<String, String>,
    /// Labels of their namespaces; left out: the service's own namespace.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16))]
    pub namespace_labels: BTreeMap<String, String>,
}

/// Something that may be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.peer) != has(self.cidr)").message("name a `peer` or a `cidr`, one of the two"))]
pub struct Target {
    /// Pods of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// Addresses: `10.20.0.0/16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-fA-F.:]+/[0-9]{1,3}$')").message("must be a network such as 10.20.0.0/16"))]
    pub cidr: Option<String>,
    /// Ports; left out: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i32>,
}

/// Metrics of the pods, for a Prometheus that an operator manages: a PodMonitor, when that kind exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Where the metrics are, on `port`.
    #[serde(default = "metrics")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/"))]
    pub path: String,
    /// Name of the port; left out: `http`, which is `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub port: Option<String>,
    /// Time between two looks.
    #[serde(default = "default_interval")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub interval: Duration,
    /// Labels by which the Prometheus finds the monitor: `release: prometheus`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub labels: BTreeMap<String, String>,
}

fn metrics() -> String {
    "/metrics".into()
}

fn default_interval() -> Duration {
    Duration::from(std::time::Duration::from_secs(30))
}

/// What pods have beyond what the operator writes. It is kept small, and nothing here can weaken their security.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodOverrides {
    /// Labels, beside the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('fleet.stomaton.com/') && !k.startsWith('app.kubernetes.io/'))").message("labels of fleet.stomaton.com and app.kubernetes.io are the operator's"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations, beside the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('fleet.stomaton.com/'))").message("annotations of fleet.stomaton.com are the operator's"))]
    pub annotations: BTreeMap<String, String>,
    /// Part of a PodSpec, merged as `kubectl patch --type=strategic` does. Refused: whatever weakens the restricted
    /// Pod Security Standard, and what other fields of this spec say (image, environment, ports, probes, volumes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub spec: Option<serde_json::Value>,
}

/// Any object; the operator checks it field by field.
fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
