//! Where a route is on its ramp. Pure.
//!
//! A profile may have been edited since, so weights decide, not the number of a step: a step is reached when its
//! audience has that much.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::time::Duration;
use stomaton_crds::v1alpha1::{Profile, RampStep, RouteStatus};

fn reached(status: &RouteStatus, step: &RampStep) -> bool {
    let weight = match &step.audience {
        None => status.weights.desired,
        Some(audience) => status.audiences.get(audience).copied().unwrap_or(0),
    };
    weight >= step.permille
}

/// How many steps are reached.
pub fn place(profile: &Profile, status: &RouteStatus) -> usize {
    profile.ramp.iter().filter(|step| reached(status, step)).count()
}

/// The hold of the step that was reached last.
pub fn hold(profile: &Profile, status: &RouteStatus) -> Duration {
    let last = profile.ramp.iter().rev().find(|step| reached(status, step));
    last.or(profile.ramp.first()).map_or(Duration::ZERO, |step| step.min_hold.into())
}

/// The next step, with its number from 1.
pub fn following<'a>(profile: &'a Profile, status: &RouteStatus) -> Option<(usize, &'a RampStep)> {
    profile.ramp.iter().enumerate().find(|(_, step)| !reached(status, step)).map(|(at, step)| (at + 1, step))
}

/// Whether the service is watched on after the last step.
pub fn soaks(profile: &Profile) -> bool {
    profile.soak.is_some_and(|soak| !Duration::from(soak).is_zero())
}

/// Gives the step's audience its weight.
pub fn take(status: &mut RouteStatus, number: usize, step: &RampStep) {
    status.step = i32::try_from(number).unwrap_or(i32::MAX);
    match &step.audience {
        None => status.weights.desired = step.permille,
        Some(audience) => drop(status.audiences.insert(audience.clone(), step.permille)),
    }
}

/// Takes all weights away.
pub fn clear(status: &mut RouteStatus) {
    status.weights.desired = 0;
    status.audiences.clear();
}

/// What is left of `wait`, counted from when the present step or phase began.
pub fn remaining(status: &RouteStatus, wait: Duration, now: Timestamp) -> Duration {
    elapsed(status, now).map_or(Duration::ZERO, |elapsed| wait.saturating_sub(elapsed))
}

/// How long ago the present step or phase began; none if it has not.
pub fn elapsed(status: &RouteStatus, now: Timestamp) -> Option<Duration> {
    let MicroTime(since) = status.since.as_ref()?;
    Some(Duration::try_from(now.duration_since(*since)).unwrap_or_default())
}
