//! What a process of the operator does: passes, status writes, and the rollback path beside them.

use crate::{
    agent::{Agent, Latch},
    pass::{View, is_guarded, pass},
    setting::{Guard, Setting},
    store::Write,
    world::{Controller, Entry, World},
};

impl World {
    /// A pass up to its write of EdgeWeights. Its status write comes later, if the process lives so long.
    pub fn pass(&mut self, setting: &Setting, at: usize) {
        let view = self.view(setting, at);
        let outcome = pass(&view);
        let mut status = outcome.status;
        self.faults.lossy |= !outcome.whole;
        self.guard(at, is_guarded(status.phase).then_some(status.attempt));
        if let Some(entry) = outcome.effect {
            let above = self.seen_by(at);
            if entry.latched {
                self.order(entry.attempt, above);
            }
            let cached = self.controllers[at].weights;
            match self.write(setting, Write { cached, entry, above }) {
                Some(revision) => status.revision = revision,
                // The pass ends here: the edge has moved on, and the cache does not show it yet.
                None => return,
            }
        }
        if outcome.effect.is_none() {
            self.renew(setting, at);
        }
        let controller = &mut self.controllers[at];
        controller.pending = Some(status).filter(|_| controller.plan != Some(status));
    }

    /// The status write. It has no precondition: the last one wins.
    pub fn record(&mut self, at: usize) {
        let controller = &mut self.controllers[at];
        if let Some(status) = controller.pending.take() {
            (controller.plan, self.status) = (Some(status), Some(status));
        }
    }

    /// The rollback path's write, past every pass.
    pub fn take_back(&mut self, setting: &Setting, at: usize) {
        let (Controller { weights: cached, alarm: attempt, .. }, above) =
            (self.controllers[at], self.seen_by(at));
        let there = cached.map(|weights| weights.entry).filter(|entry| entry.attempt == attempt);
        let step = there.map_or(0, |entry| entry.step);
        let entry = Entry { permille: 0, latched: true, attempt, step, back: true };
        // Whether it was written or is overtaken: it is answered.
        self.write(setting, Write { cached, entry, above });
        self.controllers[at].alarm = 0;
    }

    /// A guard trips on what this process has counted.
    pub fn breach(&mut self, at: usize) {
        self.alarm(at, self.controllers[at].armed);
    }

    /// Looks at what agents have latched by themselves, or because they were told to.
    pub fn judge(&mut self, at: usize) {
        let Controller { heard, armed, breached, .. } = self.controllers[at];
        if !heard || armed == 0 || breached != 0 {
            return;
        }
        let attempts = self.agents.iter().filter_map(|agent| agent.latch).map(|latch| latch.attempt);
        if let Some(attempt) = attempts.filter(|attempt| *attempt >= armed).max() {
            self.alarm(at, attempt);
        }
    }

    /// Puts an attempt under its guards, or takes them off.
    fn guard(&mut self, at: usize, attempt: Option<u8>) {
        let controller = &mut self.controllers[at];
        controller.armed = attempt.unwrap_or(0);
        if attempt.is_none_or(|attempt| controller.breached < attempt) {
            controller.breached = 0;
        }
        self.judge(at);
    }

    fn alarm(&mut self, at: usize, attempt: u8) {
        let controller = &mut self.controllers[at];
        (controller.breached, controller.alarm) = (attempt, attempt);
        self.order(attempt, self.seen_by(at));
    }

    /// Tells the agents themselves; whether and when that arrives is another matter.
    fn order(&mut self, attempt: u8, revision: u8) {
        for agent in &mut self.agents {
            agent.kill = Some(Latch { attempt, revision });
        }
    }

    /// The last attempt that is over by the weights of any agent.
    fn taken_by(&self, setting: &Setting, at: usize) -> u8 {
        if !self.controllers[at].heard || !setting.has(Guard::Latch) {
            return 0;
        }
        let over = |entry: Entry| if entry.latched { entry.attempt } else { entry.attempt.saturating_sub(1) };
        self.agents.iter().filter_map(|agent| agent.entry).map(over).max().unwrap_or(0)
    }

    fn view(&mut self, setting: &Setting, at: usize) -> View {
        let acknowledged = self.acknowledged(setting, at).filter(|_| self.controllers[at].heard);
        let enough = self.counted(at, acknowledged);
        // Without this guard the highest counts for the lowest, so nothing can be ahead of it.
        let seen = if setting.has(Guard::Acknowledgement) { self.seen_by(at) } else { 0 };
        let Controller { plan, weights, breached, .. } = self.controllers[at];
        View {
            plan,
            weights,
            seen,
            taken: self.taken_by(setting, at),
            acknowledged,
            target_ready: self.ready || !setting.has(Guard::Readiness),
            enough,
            breach: Some(breached).filter(|attempt| *attempt > 0),
        }
    }

    /// The revision that this process has cached, if all agents serve exactly that. Without this guard one agent is enough,
    /// whatever it serves.
    fn acknowledged(&self, setting: &Setting, at: usize) -> Option<u8> {
        if !setting.has(Guard::Acknowledgement) {
            return self.agents.iter().map(|agent| agent.revision).max();
        }
        let cached = self.controllers[at].weights?;
        let serves = |agent: &Agent| agent.revision == cached.revision && agent.entry == Some(cached.entry);
        self.agents.iter().all(serves).then_some(cached.revision)
    }

    /// Whether the service answers, in a step that this process saw acknowledged before. The first look at a step is
    /// only the beginning of its evidence.
    fn counted(&mut self, at: usize, acknowledged: Option<u8>) -> bool {
        let controller = &mut self.controllers[at];
        let status = controller.plan.unwrap_or_default();
        let is_served = status.revision > 0 && acknowledged.is_some_and(|all| all >= status.revision);
        if status.desired == 0 || !is_served {
            return false;
        }
        let known = std::mem::replace(&mut controller.baseline, status.revision) == status.revision;
        known && self.agents.iter().any(|agent: &Agent| agent.serves() > 0)
    }
}
