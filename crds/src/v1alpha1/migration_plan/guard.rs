//! What takes a route back at once, and what happens then.

use super::{Profile, RouteStatus};
use crate::v1alpha1::DURATION;
use kube::KubeSchema;
use kube::core::Duration;
use serde::{Deserialize, Serialize};

/// A hard guard: no statistics, no waiting. It trips when, looking back from now over no more than `window`, there is
/// a stretch in which the service gave at least `minBad` bad answers and they were at least `badPermille` of all it
/// gave. Bad is a 5xx, or no answer at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    /// Name, for the record.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Bad answers it takes at least.
    #[serde(default = "default_min_bad")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_bad: i64,
    /// Share of bad answers it takes, in per mille.
    #[serde(default = "default_bad_permille")]
    #[schemars(range(min = 1, max = 1000))]
    pub bad_permille: i64,
    /// How far back it looks.
    #[serde(default = "default_window")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub window: Duration,
}

fn default_min_bad() -> i64 {
    5
}

fn default_bad_permille() -> i64 {
    200
}

fn default_window() -> Duration {
    Duration::from(std::time::Duration::from_secs(10))
}

pub(super) fn default_guards() -> Vec<Guard> {
    vec![Guard {
        name: "bad-answers".into(),
        min_bad: default_min_bad(),
        bad_permille: default_bad_permille(),
        window: default_window(),
    }]
}

/// What happens after a route was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// How long a route rests before the second attempt. Before each that follows it is twice as long, up to eight times.
    /// Other users go first then.
    #[serde(default = "default_cooldown")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub cooldown: Duration,
    /// Attempts in all; after the last one a person is needed.
    #[serde(default = "default_attempts")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: i32,
    /// With which step the next attempt begins.
    #[serde(default, skip_serializing_if = "crate::v1alpha1::is_default")]
    pub restart_at: RestartAt,
}

/// With which step of its ramp an attempt after a rollback begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum RestartAt {
    /// With the first.
    #[default]
    FirstStep,
    /// With the one below that at which the route was taken back, or the first. Routes of a group begin with the lowest of
    /// theirs.
    LowerStep,
}

fn default_cooldown() -> Duration {
    Duration::from(std::time::Duration::from_secs(300))
}

fn default_attempts() -> i32 {
    3
}

impl Default for Rollback {
    fn default() -> Self {
        Self {
            cooldown: default_cooldown(),
            max_attempts: default_attempts(),
            restart_at: RestartAt::default(),
        }
    }
}

impl Rollback {
    /// Attempts that a route has: a person may have granted it another one, and those that a drill took are not counted.
    pub fn attempts(&self, status: &RouteStatus) -> i32 {
        self.max_attempts.saturating_add(drills(status)).max(status.granted)
    }

    /// The step, from 1, with which an attempt begins of a route with this profile; `group` is what is known of it and of
    /// the others of its group. Weights decide, not the number of the step that fell: the ramp may have been edited since.
    pub fn first_step<'a>(&self, profile: &Profile, group: impl Iterator<Item = &'a RouteStatus>) -> usize {
        let below = |status: &RouteStatus| profile.reached(&status.fell_from).saturating_sub(1);
        match self.restart_at {
            RestartAt::FirstStep => 1,
            RestartAt::LowerStep => group.map(below).min().unwrap_or(0).max(1),
        }
    }

    /// How long a route rests after its last attempt. One that was told to go on does not rest, and neither does one after a
    /// drill.
    pub fn rest(&self, status: &RouteStatus) -> std::time::Duration {
        if status.granted > status.attempt || status.is_drilled() {
            return std::time::Duration::ZERO;
        }
        let doublings = u32::try_from(status.attempt - 1 - drills(status)).unwrap_or(0).min(3);
        std::time::Duration::from(self.cooldown) * 2_u32.pow(doublings)
    }
}

/// Attempts of the route that were taken back by drills.
fn drills(status: &RouteStatus) -> i32 {
    status.drill.as_ref().map_or(0, |drill| drill.drills)
}
