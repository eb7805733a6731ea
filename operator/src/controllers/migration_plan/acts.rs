//! What people want of a plan, by PlanActions: what each of them does to where the plan stands. Pure, but for [`answer`].
//!
//! An act is looked at once; that it was is in the plan's status, in the same write as what it did.

use super::frozen::{BEHIND, thaw};
use super::machine::{Route, State, Terms};
use super::ramp::following;
use super::stages;
use super::start::Start;
use super::terms::because;
use crate::{api, context::Context, status};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use stomaton_crds::v1alpha1::{
    Acted, Action, Approves, Held, MigrationPlan, Outcome, Phase, PlanAction, PlanActionSpec,
    PlanActionStatus, RouteStatus,
};

/// Acts that status keeps.
pub const MAX_ACTS: usize = 50;

/// One act, as somebody made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    /// Name of the PlanAction.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What is wanted.
    pub spec: PlanActionSpec,
    /// When it was made.
    pub at: Timestamp,
}

impl Act {
    fn held(&self) -> Held {
        let reason = self.spec.reason.clone().unwrap_or_default();
        Held { by: self.spec.user.clone(), reason, at: MicroTime(self.at) }
    }
}

/// Does what was not done yet, in the order in which it was made.
pub fn take(state: &mut State, terms: &Terms<'_>, routes: &[Route<'_>], acts: &[Act], now: Timestamp) {
    let mut new: Vec<&Act> =
        acts.iter().filter(|act| state.acts.iter().all(|acted| acted.uid != act.uid)).collect();
    new.sort_by_key(|act| (act.at, &act.name));
    for act in new {
        let (outcome, message) = match perform(state, terms, routes, act) {
            Ok(message) => (Outcome::Done, message),
            Err(message) => (Outcome::Refused, message),
        };
        state.acts.push(Acted {
            name: act.name.clone(),
            uid: act.uid.clone(),
            action: act.spec.action,
            route: act.spec.route.clone(),
            user: act.spec.user.clone(),
            outcome,
            message,
            at: MicroTime(now),
            stage: act.spec.stage.clone(),
        });
    }
    forget(&mut state.acts, acts);
}

/// Forgets what is old, but nothing that still comes: it would be done again.
fn forget(acted: &mut Vec<Acted>, acts: &[Act]) {
    let mut surplus = acted.len().saturating_sub(MAX_ACTS);
    acted.retain(|acted| {
        let goes = surplus > 0 && acts.iter().all(|act| act.uid != acted.uid);
        surplus -= usize::from(goes);
        !goes
    });
}

/// What was done, or why it was not.
fn perform(state: &mut State, terms: &Terms<'_>, routes: &[Route<'_>], act: &Act) -> Result<String, String> {
    if act.spec.action == Action::Halt {
        state.halted = Some(act.held());
        return Ok("no weight of the plan rises until Resume".to_owned());
    }
    if let Some(stage) = &act.spec.stage {
        return on_stage(state, terms, stage, act);
    }
    let named = targets(routes, act)?;
    let names = named.iter().map(|route| route.name).collect::<Vec<_>>().join(", ");
    if act.spec.action == Action::Resume && act.spec.route.is_none() {
        state.halted = None;
    }
    let halted = state.halted.is_some();
    match act.spec.action {
        Action::Hold => {
            each(state, &named, |_, status| status.held = Some(act.held()));
            Ok(format!("the weight of {names} does not rise until Resume"))
        }
        Action::Rollback => recall(state, named, act),
        Action::Resume => {
            each(state, &named, |_, status| resume(terms, status));
            let but = if halted { "; the plan is halted still: resume it without a route" } else { "" };
            Ok(format!("{names} may go on{but}"))
        }
        Action::Promote => {
            let first = named.first().and_then(|r| state.routes.iter().find(|s| s.name == r.name));
            if let Some(status) = first.filter(|status| !status.phase.is_under_way()) {
                return Err(format!(
                    "route {} is {}: only a route that is on its way can be promoted",
                    status.name,
                    status.phase.as_str()
                ));
            }
            each(state, &named, |route, status| status.promoted = Some(next_number(route, status)));
            Ok(format!("{names} enters its next step without waiting"))
        }
        Action::Approve => approve(state, terms, &named, act),
        Action::Halt => Err("Halt is for the whole plan".to_owned()),
    }
}

/// Takes back those of the routes that have a way back.
fn recall(state: &mut State, named: Vec<&Route<'_>>, act: &Act) -> Result<String, String> {
    let stays = |route: &&Route<'_>| {
        state.routes.iter().any(|status| status.name == route.name && status.has_no_way_back())
    };
    let (stay, back): (Vec<_>, Vec<_>) = named.into_iter().partition(stays);
    let names = |of: &[&Route<'_>]| of.iter().map(|route| route.name).collect::<Vec<_>>().join(", ");
    let but = if stay.is_empty() {
        String::new()
    } else {
        format!("{} stays with its service: {BEHIND}", names(&stay))
    };
    if back.is_empty() && !stay.is_empty() {
        return Err(but);
    }
    each(state, &back, |_, status| status.recalled = Some(act.held()));
    let but = if but.is_empty() { but } else { format!("; {but}") };
    Ok(format!("{} goes back to the monolith and stays there until Resume{but}", names(&back)))
}

/// Changes what is known of each of these routes.
fn each(state: &mut State, named: &[&Route<'_>], mut change: impl FnMut(&Route<'_>, &mut RouteStatus)) {
    for route in named {
        if let Some(status) = state.routes.iter_mut().find(|s| s.name == route.name) {
            change(route, status);
        }
    }
}

/// Routes that an act is for: the one it names with those of its group, or all.
fn targets<'a, 'r>(routes: &'a [Route<'r>], act: &Act) -> Result<Vec<&'a Route<'r>>, String> {
    let Some(name) = &act.spec.route else { return Ok(routes.iter().collect()) };
    let Some(route) = routes.iter().find(|route| route.name == name) else {
        return Err(format!("the plan has no route {name}"));
    };
    let with_it = |other: &&Route<'_>| {
        other.name == route.name || (route.group.is_some() && other.group == route.group)
    };
    Ok(routes.iter().filter(with_it).collect())
}

/// Ends what people have stopped. A route that used its attempts gets another one, for other users.
fn resume(terms: &Terms<'_>, status: &mut RouteStatus) {
    status.held = None;
    thaw(status);
    let recalled = status.recalled.take().is_some();
    let used = status.attempt >= terms.rollback.attempts(status);
    if status.phase == Phase::RolledBack && (recalled || used) {
        status.granted = status.attempt + 1;
        if used {
            status.epoch += 1;
        }
    }
}

fn approve(state: &mut State, terms: &Terms<'_>, named: &[&Route<'_>], act: &Act) -> Result<String, String> {
    let approves = looked_at(terms, act)?;
    let Some(route) = named.first() else { return Err("the plan has no such route".to_owned()) };
    let Some(status) = state.routes.iter().find(|s| s.name == route.name) else {
        return Err(format!("route {} is not known yet", route.name));
    };
    let (attempt, step) = if status.phase.has_weight() {
        (status.attempt, next_number(route, status))
    } else {
        let group = state.routes.iter().filter(|s| named.iter().any(|route| route.name == s.name));
        (status.attempt + 1, Start::of(terms.rollback, route.profile, &group.collect::<Vec<_>>()).number())
    };
    if (approves.attempt, approves.step) != (Some(attempt), Some(step)) {
        let number = |said: Option<i32>| said.map_or_else(|| "no number".to_owned(), |said| said.to_string());
        return Err(format!(
            "route {} comes to step {step} of attempt {attempt} next; step {} of attempt {} was approved",
            route.name,
            number(approves.step),
            number(approves.attempt)
        ));
    }
    each(state, named, |_, status| status.approved = Some(step));
    let why = because(act.spec.reason.as_deref().unwrap_or_default());
    Ok(format!("route {} may enter step {step} of attempt {attempt}{why}", route.name))
}

/// What an approval is for, unless the plan was edited since.
fn looked_at<'a>(terms: &Terms<'_>, act: &'a Act) -> Result<&'a Approves, String> {
    let Some(approves) = &act.spec.approves else { return Err("it does not say what it approves".into()) };
    if approves.spec_hash != terms.spec_hash {
        return Err("the plan was edited after it was looked at: look again, then approve again".to_owned());
    }
    Ok(approves)
}

/// What people do with the gates of a stage.
fn on_stage(state: &mut State, terms: &Terms<'_>, name: &str, act: &Act) -> Result<String, String> {
    let Some(stage) = terms.stages.iter().find(|stage| stage.name == name) else {
        return Err(format!("the plan has no stage {name}"));
    };
    let Some(status) = state.stages.iter_mut().find(|status| status.name == name) else {
        return Err(format!("stage {name} is not known yet"));
    };
    let some = |gates: Vec<String>, none: &str, done: &str| match gates.len() {
        0 => Err(format!("no gate of stage {name} {none}")),
        1 => Ok(format!("gate {} of stage {name} {done}", gates.join(", "))),
        _ => Ok(format!("gates {} of stage {name}: each {done}", gates.join(", "))),
    };
    match act.spec.action {
        Action::Approve => {
            looked_at(terms, act)?;
            some(stages::approve(stage, status, &act.held()), "waits for an approval now", "has passed")
        }
        Action::Resume => some(stages::resume(status), "has failed", "is asked anew"),
        other => Err(format!("{} is not for a stage", other.as_str())),
    }
}

/// Number of what comes next: a step of the ramp, from 1, then Soak, then Done.
pub fn next_number(route: &Route<'_>, status: &RouteStatus) -> i32 {
    let steps = route.profile.ramp.len();
    let next = match following(route.profile, status) {
        Some((number, _)) => number,
        None if status.phase == Phase::Ramp => steps + 1,
        None => steps + 2,
    };
    i32::try_from(next).unwrap_or(i32::MAX)
}

/// Tells those who acted what became of it. I/O: one write for each act, once.
pub async fn answer(
    ctx: &Context,
    plan: &MigrationPlan,
    acts: &[Act],
    acted: &[Acted],
) -> Result<(), api::Error> {
    let namespace = plan.namespace().unwrap_or_default();
    let answered =
        acts.iter().filter_map(|act| Some((act, acted.iter().find(|acted| acted.uid == act.uid)?)));
    for (act, Acted { outcome, message, at, .. }) in answered {
        let mut action = PlanAction::new(&act.name, act.spec.clone());
        (action.metadata.namespace, action.metadata.uid) = (Some(namespace.clone()), Some(act.uid.clone()));
        let said = PlanActionStatus { outcome: *outcome, message: message.clone(), at: Some(at.clone()) };
        status::write(ctx, &action, None, &said).await?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "acts_tests.rs"]
mod tests;
