//! `explain`: why a route is where it is, and what it waits for, with the numbers. Pure: the time comes in.

use crate::{
    error::Error,
    find, history,
    status::held,
    words::{between, lasting, moment, nats, percent, plain},
};
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::{Evidence, JudgeStatus, MigrationPlan, Phase, Profile, RouteStatus};

/// How many of the last transitions are shown.
const LAST: usize = 8;

/// What is known of the route.
pub fn text(plan: &MigrationPlan, route: &str, now: Timestamp) -> Result<String, Error> {
    let of = find::route(plan, route)?;
    let name = format!("{}/{}", plan.namespace().unwrap_or_default(), plan.name_any());
    let mut lines = vec![format!("Route {route} of plan {name}, to {}", of.target.name)];
    lines.extend(find::current(plan).err().map(|error| error.to_string()));
    let Some(status) = find::route_status(plan, route) else {
        lines.push("  nothing is known of it yet: the operator has not looked at it".to_owned());
        return Ok(lines.join("\n") + "\n");
    };
    let mut say = |what: &str, text: String| lines.push(format!("  {what:<11}{text}"));
    say("phase", position(plan, status));
    if let Some(stage) = &of.stage {
        let phase = find::stage_status(plan, stage).map(|known| known.phase).unwrap_or_default();
        say("stage", format!("{stage}, {}", phase.as_str()));
    }
    say("since", since(status, now));
    say("weights", weights(status));
    for (audience, permille) in &status.audiences {
        say("", format!("{audience} {}", percent(*permille)));
    }
    if let Some((what, least)) = least(plan, status) {
        say(what, left(status, least, now));
    }
    let needed = find::profile(plan, route).map(|profile| profile.min_requests);
    say("evidence", evidence(&status.evidence, needed));
    for judge in &status.judges {
        say("judge", verdict(judge));
    }
    people(plan, status).into_iter().for_each(|(what, text)| say(what, text));
    let waits = if status.waits_for.is_empty() { "nothing" } else { status.waits_for.as_str() };
    say("waits for", plain(waits));
    let history = history::transitions(plan, Some(route));
    let last = &history[history.len().saturating_sub(LAST)..];
    let happened = if last.is_empty() { String::new() } else { format!("\n{}", history::happened(last)) };
    Ok(format!("{}\n{happened}", lines.join("\n")))
}

/// The same for programs.
pub fn object(plan: &MigrationPlan, route: &str) -> Result<Value, Error> {
    let spec = find::route(plan, route)?;
    Ok(json!({
        "plan": plan.name_any(), "namespace": plan.namespace(), "spec": spec,
        "profile": find::profile(plan, route), "status": find::route_status(plan, route),
        "history": history::transitions(plan, Some(route)),
    }))
}

fn position(plan: &MigrationPlan, status: &RouteStatus) -> String {
    let RouteStatus { name, phase, step, attempt, epoch, .. } = status;
    let steps = find::profile(plan, name).map_or(0, |profile| profile.ramp.len());
    let most = plan.spec.rollback.attempts(status);
    format!("{}, step {step} of {steps}, attempt {attempt} of {most}, epoch {epoch}", phase.as_str())
}

fn since(status: &RouteStatus, now: Timestamp) -> String {
    match &status.since {
        Some(since) => format!("{} ({} ago)", moment(since.0), lasting(between(since.0, now))),
        None if status.phase == Phase::Pending => "not begun".to_owned(),
        None => "not every edge pod has acknowledged it yet".to_owned(),
    }
}

fn weights(status: &RouteStatus) -> String {
    let weights = &status.weights;
    let observed = weights.observed.map_or_else(|| "nothing yet".to_owned(), percent);
    let (desired, applied) = (percent(weights.desired), percent(weights.applied));
    format!("desired {desired}, applied {applied}, observed {observed}; revision {}", status.revision)
}

/// How long the present phase lasts at least.
fn least(plan: &MigrationPlan, status: &RouteStatus) -> Option<(&'static str, Duration)> {
    let profile = || find::profile(plan, &status.name);
    let hold = |profile: &Profile| find::step(profile, status.step).map(|step| step.min_hold.into());
    match status.phase {
        Phase::Cohort | Phase::Ramp => Some(("hold", hold(profile()?)?)),
        Phase::Soak => Some(("soak", profile()?.soak?.into())),
        Phase::RolledBack => Some(("cooldown", plan.spec.rollback.rest(status))),
        Phase::Pending | Phase::Done | Phase::RollingBack | Phase::Frozen => None,
    }
}

fn left(status: &RouteStatus, least: Duration, now: Timestamp) -> String {
    let Some(since) = &status.since else {
        return format!("{}, which begins when every edge pod has acknowledged the step", lasting(least));
    };
    match least.saturating_sub(between(since.0, now)) {
        Duration::ZERO => format!("{} are over", lasting(least)),
        left => format!("{} of {} are left", lasting(left), lasting(least)),
    }
}

fn evidence(counted: &Evidence, needed: Option<i64>) -> String {
    let needed = needed.map(|needed| format!("; a step needs at least {needed} of the service"));
    format!("{}{}", counts(counted), needed.unwrap_or_default())
}

fn counts(counted: &Evidence) -> String {
    let Evidence { requests, bad, monolith_requests, monolith_bad } = counted;
    format!("service {bad} bad of {requests} answers, monolith {monolith_bad} bad of {monolith_requests}")
}

fn verdict(judge: &JudgeStatus) -> String {
    let JudgeStatus { name, verdict, counted, left_out, harm_millinats, safe_millinats, missing, .. } = judge;
    let (harm, safe) = (nats(*harm_millinats), nats(*safe_millinats));
    let mut text = format!("{name} {verdict:?}: {}; harm {harm} nats, safe {safe} nats", counts(counted));
    if *left_out != Evidence::default() {
        text.push_str(&format!("; left out: {}", counts(left_out)));
    }
    if !missing.is_empty() {
        text.push_str(&format!("; missing: {}", plain(missing)));
    }
    text
}

/// What people did that still counts, and what nobody can undo.
fn people(plan: &MigrationPlan, status: &RouteStatus) -> Vec<(&'static str, String)> {
    let halted = plan.status.as_ref().and_then(|status| status.halted.as_ref());
    let acts = [
        status.held.as_ref().map(|by| ("held", held(by))),
        status.recalled.as_ref().map(|by| ("taken back", held(by))),
        halted.map(|by| ("halted", format!("with the whole plan {}", held(by)))),
        status.approved.map(|step| ("approved", format!("step {step} of this attempt"))),
        status.promoted.map(|step| ("promoted", format!("to step {step}"))),
        status.has_no_way_back().then(|| ("no return", "nothing leads it back to the monolith".to_owned())),
    ];
    acts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_route_is_explained_with_its_numbers() {
        let expected = "\
Route content of plan fleet/shop, to content
  phase      Ramp, step 2 of 3, attempt 1 of 3, epoch 0
  since      2026-01-02T03:04:05Z (2m10s ago)
  weights    desired 25.0 %, applied 25.0 %, observed 24.8 %; revision 7
  hold       7m50s of 10m00s are left
  evidence   service 3 bad of 1000 answers, monolith 12 bad of 4000; a step needs at least 20 of the service
  judge      errors Safe: service 3 bad of 1000 answers, monolith 12 bad of 4000; harm -1.373 nats, safe 10.621 nats
  judge      slow NotYet: service 0 bad of 0 answers, monolith 0 bad of 0; harm 0.000 nats, safe 0.000 nats; missing: \
about 400 more answers of the service
  held       by alice at 2026-01-02T03:04:05Z: sale
  waits for  Resume

TIME                   ROUTE     PHASE   WEIGHT   ACKNOWLEDGED   MESSAGE
2026-01-02T03:04:05Z   content   Ramp    25.0 %   120 ms         enough was counted
";
        assert_eq!(text(&testing::plan(), "content", at("2026-01-02T03:06:15Z")).unwrap(), expected);
    }

    #[test]
    fn a_route_of_a_stage_says_where_that_stands() {
        let mut plan = testing::staged();
        plan.spec.routes[0].stage = Some("domain".into());
        let said = text(&plan, "content", at("2026-01-02T03:06:15Z")).unwrap();
        assert!(said.contains("\n  stage      domain, Waiting\n"), "{said}");
    }

    #[test]
    fn a_hold_ends_and_one_that_has_not_begun_says_so() {
        let plan = testing::plan();
        let mut status = plan.status.clone().unwrap().routes[0].clone();
        let (_, hold) = least(&plan, &status).unwrap();
        assert_eq!(left(&status, hold, at("2026-01-02T04:00:00Z")), "10m00s are over");
        status.since = None;
        assert!(left(&status, hold, at("2026-01-02T04:00:00Z")).contains("every edge pod"));
        status.phase = Phase::RolledBack;
        assert_eq!(least(&plan, &status), Some(("cooldown", Duration::from_secs(300))));
    }

    #[test]
    fn a_route_that_is_unknown_or_not_looked_at_is_said_to_be() {
        let plan = testing::plan();
        let now = at("2026-01-02T04:00:00Z");
        assert!(text(&plan, "orders", now).unwrap().contains("nothing is known of it yet"));
        assert!(text(&plan, "order", now).unwrap_err().to_string().contains("no route order"));
        assert_eq!(object(&plan, "content").unwrap()["status"]["step"], 2);
    }
}
