//! The migration machine: where every route stands next, and at most one write to do about it. Pure.
//!
//! Takes the state as status has it, what was observed, and the time; gives the next state and the effects of one write:
//! that of one route, or of several of one group.
//! It is level-triggered: what the edge should carry follows from the state alone ([`wanted`]), and whenever the edge
//! carries something else, writing it is the effect. The edge write carries the intent (attempt and step), so
//! after a crash between an edge write and a status write the machine finds at the edge what it was about to do.
//!
//! Invariants, each with a test:
//! - a weight rises only after every edge pod acknowledged the last one, its hold is over, and enough was counted;
//! - a rollback waits for nothing but a monolith that can take the traffic;
//! - a latched route stays latched until a further attempt begins;
//! - routes of a group have one fate, see [`super::group`].

use super::{
    group::Fellows,
    ramp::{clear, following, hold, remaining, take},
};
use crate::edges::tally::Breach;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::time::Duration;
use stomaton_crds::{
    edge_state::{Counts, Sides},
    keys::AUDIENCE_PUBLIC,
    v1alpha1::{Evidence, Phase, Profile, Rollback, RouteStatus, RouteWeights, Transition},
};

/// Entries of history that status keeps.
pub const MAX_HISTORY: usize = 100;

/// How often counters are looked at while the next step waits for them.
const COUNT_AGAIN: Duration = Duration::from_secs(1);
/// How often they are looked at while only people wait for them.
const SHOW_AGAIN: Duration = Duration::from_secs(5);

/// Where a plan stands: the part of its status that the machine reads and writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Every route of the plan, in its order.
    pub routes: Vec<RouteStatus>,
    /// What happened, oldest first.
    pub history: Vec<Transition>,
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
    /// Whether every edge pod acknowledged a structure in which this route has its target and its present salt.
    pub structured: bool,
    /// What EdgeWeights says of it.
    pub entry: Option<RouteWeights>,
    /// Revision of EdgeWeights; 0 if there is none.
    pub weights_revision: i64,
    /// The lowest revision of the weights that all edge pods serve; none if there is no pod or one is silent.
    pub acknowledged: Option<i64>,
    /// Whether the target has a ready endpoint.
    pub target_ready: bool,
    /// Whether the monolith has a ready endpoint.
    pub safe_ready: bool,
    /// What was counted since the present step was acknowledged.
    pub counted: Sides,
    /// The last breach of a guard, with the attempt it belongs to.
    pub breach: Option<(i32, Breach)>,
    /// Edge pods that do not do what was written last.
    pub behind: Vec<String>,
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
    routes: &[Route<'_>],
    rollback: &Rollback,
    state: &State,
    now: Timestamp,
) -> (State, Vec<Effect>) {
    let mut next = State { routes: Vec::with_capacity(routes.len()), history: state.history.clone() };
    let mut due: Vec<(&Route<'_>, Effect)> = Vec::new();
    for route in routes {
        let old = state.routes.iter().find(|r| r.name == route.name);
        let fellows = Fellows::of(route, routes, &state.routes);
        let mut pass = Pass { route, fellows, rollback, now, history: &mut next.history };
        let status = pass.advance(old.cloned().unwrap_or_else(|| fresh(route)));
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

/// The write that goes first, with everything else that is due in its group.
fn first_write(due: Vec<(&Route<'_>, Effect)>) -> Vec<Effect> {
    // Taking traffic back goes before giving any.
    let first = due.iter().find(|(_, effect)| effect.weights.latched).or(due.first());
    let Some((first, _)) = first.cloned() else { return Vec::new() };
    let with_it = |r: &Route<'_>| r.name == first.name || (r.group.is_some() && r.group == first.group);
    due.into_iter().filter(|(route, _)| with_it(route)).map(|(_, effect)| effect).collect()
}

/// When to look again although nothing happens; none if only events matter.
pub fn wake(routes: &[Route<'_>], rollback: &Rollback, state: &State, now: Timestamp) -> Option<Duration> {
    let due = |route: &Route<'_>| {
        let status = state.routes.iter().find(|r| r.name == route.name)?;
        match status.phase {
            Phase::Ramp if status.since.is_some() => {
                let left = remaining(status, hold(route.profile, status), now);
                // Counters alone raise no event: past the hold they decide, during it they are shown.
                Some(if left.is_zero() { COUNT_AGAIN } else { left.min(SHOW_AGAIN) })
            }
            Phase::RolledBack if status.attempt < rollback.max_attempts => {
                Some(remaining(status, rollback.cooldown.into(), now)).filter(|left| !left.is_zero())
            }
            _ => None,
        }
    };
    routes.iter().filter_map(due).min()
}

/// What EdgeWeights should say of a route in this state; nothing before its first attempt.
pub fn wanted(status: &RouteStatus) -> Option<RouteWeights> {
    let (attempt, step) = (status.attempt, status.step);
    match status.phase {
        Phase::Pending => None,
        Phase::Ramp | Phase::Done => {
            let mut permille = status.audiences.clone();
            permille.insert(AUDIENCE_PUBLIC.to_owned(), status.weights.desired);
            Some(RouteWeights { permille, latched: false, attempt, step })
        }
        Phase::RollingBack | Phase::RolledBack => {
            Some(RouteWeights { latched: true, attempt, step, ..RouteWeights::default() })
        }
    }
}

fn fresh(route: &Route<'_>) -> RouteStatus {
    RouteStatus {
        name: route.name.to_owned(),
        id: route.id.clone().unwrap_or_default(),
        ..RouteStatus::default()
    }
}

/// The breach of the present attempt; one of an earlier attempt says nothing about this one.
fn present_breach<'a>(route: &'a Route<'_>, status: &RouteStatus) -> Option<&'a Breach> {
    route.breach.as_ref().filter(|(attempt, _)| *attempt == status.attempt).map(|(_, breach)| breach)
}

/// The same in words.
pub fn breach(route: &Route<'_>, status: &RouteStatus) -> Option<String> {
    present_breach(route, status).map(describe)
}

/// What keeps an attempt from beginning.
pub fn obstacle(route: &Route<'_>) -> Option<String> {
    if let Some(problem) = &route.problem {
        return Some(problem.clone());
    }
    if !route.target_ready {
        return Some("the target to have a ready endpoint".to_owned());
    }
    if !route.safe_ready {
        return Some("the monolith to have a ready endpoint: without it there is no way back".to_owned());
    }
    (!route.structured).then(|| "every edge pod to acknowledge the route's structure".to_owned())
}

/// Whether every edge pod serves what this state wants: the edge carries it, and all of them that revision.
pub fn acknowledged(route: &Route<'_>, status: &RouteStatus) -> bool {
    status.revision > 0
        && route.entry == wanted(status)
        && route.acknowledged.is_some_and(|a| a >= status.revision)
}

/// What an acknowledged step still has to do before the next one: be held, be seen to work, have nothing in its way.
pub fn patience(route: &Route<'_>, status: &RouteStatus, now: Timestamp) -> Option<String> {
    let (profile, hold) = (route.profile, hold(route.profile, status));
    let counted = evidence(route.counted).requests;
    if !remaining(status, hold, now).is_zero() {
        let until = status.since.as_ref().and_then(|since| since.0.checked_add(hold).ok());
        return Some(until.map_or_else(String::new, |at| format!("the hold of this step, until {at:.0}")));
    }
    if counted < profile.min_requests {
        return Some(format!(
            "answers of the service in this step: {counted} of {} counted",
            profile.min_requests
        ));
    }
    route.problem.clone()
}

/// One route's part of a step.
struct Pass<'a, 'r> {
    route: &'a Route<'r>,
    fellows: Fellows<'a, 'r>,
    rollback: &'a Rollback,
    now: Timestamp,
    history: &'a mut Vec<Transition>,
}

impl Pass<'_, '_> {
    fn advance(&mut self, mut status: RouteStatus) -> RouteStatus {
        let Some(id) = self.route.id.clone() else {
            status.waits_for = self.route.problem.clone().unwrap_or_default();
            return status;
        };
        if status.id != id {
            // Edited in flight: a new route, which begins at the beginning. The old weight cannot reach it.
            status = fresh(self.route);
        }
        // The salt is that of the highest epoch of the group; it must not change when the route that has it leaves.
        status.epoch = status.epoch.max(self.fellows.epoch());
        self.adopt(&mut status);
        status.waits_for.clear();
        match status.phase {
            Phase::Pending => self.pending(&mut status),
            Phase::Ramp | Phase::Done => self.moving(&mut status),
            Phase::RollingBack => self.rolling_back(&mut status),
            Phase::RolledBack => self.rolled_back(&mut status),
        }
        status
    }

    /// Takes over what the edge carries when it is ahead of status: an edge write whose status write was lost, or a
    /// latch that was set past this machine.
    fn adopt(&mut self, status: &mut RouteStatus) {
        let Some(entry) = &self.route.entry else { return };
        let ahead = (entry.attempt, entry.step) > (status.attempt, status.step);
        let moving = matches!(status.phase, Phase::Pending | Phase::Ramp | Phase::Done);
        if entry.latched && entry.attempt >= status.attempt && (moving || entry.attempt > status.attempt) {
            (status.attempt, status.step) = (entry.attempt, entry.step);
            let why = breach(self.route, status).or_else(|| self.fellows.harm());
            let why = why.unwrap_or_else(|| "found latched at the edge".to_owned());
            self.take_back(status, &why);
        } else if !entry.latched && ahead {
            status.audiences.clone_from(&entry.permille);
            status.weights.desired = status.audiences.remove(AUDIENCE_PUBLIC).unwrap_or(0);
            (status.attempt, status.step) = (entry.attempt, entry.step);
            self.enter(
                status,
                Phase::Ramp,
                "found at the edge: the write was made, its record was lost".to_owned(),
            );
        }
        if Some(entry) == wanted(status).as_ref() && status.revision == 0 {
            status.revision = self.route.weights_revision;
        }
    }

    fn pending(&mut self, status: &mut RouteStatus) {
        match self.obstacle() {
            Some(what) => status.waits_for = what,
            None => self.begin(status, 1),
        }
    }

    fn moving(&mut self, status: &mut RouteStatus) {
        if let Some(why) = self.harm(status) {
            if self.route.safe_ready {
                self.take_back(status, &why);
            } else {
                status.waits_for =
                    format!("{why}, but the monolith has no ready endpoint: traffic stays where it is");
            }
            return;
        }
        if !acknowledged(self.route, status) {
            status.waits_for = "every edge pod to acknowledge the weight".to_owned();
            return;
        }
        if status.since.is_none() {
            self.acknowledge(status);
        }
        // Of a route that is done the evidence stays as it was: traffic alone must not write status for ever.
        if status.phase == Phase::Ramp {
            status.evidence = evidence(self.route.counted);
            status.weights.observed = observed(self.route.counted);
            self.ramp(status);
        }
    }

    fn ramp(&mut self, status: &mut RouteStatus) {
        let waits = patience(self.route, status, self.now);
        let waits = waits.or_else(|| self.fellows.not_yet(self.route, status, self.now));
        if let Some(what) = waits {
            status.waits_for = what;
        } else if let Some((number, step)) = following(self.route.profile, status) {
            let counted = status.evidence;
            take(status, number, step);
            let whose =
                step.audience.as_ref().map(|audience| format!(", now for {audience}")).unwrap_or_default();
            self.enter(
                status,
                Phase::Ramp,
                format!("{} answers, {} bad, in the step before{whose}", counted.requests, counted.bad),
            );
        } else {
            let (since, evidence, weights, revision) =
                (status.since.clone(), status.evidence, status.weights, status.revision);
            self.enter(
                status,
                Phase::Done,
                format!("{} answers, {} bad, at the last step", evidence.requests, evidence.bad),
            );
            // Nothing changes at the edge: the weight is that of the last step and stays acknowledged.
            (status.since, status.evidence, status.weights, status.revision) =
                (since, evidence, weights, revision);
            self.record_acknowledgement(status);
        }
    }

    fn rolling_back(&mut self, status: &mut RouteStatus) {
        if !acknowledged(self.route, status) {
            status.waits_for = stragglers(&self.route.behind);
            return;
        }
        // The salt is that of all of them.
        if let Some(what) = self.fellows.moving() {
            status.waits_for = what;
            return;
        }
        self.record_acknowledgement(status);
        status.weights.applied = 0;
        status.phase = Phase::RolledBack;
        status.since = Some(MicroTime(self.now));
        if status.attempt < self.rollback.max_attempts {
            // A new salt, made while nobody is on the service: other users go first in the next attempt.
            status.epoch += 1;
        }
        self.rolled_back(status);
    }

    fn rolled_back(&mut self, status: &mut RouteStatus) {
        if status.attempt >= self.rollback.max_attempts {
            status.waits_for = format!(
                "a person: all {} attempts are used; mend the service, then raise spec.rollback.maxAttempts",
                self.rollback.max_attempts
            );
            return;
        }
        let cooldown = self.rollback.cooldown.into();
        if !remaining(status, cooldown, self.now).is_zero() {
            let until = status.since.as_ref().and_then(|since| since.0.checked_add(cooldown).ok());
            status.waits_for = until.map_or_else(String::new, |at| format!("the cooldown, until {at:.0}"));
            return;
        }
        match self.obstacle() {
            Some(what) => status.waits_for = what,
            None => self.begin(status, status.attempt + 1),
        }
    }

    /// What keeps an attempt from beginning.
    fn obstacle(&self) -> Option<String> {
        obstacle(self.route).or_else(|| self.fellows.obstacle(self.rollback, self.now))
    }

    /// What hurts users now.
    fn harm(&self, status: &RouteStatus) -> Option<String> {
        let empty = || (!self.route.target_ready).then(|| "the target has no ready endpoint".to_owned());
        breach(self.route, status).or_else(empty).or_else(|| self.fellows.harm())
    }

    fn begin(&mut self, status: &mut RouteStatus, attempt: i32) {
        clear(status);
        let Some((number, step)) = following(self.route.profile, status) else { return };
        take(status, number, step);
        status.attempt = attempt;
        self.enter(status, Phase::Ramp, format!("attempt {attempt} begins"));
    }

    fn take_back(&mut self, status: &mut RouteStatus, why: &str) {
        clear(status);
        self.enter(status, Phase::RollingBack, why.to_owned());
        // The edge is told at the moment of the breach, before any pass hears of it: that is when it was decided.
        let decided = present_breach(self.route, status).map(|breach| breach.at);
        if let (Some(at), Some(entry)) = (decided, self.history.last_mut()) {
            entry.at = MicroTime(at);
        }
        status.waits_for = "every edge pod to acknowledge the rollback".to_owned();
    }

    /// A new phase or weight: nothing is known of it yet.
    fn enter(&mut self, status: &mut RouteStatus, phase: Phase, message: String) {
        status.phase = phase;
        (status.revision, status.since, status.evidence) = (0, None, Evidence::default());
        status.weights.observed = None;
        self.history.push(Transition {
            at: MicroTime(self.now),
            route: status.name.clone(),
            phase,
            permille: status.weights.desired,
            revision: 0,
            acknowledged: None,
            message,
        });
    }

    fn acknowledge(&mut self, status: &mut RouteStatus) {
        status.weights.applied = status.weights.desired;
        status.since = Some(MicroTime(self.now));
        self.record_acknowledgement(status);
    }

    fn record_acknowledgement(&mut self, status: &RouteStatus) {
        let last = self.history.iter_mut().rev().find(|t| t.route == status.name);
        if let Some(entry) = last.filter(|t| t.acknowledged.is_none()) {
            entry.acknowledged = Some(MicroTime(self.now));
            entry.revision = status.revision;
        }
    }
}

/// Who has not acknowledged a rollback, as far as that is known.
fn stragglers(behind: &[String]) -> String {
    let named = behind.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    match behind.len() {
        0 => "every edge pod to acknowledge the rollback".to_owned(),
        1..=3 => format!("edge pods to follow the rollback: {named}"),
        all => format!("edge pods to follow the rollback: {named} and {} more", all - 3),
    }
}

fn describe(breach: &Breach) -> String {
    let Breach { guard, bad, requests, over_ms, reported_by, .. } = breach;
    match reported_by {
        None => format!("guard {guard}: {bad} of {requests} answers bad within {over_ms} ms"),
        Some(pod) if *requests == 0 => format!("edge pod {pod} took it back: {guard}"),
        Some(pod) => {
            format!("edge pod {pod} took it back: {guard}, {bad} of {requests} answers within {over_ms} ms")
        }
    }
}

fn evidence(counted: Sides) -> Evidence {
    let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let Sides { service, monolith } = counted;
    Evidence {
        requests: int(service.requests),
        bad: int(service.bad),
        monolith_requests: int(monolith.requests),
        monolith_bad: int(monolith.bad),
    }
}

/// The share of answers that the service really gave, in per mille.
fn observed(Sides { service: Counts { requests, .. }, monolith }: Sides) -> Option<i32> {
    let all = requests + monolith.requests;
    (all > 0).then(|| i32::try_from(requests * 1000 / all).unwrap_or(1000))
}

#[cfg(test)]
#[path = "machine_tests.rs"]
pub(super) mod tests;
