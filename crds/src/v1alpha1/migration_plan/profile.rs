//! How fast a route moves: the steps of a ramp, and what each of them needs.

use crate::{keys::AUDIENCE_PUBLIC, v1alpha1::DURATION};
use kube::KubeSchema;
use kube::core::Duration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How fast a route moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Name by which routes mean this profile.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Weights to go through, ascending for each audience; the last is 1000 for everybody.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self[size(self) - 1].permille == 1000 && !has(self[size(self) - 1].audience)").message("the last step must be 1000 per mille, all of the traffic, for everybody"),
        validation = Rule::new("self.all(a, self.filter(b, has(a.audience) == has(b.audience) && (!has(a.audience) || a.audience == b.audience)).map(b, b.permille).isSorted())").message("weights must ascend, those of each audience for themselves"),
        validation = Rule::new("self.all(a, self.exists_one(b, a.permille == b.permille && has(a.audience) == has(b.audience) && (!has(a.audience) || a.audience == b.audience)))").message("two steps have the same weight")
    )]
    pub ramp: Vec<RampStep>,
    /// Answers of the service that must have been counted in a step before the next one: no evidence, no promotion.
    #[serde(default = "default_min_requests")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_requests: i64,
    /// How long the service answers everything, under guards and judges, before the route counts as done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 16), regex(pattern = DURATION))]
    pub soak: Option<Duration>,
}

fn default_min_requests() -> i64 {
    20
}

impl Profile {
    /// How many steps, from the first one on, these weights have behind them. They are in per mille by audience, `public` is
    /// everybody.
    pub fn reached(&self, permille: &BTreeMap<String, i32>) -> usize {
        let weight = |audience: Option<&str>| permille.get(audience.unwrap_or(AUDIENCE_PUBLIC)).copied();
        let is_reached = |step: &&RampStep| weight(step.audience.as_deref()).unwrap_or(0) >= step.permille;
        self.ramp.iter().take_while(is_reached).count()
    }
}

/// One step of a ramp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.audience) || !(self.audience in ['public', 'testers'])")
        .message("leave `audience` out to mean everybody; testers need no step")
)]
pub struct RampStep {
    /// An audience of the Gateway's `cohort`, which gets this weight; everybody else keeps theirs. Left out: everybody, and
    /// no audience has less than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub audience: Option<String>,
    /// Share of keys that the service answers, in per mille.
    #[schemars(range(min = 1, max = 1000))]
    pub permille: i32,
    /// How long the step lasts at least, from the moment every edge pod acknowledged it.
    #[serde(default = "default_hold")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub min_hold: Duration,
    /// Whether a person has to approve before this step is entered: `kubectl stomaton approve`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approval: bool,
}

fn default_hold() -> Duration {
    Duration::from(std::time::Duration::from_secs(60))
}
