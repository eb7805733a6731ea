//! The promises, one function each, and what has to be possible at all.
//!
//! Nothing here is of the kind "in the end": the checker cannot tell a cycle from two ways to the same place, so what
//! it says of such a promise is worth nothing. That the machine arrives is for its property tests.

use crate::{
    actions::Migration,
    agent::Agent,
    world::{RAMP, Status, World},
};
use stateright::Property;
use std::collections::BTreeMap;
use stomaton_crds::v1alpha1::Phase;

pub const FORWARD: &str = "an agent never goes back to a lower revision";
pub const ONE_CONTENT: &str = "a revision has one content for ever";
pub const DECLARED: &str = "a weight is 0 or a step of the profile";
pub const TAKEN_IS_OVER: &str = "an agent that has taken an attempt back never serves it again";
pub const ACKNOWLEDGED: &str = "a weight rises only when every agent has the last one";
pub const HELD: &str = "no hold and no cooldown is cut short";
pub const READY: &str = "only a target with a ready endpoint is given weight";
pub const REACHES: &str = "a write is above all that any agent has seen";
pub const LATCHED: &str = "only a further attempt lifts a latch at the edge";
pub const NOT_OVERTAKEN: &str = "a write of the past never lands";
pub const ROLLED_BACK: &str = "RolledBack: no agent serves that attempt or one before it";
pub const APPLIED: &str = "a weight that status calls applied was given to every agent";
pub const DONE: &str = "Done: every agent was given all of the traffic";
pub const WHOLE: &str = "the model can hold all that the machine says";

/// What holds whoever writes, and however stale what they read.
pub const ALWAYS: [&str; 12] = [
    FORWARD,
    ONE_CONTENT,
    DECLARED,
    TAKEN_IS_OVER,
    ACKNOWLEDGED,
    HELD,
    READY,
    REACHES,
    LATCHED,
    NOT_OVERTAKEN,
    ROLLED_BACK,
    WHOLE,
];
/// What status says of the edge pods.
pub const TRUTH: [&str; 2] = [APPLIED, DONE];
/// What holds even when the API server forgets.
pub const FORGETFUL: [&str; 6] = [FORWARD, ONE_CONTENT, DECLARED, READY, REACHES, WHOLE];

pub const FINISHES: &str = "a plan can finish";
pub const FIRST_STEP_BACK: &str = "the first step can be rolled back";
pub const LAST_STEP_BACK: &str = "the last step can be rolled back";
pub const RESUMES: &str = "a plan can finish after a crash";
pub const TRIES_AGAIN: &str = "a second attempt can begin";
pub const FINISHES_AGAIN: &str = "a second attempt can finish";

/// What has to be possible: a model in which nothing moves keeps every promise.
pub const POSSIBLE: [&str; 6] =
    [FINISHES, FIRST_STEP_BACK, LAST_STEP_BACK, RESUMES, TRIES_AGAIN, FINISHES_AGAIN];

/// All of them.
pub fn all() -> Vec<Property<Migration>> {
    vec![
        Property::always(FORWARD, forward),
        Property::always(ONE_CONTENT, one_content),
        Property::always(DECLARED, declared),
        Property::always(TAKEN_IS_OVER, taken_is_over),
        Property::always(ACKNOWLEDGED, acknowledged),
        Property::always(HELD, held),
        Property::always(READY, ready),
        Property::always(REACHES, reaches),
        Property::always(LATCHED, latched),
        Property::always(NOT_OVERTAKEN, not_overtaken),
        Property::always(ROLLED_BACK, rolled_back),
        Property::always(APPLIED, applied),
        Property::always(DONE, done),
        Property::always(WHOLE, whole),
        Property::sometimes(FINISHES, finishes),
        Property::sometimes(FIRST_STEP_BACK, first_step_back),
        Property::sometimes(LAST_STEP_BACK, last_step_back),
        Property::sometimes(RESUMES, resumes),
        Property::sometimes(TRIES_AGAIN, tries_again),
        Property::sometimes(FINISHES_AGAIN, finishes_again),
    ]
}

/// Promise 4: a lower revision never wins, at the edge pod.
fn forward(_: &Migration, world: &World) -> bool {
    world.agents.iter().all(|agent| !agent.went_back)
}

/// Promise 4: the content of a revision never changes, wherever it is met.
fn one_content(_: &Migration, world: &World) -> bool {
    let of_agents = world.agents.iter().filter_map(|agent| Some((agent.revision, agent.entry?)));
    let of_store = world.live.iter().chain(&world.log).map(|weights| (weights.revision, weights.entry));
    let mut contents = BTreeMap::new();
    of_agents.chain(of_store).all(|(revision, entry)| *contents.entry(revision).or_insert(entry) == entry)
}

/// Promise 3: what is in force is what somebody asked for.
fn declared(_: &Migration, world: &World) -> bool {
    let served = world.agents.iter().filter_map(|agent| agent.entry);
    served.chain(world.live.map(|live| live.entry)).all(|e| e.permille == 0 || RAMP.contains(&e.permille))
}

/// Promise 2: what was taken back stays so, whatever a controller believes. A further attempt is another matter.
fn taken_is_over(_: &Migration, world: &World) -> bool {
    let serves_taken =
        |agent: &Agent| agent.serves() > 0 && agent.entry.is_some_and(|entry| agent.has_taken(entry.attempt));
    !world.agents.iter().any(serves_taken)
}

/// Promise 4: an acknowledgement of a step by all agents before the next one, and of a rollback before an attempt.
fn acknowledged(_: &Migration, world: &World) -> bool {
    !world.faults.early
}

/// Promise 5: evidence needs time.
fn held(_: &Migration, world: &World) -> bool {
    !world.faults.short
}

/// Promise 3: a side without ready endpoints gets nothing.
fn ready(_: &Migration, world: &World) -> bool {
    !world.faults.unready
}

/// Promise 4: a restored store cannot mute a rollback.
fn reaches(_: &Migration, world: &World) -> bool {
    !world.faults.muted
}

/// Promise 2: no controller, stale or not, undoes a rollback.
fn latched(_: &Migration, world: &World) -> bool {
    !world.faults.lifted
}

/// Promise 4: a controller that was left behind takes nothing back that another one did.
fn not_overtaken(_: &Migration, world: &World) -> bool {
    !world.faults.overtaken
}

/// Promise 9: a rollback is over when the last agent has it, not before.
fn rolled_back(_: &Migration, world: &World) -> bool {
    let Some(status) = in_phase(world, Phase::RolledBack) else { return true };
    let serves = |agent: &Agent| {
        agent.serves() > 0 && agent.entry.is_some_and(|entry| entry.attempt <= status.attempt)
    };
    !world.agents.iter().any(serves)
}

/// Promise 9: `applied` is what every agent acknowledged. What an agent has latched since is not in it yet.
fn applied(_: &Migration, world: &World) -> bool {
    let Some(status) = world.status.filter(|status| status.applied > 0) else { return true };
    were_given(world, (status.attempt, status.applied))
}

/// Promise 9, for the end.
fn done(_: &Migration, world: &World) -> bool {
    in_phase(world, Phase::Done).is_none_or(|status| were_given(world, (status.attempt, 1000)))
}

/// Not a promise: what the machine says beyond this is not looked at, so it must not be.
fn whole(_: &Migration, world: &World) -> bool {
    !world.faults.lossy
}

fn finishes(_: &Migration, world: &World) -> bool {
    in_phase(world, Phase::Done).is_some() && world.agents.iter().all(|agent| agent.serves() == 1000)
}

fn first_step_back(_: &Migration, world: &World) -> bool {
    in_phase(world, Phase::RolledBack).is_some_and(|status| status.step == 1)
}

fn last_step_back(_: &Migration, world: &World) -> bool {
    in_phase(world, Phase::RolledBack).is_some_and(|status| usize::from(status.step) == RAMP.len())
}

fn resumes(model: &Migration, world: &World) -> bool {
    world.left.crashes < model.setting.budget.crashes && finishes(model, world)
}

fn tries_again(_: &Migration, world: &World) -> bool {
    world.agents.iter().any(|agent| agent.serves() > 0 && agent.entry.is_some_and(|e| e.attempt == 2))
}

fn finishes_again(model: &Migration, world: &World) -> bool {
    finishes(model, world) && world.status.is_some_and(|status| status.attempt == 2)
}

fn in_phase(world: &World, phase: Phase) -> Option<Status> {
    world.status.filter(|status| status.phase == phase)
}

fn were_given(world: &World, what: (u8, u16)) -> bool {
    world.agents.iter().all(|agent| agent.furthest >= what)
}
