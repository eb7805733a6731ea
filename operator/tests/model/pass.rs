//! The machine of production, given what one process sees. The only place that knows its input and its output.

use crate::world::{Entry, MAX_ATTEMPTS, RAMP, Since, Status, Weights};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::json;
use std::{collections::BTreeMap, sync::LazyLock};
use stomaton_crds::{
    edge_state::{Counts, Sides},
    keys::AUDIENCE_PUBLIC,
    v1alpha1::{self, Budget, Certainty, Evidence, Phase, Profile, Rollback, RouteStatus, RouteWeights},
};
use stomaton_operator::{
    controllers::migration_plan::{
        machine::{Route, State, Terms, step},
        stages::Facts,
    },
    edges::tally::Breach,
};

const NAME: &str = "content";
const ID: &str = "0123456789abcdef";
/// What the profile asks for.
const MIN_REQUESTS: u64 = 20;

/// What one process sees at the moment of a pass.
pub struct View {
    pub plan: Option<Status>,
    pub weights: Option<Weights>,
    /// The highest revision that any agent reports.
    pub seen: u8,
    /// The last attempt that is over by any agent's weights.
    pub taken: u8,
    /// The revision that counts as served by all agents; none: not all serve it, or not all were heard.
    pub acknowledged: Option<u8>,
    pub target_ready: bool,
    /// Whether enough answers of the service were counted in the present step.
    pub enough: bool,
    /// The attempt whose guard is breached.
    pub breach: Option<u8>,
}

/// What the pass comes to.
pub struct Outcome {
    pub status: Status,
    /// What EdgeWeights should say, if they do not.
    pub effect: Option<Entry>,
    /// Whether this model can hold all that the machine said. If not, the model is older than the machine.
    pub whole: bool,
}

/// What does not change while a plan runs.
struct Plan {
    profile: Profile,
    rollback: Rollback,
    certainty: Certainty,
    budget: Budget,
    now: Timestamp,
    long_ago: Timestamp,
}

static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let ramp: Vec<_> =
        RAMP.iter().map(|permille| json!({ "permille": permille, "minHold": "10s" })).collect();
    let profile = json!({ "name": "p", "ramp": ramp, "minRequests": MIN_REQUESTS });
    let rollback = json!({ "cooldown": "10s", "maxAttempts": MAX_ATTEMPTS });
    Plan {
        profile: serde_json::from_value(profile).expect("a profile"),
        rollback: serde_json::from_value(rollback).expect("terms of rollbacks"),
        certainty: Certainty::default(),
        budget: Budget::default(),
        now: Timestamp::from_second(1_000_000).expect("a time"),
        long_ago: Timestamp::from_second(900_000).expect("a time"),
    }
});

/// One step of the machine.
pub fn pass(view: &View) -> Outcome {
    let plan = &*PLAN;
    let state = State { routes: view.plan.iter().map(to_machine).collect(), ..State::default() };
    let terms = Terms {
        rollback: &plan.rollback,
        judges: &[],
        certainty: &plan.certainty,
        budget: &plan.budget,
        spec_hash: String::new(),
        closed: None,
        back: None,
        stages: &[],
    };
    let (next, effects) = step(&terms, &[route(view, plan)], &Facts::default(), &state, &[], plan.now);
    let status = next.routes.first().map(from_machine).unwrap_or_default();
    let effect = effects.first().map(|effect| entry(&effect.weights));
    let is_whole = |said: &RouteStatus| to_machine(&status) == decisive(said);
    let whole = next.routes.len() == 1
        && next.routes.iter().all(is_whole)
        && effects.len() <= 1
        && effects.iter().zip(effect).all(|(said, kept)| said.weights == weights(kept));
    Outcome { status, effect, whole }
}

/// Whether a route in this phase is guarded: the service has users, or is about to.
pub fn is_guarded(phase: Phase) -> bool {
    !matches!(phase, Phase::Pending | Phase::RollingBack | Phase::RolledBack)
}

fn route<'a>(view: &View, plan: &'a Plan) -> Route<'a> {
    let requests = if view.enough { MIN_REQUESTS } else { 0 };
    let service = Counts { requests, ..Counts::default() };
    Route {
        name: NAME,
        group: None,
        id: Some(ID.to_owned()),
        profile: &plan.profile,
        problem: None,
        structured: true,
        entry: view.weights.map(|present| weights(present.entry)),
        weights_revision: view.weights.map_or(0, |present| present.revision.into()),
        seen: view.seen.into(),
        taken: view.taken.into(),
        acknowledged: view.acknowledged.map(i64::from),
        target_ready: view.target_ready,
        safe_ready: true,
        counted: Sides { service, ..Sides::default() },
        judged: Sides::default(),
        breach: view.breach.map(|attempt| (attempt.into(), breach(plan.now))),
        depends_on: &[],
        revisions: String::new(),
        behind: Vec::new(),
        readings: BTreeMap::new(),
        point_of_no_return: None,
        start_at: None,
        stage: None,
    }
}

fn breach(at: Timestamp) -> Breach {
    Breach { guard: "bad-answers".to_owned(), bad: 5, requests: 9, over_ms: 120, at, reported_by: None }
}

fn weights(entry: Entry) -> RouteWeights {
    let Entry { permille, latched, attempt, step, .. } = entry;
    let public = (AUDIENCE_PUBLIC.to_owned(), i32::from(permille));
    let permille = if latched { BTreeMap::new() } else { BTreeMap::from([public]) };
    RouteWeights { permille, latched, attempt: attempt.into(), step: step.into() }
}

fn entry(weights: &RouteWeights) -> Entry {
    Entry {
        permille: permille(weights.permille.get(AUDIENCE_PUBLIC).copied().unwrap_or(0)),
        latched: weights.latched,
        attempt: small(weights.attempt.into()),
        step: small(weights.step.into()),
        back: weights.latched,
    }
}

fn to_machine(status: &Status) -> RouteStatus {
    let since = match status.since {
        Since::Never => None,
        Since::Fresh => Some(MicroTime(PLAN.now)),
        Since::Over => Some(MicroTime(PLAN.long_ago)),
    };
    RouteStatus {
        name: NAME.to_owned(),
        id: ID.to_owned(),
        phase: status.phase,
        step: status.step.into(),
        attempt: status.attempt.into(),
        epoch: status.epoch.into(),
        revision: status.revision.into(),
        weights: v1alpha1::Weights {
            desired: status.desired.into(),
            applied: status.applied.into(),
            ..v1alpha1::Weights::default()
        },
        since,
        ..RouteStatus::default()
    }
}

fn from_machine(status: &RouteStatus) -> Status {
    Status {
        phase: status.phase,
        step: small(status.step.into()),
        attempt: small(status.attempt.into()),
        epoch: small(status.epoch),
        revision: small(status.revision),
        desired: permille(status.weights.desired),
        applied: permille(status.weights.applied),
        since: match &status.since {
            None => Since::Never,
            Some(MicroTime(at)) if *at == PLAN.now => Since::Fresh,
            Some(_) => Since::Over,
        },
    }
}

/// A status without that by which nothing is decided.
fn decisive(status: &RouteStatus) -> RouteStatus {
    let mut status = status.clone();
    status.waits_for.clear();
    status.evidence = Evidence::default();
    status.weights.observed = None;
    // Every attempt of this model begins with the first step.
    status.fell_from.clear();
    status
}

fn small(number: i64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn permille(number: i32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
