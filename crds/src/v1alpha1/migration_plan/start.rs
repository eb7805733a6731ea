//! Where a route already was, for a cluster that is rebuilt from Git.

use super::{MigrationPlanSpec, PlanRoute, Profile};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A place on the way of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartAt {
    /// The step of its ramp, from 1, that it had reached: the service answers as much again, and goes on from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub step: Option<i32>,
    /// It was done: the service answers everything again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
}

impl StartAt {
    /// The same as a number on this ramp: that of the step, from 1; one more than there are is the end.
    pub fn place(self, profile: &Profile) -> usize {
        let steps = profile.ramp.len();
        if self.done {
            return steps + 1;
        }
        let step = self.step.and_then(|step| usize::try_from(step).ok());
        step.unwrap_or(1).min(steps).max(1)
    }
}

impl MigrationPlanSpec {
    /// Why the route cannot have been where `startAt` says.
    pub fn misplaced(&self, route: &PlanRoute) -> Option<String> {
        if let Some(other) = self.fellows(route).find(|fellow| fellow.start_at != route.start_at) {
            return Some(format!(
                "routes {} and {} are of one group and were at two places: give them the same `startAt`",
                route.name, other.name
            ));
        }
        let step = route.start_at?.step?;
        let profile = self.profiles.iter().find(|profile| profile.name == route.profile)?;
        let steps = i32::try_from(profile.ramp.len()).ok()?;
        (step > steps).then(|| {
            format!(
                "`startAt` of route {} is step {step}, but profile {} ends with step {steps}: correct the number, or \
                 take `startAt` out",
                route.name, route.profile
            )
        })
    }
}
