//! An edge pod's agent, as far as weights go: the rules of its fence and of its latches.
//!
//! Written anew, since nothing of the edge is linked into the operator. The originals are `fence.rs` and `latches.rs`
//! of the agent, each with tests of its own.

use crate::world::{Entry, Weights};

/// A route that an agent holds on its safe side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Latch {
    pub attempt: u8,
    pub revision: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Agent {
    /// The revision in force; 0: none.
    pub revision: u8,
    /// What it says of the route.
    pub entry: Option<Entry>,
    /// The highest revision it has seen.
    pub seen: u8,
    pub latch: Option<Latch>,
    /// A kill that is on its way, or lost.
    pub kill: Option<Latch>,
    /// Attempts that it has taken back, one bit each. What it once did, not what it knows.
    pub taken: u8,
    /// The furthest it was ever given: attempt and weight.
    pub furthest: (u8, u16),
    /// Whether a lower revision ever came after a higher one.
    pub went_back: bool,
}

/// What weights mean for a latch.
#[derive(PartialEq, Eq)]
enum Standing {
    Holds,
    Ended,
}

impl Agent {
    /// The weight with which it really sends users to the service.
    pub fn serves(&self) -> u16 {
        self.entry.filter(|entry| !entry.latched && self.latch.is_none()).map_or(0, |entry| entry.permille)
    }

    /// The highest revision it reports, that of a latch included.
    pub fn highest(&self) -> u8 {
        self.seen.max(self.latch.map_or(0, |latch| latch.revision))
    }

    /// Whether it has taken `attempt` back at any time.
    pub fn has_taken(&self, attempt: u8) -> bool {
        self.taken & bit(attempt) != 0
    }

    /// What a watch brought.
    pub fn apply(&mut self, weights: Weights) {
        self.went_back |= weights.revision < self.revision;
        self.seen = self.seen.max(weights.revision);
        (self.revision, self.entry) = (weights.revision, Some(weights.entry));
        self.latch = self.latch.filter(|latch| self.standing(*latch) == Standing::Holds);
        if weights.entry.back {
            self.taken |= bit(weights.entry.attempt);
        } else {
            self.furthest = self.furthest.max((weights.entry.attempt, weights.entry.permille));
        }
    }

    /// Holds the route on its safe side, unless the weights in force make that needless.
    pub fn set(&mut self, mut latch: Latch) {
        if self.standing(latch) == Standing::Ended {
            return;
        }
        latch.revision = latch.revision.max(self.revision);
        match self.latch {
            Some(there) if latch.attempt <= there.attempt => return,
            Some(there) => latch.revision = latch.revision.max(there.revision),
            None => {}
        }
        self.latch = Some(latch);
        self.taken |= bit(latch.attempt);
    }

    /// Its own guard has tripped.
    pub fn trip(&mut self) {
        if let Some(entry) = self.entry {
            self.set(Latch { attempt: entry.attempt, revision: self.revision });
        }
    }

    /// A kill that would change nothing is as good as none.
    pub fn forget_void_kill(&mut self) {
        let held = |kill: &Latch| self.latch.is_some_and(|latch| latch.attempt >= kill.attempt);
        self.kill = self.kill.filter(|kill| !held(kill) && self.standing(*kill) == Standing::Holds);
    }

    fn standing(&self, latch: Latch) -> Standing {
        match self.entry.filter(|_| self.revision >= latch.revision) {
            Some(entry) if entry.attempt > latch.attempt => Standing::Ended,
            Some(entry) if entry.attempt == latch.attempt && entry.latched => Standing::Ended,
            _ => Standing::Holds,
        }
    }
}

fn bit(attempt: u8) -> u8 {
    1 << attempt.min(7)
}
