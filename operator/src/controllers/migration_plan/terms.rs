//! What the spec says of the plan as a whole at this moment: whether weights may rise, and whether routes have to come
//! back. Pure: time comes in.

use super::machine::State;
use super::windows;
use jiff::{SignedDuration, Timestamp};
use stomaton_crds::{
    conditions::Reason,
    v1alpha1::{Budget, Certainty, DeletionPolicy, Halt, Judge, MigrationPlan, Mode, Rollback, Stage},
};

/// The rules of a plan, as they are now.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    /// What happens after a rollback.
    pub rollback: &'a Rollback,
    /// What has to be shown before a weight rises.
    pub judges: &'a [Judge],
    /// How sure that has to be.
    pub certainty: &'a Certainty,
    /// How much may be at risk at once.
    pub budget: &'a Budget,
    /// What the present spec is called in approvals.
    pub spec_hash: String,
    /// Why no weight rises; none if it may.
    pub closed: Option<Closed>,
    /// Why routes come back; none if they need not.
    pub back: Option<Back>,
    /// Parts of the migration, in their order.
    pub stages: &'a [Stage],
}

/// Why no weight rises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why, from the closed set.
    pub reason: Reason,
    /// What it waits for, for a person.
    pub what: String,
    /// When that is over by itself.
    pub until: Option<Timestamp>,
}

/// Why routes come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Back {
    /// Why, for a person.
    pub why: String,
    /// Whether also those that are done do.
    pub done_too: bool,
}

impl<'a> Terms<'a> {
    /// Those of `plan`.
    pub fn of(plan: &'a MigrationPlan, now: Timestamp) -> Self {
        let spec = &plan.spec;
        Self {
            rollback: &spec.rollback,
            judges: &spec.judges,
            certainty: &spec.certainty,
            budget: &spec.budget,
            spec_hash: spec.hash(),
            closed: closed(plan, now),
            back: back(plan),
            stages: &spec.stages,
        }
    }

    /// Why nothing may rise, also for what status has.
    pub fn closed_for(&self, state: &State, now: Timestamp) -> Option<Closed> {
        let halted = state.halted.as_ref().map(|held| Closed {
            reason: Reason::Halted,
            what: format!("Resume: {} halted the plan{}", held.by, because(&held.reason)),
            until: None,
        });
        halted.or_else(|| self.closed.clone()).or_else(|| self.spent(state, now))
    }

    /// The budget of bad answers, when nothing of it is left.
    fn spent(&self, state: &State, now: Timestamp) -> Option<Closed> {
        let allowed = self.budget.bad_per_day?;
        let day = SignedDuration::from_hours(24);
        let recent = state.history.iter().filter(|t| now.duration_since(t.at.0) < day);
        let before: i64 = recent.filter_map(|t| t.evidence).map(|evidence| evidence.bad).sum();
        let under_way = state.routes.iter().filter(|s| s.phase.is_under_way());
        let bad = before + under_way.map(|s| s.evidence.bad).sum::<i64>();
        (bad >= allowed).then(|| Closed {
            reason: Reason::BudgetExhausted,
            what: format!("the budget: {bad} bad answers of services within 24 hours, {allowed} are allowed"),
            until: None,
        })
    }

    /// Why a route, with its group, may not begin beside the `moving` routes of other groups that are on their way.
    pub fn crowded(&self, with_it: usize, moving: usize) -> Option<String> {
        let allowed = usize::try_from(self.budget.moving_routes?).unwrap_or(usize::MAX);
        // A group that is larger than the budget could never begin.
        (moving > 0 && moving + with_it > allowed)
            .then(|| format!("the budget: {moving} routes are on their way, {allowed} may be at once"))
    }
}

/// Words for a reason that somebody gave.
pub fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

fn closed(plan: &MigrationPlan, now: Timestamp) -> Option<Closed> {
    let closed = |reason, what: String, until| Some(Closed { reason, what, until });
    if plan.spec.halt != Halt::None {
        return closed(Reason::Halted, format!("spec.halt, which is {:?}, to be None", plan.spec.halt), None);
    }
    if plan.metadata.deletion_timestamp.is_some() {
        return closed(Reason::Deleting, "nothing: the plan is being deleted".to_owned(), None);
    }
    if plan.spec.mode == Mode::Observe {
        return closed(Reason::Observing, "spec.mode, which is Observe, to be Enforce".to_owned(), None);
    }
    match windows::closed(&plan.spec.windows, now) {
        Ok(None) => None,
        Ok(Some(window)) => closed(Reason::OutsideWindow, window.why, window.until),
        Err(unknown) => closed(Reason::Invalid, unknown.to_string(), None),
    }
}

fn back(plan: &MigrationPlan) -> Option<Back> {
    if plan.metadata.deletion_timestamp.is_some() {
        let done_too = plan.spec.deletion_policy == DeletionPolicy::Monolith;
        return Some(Back { why: "the plan is being deleted".to_owned(), done_too });
    }
    (plan.spec.halt == Halt::RollbackAll)
        .then(|| Back { why: "spec.halt is RollbackAll".to_owned(), done_too: true })
}
