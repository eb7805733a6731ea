//! With which step an attempt begins, and what that takes. Pure.
//!
//! The first one of a plan that was just made begins where `startAt` says: what beginning there takes (order, windows,
//! budget, approvals, evidence) was fulfilled in the cluster that was lost. One after a rollback begins where
//! `rollback.restartAt` says, with everything that the first step takes. Routes of a group begin together.

use super::terms::Closed;
use stomaton_crds::{
    conditions::Reason,
    v1alpha1::{Profile, Rollback, RouteStatus},
};

/// Where an attempt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The step of the ramp, from 1; one more than there are is the end.
    pub step: usize,
    /// Whether the route was there already, in a cluster that is rebuilt.
    pub again: bool,
}

impl Start {
    /// That of the next attempt of a group; `group` is all that is known of its routes.
    pub fn of(rollback: &Rollback, profile: &Profile, group: &[&RouteStatus]) -> Self {
        let waiting = group.iter().filter(|status| !status.phase.has_weight());
        // One that begins as any other does takes the rest of them with it.
        let places: Option<Vec<usize>> =
            waiting.map(|status| status.start_at.map(|at| at.place(profile))).collect();
        match places.and_then(|places| places.into_iter().min()) {
            Some(step) => Self { step, again: true },
            None => Self { step: rollback.first_step(profile, group.iter().copied()), again: false },
        }
    }

    /// Its step, as approvals name it.
    pub fn number(self) -> i32 {
        i32::try_from(self.step).unwrap_or(i32::MAX)
    }

    /// The step that a person has to approve first: all steps up to it are entered at once.
    pub fn unapproved(self, profile: &Profile, status: &RouteStatus) -> Option<i32> {
        let needed = !self.again && profile.ramp.iter().take(self.step).any(|step| step.approval);
        (needed && status.approved != Some(self.number())).then(|| self.number())
    }

    /// Whether the attempt waits while the plan is closed so. What was begun in a cluster that was lost had its window and its
    /// budget there; what people have stopped stays so.
    pub fn heeds(self, closed: &Closed) -> bool {
        !(self.again && matches!(closed.reason, Reason::OutsideWindow | Reason::BudgetExhausted))
    }

    /// How it differs from the first step, for history.
    pub fn words(self, profile: &Profile) -> String {
        match (self.again, self.step) {
            (true, step) if step > profile.ramp.len() => {
                ": the route was done before the plan was made anew".to_owned()
            }
            (true, step) => format!(" with step {step}: the route was there before the plan was made anew"),
            (false, 1) => String::new(),
            (false, step) => format!(" with step {step}, below the one at which it was taken back"),
        }
    }
}

/// Whether these weights are those of a route that was done before its plan was made anew, and whose record was lost
/// after the write: its first attempt goes through no ramp.
pub fn was_done(profile: &Profile, status: &RouteStatus) -> bool {
    let done = status.start_at.is_some_and(|at| at.done);
    done && status.attempt == 1 && profile.reached(&status.permille()) == profile.ramp.len()
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
