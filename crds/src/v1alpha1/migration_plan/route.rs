//! One route of a plan.

use crate::v1alpha1::{BackendRef, DURATION, Method};
use kube::KubeSchema;
use kube::core::Duration;
use serde::{Deserialize, Serialize};

/// One route to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanRoute {
    /// Name of a route of the Gateway.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Who takes over.
    pub target: BackendRef,
    /// Name of a profile of this plan.
    #[schemars(length(min = 1, max = 63))]
    pub profile: String,
    /// Routes of one group share their fate: they go up together, one that is taken back takes the others with it, and a
    /// user is on the same side of all of them. Left out: the route is for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub group: Option<String>,
    /// Routes of this plan that must be done before this one begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub depends_on: Vec<String>,
    /// Lets the monolith answer where the service could not. Left out: a user gets what the service did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// The stage of this plan that must be open before the route begins. Once it has begun nothing of the stage binds it.
    /// Left out: no stage does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub stage: Option<String>,
}

/// The monolith answers a request that the service could not: for every method but PUT and DELETE when no connection could
/// be made; for GET, HEAD and OPTIONS also when the service broke off, was silent for too long, or answered 502, 503 or
/// 504. Each time counts as a bad answer of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.within) >= duration('10ms') && duration(self.within) <= duration('1m')")
        .message("`within` must be between 10ms and 1m")
)]
pub struct Fallback {
    /// PUT and DELETE, if a request that is made twice does no more than one that is made once. They are then like GET.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(m, m in ['PUT', 'DELETE'])")
            .message("only PUT and DELETE can be added: the others are, or never can be")
    )]
    pub also_for: Vec<Method>,
    /// A service that failed later than this is not helped out: the user has waited long enough.
    #[serde(default = "default_within")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub within: Duration,
}

fn default_within() -> Duration {
    Duration::from(std::time::Duration::from_secs(5))
}
