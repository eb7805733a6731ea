//! One route's part of a step: from where it stands to where it stands next. Pure.

use super::brakes::{NO_WAY_BACK, harm, obstacle, patience, present_breach, rest, stragglers};
use super::frozen::{begins_past, crosses, hurt};
use super::group::Fellows;
use super::judging::begin_anew;
use super::machine::{Route, Terms, acknowledged, wanted};
use super::ramp::{clear, following, soaks, take};
use super::start::{self, Start};
use super::terms::Closed;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use stomaton_crds::{
    keys::AUDIENCE_PUBLIC,
    v1alpha1::{Drill, Evidence, Phase, RouteStatus, Transition},
};

/// One route's part of a step.
pub struct Pass<'a, 'r> {
    /// The rules.
    pub terms: &'a Terms<'a>,
    /// The route, as it was observed.
    pub route: &'a Route<'r>,
    /// Those of its group.
    pub fellows: Fellows<'a, 'r>,
    /// Why no weight rises.
    pub closed: Option<&'a Closed>,
    /// Why the budget has no room for it to begin.
    pub crowded: Option<String>,
    /// A stage or a route that it waits for.
    pub unmet: Option<String>,
    /// The time.
    pub now: Timestamp,
    /// What happened, to add to.
    pub history: &'a mut Vec<Transition>,
    /// Whether it is taken back on purpose once it has what its step asks for.
    pub drills: bool,
}

impl Pass<'_, '_> {
    /// Where the route stands next.
    pub fn advance(&mut self, mut status: RouteStatus) -> RouteStatus {
        if self.route.id.is_none() {
            if status.phase != Phase::Frozen {
                status.waits_for = self.route.problem.clone().unwrap_or_default();
            }
            return status;
        }
        // The salt is that of the highest epoch of the group; it must not change when the route that has it leaves.
        status.epoch = status.epoch.max(self.fellows.epoch());
        self.adopt(&mut status);
        // Why it froze is not known any more when the cause is gone.
        if status.phase != Phase::Frozen {
            status.waits_for.clear();
        }
        if let Some(why) = hurt(self.route, &status) {
            self.freeze(&mut status, &why);
            return status;
        }
        match status.phase {
            Phase::Frozen => self.stay_frozen(&mut status),
            _ if status.crossing => self.cross(&mut status),
            Phase::Pending => self.pending(&mut status),
            Phase::Cohort | Phase::Ramp | Phase::Soak | Phase::Done => self.moving(&mut status),
            Phase::RollingBack => self.rolling_back(&mut status),
            Phase::RolledBack => self.rolled_back(&mut status),
        }
        status
    }

    /// Takes over what edge pods have taken back and EdgeWeights do not say, and then what EdgeWeights carry when they are
    /// ahead of status: a write whose status write was lost, or a latch that was set past this machine.
    fn adopt(&mut self, status: &mut RouteStatus) {
        if status.has_no_way_back() {
            self.stay(status);
        } else {
            self.take_over(status);
        }
        if self.route.entry.is_some() && self.route.entry == wanted(status) && status.revision == 0 {
            status.revision = self.route.weights_revision;
        }
    }

    fn take_over(&mut self, status: &mut RouteStatus) {
        let (taken, there) = (self.route.taken, self.route.entry.as_ref().map_or(0, |entry| entry.attempt));
        let goes_on = taken == status.attempt && status.phase.has_weight();
        if taken > 0 && taken >= there && (taken > status.attempt || goes_on) {
            self.found_back(status, taken, "edge pods have taken it back, by weights not known here");
        }
        let Some(entry) = &self.route.entry else { return };
        let moving = status.phase == Phase::Pending || status.phase.has_weight();
        // What is taken back is so at whatever step it is found.
        let further = moving && entry.attempt == status.attempt && entry.step > status.step;
        let ahead = entry.attempt > status.attempt || further;
        if entry.latched && entry.attempt >= status.attempt && (moving || entry.attempt > status.attempt) {
            self.found_back(status, entry.attempt, "found latched at the edge");
            status.step = entry.step;
        } else if !entry.latched && ahead {
            self.come_to(status, entry.attempt);
            status.audiences.clone_from(&entry.permille);
            status.weights.desired = status.audiences.remove(AUDIENCE_PUBLIC).unwrap_or(0);
            status.step = entry.step;
            let done = start::was_done(self.route.profile, status);
            let phase = if done { Phase::Done } else { rising(status) };
            let why = "found at the edge: the write was made, its record was lost";
            self.enter(status, phase, why.to_owned());
        }
    }

    /// Somebody else has taken this attempt back: `found` is how that is known, if nothing here says why.
    fn found_back(&mut self, status: &mut RouteStatus, attempt: i32, found: &str) {
        let why = self.harm(status).unwrap_or_else(|| found.to_owned());
        self.come_to(status, attempt);
        self.take_back(status, &why);
    }

    /// An attempt that this status has not heard of. What was applied was so in another one, and each has an epoch of its
    /// own.
    fn come_to(&self, status: &mut RouteStatus, attempt: i32) {
        if attempt > status.attempt {
            clear(status);
            status.attempt = attempt;
            status.weights.applied = 0;
            status.epoch = status.epoch.max(i64::from(attempt) - 1);
        }
    }

    fn pending(&mut self, status: &mut RouteStatus) {
        match self.obstacle(status) {
            Some(what) => status.waits_for = what,
            None => self.begin(status),
        }
    }

    fn moving(&mut self, status: &mut RouteStatus) {
        if let Some(why) = self.harm(status) {
            if self.route.safe_ready {
                self.take_back(status, &why);
            } else {
                status.waits_for = format!("{why}{NO_WAY_BACK}");
            }
            return;
        }
        if !acknowledged(self.route, status) {
            // Other routes' weights are on their way too: of what is done nobody waits for those.
            if status.phase != Phase::Done || status.since.is_none() {
                status.waits_for = "every edge pod to acknowledge the weight".to_owned();
            }
            return;
        }
        if status.since.is_none() {
            self.acknowledge(status);
        }
        match status.phase {
            Phase::Done if !crosses(self.route, status) => {}
            _ => self.onwards(status),
        }
    }

    /// What comes next, once it waits for nothing.
    fn onwards(&mut self, status: &mut RouteStatus) {
        let rises = status.phase != Phase::Soak && following(self.route.profile, status).is_some();
        let crosses = crosses(self.route, status);
        // A drill begins anew, which needs an open plan as a step does.
        let closed =
            || self.closed.filter(|_| rises || crosses || self.drills).map(|closed| closed.what.clone());
        if let Some(what) = self.waits(status).or_else(closed) {
            status.waits_for = what;
        } else if self.drills {
            self.drill(status);
        } else if crosses {
            self.set_out(status);
        } else {
            self.enter_next(status);
        }
    }

    /// The next step of the ramp, and after the last one Soak and Done.
    pub(super) fn enter_next(&mut self, status: &mut RouteStatus) {
        if status.phase == Phase::Soak {
            self.go_on(status, Phase::Done, counted(status, "at the last step and in the soak"));
        } else if let Some((number, step)) = following(self.route.profile, status) {
            let counted = status.evidence;
            take(status, number, step);
            let whose =
                step.audience.as_ref().map(|audience| format!(", now for {audience}")).unwrap_or_default();
            self.enter(
                status,
                rising(status),
                format!("{} answers, {} bad, in the step before{whose}", counted.requests, counted.bad),
            );
        } else if soaks(self.route.profile) {
            let why = format!("{}: is watched on", counted(status, "at the last step"));
            self.go_on(status, Phase::Soak, why);
            status.since = Some(MicroTime(self.now));
        } else {
            self.go_on(status, Phase::Done, counted(status, "at the last step"));
        }
    }

    /// What an acknowledged step, with those of its group, still waits for.
    fn waits(&self, status: &RouteStatus) -> Option<String> {
        patience(self.terms, self.route, status, self.now)
            .or_else(|| self.fellows.not_yet(self.route, status, self.now))
    }

    /// Another phase with the weight of the last step: nothing changes at the edge, and it stays acknowledged.
    pub(super) fn go_on(&mut self, status: &mut RouteStatus, phase: Phase, why: String) {
        let before = status.clone();
        self.enter(status, phase, why);
        (status.since, status.evidence, status.weights, status.revision, status.judges, status.revisions) =
            (before.since, before.evidence, before.weights, before.revision, before.judges, before.revisions);
        self.record_acknowledgement(status);
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
        if status.attempt < self.terms.rollback.attempts(status) {
            // A new salt, made while nobody is on the service: other users go first in the next attempt.
            status.epoch += 1;
        }
        if status.is_drilled() { self.measure(status) } else { self.rolled_back(status) }
    }

    fn rolled_back(&mut self, status: &mut RouteStatus) {
        match rest(self.terms, status, self.now).or_else(|| self.obstacle(status)) {
            Some(what) => status.waits_for = what,
            None => self.begin(status),
        }
    }

    /// What keeps an attempt from beginning.
    fn obstacle(&self, status: &RouteStatus) -> Option<String> {
        let start = self.start(status);
        let closed = self.closed.filter(|closed| start.heeds(closed));
        obstacle(self.route, status, self.unmet.clone(), start)
            .or_else(|| closed.map(|closed| closed.what.clone()))
            .or_else(|| self.fellows.obstacle(start, self.now))
            .or_else(|| self.crowded.clone().filter(|_| !start.again))
    }

    /// Where the next attempt begins.
    fn start(&self, status: &RouteStatus) -> Start {
        let group: Vec<&RouteStatus> = std::iter::once(status).chain(self.fellows.statuses()).collect();
        Start::of(self.terms.rollback, self.route.profile, &group)
    }

    /// What hurts users now.
    fn harm(&self, status: &RouteStatus) -> Option<String> {
        if status.has_no_way_back() {
            return None;
        }
        harm(self.terms, self.route, status).or_else(|| self.fellows.harm())
    }

    pub(super) fn begin(&mut self, status: &mut RouteStatus) {
        let (start, ramp) = (self.start(status), &self.route.profile.ramp);
        clear(status);
        if ramp.is_empty() {
            return;
        }
        if begins_past(self.route, status, start) {
            self.set_out(status);
            return;
        }
        for (number, step) in (1..=start.step).zip(ramp) {
            take(status, number, step);
        }
        status.attempt += 1;
        let phase = if start.step > ramp.len() { Phase::Done } else { rising(status) };
        let why = format!("attempt {} begins{}", status.attempt, start.words(self.route.profile));
        self.enter(status, phase, why);
    }

    fn take_back(&mut self, status: &mut RouteStatus, why: &str) {
        status.fell_from = status.permille();
        clear(status);
        self.enter(status, Phase::RollingBack, why.to_owned());
        // The edge is told at the moment of the breach, before any pass hears of it: that is when it was decided.
        let decided = present_breach(self.route, status).map(|breach| breach.at);
        if let (Some(at), Some(entry)) = (decided, self.history.last_mut()) {
            entry.at = MicroTime(at);
        }
        status.waits_for = "every edge pod to acknowledge the rollback".to_owned();
    }

    /// Takes the route back to see how fast that is.
    fn drill(&mut self, status: &mut RouteStatus) {
        if !self.route.safe_ready {
            status.waits_for =
                "the monolith to have a ready endpoint: the rollback drill goes there".to_owned();
            return;
        }
        let drills = status.drill.as_ref().map_or(0, |drill| drill.drills).saturating_add(1);
        self.take_back(status, "rollback drill");
        let asked = MicroTime(self.now);
        status.drill = Some(Drill { asked, took_ms: None, attempt: status.attempt, drills });
    }

    /// Notes how long the drill took; what comes of it is decided with the stage.
    fn measure(&self, status: &mut RouteStatus) {
        if let Some(drill) = &mut status.drill {
            let took = self.now.duration_since(drill.asked.0).as_millis();
            drill.took_ms = Some(i64::try_from(took).unwrap_or(i64::MAX));
        }
        status.waits_for = "what the rollback drill has shown".to_owned();
    }

    /// A new phase or weight: nothing is known of it yet.
    fn enter(&mut self, status: &mut RouteStatus, phase: Phase, message: String) {
        let ended = status.phase.is_under_way() && phase != Phase::Soak && status.evidence.requests > 0;
        let evidence = ended.then_some(status.evidence);
        status.phase = phase;
        (status.revision, status.since, status.evidence) = (0, None, Evidence::default());
        (status.approved, status.promoted, status.start_at) = (None, None, None);
        status.weights.observed = None;
        // Of a route that comes back people want to see why.
        if phase.has_weight() {
            begin_anew(status);
            status.fell_from.clear();
        }
        self.history.push(Transition {
            at: MicroTime(self.now),
            route: status.name.clone(),
            phase,
            permille: status.weights.desired,
            revision: 0,
            acknowledged: None,
            evidence,
            message,
        });
    }

    pub(super) fn acknowledge(&mut self, status: &mut RouteStatus) {
        status.weights.applied = status.weights.desired;
        status.since = Some(MicroTime(self.now));
        self.record_acknowledgement(status);
    }

    pub(super) fn record_acknowledgement(&mut self, status: &RouteStatus) {
        let last = self.history.iter_mut().rev().find(|t| t.route == status.name);
        if let Some(entry) = last.filter(|t| t.acknowledged.is_none()) {
            entry.acknowledged = Some(MicroTime(self.now));
            entry.revision = status.revision;
        }
    }
}

/// The phase of a route whose weight goes up: that of audiences first, as far as the ramp says so.
fn rising(status: &RouteStatus) -> Phase {
    if status.weights.desired == 0 && !status.audiences.is_empty() { Phase::Cohort } else { Phase::Ramp }
}

fn counted(status: &RouteStatus, when: &str) -> String {
    format!("{} answers, {} bad, {when}", status.evidence.requests, status.evidence.bad)
}
