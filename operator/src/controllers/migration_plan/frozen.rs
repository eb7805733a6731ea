//! The point of no return: when a route comes to it, and what happens past it. Pure.
//!
//! When everything is there that the step past it waits for, the route is `crossing`: the structure loses every way back,
//! and only when each edge pod has acknowledged that is the step entered. From then on nothing leads to the monolith. What
//! takes other routes back freezes this one where it is, until a person resumes it.

use super::judging;
use super::machine::{Route, acknowledged};
use super::pass::Pass;
use super::ramp::{following, soaks};
use super::start::Start;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use stomaton_crds::v1alpha1::{Phase, PointOfNoReturn, RouteStatus, Transition};

/// Why a route does not go back.
pub const BEHIND: &str = "the point of no return is behind it";

/// What a route that crosses waits for.
const WITHOUT_A_WAY_BACK: &str = "every edge pod to acknowledge a structure without a way back";

/// Whether what comes next leads past the route's point of no return. A route that was past it before the plan said where
/// it is crosses with its next move, and one that is done at once.
pub fn crosses(route: &Route<'_>, status: &RouteStatus) -> bool {
    let Some(point) = route.point_of_no_return.filter(|_| !status.has_no_way_back()) else { return false };
    let next = following(route.profile, status);
    let at_the_end = matches!(status.phase, Phase::Soak | Phase::Done);
    at_the_end
        || match point {
            PointOfNoReturn::FullWeight => {
                next.is_none_or(|(_, step)| step.audience.is_none() && step.permille == 1000)
            }
            PointOfNoReturn::Done => next.is_none() && !soaks(route.profile),
        }
}

/// Whether an attempt that begins there begins past the route's point of no return.
pub fn begins_past(route: &Route<'_>, status: &RouteStatus, start: Start) -> bool {
    let steps = route.profile.ramp.len();
    let past = |point| match point {
        PointOfNoReturn::FullWeight => start.step >= steps,
        PointOfNoReturn::Done => start.step > steps,
    };
    !status.has_no_way_back() && route.point_of_no_return.is_some_and(past)
}

/// Why a route without a way back has to stay as it is, and a person has to look.
pub fn hurt(route: &Route<'_>, status: &RouteStatus) -> Option<String> {
    if !status.has_no_way_back() || status.phase == Phase::Frozen {
        return None;
    }
    let no_endpoint = (!route.target_ready).then(|| "the target has no ready endpoint".to_owned());
    no_endpoint.or_else(|| judging::harm(status))
}

/// Ends Frozen, where it is so: back to the phase that it interrupted, and nothing that was counted counts any more.
pub fn thaw(status: &mut RouteStatus) {
    let Some(phase) = status.frozen_in.take() else { return };
    status.phase = phase;
    if status.crossed {
        renew(status, status.attempt.saturating_add(1));
    } else {
        // The step that it is about to enter begins anew by itself.
        judging::begin_anew(status);
    }
}

/// The weights again under a further attempt: what was counted, and latched, was of an earlier one.
fn renew(status: &mut RouteStatus, attempt: i32) {
    status.attempt = attempt;
    (status.revision, status.since) = (0, None);
    judging::begin_anew(status);
}

/// The lowest attempt, from the present one on, that nobody has taken back.
fn standing(route: &Route<'_>, status: &RouteStatus) -> i32 {
    let there = |attempt: i32, is_over: bool| attempt.saturating_add(i32::from(is_over));
    let written = route.entry.as_ref().map_or(0, |entry| there(entry.attempt, entry.latched));
    let known = there(route.taken, route.taken > 0);
    status.attempt.max(written).max(known)
}

impl Pass<'_, '_> {
    /// Everything is there that the step past the point of no return waits for.
    pub(super) fn set_out(&mut self, status: &mut RouteStatus) {
        status.crossing = true;
        status.waits_for = WITHOUT_A_WAY_BACK.to_owned();
        self.history.push(Transition {
            at: MicroTime(self.now),
            route: status.name.clone(),
            phase: status.phase,
            permille: status.weights.desired,
            revision: status.revision,
            acknowledged: None,
            evidence: None,
            message: "crosses its point of no return: from here on nothing leads back to the monolith"
                .to_owned(),
        });
    }

    /// Enters what lies past the point of no return, once no edge pod knows a way back.
    pub(super) fn cross(&mut self, status: &mut RouteStatus) {
        if !self.route.structured {
            status.waits_for = WITHOUT_A_WAY_BACK.to_owned();
            return;
        }
        self.record_acknowledgement(status);
        (status.crossing, status.crossed) = (false, true);
        if matches!(status.phase, Phase::Pending | Phase::RolledBack) {
            // To begin counts one further.
            status.attempt = status.attempt.max(standing(self.route, status) - 1);
            self.begin(status);
            return;
        }
        self.stay(status);
        if status.phase != Phase::Done {
            self.enter_next(status);
        }
    }

    /// What was taken back meanwhile, whoever did it, moved nobody; a further attempt says so to all.
    pub(super) fn stay(&mut self, status: &mut RouteStatus) {
        if !status.crossed {
            return;
        }
        let standing = standing(self.route, status);
        if standing > status.attempt {
            renew(status, standing);
        }
        // A write whose record was lost, of a step that came after.
        let there = self.route.entry.as_ref().filter(|entry| entry.attempt == status.attempt);
        status.step = there.map_or(status.step, |entry| status.step.max(entry.step));
    }

    /// Leaves the route where it is, for a person.
    pub(super) fn freeze(&mut self, status: &mut RouteStatus, why: &str) {
        status.frozen_in = Some(status.phase);
        self.go_on(status, Phase::Frozen, why.to_owned());
        status.waits_for = format!("a person: {why}; {BEHIND}, so it stays with the service");
    }

    /// It stays so although the cause may be gone. What was written before is acknowledged still.
    pub(super) fn stay_frozen(&mut self, status: &mut RouteStatus) {
        if status.since.is_none() && acknowledged(self.route, status) {
            self.acknowledge(status);
        }
    }
}

#[cfg(test)]
#[path = "frozen_tests.rs"]
mod tests;
