//! What is known of an edge.

use super::LimitMode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What is known of an edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, and while it applies Reconciling or Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where users are answered inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Newest revision of the structure that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_revision: Option<i64>,
    /// Running edge pods that serve the newest revision, of all running: `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods_in_sync: Option<String>,
    /// Edge pods that do not serve the newest revision, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods_behind: Vec<PodStatus>,
    /// Routes that are not served as written, and why. The others are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_routes: Vec<DroppedRoute>,
    /// How limits for all clients together hold. None: no route has one, or limits are disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsStatus>,
    /// Certificates that the edge pods have, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
}

/// What the edge pods have of a certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Name of the Secret.
    pub secret: String,
    /// SHA-256 of the certificate, in hex. None: no pod has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// End of its validity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// What is wrong with it, at which pod, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How limits for all clients together hold: each edge pod allows its share. Limits for one client hold in full at each
/// pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitsStatus {
    /// Whether what is too much is refused, or only marked.
    pub mode: LimitMode,
    /// Edge pods that share the limits. More ready ones count at once, fewer when they have been fewer for 30 s; a
    /// difference of a tenth does not count.
    pub shared_by: i32,
    /// What each of them allows.
    pub totals: Vec<TotalShare>,
}

/// What each edge pod allows to all clients together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TotalShare {
    /// Name of the route.
    pub route: String,
    /// Requests in each minute.
    pub per_minute: i32,
    /// Requests that may come at once.
    pub burst: i32,
}

/// An edge pod that does not serve the newest revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Name of the pod.
    pub pod: String,
    /// What it does instead: silent, behind, or its own words of refusal.
    pub message: String,
}

/// A route that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DroppedRoute {
    /// Name of the route.
    pub name: String,
    /// Why, and what to do.
    pub message: String,
}
