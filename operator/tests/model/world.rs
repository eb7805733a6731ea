//! Everything that is: what the API server has, what two controllers believe, what two edge pods serve. One route.
//!
//! Small on purpose, since millions of these are compared. Times are told apart only as far as the machine does: a
//! hold is over or it is not. Messages, counts and history are left out; nothing is decided by them.

use crate::{agent::Agent, setting::Budget};
use stomaton_crds::v1alpha1::Phase;

/// Weights of the profile, in per mille.
pub const RAMP: [u16; 2] = [100, 1000];
/// Attempts in all.
pub const MAX_ATTEMPTS: u8 = 2;

/// What EdgeWeights say of the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    pub permille: u16,
    pub latched: bool,
    pub attempt: u8,
    pub step: u8,
    /// Whether it takes the attempt back. The same as `latched`, unless that is what was taken out of the model; the
    /// controllers do not see it.
    pub back: bool,
}

/// EdgeWeights at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weights {
    /// The API server's own number. A restored store goes on above those it has ever given, as etcd does when it is
    /// restored with `--bump-revision`.
    pub version: u8,
    pub revision: u8,
    pub entry: Entry,
}

/// When the present step was acknowledged, or the phase began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Since {
    #[default]
    Never,
    /// The hold, or the cooldown, is not over.
    Fresh,
    Over,
}

/// The status of the route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status {
    pub phase: Phase,
    pub step: u8,
    pub attempt: u8,
    pub epoch: u8,
    pub revision: u8,
    pub desired: u16,
    pub applied: u16,
    pub since: Since,
}

/// One process that believes it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Controller {
    /// The plan's status as cached, or as this process wrote it last if that is newer.
    pub plan: Option<Status>,
    /// EdgeWeights as cached: its own writes come back by the watch, too.
    pub weights: Option<Weights>,
    /// The status that a pass has yet to write.
    pub pending: Option<Status>,
    /// Attempt that is guarded; 0: none.
    pub armed: u8,
    /// Attempt whose guard is breached, as far as this process knows; 0: none.
    pub breached: u8,
    /// Attempt that the rollback path has yet to latch; 0: none.
    pub alarm: u8,
    /// Whether edge pods were heard since the process started.
    pub heard: bool,
    /// Revision under which evidence is counted; 0: none.
    pub baseline: u8,
}

impl Controller {
    /// A process that has just listed everything.
    pub fn started(plan: Option<Status>, weights: Option<Weights>) -> Self {
        let pending = None;
        Self { plan, weights, pending, armed: 0, breached: 0, alarm: 0, heard: false, baseline: 0 }
    }
}

/// What the API server had when its store was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    pub live: Weights,
    pub status: Option<Status>,
}

/// What was done that must never be done. Each is one promise of [`crate::invariants`], broken at the moment of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    pub early: bool,
    pub short: bool,
    pub unready: bool,
    pub muted: bool,
    pub lifted: bool,
    pub overtaken: bool,
    pub lossy: bool,
}

/// One state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// EdgeWeights.
    pub live: Option<Weights>,
    /// The plan's status.
    pub status: Option<Status>,
    /// The last version given.
    pub version: u8,
    /// EdgeWeights that watches may still bring, oldest first; the last are the present ones.
    pub log: Vec<Weights>,
    pub snapshot: Option<Snapshot>,
    pub controllers: [Controller; 2],
    pub agents: [Agent; 2],
    /// Whether the target has a ready endpoint.
    pub ready: bool,
    /// Whether a hold has passed since every agent had what EdgeWeights say.
    pub held: bool,
    /// What may still go wrong.
    pub left: Budget,
    pub faults: Faults,
}

impl Entry {
    /// Whether users see no difference.
    pub fn like(self, other: Self) -> bool {
        (self.attempt, self.back) == (other.attempt, other.back) && (self.back || self.step == other.step)
    }

    pub fn place(self) -> (u8, u8) {
        (self.attempt, self.step)
    }
}

impl World {
    pub fn new(left: Budget) -> Self {
        Self {
            live: None,
            status: None,
            version: 0,
            log: Vec::new(),
            snapshot: None,
            controllers: [Controller { heard: true, ..Controller::started(None, None) }; 2],
            agents: [Agent::default(); 2],
            ready: true,
            held: false,
            left,
            faults: Faults::default(),
        }
    }

    /// The highest revision that any agent has seen.
    pub fn seen(&self) -> u8 {
        self.agents.iter().map(|agent| agent.highest()).max().unwrap_or(0)
    }

    /// What a process reads in the agents' lines: nothing before the first ones.
    pub fn seen_by(&self, at: usize) -> u8 {
        if self.controllers[at].heard { self.seen() } else { 0 }
    }

    /// Whether every agent has what EdgeWeights say.
    pub fn settled(&self) -> bool {
        let as_live = |entry: Entry| self.live.is_some_and(|live| live.entry.like(entry));
        self.agents.iter().all(|agent| agent.entry.is_some_and(as_live))
    }

    /// A hold passes, for whoever waits for one.
    pub fn tick(&mut self) {
        let mut waited = false;
        for status in self.statuses().filter(|status| status.since == Since::Fresh) {
            status.since = Since::Over;
            waited = true;
        }
        self.held |= waited && self.settled();
    }

    fn statuses(&mut self) -> impl Iterator<Item = &mut Status> {
        let of_controllers =
            self.controllers.iter_mut().flat_map(|c| [&mut c.plan, &mut c.pending]).flatten();
        let copied = self.snapshot.iter_mut().filter_map(|snapshot| snapshot.status.as_mut());
        self.status.iter_mut().chain(of_controllers).chain(copied)
    }

    /// Makes one of states that differ in nothing that matters: which of two agents is which, and what no watch will
    /// bring to anybody any more.
    pub fn tidy(&mut self, controllers: usize, fenced: bool) {
        self.agents.iter_mut().for_each(Agent::forget_void_kill);
        self.agents.sort_unstable();
        if !fenced {
            return;
        }
        let version = |c: &Controller| c.weights.map_or(0, |weights| weights.version);
        let oldest = self.controllers.iter().take(controllers).map(version).min().unwrap_or(0);
        let lowest = self.agents.iter().map(|agent| agent.seen).min().unwrap_or(0);
        let newest = self.version;
        let wanted = |w: &Weights| w.version > oldest || w.revision > lowest || w.version == newest;
        self.log.retain(wanted);
    }
}
