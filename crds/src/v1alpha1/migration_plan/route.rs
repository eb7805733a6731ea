//! One route of a plan.

use super::StartAt;
use crate::v1alpha1::{BackendRef, DURATION, Method, is_default};
use kube::KubeSchema;
use kube::core::Duration;
use serde::{Deserialize, Serialize};

/// One route to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.class) || self.class != 'Write' || !has(self.fallback) || !has(self.fallback.alsoFor) || size(self.fallback.alsoFor) == 0")
        .message("a request of a Write route is not made twice: take `fallback.alsoFor` out"),
    validation = Rule::new("!has(self.startAt) || has(self.startAt.step) != (has(self.startAt.done) && self.startAt.done)")
        .message("`startAt` is a `step`, or `done: true`, and not both")
)]
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
    /// From where on the service owns the data, so that nothing leads back to the monolith: no fallback, no guard, no rollback.
    /// Whatever would take the route back freezes it where it is, until a person resumes it. Routes of one group have the
    /// same. Left out: the monolith stays the way back for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_of_no_return: Option<PointOfNoReturn>,
    /// What its requests do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub class: Class,
    /// Where this route already was, for a cluster that is rebuilt from Git. Counts only while the plan is new: a plan that
    /// has a status is where that says. Left out: at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<StartAt>,
    /// The stage of this plan that must be open before the route begins. Once it has begun nothing of the stage binds it.
    /// Left out: no stage does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub stage: Option<String>,
}

/// From where on nothing leads back to the monolith.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum PointOfNoReturn {
    /// Before the step that gives the service everything.
    FullWeight,
    /// When the soak is over, or without one the last step.
    Done,
}

/// What requests of a route do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Class {
    /// They read, or change nothing that counts: one may be made twice.
    #[default]
    Read,
    /// They write: none is made twice, so that `fallback.alsoFor` is refused.
    Write,
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
