//! The plan's status in words: conditions and summary. Pure.

use super::brakes::{APPROVAL, NO_MONOLITH, NO_WAY_BACK};
use super::machine::{Route, State, Terms};
use super::stages;
use jiff::Timestamp;
use stomaton_crds::{
    conditions::{Reason, State as Standing, Summary, conditions},
    v1alpha1::{MigrationPlan, MigrationPlanStatus, Phase, PlanSummary, RouteStatus},
};

/// The status of a plan after a pass.
pub fn status(
    plan: &MigrationPlan,
    terms: &Terms<'_>,
    routes: &[Route<'_>],
    kept: Option<&str>,
    state: State,
    now: Timestamp,
) -> MigrationPlanStatus {
    let looked = Looked { plan, terms, routes, kept, state: &state };
    let summary = looked.summarize(now);
    let old = plan.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    MigrationPlanStatus {
        observed_generation: plan.metadata.generation,
        conditions: conditions(old, &summary, plan.metadata.generation, now),
        summary: in_a_few_words(&state.routes),
        spec_hash: terms.spec_hash.clone(),
        halted: state.halted,
        acts: state.acts,
        routes: state.routes,
        history: state.history,
        stages: state.stages,
    }
}

struct Looked<'a> {
    plan: &'a MigrationPlan,
    terms: &'a Terms<'a>,
    routes: &'a [Route<'a>],
    /// What keeps it although it is deleted.
    kept: Option<&'a str>,
    state: &'a State,
}

fn say(state: Standing, reason: Reason, message: String) -> Option<Summary> {
    Some(Summary { state, reason, message })
}

fn about(status: &RouteStatus) -> String {
    format!("route {} waits for {}", status.name, status.waits_for)
}

impl<'a> Looked<'a> {
    /// Where the plan stands as a whole: what needs a person comes first.
    fn summarize(&self, now: Timestamp) -> Summary {
        self.wrong()
            .or_else(|| self.in_transit())
            .or_else(|| self.deleted())
            .or_else(|| self.stopped(now))
            .unwrap_or_else(|| self.under_way())
    }

    /// What keeps a plan that is being deleted.
    fn deleted(&self) -> Option<Summary> {
        self.plan.metadata.deletion_timestamp.as_ref()?;
        let kept = self.kept.unwrap_or("nothing");
        say(Standing::Waiting, Reason::Deleting, format!("the plan is being deleted, and waits for {kept}"))
    }

    /// A route of which this is true, with what was observed of it.
    fn find(
        &self,
        what: impl Fn(&RouteStatus, &Route<'_>) -> bool,
    ) -> Option<(&'a RouteStatus, &'a Route<'a>)> {
        let of = |status: &RouteStatus| self.routes.iter().find(|r| r.name == status.name);
        self.state.routes.iter().filter_map(|s| Some((s, of(s)?))).find(|(s, r)| what(s, r))
    }

    /// What a person has to mend.
    fn wrong(&self) -> Option<Summary> {
        let spec = &self.plan.spec;
        if self.routes.len() < spec.routes.len() {
            let message = "a route names a profile that this plan does not have: add it under spec.profiles";
            return say(Standing::Stalled, Reason::Invalid, message.to_owned());
        }
        if let Some(cycle) = spec.cycle() {
            let message = format!(
                "routes {} wait for each other (a group begins together, a stage after the one before it, and after its \
                 drill): take one name out of their dependsOn, or change their stage",
                cycle.join(", ")
            );
            return say(Standing::Stalled, Reason::Invalid, message);
        }
        let of_a_route = || spec.routes.iter().find_map(|r| spec.discord(r).or_else(|| spec.misplaced(r)));
        if let Some(wrong) = of_a_route().or_else(|| spec.undrillable()) {
            return say(Standing::Stalled, Reason::Invalid, wrong);
        }
        if let Some(closed) = self.terms.closed.as_ref().filter(|closed| closed.reason == Reason::Invalid) {
            return say(Standing::Stalled, Reason::Invalid, closed.what.clone());
        }
        if let Some((s, _)) = self.find(|s, _| s.phase == Phase::Frozen) {
            return say(Standing::Stalled, Reason::Frozen, about(s));
        }
        let stuck = |s: &RouteStatus, _: &Route<'_>| s.waits_for.ends_with(NO_WAY_BACK);
        if let Some((s, _)) = self.find(stuck) {
            return say(
                Standing::Stalled,
                Reason::MonolithDown,
                format!("route {}: {}", s.name, s.waits_for),
            );
        }
        // Users were served by the service before; now they are not.
        let lost =
            |s: &RouteStatus, _: &Route<'_>| s.start_at.is_some() && s.waits_for.ends_with(NO_MONOLITH);
        if let Some((s, _)) = self.find(lost) {
            return say(Standing::Stalled, Reason::MonolithDown, about(s));
        }
        if let Some(message) = stages::failed(&self.state.stages) {
            return say(Standing::Stalled, Reason::GateFailed, message);
        }
        let exhausted = |s: &RouteStatus, _: &Route<'_>| {
            s.phase == Phase::RolledBack
                && s.recalled.is_none()
                && s.attempt >= self.terms.rollback.attempts(s)
        };
        if let Some((s, _)) = self.find(exhausted) {
            return say(Standing::Stalled, Reason::AttemptsExhausted, about(s));
        }
        let (s, r) = self.find(|s, r| r.problem.is_some() && s.phase != Phase::RollingBack)?;
        let problem = r.problem.clone().unwrap_or_default();
        say(Standing::Stalled, Reason::NotFound, format!("route {}: {problem}", s.name))
    }

    /// What was written and is not acknowledged.
    fn in_transit(&self) -> Option<Summary> {
        let unheard = |s: &RouteStatus| s.phase.has_weight() && s.since.is_none();
        let (s, _) = self.find(|s, _| s.phase == Phase::RollingBack || s.crossing || unheard(s))?;
        say(Standing::ReadyReconciling, Reason::WaitingForEdge, about(s))
    }

    /// What people, or the spec, have stopped.
    fn stopped(&self, now: Timestamp) -> Option<Summary> {
        if let Some(closed) = self.terms.closed_for(self.state, now) {
            let standing = match closed.reason {
                Reason::OutsideWindow | Reason::Observing => Standing::Ready,
                _ => Standing::Waiting,
            };
            let over = self.state.routes.iter().all(|s| s.phase == Phase::Done);
            if !over || standing != Standing::Ready {
                return say(standing, closed.reason, format!("no weight rises before {}", closed.what));
            }
        }
        if let Some((s, _)) = self.find(|s, _| s.held.is_some() || s.recalled.is_some()) {
            return say(Standing::Waiting, Reason::Held, about(s));
        }
        if let Some(message) = stages::unapproved(self.terms, &self.state.stages) {
            return say(Standing::Waiting, Reason::ApprovalNeeded, message);
        }
        let (s, _) = self.find(|s, _| s.waits_for.starts_with(APPROVAL))?;
        say(Standing::Waiting, Reason::ApprovalNeeded, about(s))
    }

    fn under_way(&self) -> Summary {
        if let Some((s, _)) = self.find(|s, _| s.phase == Phase::RolledBack) {
            return Summary { state: Standing::Ready, reason: Reason::RolledBack, message: about(s) };
        }
        let moves = self.state.routes.iter().any(|s| s.phase.is_under_way());
        if let Some(message) = stages::awaited(&self.state.stages).filter(|_| !moves) {
            return Summary { state: Standing::Ready, reason: Reason::WaitingForGate, message };
        }
        if let Some((s, _)) = self.find(|s, r| s.phase == Phase::Pending && !r.target_ready) {
            return Summary { state: Standing::Ready, reason: Reason::NoEndpoints, message: about(s) };
        }
        let open = self.state.routes.iter().find(|s| s.phase.is_under_way());
        let open = open.or_else(|| self.state.routes.iter().find(|s| s.phase != Phase::Done));
        let (reason, message) = match open {
            None => (Reason::Migrated, "every route is answered by its service".to_owned()),
            Some(status) => (Reason::Migrating, about(status)),
        };
        Summary { state: Standing::Ready, reason, message }
    }
}

fn in_a_few_words(routes: &[RouteStatus]) -> PlanSummary {
    let done = routes.iter().filter(|s| s.phase == Phase::Done).count();
    let now =
        routes.iter().filter(|s| !matches!(s.phase, Phase::Pending | Phase::Done)).map(|s| match s.phase {
            phase if phase.is_under_way() => format!("{} {}", s.name, share(s)),
            phase => format!("{} {}", s.name, phase.as_str()),
        });
    PlanSummary { done: format!("{done}/{}", routes.len()), now: now.take(3).collect::<Vec<_>>().join(", ") }
}

/// What everybody has, or an audience while nobody else has any.
fn share(status: &RouteStatus) -> String {
    match status.audiences.iter().next_back() {
        Some((audience, permille)) if status.weights.desired == 0 => {
            format!("{audience} {}", percent(*permille))
        }
        _ => percent(status.weights.applied),
    }
}

/// Per mille as people read it: `25.0 %`.
pub fn percent(permille: i32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}
