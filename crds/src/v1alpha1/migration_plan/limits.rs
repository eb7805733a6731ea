//! What bounds a plan as a whole: budget, windows, the emergency brake, its end.

use crate::v1alpha1::DURATION;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use kube::core::Duration;
use serde::{Deserialize, Serialize};

/// Whether the plan moves anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Mode {
    /// Weights rise, and fall again when users would be hurt.
    #[default]
    Enforce,
    /// No weight rises. What was begun stays under its guards and judges.
    Observe,
}

/// The emergency brake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Halt {
    /// Not pulled.
    #[default]
    None,
    /// No weight rises. Guards and judges still take routes back.
    HoldAll,
    /// Every route goes back to the monolith, and stays there.
    RollbackAll,
}

/// What happens to the traffic when the plan is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DeletionPolicy {
    /// The monolith answers every route before the plan is gone.
    #[default]
    Monolith,
    /// Like Monolith, but only for routes that are not done. Of those the Gateway must say who answers: the plan is not
    /// gone before it does.
    KeepDone,
}

/// How much may be at risk at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Routes that may be on their way at once, between Pending and Done. Left out: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub moving_routes: Option<i32>,
    /// Bad answers of services that the plan's routes may give over 24 hours; when they have, nothing rises any more.
    /// Left out: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub bad_per_day: Option<i64>,
}

/// When weights may rise. A rollback ignores this.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Windows {
    /// Weights rise only within one of these. Empty: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub advance: Vec<AdvanceWindow>,
    /// Weights do not rise within any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub freezes: Vec<Freeze>,
}

/// Hours in which weights may rise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.lasts) > duration('0s') && duration(self.lasts) <= duration('24h')")
        .message("`lasts` must be more than nothing and at most 24h")
)]
pub struct AdvanceWindow {
    /// Days on which it begins. Empty: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub days: Vec<Day>,
    /// Time of day at which it begins, as `09:00`.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// How long it lasts.
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub lasts: Duration,
    /// Where that is the time, as `Europe/London`.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: String,
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

/// Day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// A time in which nothing rises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from < self.to").message("a freeze ends after it begins"))]
pub struct Freeze {
    /// Its beginning.
    pub from: Time,
    /// Its end.
    pub to: Time,
    /// Why, for whoever wonders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
}
