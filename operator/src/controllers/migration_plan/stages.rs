//! Stages and their gates: which of them want an answer, and what comes of it. Pure: what the cluster says comes in as
//! [`Facts`], by [`super::gates`]; approvals are acts of people, and drills are what the machine does itself.
//!
//! A gate is asked in one pass, and answered in a later one: what was asked, with the attempt of a Job, is in status before
//! anything is made for it. What is said to a gate in the pass that asks it is of something else, and not heard.
//!
//! Invariants, each with a test:
//! - no route of a stage begins before the stage is open, but the one that is drilled;
//! - a stage that is open or done stays so;
//! - a gate that was edited is asked anew; one that has failed holds until it is mended or resumed.

use super::brakes::APPROVAL;
use super::machine::{Route, State, Terms};
use super::terms::because;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use stomaton_crds::v1alpha1::{
    DrillGate, Gate, GateState, GateStatus, Held, MigrationPlanSpec, Phase, RouteStatus, Stage, StagePhase,
    StageStatus,
};

/// How often gates are asked again while one of them is not answered: no event tells of a template that was mended, or of
/// any object.
pub const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Where a gate stands in the plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Name of the stage.
    pub stage: String,
    /// Whether it is one of `exit`.
    pub exit: bool,
    /// Name of the gate.
    pub gate: String,
}

/// A gate that wants an answer from the cluster now.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked<'a> {
    /// Where it stands.
    pub place: Place,
    /// What it asks.
    pub gate: &'a Gate,
    /// Attempt of its Job, from 1.
    pub attempt: i32,
    /// Services that the targets of the stage's routes name, each once.
    pub targets: Vec<&'a str>,
}

/// What the cluster says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// Nobody can tell, and why; it is asked again.
    Unknown(String),
    /// It may come to pass: what is missing.
    NotYet(String),
    /// It has passed, and by what.
    Passed(String),
    /// It has failed, and why.
    Failed(String),
}

/// An answer to a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Hash of what was asked: the gate, and for a Job its template; empty if that is not known.
    pub of: String,
    /// The answer.
    pub says: Says,
}

/// Answers, by where their gates stand.
pub type Facts = BTreeMap<Place, Fact>;

/// The gates that want an answer, by the status as it stands: Jobs until they have passed, services and objects until the
/// stage opens, or is done. A Job that has failed is among them, so that a template that was mended is seen.
pub fn asked<'a>(spec: &'a MigrationPlanSpec, stages: &[StageStatus]) -> Vec<Asked<'a>> {
    let of = |(stage, place, gate, attempt): (&Stage, Place, &'a Gate, i32)| Asked {
        place,
        gate,
        attempt,
        targets: targets(spec, stage),
    };
    wanting(&spec.stages, stages).into_iter().map(of).collect()
}

/// When to ask again; none if no gate wants an answer.
pub(super) fn wake(stages: &[Stage], states: &[StageStatus]) -> Option<Duration> {
    (!wanting(stages, states).is_empty()).then_some(ASK_AGAIN)
}

fn targets<'a>(spec: &'a MigrationPlanSpec, stage: &Stage) -> Vec<&'a str> {
    let routes = spec.routes.iter().filter(|route| route.stage.as_ref() == Some(&stage.name));
    let names: BTreeSet<&str> = routes.map(|route| route.target.name.as_str()).collect();
    names.into_iter().collect()
}

fn wanting<'a>(stages: &'a [Stage], states: &[StageStatus]) -> Vec<(&'a Stage, Place, &'a Gate, i32)> {
    let mut found = Vec::new();
    for stage in stages {
        let Some(status) = find(states, &stage.name) else { continue };
        let (exit, gates) = match status.phase {
            StagePhase::Waiting => (false, &stage.gates),
            StagePhase::Open => (true, &stage.exit),
            StagePhase::Done => continue,
        };
        for gate in gates {
            let known = present(status).iter().find(|known| known.name == gate.name);
            if let Some(known) = known.filter(|known| wants(gate, known)) {
                let place = Place { stage: stage.name.clone(), exit, gate: gate.name.clone() };
                found.push((stage, place, gate, known.attempt));
            }
        }
    }
    found
}

fn wants(gate: &Gate, status: &GateStatus) -> bool {
    let of_the_cluster = gate.approval.is_none() && gate.drill.is_none();
    let open = match status.state {
        GateState::Waiting => false,
        GateState::Asked | GateState::Failed => of_the_cluster,
        GateState::Passed => of_the_cluster && gate.job.is_none(),
    };
    open && is_of(status, gate)
}

/// Whether the status speaks of the gate as it is now, and not as it was before an edit.
fn is_of(status: &GateStatus, gate: &Gate) -> bool {
    status.of.split('.').next() == Some(gate.hash().as_str())
}

/// The template that the present attempt was made from, as far as that is known.
fn template(status: &GateStatus) -> Option<&str> {
    status.of.split_once('.').map(|(_, template)| template)
}

fn find<'s>(stages: &'s [StageStatus], name: &str) -> Option<&'s StageStatus> {
    stages.iter().find(|stage| stage.name == name)
}

/// The gates that the stage waits for, or would if they had not passed; none once it is done.
fn present(stage: &StageStatus) -> &[GateStatus] {
    match stage.phase {
        StagePhase::Waiting => &stage.gates,
        StagePhase::Open => &stage.exit,
        StagePhase::Done => &[],
    }
}

fn present_mut(stage: &mut StageStatus) -> &mut [GateStatus] {
    match stage.phase {
        StagePhase::Waiting => &mut stage.gates,
        StagePhase::Open => &mut stage.exit,
        StagePhase::Done => &mut [],
    }
}

/// Where the stages stand next. `before` has the routes in the order of `routes`.
pub(super) fn look(
    terms: &Terms<'_>,
    routes: &[Route<'_>],
    before: &State,
    facts: &Facts,
    now: Timestamp,
) -> Vec<StageStatus> {
    let mut next: Vec<StageStatus> = Vec::with_capacity(terms.stages.len());
    for (number, stage) in terms.stages.iter().enumerate() {
        // A plan that gives everything back asks nothing.
        let comes = terms.back.is_none() && next.last().is_none_or(|before| before.phase == StagePhase::Done);
        let new = || StageStatus {
            name: stage.name.clone(),
            phase: returned(&terms.stages[number..], routes, &before.routes),
            ..StageStatus::default()
        };
        let old = find(&before.stages, &stage.name).cloned().unwrap_or_else(new);
        next.push(Look { stage, routes, states: &before.routes, facts, now }.advance(old, comes));
    }
    next
}

/// How far the first of these stages was when a cluster was lost: open if one of its routes had begun, and done if one of a
/// later stage had.
fn returned(stages: &[Stage], routes: &[Route<'_>], states: &[RouteStatus]) -> StagePhase {
    let had_begun = |stage: &Stage| {
        let of_it = |route: &Route<'_>| route.stage == Some(stage.name.as_str());
        routes.iter().zip(states).any(|(route, status)| of_it(route) && status.start_at.is_some())
    };
    match stages.iter().rposition(had_begun) {
        None => StagePhase::Waiting,
        Some(0) => StagePhase::Open,
        Some(_) => StagePhase::Done,
    }
}

/// One stage's part of a look.
struct Look<'a, 'r> {
    stage: &'a Stage,
    routes: &'a [Route<'r>],
    states: &'a [RouteStatus],
    facts: &'a Facts,
    now: Timestamp,
}

impl<'a, 'r> Look<'a, 'r> {
    /// Where the stage stands next; `comes`: it is its turn.
    fn advance(&self, mut status: StageStatus, comes: bool) -> StageStatus {
        let passed = |gates: &[GateStatus]| gates.iter().all(|gate| gate.state == GateState::Passed);
        if status.phase == StagePhase::Waiting {
            status.gates = self.gates(&self.stage.gates, &status.gates, false, comes);
            if comes && passed(&status.gates) {
                status.phase = StagePhase::Open;
            }
        }
        if status.phase == StagePhase::Open {
            let ends = self.own().all(|(_, status)| status.phase == Phase::Done);
            status.exit = self.gates(&self.stage.exit, &status.exit, true, ends);
            if ends && passed(&status.exit) {
                status.phase = StagePhase::Done;
            }
        }
        status
    }

    /// The routes of this stage.
    fn own(&self) -> impl Iterator<Item = (&'a Route<'r>, &'a RouteStatus)> {
        let name = self.stage.name.as_str();
        self.routes.iter().zip(self.states).filter(move |(route, _)| route.stage == Some(name))
    }

    /// The gates of a list: people approve what they can see, and a drill moves traffic, so these come last.
    fn gates(&self, gates: &[Gate], old: &[GateStatus], exit: bool, comes: bool) -> Vec<GateStatus> {
        let wave_of =
            |gate: &Gate| usize::from(gate.approval.is_some()) + 2 * usize::from(gate.drill.is_some());
        let mut next: BTreeMap<&str, GateStatus> = BTreeMap::new();
        for wave in 0..=2 {
            let may_ask = comes && next.values().all(|gate| gate.state == GateState::Passed);
            for gate in gates.iter().filter(|gate| wave_of(gate) == wave) {
                let known = old.iter().find(|known| known.name == gate.name);
                next.insert(&gate.name, self.gate(gate, known, exit, may_ask));
            }
        }
        gates.iter().filter_map(|gate| next.remove(gate.name.as_str())).collect()
    }

    fn gate(&self, gate: &Gate, old: Option<&GateStatus>, exit: bool, may_ask: bool) -> GateStatus {
        let attempt = old.map_or(0, |old| old.attempt);
        match old.filter(|old| old.state != GateState::Waiting && is_of(old, gate)) {
            Some(old) => self.follow(gate, old.clone(), exit),
            None if may_ask => self.ask(gate, attempt),
            None => GateStatus {
                name: gate.name.clone(),
                attempt,
                message: "asked when what comes before it has passed".to_owned(),
                ..GateStatus::default()
            },
        }
    }

    /// Asks for the first time, or anew after so many attempts.
    fn ask(&self, gate: &Gate, attempts: i32) -> GateStatus {
        let counted = gate.job.is_some() || gate.drill.is_some();
        let message = match (&gate.approval, &gate.drill) {
            (Some(_), _) => format!("kubectl stomaton approve --stage {}", self.stage.name),
            (_, Some(drill)) => self.drill_waits(drill),
            _ => "no answer yet".to_owned(),
        };
        GateStatus {
            name: gate.name.clone(),
            state: GateState::Asked,
            attempt: if counted { attempts.saturating_add(1) } else { 0 },
            of: gate.hash(),
            since: Some(MicroTime(self.now)),
            message,
        }
    }

    /// What becomes of a gate that was asked.
    fn follow(&self, gate: &Gate, old: GateStatus, exit: bool) -> GateStatus {
        if gate.approval.is_some() {
            return old;
        }
        if let Some(drill) = &gate.drill {
            return self.judge(drill, old);
        }
        let place = Place { stage: self.stage.name.clone(), exit, gate: gate.name.clone() };
        let Some(fact) = self.facts.get(&place) else { return old };
        match old.state {
            GateState::Passed if gate.job.is_some() => old,
            GateState::Failed if gate.job.is_some() => {
                let mended = !fact.of.is_empty() && template(&old).is_some_and(|of| of != fact.of);
                if mended { self.ask(gate, old.attempt) } else { old }
            }
            _ => self.hear(gate, fact, old),
        }
    }

    fn hear(&self, gate: &Gate, fact: &Fact, mut old: GateStatus) -> GateStatus {
        // The template of an attempt is the one that it began with, whatever becomes of that meanwhile.
        if !fact.of.is_empty() && template(&old).is_none() {
            old.of = format!("{}.{}", gate.hash(), fact.of);
        }
        let (state, message) = match &fact.says {
            Says::Unknown(why) | Says::NotYet(why) => (GateState::Asked, why),
            Says::Passed(what) => (GateState::Passed, what),
            Says::Failed(why) => (GateState::Failed, why),
        };
        self.turn(old, state, message.clone())
    }

    fn turn(&self, old: GateStatus, state: GateState, message: String) -> GateStatus {
        let since = if state == old.state { old.since.clone() } else { Some(MicroTime(self.now)) };
        GateStatus { state, since, message, ..old }
    }

    /// Whether the drill was fast enough, once it was done.
    fn judge(&self, drill: &DrillGate, old: GateStatus) -> GateStatus {
        if old.state != GateState::Asked {
            return old;
        }
        let bound = Duration::from(drill.within).as_millis();
        match self.drilled(drill).and_then(|(_, status)| took(&old, status)) {
            None => GateStatus { message: self.drill_waits(drill), ..old },
            Some(took) if u128::try_from(took).is_ok_and(|took| took <= bound) => {
                let message = format!("every edge pod followed in {took} ms, bound {bound} ms");
                self.turn(old, GateState::Passed, message)
            }
            Some(took) => {
                let message = format!("every edge pod followed only in {took} ms, bound {bound} ms");
                self.turn(old, GateState::Failed, message)
            }
        }
    }

    /// The route that is drilled.
    fn drilled(&self, drill: &DrillGate) -> Option<(&'a Route<'r>, &'a RouteStatus)> {
        self.own().find(|(route, _)| route.name == drill.route && route.group.is_none())
    }

    fn drill_waits(&self, drill: &DrillGate) -> String {
        let name = &drill.route;
        match self.drilled(drill).map(|(_, status)| status.phase) {
            None => format!("route {name} to be of this stage, and of no group"),
            Some(Phase::Soak | Phase::Done) => {
                format!("route {name} is past its ramp: drill another route, or take the gate out")
            }
            Some(Phase::RollingBack) => format!("every edge pod to take route {name} back"),
            Some(_) => format!("route {name} to fulfil its first step: then it is taken back"),
        }
    }
}

/// How long the drill that the gate asked for took, in milliseconds; none while it is not over.
fn took(gate: &GateStatus, route: &RouteStatus) -> Option<i64> {
    let (drill, since) = (route.drill.as_ref()?, gate.since.as_ref()?);
    // One of before it was asked says nothing: that one failed, and a person wants another.
    drill.took_ms.filter(|_| route.is_drilled() && drill.asked.0 >= since.0)
}

/// The gate that drills this route, while its stage is not open.
fn drill_of<'s>(terms: &Terms<'_>, known: &'s StageStatus, route: &Route<'_>) -> Option<&'s GateStatus> {
    let stage = terms.stages.iter().find(|stage| stage.name == known.name)?;
    let drills = |gate: &&Gate| gate.drill.as_ref().is_some_and(|drill| drill.route == route.name);
    let gate = stage.gates.iter().find(drills).filter(|_| route.group.is_none())?;
    known.gates.iter().find(|known| known.name == gate.name)
}

/// Whether the route is to be taken back on purpose once it has what its step asks for.
pub(super) fn is_drill_due(
    terms: &Terms<'_>,
    stages: &[StageStatus],
    route: &Route<'_>,
    status: &RouteStatus,
) -> bool {
    let known = route.stage.and_then(|name| find(stages, name));
    let gate = known.filter(|known| known.phase == StagePhase::Waiting);
    let gate = gate.and_then(|known| drill_of(terms, known, route));
    gate.is_some_and(|gate| gate.state == GateState::Asked && took(gate, status).is_none())
}

/// What a route of a stage still waits for before it may begin, in words. An attempt after a rollback needs no gate again,
/// unless the route is the one that is drilled.
pub(super) fn keeps(
    terms: &Terms<'_>,
    stages: &[StageStatus],
    route: &Route<'_>,
    status: &RouteStatus,
) -> Option<String> {
    let name = route.stage?;
    let Some(known) = find(stages, name) else {
        return Some(format!("stage {name}, which this plan does not have"));
    };
    let has_begun = status.attempt > 0 && drill_of(terms, known, route).is_none();
    if known.phase != StagePhase::Waiting || has_begun || is_drill_due(terms, stages, route, status) {
        return None;
    }
    Some(waits(terms, stages, known))
}

/// What a stage that is not open waits for.
fn waits(terms: &Terms<'_>, stages: &[StageStatus], known: &StageStatus) -> String {
    let stage = &known.name;
    let names = terms.stages.iter().map(|stage| &stage.name);
    let before = names.clone().zip(names.skip(1)).find(|(_, after)| *after == stage);
    let is_done = |name: &str| find(stages, name).is_some_and(|before| before.phase == StagePhase::Done);
    if let Some((before, _)) = before.filter(|(before, _)| !is_done(before)) {
        return format!("stage {before}, which comes before stage {stage}, to be done");
    }
    let urgency = |gate: &&GateStatus| match gate.state {
        GateState::Failed => 0,
        GateState::Asked => 1,
        GateState::Waiting => 2,
        GateState::Passed => 3,
    };
    let Some(gate) = known.gates.iter().min_by_key(urgency) else { return format!("stage {stage} to open") };
    match gate.state {
        GateState::Failed => format!("gate {} of stage {stage}, which failed: {}", gate.name, gate.message),
        GateState::Asked if is_approval(terms, known, gate) => {
            format!("{APPROVAL}of gate {}: kubectl stomaton approve --stage {stage}", gate.name)
        }
        _ => format!("gate {} of stage {stage}: {}", gate.name, gate.message),
    }
}

fn is_approval(terms: &Terms<'_>, known: &StageStatus, gate: &GateStatus) -> bool {
    let stage = terms.stages.iter().find(|stage| stage.name == known.name);
    stage.is_some_and(|stage| approvals(stage, known.phase).any(|name| *name == gate.name))
}

/// Names of the gates that people pass, of those that the stage waits for in this phase.
fn approvals(stage: &Stage, phase: StagePhase) -> impl Iterator<Item = &String> {
    let gates = if phase == StagePhase::Waiting { &stage.gates } else { &stage.exit };
    gates.iter().filter(|gate| gate.approval.is_some()).map(|gate| &gate.name)
}

/// Passes the gates of a stage that wait for a person; gives their names.
pub(super) fn approve(stage: &Stage, status: &mut StageStatus, by: &Held) -> Vec<String> {
    let phase = status.phase;
    let mut passed = Vec::new();
    for gate in present_mut(status).iter_mut().filter(|gate| gate.state == GateState::Asked) {
        if approvals(stage, phase).any(|name| *name == gate.name) {
            gate.state = GateState::Passed;
            gate.since = Some(by.at.clone());
            gate.message = format!("approved by {}{}", by.by, because(&by.reason));
            passed.push(gate.name.clone());
        }
    }
    passed
}

/// Lets the gates of a stage that have failed be asked anew; gives their names.
pub(super) fn resume(status: &mut StageStatus) -> Vec<String> {
    let mut resumed = Vec::new();
    for gate in present_mut(status).iter_mut().filter(|gate| gate.state == GateState::Failed) {
        gate.state = GateState::Waiting;
        resumed.push(gate.name.clone());
    }
    resumed
}

/// The gate that has failed, and holds its stage, in words.
pub(super) fn failed(stages: &[StageStatus]) -> Option<String> {
    let (stage, gate) = first(stages, |_, gate| gate.state == GateState::Failed)?;
    Some(format!(
        "gate {} of stage {} failed: {}; mend that, then: kubectl stomaton resume --stage {}",
        gate.name, stage.name, gate.message, stage.name
    ))
}

/// The gate that waits for a person, in words.
pub(super) fn unapproved(terms: &Terms<'_>, stages: &[StageStatus]) -> Option<String> {
    let is_asked = |stage: &StageStatus, gate: &GateStatus| {
        gate.state == GateState::Asked && is_approval(terms, stage, gate)
    };
    let (stage, gate) = first(stages, is_asked)?;
    let name = &stage.name;
    Some(format!(
        "stage {name} waits for {APPROVAL}of gate {}: kubectl stomaton approve --stage {name}",
        gate.name
    ))
}

/// The gate that will pass without a person, in words.
pub(super) fn awaited(stages: &[StageStatus]) -> Option<String> {
    let (stage, gate) = first(stages, |_, gate| gate.state == GateState::Asked)?;
    Some(format!("stage {} waits for gate {}: {}", stage.name, gate.name, gate.message))
}

fn first(
    stages: &[StageStatus],
    what: impl Fn(&StageStatus, &GateStatus) -> bool,
) -> Option<(&StageStatus, &GateStatus)> {
    let mut gates = stages.iter().flat_map(|stage| present(stage).iter().map(move |gate| (stage, gate)));
    gates.find(|(stage, gate)| what(stage, gate))
}

#[cfg(test)]
#[path = "stages_tests.rs"]
mod tests;
