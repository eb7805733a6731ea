//! The plan's status in words: conditions and summary. Pure.

use super::machine::{Route, State};
use jiff::Timestamp;
use stomaton_crds::{
    conditions::{Reason, State as Standing, Summary, conditions},
    v1alpha1::{MigrationPlan, MigrationPlanStatus, Phase, PlanSummary, RouteStatus},
};

/// The status of a plan after a pass.
pub fn status(
    plan: &MigrationPlan,
    routes: &[Route<'_>],
    state: State,
    now: Timestamp,
) -> MigrationPlanStatus {
    let summary = summarize(plan, routes, &state);
    let old = plan.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    MigrationPlanStatus {
        observed_generation: plan.metadata.generation,
        conditions: conditions(old, &summary, plan.metadata.generation, now),
        summary: in_a_few_words(&state.routes),
        routes: state.routes,
        history: state.history,
    }
}

/// Where the plan stands as a whole: what needs a person comes first.
fn summarize(plan: &MigrationPlan, routes: &[Route<'_>], state: &State) -> Summary {
    let say = |standing, reason, message: String| Summary { state: standing, reason, message };
    if routes.len() < plan.spec.routes.len() {
        let message = "a route names a profile that this plan does not have: add it under spec.profiles";
        return say(Standing::Stalled, Reason::Invalid, message.to_owned());
    }
    if let Some(discord) = plan.spec.routes.iter().find_map(|route| plan.spec.discord(route)) {
        return say(Standing::Stalled, Reason::Invalid, discord);
    }
    let of = |status: &RouteStatus| routes.iter().find(|r| r.name == status.name);
    let about = |status: &RouteStatus| format!("route {} waits for {}", status.name, status.waits_for);
    let moving = |s: &RouteStatus| matches!(s.phase, Phase::Ramp | Phase::Done);
    let each = || state.routes.iter().filter_map(|s| of(s).map(|r| (s, r)));

    if let Some((s, _)) = each().find(|(s, r)| moving(s) && !r.safe_ready && r.breach.is_some()) {
        return say(Standing::Stalled, Reason::MonolithDown, format!("route {}: {}", s.name, s.waits_for));
    }
    let exhausted =
        |s: &RouteStatus| s.phase == Phase::RolledBack && s.attempt >= plan.spec.rollback.max_attempts;
    if let Some((s, _)) = each().find(|(s, _)| exhausted(s)) {
        return say(Standing::Stalled, Reason::AttemptsExhausted, about(s));
    }
    if let Some((s, r)) = each().find(|(s, r)| r.problem.is_some() && s.phase != Phase::RollingBack) {
        let problem = r.problem.clone().unwrap_or_default();
        return say(Standing::Stalled, Reason::NotFound, format!("route {}: {problem}", s.name));
    }
    if let Some((s, _)) =
        each().find(|(s, _)| s.phase == Phase::RollingBack || (moving(s) && s.since.is_none()))
    {
        return say(Standing::ReadyReconciling, Reason::WaitingForEdge, about(s));
    }
    if let Some((s, _)) = each().find(|(s, _)| s.phase == Phase::RolledBack) {
        return say(Standing::Ready, Reason::RolledBack, about(s));
    }
    if let Some((s, _)) = each().find(|(s, r)| s.phase == Phase::Pending && !r.target_ready) {
        return say(Standing::Ready, Reason::NoEndpoints, about(s));
    }
    if state.routes.iter().all(|s| s.phase == Phase::Done) {
        return say(Standing::Ready, Reason::Migrated, "every route is answered by its service".to_owned());
    }
    let message = state.routes.iter().find(|s| s.phase != Phase::Done).map(about).unwrap_or_default();
    say(Standing::Ready, Reason::Migrating, message)
}

fn in_a_few_words(routes: &[RouteStatus]) -> PlanSummary {
    let done = routes.iter().filter(|s| s.phase == Phase::Done).count();
    let now =
        routes.iter().filter(|s| !matches!(s.phase, Phase::Pending | Phase::Done)).map(|s| match s.phase {
            Phase::Ramp => format!("{} {}", s.name, share(s)),
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
