//! The migration machine: where every route stands next, and at most one write to do about it. Pure.
//!
//! Takes the state as status has it, what was observed, what people want, and the time; gives the next state and the
//! effects of one write: that of one route, or of several of one group.
//! It is level-triggered: what the edge should carry follows from the state alone ([`wanted`]), and whenever the edge
//! carries something else, writing it is the effect. The edge write carries the intent (attempt and step), so
//! after a crash between an edge write and a status write the machine finds at the edge what it was about to do.
//!
//! Invariants, each with a test:
//! - a weight rises only after every edge pod acknowledged the last one, its hold is over, enough was counted, and every
//!   judge says Safe, or a person has promoted it; never while the plan is halted or the route held;
//! - a rollback waits for nothing but a monolith that can take the traffic;
//! - a latched route stays latched until a further attempt begins;
//! - routes of a group have one fate, see [`super::group`];
//! - nothing takes a route back whose point of no return is behind it, see [`super::frozen`];
//! - an attempt begins no higher than the plan says, see [`super::start`];
//! - a route begins when its stage is open, see [`super::stages`].

pub use super::terms::Terms;

use super::{
    acts::{self, Act},
    brakes::hold_of,
    group::Fellows,
    judging,
    pass::Pass,
    ramp::remaining,
    stages::{self, Facts},
};
use crate::{edges::tally::Breach, prometheus::Reading};
use jiff::Timestamp;
use std::{collections::BTreeMap, time::Duration};
use stomaton_crds::{
    edge_state::Sides,
    keys::AUDIENCE_PUBLIC,
    v1alpha1::{
        Acted, Held, Phase, PointOfNoReturn, Profile, RouteStatus, RouteWeights, StageStatus, StartAt,
        Transition,
    },
};

/// Entries of history that status keeps.
pub const MAX_HISTORY: usize = 100;

/// How often counters are looked at while the next step waits for them.
pub const COUNT_AGAIN: Duration = Duration::from_secs(1);
/// How often they are looked at while only people wait for them.
const SHOW_AGAIN: Duration = Duration::from_secs(5);

/// Where a plan stands: the part of its status that the machine reads and writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Every route of the plan, in its order.
    pub routes: Vec<RouteStatus>,
    /// What happened, oldest first.
    pub history: Vec<Transition>,
    /// Who halted the plan by an act.
    pub halted: Option<Held>,
    /// The acts that were looked at last.
    pub acts: Vec<Acted>,
    /// Every stage of the plan, in its order.
    pub stages: Vec<StageStatus>,
}

/// One route of the plan with everything that was observed of it.
#[derive(Clone, Debug)]
pub struct Route<'a> {
    /// Its name.
    pub name: &'a str,
    /// The group whose fate it shares.
    pub group: Option<&'a str>,
    /// Its identity at the edge; none while the Gateway has no such route.
    pub id: Option<String>,
    /// How fast it moves.
    pub profile: &'a Profile,
    /// Why it cannot begin or go on, for a person; none if it can.
    pub problem: Option<String>,
    /// Whether every edge pod acknowledged a structure in which this route has its target and its present salt; of one
    /// without a way back: in which it has none.
    pub structured: bool,
    /// What EdgeWeights says of it.
    pub entry: Option<RouteWeights>,
    /// Revision of EdgeWeights; 0 if there is none.
    pub weights_revision: i64,
    /// The highest revision of the weights that any edge pod has seen. What is above `weights_revision` is not known here:
    /// the cache is late, or EdgeWeights came back from the past.
    pub seen: i64,
    /// The last attempt that an edge pod knows to be over; 0: none.
    pub taken: i32,
    /// `weights_revision`, if all edge pods serve exactly what that says; none if there is no pod or one is silent.
    pub acknowledged: Option<i64>,
    /// Whether the target has a ready endpoint.
    pub target_ready: bool,
    /// Whether the monolith has a ready endpoint.
    pub safe_ready: bool,
    /// What was counted since the present step was acknowledged.
    pub counted: Sides,
    /// The part of it by those whom the present step is for.
    pub judged: Sides,
    /// The last breach of a guard, with the attempt it belongs to.
    pub breach: Option<(i32, Breach)>,
    /// Routes of the plan that must be done before it begins.
    pub depends_on: &'a [String],
    /// The pods of both sides, by what made them.
    pub revisions: String,
    /// Edge pods that do not do what was written last.
    pub behind: Vec<String>,
    /// What Prometheus has counted for judges that ask it, by name of the judge.
    pub readings: BTreeMap<String, Reading>,
    /// From where on nothing leads back to the monolith.
    pub point_of_no_return: Option<PointOfNoReturn>,
    /// Where it already was, as the plan says; counts while nothing is known of the plan.
    pub start_at: Option<StartAt>,
    /// The stage that must be open before it begins.
    pub stage: Option<&'a str>,
}

/// What to do: make EdgeWeights say `weights` of the route.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Name of the route.
    pub route: String,
    /// Its identity at the edge.
    pub id: String,
    /// What EdgeWeights should say.
    pub weights: RouteWeights,
}

impl State {
    /// The same plan with other routes.
    fn with(&self, routes: Vec<RouteStatus>) -> Self {
        let Self { routes: _, history, halted, acts, stages } = self;
        Self {
            routes,
            history: history.clone(),
            halted: halted.clone(),
            acts: acts.clone(),
            stages: stages.clone(),
        }
    }

    /// Notes the revision that carries the effect.
    pub fn written(&mut self, route: &str, revision: i64) {
        if let Some(status) = self.routes.iter_mut().find(|r| r.name == route) {
            status.revision = revision;
        }
        if let Some(entry) =
            self.history.iter_mut().rev().find(|t| t.route == route && t.acknowledged.is_none())
        {
            entry.revision = revision;
        }
    }
}

/// One step of the whole plan.
pub fn step(
    terms: &Terms<'_>,
    routes: &[Route<'_>],
    gates: &Facts,
    state: &State,
    acts: &[Act],
    now: Timestamp,
) -> (State, Vec<Effect>) {
    let mut before = state.with(routes.iter().map(|route| present(route, state)).collect());
    acts::take(&mut before, terms, routes, acts, now);
    before.stages = stages::look(terms, routes, &before, gates, now);
    for (route, status) in routes.iter().zip(&mut before.routes) {
        judging::look(terms, route, status, now);
    }
    let closed = terms.closed_for(&before, now);
    let mut next = before.with(Vec::with_capacity(routes.len()));
    let mut due: Vec<(&Route<'_>, Effect)> = Vec::new();
    for (at, (route, old)) in routes.iter().zip(&before.routes).enumerate() {
        let fellows = Fellows::of(terms, route, routes, &before);
        // Those before it as they are now, those after it as they were: no two begin where there is room for one.
        let now_or_then = next.routes.iter().chain(&before.routes[at..]).zip(routes);
        let others = now_or_then.filter(|(_, other)| !with_it(route, other));
        let moving = others.filter(|(status, other)| on_its_way(other, status)).count();
        let crowded = terms.crowded(1 + fellows.count(), moving);
        let unmet = unmet(terms, route, old, &before);
        let mut pass = Pass {
            terms,
            route,
            fellows,
            closed: closed.as_ref(),
            crowded,
            unmet,
            now,
            history: &mut next.history,
            drills: stages::is_drill_due(terms, &before.stages, route, old),
        };
        let status = pass.advance(old.clone());
        let weights = wanted(&status).filter(|w| route.entry.as_ref() != Some(w));
        if let Some((weights, id)) = weights.zip(route.id.clone()) {
            due.push((route, Effect { route: route.name.to_owned(), id, weights }));
        }
        next.routes.push(status);
    }
    let surplus = next.history.len().saturating_sub(MAX_HISTORY);
    next.history.drain(..surplus);
    (next, first_write(due))
}

/// What status says of the route, unless it speaks of the route as it was before an edit: that is another one, which
/// begins at the beginning. The old weight cannot reach it. What people said of it stays. One without a way back has no
/// beginning that it could go to: it stays with its service, whatever that is called now. Where the plan says that a route
/// already was is noted when the plan is new, and only then.
fn present(route: &Route<'_>, state: &State) -> RouteStatus {
    let old = state.routes.iter().find(|status| status.name == route.name).cloned().unwrap_or_default();
    // A plan has at least one route: where none is known, nobody has looked at it before. What is wrong may be mended still.
    let start_at = route.start_at.filter(|_| state.routes.is_empty() || old.start_at.is_some());
    match &route.id {
        Some(id) if *id != old.id && old.has_no_way_back() => {
            RouteStatus { id: id.clone(), revision: 0, since: None, ..old }
        }
        Some(id) if *id != old.id => RouteStatus {
            name: route.name.to_owned(),
            id: id.clone(),
            // A route that the Gateway did not have until now was not edited.
            start_at: start_at.filter(|_| old.id.is_empty()),
            held: old.held,
            recalled: old.recalled,
            ..RouteStatus::default()
        },
        _ => RouteStatus { name: route.name.to_owned(), start_at, ..old },
    }
}

/// The route itself, or one of its group.
fn with_it(route: &Route<'_>, other: &Route<'_>) -> bool {
    other.name == route.name || (route.group.is_some() && other.group == route.group)
}

/// Whether it has begun and is not done, also by an attempt that only the edge knows of, since its record was lost. One that
/// was on its way in a cluster that is rebuilt has its room there.
fn on_its_way(route: &Route<'_>, status: &RouteStatus) -> bool {
    let unrecorded = route.entry.as_ref().is_some_and(|entry| entry.attempt > status.attempt);
    let returns = status.start_at.is_some_and(|at| !at.done);
    let moves = status.phase.is_under_way() || status.phase == Phase::RollingBack || status.crossing;
    moves || unrecorded || returns
}

/// What this route waits for before it begins: its stage, or a route that is not done.
pub fn unmet(terms: &Terms<'_>, route: &Route<'_>, status: &RouteStatus, state: &State) -> Option<String> {
    let done = |name: &&String| state.routes.iter().any(|s| s.name == **name && s.phase == Phase::Done);
    let depends = || {
        let unmet = route.depends_on.iter().find(|name| !done(name))?;
        Some(format!("route {unmet}, which it depends on, to be done"))
    };
    stages::keeps(terms, &state.stages, route, status).or_else(depends)
}

/// The write that goes first, with everything else that is due in its group.
fn first_write(due: Vec<(&Route<'_>, Effect)>) -> Vec<Effect> {
    // Taking traffic back goes before giving any.
    let first = due.iter().find(|(_, effect)| effect.weights.latched).or(due.first());
    let Some((first, _)) = first.cloned() else { return Vec::new() };
    due.into_iter().filter(|(route, _)| with_it(first, route)).map(|(_, effect)| effect).collect()
}

/// When to look again although nothing happens; none if only events matter.
pub fn wake(terms: &Terms<'_>, routes: &[Route<'_>], state: &State, now: Timestamp) -> Option<Duration> {
    let due = |route: &Route<'_>| {
        let status = state.routes.iter().find(|r| r.name == route.name)?;
        match status.phase {
            phase if phase.is_under_way() && status.since.is_some() => {
                let left = remaining(status, hold_of(route, status), now);
                // Counters alone raise no event: past the hold they decide, during it they are shown, and judged.
                let shown = if terms.judges.is_empty() { SHOW_AGAIN } else { COUNT_AGAIN };
                Some(if left.is_zero() { COUNT_AGAIN } else { left.min(shown) })
            }
            Phase::RolledBack if status.attempt < terms.rollback.attempts(status) => {
                Some(remaining(status, terms.rollback.rest(status), now)).filter(|left| !left.is_zero())
            }
            _ => None,
        }
    };
    let opens = terms
        .closed
        .as_ref()
        .and_then(|closed| closed.until)
        .map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default().max(COUNT_AGAIN));
    routes.iter().filter_map(due).chain(opens).chain(stages::wake(terms.stages, &state.stages)).min()
}

/// What EdgeWeights should say of a route in this state; nothing before its first attempt, nor while the structure alone
/// takes it past its point of no return.
pub fn wanted(status: &RouteStatus) -> Option<RouteWeights> {
    let (attempt, step) = (status.attempt, status.step);
    match status.phase {
        _ if status.crossing => None,
        Phase::Pending => None,
        Phase::Cohort | Phase::Ramp | Phase::Soak | Phase::Done | Phase::Frozen => {
            let mut permille = status.audiences.clone();
            permille.insert(AUDIENCE_PUBLIC.to_owned(), status.weights.desired);
            Some(RouteWeights { permille, latched: false, attempt, step })
        }
        Phase::RollingBack | Phase::RolledBack => {
            Some(RouteWeights { latched: true, attempt, step, ..RouteWeights::default() })
        }
    }
}

/// The same for all routes.
pub fn all_wanted(routes: &[Route<'_>], state: &State) -> Vec<Effect> {
    let of = |(route, status): (&Route<'_>, &RouteStatus)| {
        Some(Effect { route: route.name.to_owned(), id: route.id.clone()?, weights: wanted(status)? })
    };
    routes.iter().zip(&state.routes).filter_map(of).collect()
}

/// Whether every edge pod serves what this state wants: the edge carries it, and all of them that revision. Not while a
/// pod has seen weights that are not known here: they may have said something else.
pub fn acknowledged(route: &Route<'_>, status: &RouteStatus) -> bool {
    status.revision > 0
        && route.entry == wanted(status)
        && route.seen <= route.weights_revision
        && route.acknowledged.is_some_and(|a| a >= status.revision)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
pub(super) mod tests;
