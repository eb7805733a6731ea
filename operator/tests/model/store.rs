//! EdgeWeights at the API server: a write as `weights.rs` of the operator makes it, and what it must never do.
//!
//! What that file does between reading the live object and replacing it is one moment here: whoever loses that race
//! reads again, so only the last reading counts.

use crate::{
    setting::{Guard, Setting},
    world::{Entry, Weights, World},
};

/// A write of the route's entry.
pub struct Write {
    /// EdgeWeights as the writer has them cached.
    pub cached: Option<Weights>,
    pub entry: Entry,
    /// Revisions up to this one were seen by agents.
    pub above: u8,
}

enum Merged {
    /// It is of the past, or would lift a latch.
    Refused,
    /// EdgeWeights say so already.
    Same,
    /// They may say so, at this revision.
    Next(u8),
}

impl World {
    /// Makes EdgeWeights say so; gives the revision that does, or none if it is refused.
    pub fn write(&mut self, setting: &Setting, mut write: Write) -> Option<u8> {
        if !setting.has(Guard::Latch) {
            write.entry.latched = false;
        }
        if !setting.has(Guard::Minting) {
            write.above = 0;
        }
        // A cached object that says so already, or forbids it, is not believed.
        if let Some(cached) = write.cached
            && let Merged::Next(revision) = merged(Some(cached), &write)
        {
            let is_first = self.live.is_some_and(|live| live.version == cached.version);
            if is_first || !setting.has(Guard::CompareAndSwap) {
                return Some(self.put(write.entry, revision));
            }
        }
        match merged(self.live, &write) {
            Merged::Refused => None,
            Merged::Same => self.live.map(|live| live.revision),
            Merged::Next(revision) => Some(self.put(write.entry, revision)),
        }
    }

    /// Says again what agents cannot hear: EdgeWeights that came back from the past are behind them. What is cached is what
    /// is wanted, or there would be something else to write.
    pub fn renew(&mut self, setting: &Setting, at: usize) {
        let above = self.seen_by(at);
        let cached = self.controllers[at].weights.filter(|cached| cached.revision < above);
        if let Some(Weights { entry, .. }) = cached {
            self.write(setting, Write { cached, entry, above });
        }
    }

    fn put(&mut self, entry: Entry, revision: u8) -> u8 {
        self.find_fault(entry, revision);
        self.held &= self.live.is_some_and(|live| live.entry.like(entry));
        self.version += 1;
        let weights = Weights { version: self.version, revision, entry };
        self.live = Some(weights);
        self.log.push(weights);
        revision
    }

    /// Notes what of this write is against a promise.
    fn find_fault(&mut self, entry: Entry, revision: u8) {
        let first = (entry.attempt, entry.step) <= (1, 1);
        let has_last = |had: Entry| match entry.step {
            // A further attempt begins where everybody has taken back the one before.
            1 => had.back && had.attempt + 1 == entry.attempt,
            step => !had.back && had.attempt == entry.attempt && had.step + 1 >= step,
        };
        let all_have_last = self.agents.iter().all(|agent| agent.entry.is_some_and(has_last));
        let is_news = self.live.is_none_or(|live| !live.entry.like(entry));
        let rises = !entry.back && !first && is_news;
        self.faults.early |= rises && !all_have_last;
        self.faults.short |= rises && !self.held;
        self.faults.unready |= entry.permille > 0 && !entry.back && !self.ready;
        self.faults.muted |= self.agents.iter().any(|agent| agent.seen >= revision);
        if let Some(there) = self.live.map(|live| live.entry) {
            self.faults.lifted |= there.back && !entry.back && entry.attempt <= there.attempt;
            let is_past =
                if entry.back { entry.attempt < there.attempt } else { entry.place() < there.place() };
            self.faults.overtaken |= is_past;
        }
    }
}

/// What becomes of EdgeWeights: `merged` and `may_follow` of the operator's `weights.rs`.
fn merged(present: Option<Weights>, write: &Write) -> Merged {
    let Write { entry, above, .. } = *write;
    let revision = present.map_or(0, |weights| weights.revision).max(above) + 1;
    let Some(there) = present.map(|weights| weights.entry) else { return Merged::Next(revision) };
    let lifts = there.latched && !entry.latched && entry.attempt <= there.attempt;
    let is_past = entry.place() < there.place() && !(entry.latched && entry.attempt == there.attempt);
    let is_heard = present.is_some_and(|present| present.revision >= above);
    if there == entry && is_heard {
        Merged::Same
    } else if lifts || is_past {
        Merged::Refused
    } else {
        Merged::Next(revision)
    }
}
