//! What keeps a route from beginning, from going on, or where it is. Pure: each function says in words what is waited for.
//!
//! They look at one route. What the others of its group add is in [`super::group`], what the plan as a whole adds in
//! [`super::terms`].

use super::acts::next_number;
use super::judging;
use super::machine::{Route, Terms};
use super::ramp::{following, hold, remaining};
use super::start::Start;
use super::terms::because;
use crate::edges::tally::Breach;
use jiff::Timestamp;
use std::time::Duration;
use stomaton_crds::v1alpha1::{Held, Phase, RouteStatus};

/// What keeps an attempt from beginning so.
pub fn obstacle(
    route: &Route<'_>,
    status: &RouteStatus,
    unmet: Option<String>,
    start: Start,
) -> Option<String> {
    stopped(status)
        .or_else(|| route.problem.clone())
        .or(unmet.filter(|_| !start.again))
        .or_else(|| (!route.target_ready).then(|| "the target to have a ready endpoint".to_owned()))
        .or_else(|| (!route.safe_ready).then(|| NO_MONOLITH.to_owned()))
        .or_else(|| {
            (!route.structured).then(|| "every edge pod to acknowledge the route's structure".to_owned())
        })
        .or_else(|| start.unapproved(route.profile, status).map(|step| needs_approval(route, step)))
}

/// What a route whose attempts are over, or that rests, waits for.
pub fn rest(terms: &Terms<'_>, status: &RouteStatus, now: Timestamp) -> Option<String> {
    if let Some(stopped) = stopped(status) {
        return Some(stopped);
    }
    let attempts = terms.rollback.attempts(status);
    if status.attempt >= attempts {
        return Some(format!(
            "a person: all {attempts} attempts are used; mend the service, then raise spec.rollback.maxAttempts, or \
             resume the route"
        ));
    }
    let rest = terms.rollback.rest(status);
    if remaining(status, rest, now).is_zero() {
        return None;
    }
    let until = status.since.as_ref().and_then(|since| since.0.checked_add(rest).ok());
    Some(until.map_or_else(String::new, |at| format!("the cooldown, until {at:.0}")))
}

/// What an acknowledged step still has to do before the next one: be held, be seen to work, have nothing in its way.
pub fn patience(
    terms: &Terms<'_>,
    route: &Route<'_>,
    status: &RouteStatus,
    now: Timestamp,
) -> Option<String> {
    let held = status.held.as_ref().map(|held| to_resume("held", held));
    let waits = || {
        if status.promoted == Some(next_number(route, status)) {
            return None;
        }
        still(route, status, now)
            .or_else(|| judging::missing(terms, status))
            .or_else(|| approval(route, status))
    };
    held.or_else(waits).or_else(|| route.problem.clone())
}

/// Time and answers that are missing.
fn still(route: &Route<'_>, status: &RouteStatus, now: Timestamp) -> Option<String> {
    let hold = hold_of(route, status);
    if !remaining(status, hold, now).is_zero() {
        let what = if status.phase == Phase::Soak { "soak" } else { "hold of this step" };
        let until = status.since.as_ref().and_then(|since| since.0.checked_add(hold).ok());
        return Some(until.map_or_else(String::new, |at| format!("the {what}, until {at:.0}")));
    }
    let (counted, wanted) = (judging::evidence(route.counted).requests, route.profile.min_requests);
    (counted < wanted).then(|| format!("answers of the service in this step: {counted} of {wanted} counted"))
}

fn approval(route: &Route<'_>, status: &RouteStatus) -> Option<String> {
    let (number, step) = following(route.profile, status)?;
    let number = i32::try_from(number).unwrap_or(i32::MAX);
    (step.approval && status.approved != Some(number)).then(|| needs_approval(route, number))
}

fn needs_approval(route: &Route<'_>, step: i32) -> String {
    format!("{APPROVAL}of step {step}: kubectl stomaton approve {}", route.name)
}

/// What an attempt waits for that would have no way back.
pub const NO_MONOLITH: &str = "the monolith to have a ready endpoint: without it there is no way back";

/// How what would come back and cannot ends.
pub const NO_WAY_BACK: &str = ", but the monolith has no ready endpoint: traffic stays where it is";

/// How what waits for a person's approval begins.
pub const APPROVAL: &str = "an approval ";

/// How long the present step lasts at least.
pub fn hold_of(route: &Route<'_>, status: &RouteStatus) -> Duration {
    match status.phase {
        Phase::Soak => route.profile.soak.map_or(Duration::ZERO, Duration::from),
        _ => hold(route.profile, status),
    }
}

/// What a person has stopped.
fn stopped(status: &RouteStatus) -> Option<String> {
    let recalled = status.recalled.as_ref().map(|held| to_resume("taken back", held));
    recalled.or_else(|| status.held.as_ref().map(|held| to_resume("held", held)))
}

fn to_resume(what: &str, Held { by, reason, .. }: &Held) -> String {
    format!("Resume: {what} by {by}{}", because(reason))
}

/// Why a route that the service answers has to come back; nothing if it cannot, see [`super::frozen`].
pub fn harm(terms: &Terms<'_>, route: &Route<'_>, status: &RouteStatus) -> Option<String> {
    if status.has_no_way_back() {
        return None;
    }
    let recalled = || {
        let Held { by, reason, .. } = status.recalled.as_ref()?;
        Some(format!("taken back by {by}{}", because(reason)))
    };
    let back = || {
        let back = terms.back.as_ref().filter(|back| back.done_too || status.phase != Phase::Done)?;
        Some(back.why.clone())
    };
    breach(route, status)
        .or_else(|| (!route.target_ready).then(|| "the target has no ready endpoint".to_owned()))
        .or_else(recalled)
        .or_else(back)
        .or_else(|| judging::harm(status))
}

/// The breach of the present attempt; one of an earlier attempt says nothing about this one.
pub fn present_breach<'a>(route: &'a Route<'_>, status: &RouteStatus) -> Option<&'a Breach> {
    route.breach.as_ref().filter(|(attempt, _)| *attempt == status.attempt).map(|(_, breach)| breach)
}

/// The same in words.
pub fn breach(route: &Route<'_>, status: &RouteStatus) -> Option<String> {
    present_breach(route, status).map(describe)
}

fn describe(breach: &Breach) -> String {
    let Breach { guard, bad, requests, over_ms, reported_by, .. } = breach;
    match reported_by {
        None => format!("guard {guard}: {bad} of {requests} answers bad within {over_ms} ms"),
        Some(pod) if *requests == 0 => format!("edge pod {pod} took it back: {guard}"),
        Some(pod) => {
            format!("edge pod {pod} took it back: {guard}, {bad} of {requests} answers within {over_ms} ms")
        }
    }
}

/// Who has not acknowledged a rollback, as far as that is known.
pub fn stragglers(behind: &[String]) -> String {
    let named = behind.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    match behind.len() {
        0 => "every edge pod to acknowledge the rollback".to_owned(),
        1..=3 => format!("edge pods to follow the rollback: {named}"),
        all => format!("edge pods to follow the rollback: {named} and {} more", all - 3),
    }
}
