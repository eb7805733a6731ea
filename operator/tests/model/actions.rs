//! What may happen next, in any order: the model.
//!
//! Nothing here is fair: any of it may never happen, so an agent may be late, or frozen, for ever.

use crate::{
    agent::Agent,
    invariants,
    setting::{Guard, Setting},
    world::{Controller, Snapshot, Weights, World},
};
use stateright::{Model, Property};

/// Revisions beyond which nothing new is to be learned; no path that keeps the promises comes so far.
const MAX_REVISION: u8 = 12;

/// One thing that happens, with the process or the agent it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A pass, up to its write of EdgeWeights.
    Pass(usize),
    /// The status write of that pass.
    Record(usize),
    /// The rollback path answers an alarm.
    TakeBack(usize),
    /// A cache of plans catches up.
    LearnPlan(usize),
    /// A cache of EdgeWeights comes one version nearer.
    LearnWeights(usize),
    /// The agents' first lines arrive at a process that has just started.
    Hear(usize),
    /// A process ends and starts anew: all it had in memory is lost.
    Crash(usize),
    /// A guard trips on what a process has counted.
    Breach(usize),
    /// An agent's watch brings it something of the log.
    Apply(usize, usize),
    /// A kill arrives.
    Kill(usize),
    /// An agent's own guard trips.
    Trip(usize),
    /// The target's endpoint comes or goes.
    Flip,
    /// A hold passes.
    Tick,
    /// The API server's store is copied.
    Copy,
    /// The copy takes the place of the store.
    Restore,
}

/// Two processes, two agents, one route.
pub struct Migration {
    pub setting: Setting,
}

impl Model for Migration {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.setting.budget)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for at in 0..self.setting.controllers {
            of_controller(world, at, actions);
        }
        for at in 0..world.agents.len() {
            self.of_agent(world, at, actions);
        }
        actions.push(Action::Tick);
        if world.left.flips > 0 {
            actions.push(Action::Flip);
        }
        if world.left.restores > 0 {
            let next = if world.snapshot.is_some() { Action::Restore } else { Action::Copy };
            actions.push(next);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        self.happen(&mut world, action);
        world.tidy(self.setting.controllers, self.setting.has(Guard::Fence));
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::all()
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.live.is_none_or(|live| live.revision <= MAX_REVISION)
    }
}

/// What a process may do, or have done to it.
fn of_controller(world: &World, at: usize, actions: &mut Vec<Action>) {
    let controller = &world.controllers[at];
    if controller.pending.is_some() {
        actions.push(Action::Record(at));
    } else {
        actions.push(Action::Pass(at));
        if controller.plan != world.status {
            actions.push(Action::LearnPlan(at));
        }
    }
    if news(world, controller).is_some() {
        actions.push(Action::LearnWeights(at));
    }
    if controller.alarm > 0 {
        actions.push(Action::TakeBack(at));
    }
    if !controller.heard {
        actions.push(Action::Hear(at));
    }
    if world.left.crashes > 0 {
        actions.push(Action::Crash(at));
    }
    // Only answers of the service can be bad, and only of the attempt under way.
    let serves =
        |agent: &Agent| agent.serves() > 0 && agent.entry.is_some_and(|e| e.attempt == controller.armed);
    let can_count = controller.heard && controller.armed > 0 && controller.breached == 0;
    if world.left.breaches > 0 && can_count && world.agents.iter().any(serves) {
        actions.push(Action::Breach(at));
    }
}

/// What a cache of EdgeWeights gets next.
fn news(world: &World, controller: &Controller) -> Option<Weights> {
    let known = controller.weights.map_or(0, |weights| weights.version);
    world.log.iter().find(|weights| weights.version > known).copied()
}

impl Migration {
    /// What an agent may do, or have done to it.
    fn of_agent(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
        let agent = &world.agents[at];
        let is_fenced = self.setting.has(Guard::Fence);
        let may_come =
            |w: &Weights| if is_fenced { w.revision > agent.seen } else { w.revision != agent.revision };
        let brought = world.log.iter().enumerate().filter(|&(_, weights)| may_come(weights));
        actions.extend(brought.map(|(number, _)| Action::Apply(at, number)));
        if !self.setting.has(Guard::Latch) {
            return;
        }
        if agent.kill.is_some() {
            actions.push(Action::Kill(at));
        }
        if world.left.breaches > 0 && agent.serves() > 0 {
            actions.push(Action::Trip(at));
        }
    }

    fn happen(&self, world: &mut World, action: Action) {
        match action {
            Action::Pass(at) => world.pass(&self.setting, at),
            Action::Record(at) => world.record(at),
            Action::TakeBack(at) => world.take_back(&self.setting, at),
            Action::LearnPlan(at) => world.controllers[at].plan = world.status,
            Action::LearnWeights(at) => {
                let weights = news(world, &world.controllers[at]);
                world.controllers[at].weights = weights;
            }
            Action::Hear(at) => {
                world.controllers[at].heard = true;
                world.judge(at);
            }
            Action::Crash(at) => {
                world.left.crashes -= 1;
                world.controllers[at] = Controller::started(world.status, world.live);
            }
            Action::Breach(at) => {
                world.left.breaches -= 1;
                world.breach(at);
            }
            Action::Apply(at, number) => world.agents[at].apply(world.log[number]),
            Action::Kill(at) => {
                if let Some(kill) = world.agents[at].kill.take() {
                    world.agents[at].set(kill);
                }
                self.hear(world);
            }
            Action::Trip(at) => {
                world.left.breaches -= 1;
                world.agents[at].trip();
                self.hear(world);
            }
            Action::Flip => {
                world.left.flips -= 1;
                world.ready = !world.ready;
            }
            Action::Tick => world.tick(),
            Action::Copy => copy(world),
            Action::Restore => restore(world),
        }
    }

    /// Whoever hears agents hears of a latch at once.
    fn hear(&self, world: &mut World) {
        for at in 0..self.setting.controllers {
            world.judge(at);
        }
    }
}

fn copy(world: &mut World) {
    let status = world.status;
    world.snapshot = world.live.map(|live| Snapshot { live, status });
}

/// Agents and processes keep what they have; watches begin with what is there now.
fn restore(world: &mut World) {
    let Some(Snapshot { live, status }) = world.snapshot.take() else { return };
    world.left.restores -= 1;
    world.version += 1;
    let live = Weights { version: world.version, ..live };
    (world.live, world.status, world.log) = (Some(live), status, vec![live]);
}
