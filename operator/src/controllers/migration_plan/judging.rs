//! What was counted of the routes that are under way, and what judges make of it. Pure.
//!
//! All routes are looked at before any of them moves, so that those of a group decide on the same.

use super::machine::{Route, Terms, acknowledged};
use super::monitored;
use super::ramp::{elapsed, remaining};
use crate::judges;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use stomaton_crds::{
    edge_state::{Counts, Sides},
    v1alpha1::{Bad, Evidence, Judge, JudgeStatus, RouteStatus, Verdict},
};

/// Answers of the monolith that its share of bad ones is taken from.
const ENOUGH: i64 = 100;

/// Brings `status` up to date with what was counted, if the route is under way and its step acknowledged.
///
/// Of a route that is done the evidence stays as it was: traffic alone must not write status for ever.
pub fn look(terms: &Terms<'_>, route: &Route<'_>, status: &mut RouteStatus, now: Timestamp) {
    if !status.phase.is_under_way() || status.since.is_none() || !acknowledged(route, status) {
        return;
    }
    status.evidence = evidence(route.counted);
    status.weights.observed = observed(route.counted);
    let replaced = !status.revisions.is_empty() && status.revisions != route.revisions;
    status.revisions.clone_from(&route.revisions);
    let cold = !remaining(status, terms.certainty.warm_up.into(), now).is_zero();
    let elapsed = elapsed(status, now).unwrap_or_default();
    let judged = terms.judges.iter().map(|judge| {
        let before = status.judges.iter().find(|j| j.name == judge.name);
        let mut since = None;
        let (counted, left_out) = if judge.of == Bad::Prometheus {
            let begins = monitored::begins(status, before, terms.certainty);
            since = if replaced { Some(now) } else { begins };
            match monitored::counted(route, judge, since, now) {
                Ok(counted) => (counted, Evidence::default()),
                Err(trouble) => return monitored::holds(judge, before, since, &trouble),
            }
        } else {
            let total = judges::evidence(judge, route.judged);
            let left_out = if cold || replaced { total } else { left_out(before, total) };
            (less(total, left_out), left_out)
        };
        let known = before.and_then(|before| before.monolith_permille);
        let alone = status.weights.desired == 1000;
        let terms_of_it = if alone { measured_by(judge, known) } else { judge.clone() };
        let said = judges::judge(&terms_of_it, terms.certainty, terms.judges.len(), counted, elapsed);
        JudgeStatus {
            left_out,
            monolith_permille: share(counted).or(known),
            since: since.map(MicroTime),
            ..said
        }
    });
    status.judges = judged.collect();
}

/// Forgets what judges have counted, but not what the monolith was like.
pub fn begin_anew(status: &mut RouteStatus) {
    for judge in &mut status.judges {
        let (name, monolith_permille) = (std::mem::take(&mut judge.name), judge.monolith_permille);
        *judge = JudgeStatus { name, monolith_permille, ..JudgeStatus::default() };
    }
    status.revisions.clear();
}

/// The judge that says Harm.
pub fn harm(status: &RouteStatus) -> Option<String> {
    let judge = status.judges.iter().find(|judge| judge.verdict == Verdict::Harm)?;
    let Evidence { requests, bad, monolith_requests, monolith_bad } = judge.counted;
    Some(format!(
        "judge {}: {bad} of {requests} answers of the service are bad, {monolith_bad} of {monolith_requests} of the \
         monolith's; evidence {} nats",
        judge.name,
        nats(judge.harm_millinats)
    ))
}

/// A judge that does not say Safe, and what it needs.
pub fn missing(terms: &Terms<'_>, status: &RouteStatus) -> Option<String> {
    terms.judges.iter().find_map(|judge| {
        let said = status.judges.iter().find(|said| said.name == judge.name);
        match said {
            Some(said) if said.verdict == Verdict::Safe => None,
            Some(said) if !said.missing.is_empty() => Some(format!("judge {}: {}", judge.name, said.missing)),
            _ => Some(format!("judge {} to see answers of this step", judge.name)),
        }
    })
}

fn nats(millinats: i64) -> String {
    format!("{}.{}", millinats / 1000, millinats.abs() % 1000 / 100)
}

/// Totals begin at zero again with every operator: what was left out before is not among them then.
fn left_out(before: Option<&JudgeStatus>, total: Evidence) -> Evidence {
    let left_out = before.map(|before| before.left_out).unwrap_or_default();
    let among = left_out.requests <= total.requests && left_out.monolith_requests <= total.monolith_requests;
    if among { left_out } else { Evidence::default() }
}

fn less(total: Evidence, left_out: Evidence) -> Evidence {
    Evidence {
        requests: total.requests - left_out.requests,
        bad: (total.bad - left_out.bad).max(0),
        monolith_requests: total.monolith_requests - left_out.monolith_requests,
        monolith_bad: (total.monolith_bad - left_out.monolith_bad).max(0),
    }
}

/// The monolith's share of bad answers, in per mille and rounded up.
fn share(counted: Evidence) -> Option<i32> {
    let Evidence { monolith_requests, monolith_bad, .. } = counted;
    let permille = || (monolith_bad * 1000 + monolith_requests - 1) / monolith_requests;
    (monolith_requests >= ENOUGH).then(|| i32::try_from(permille()).unwrap_or(1000))
}

/// Where the monolith answers nothing, the service may be as bad as the monolith was, times the margin.
fn measured_by(judge: &Judge, monolith_permille: Option<i32>) -> Judge {
    let was = i64::from(monolith_permille.unwrap_or(0)) * i64::from(judge.safe_margin_permille) / 1000;
    let bound = i32::try_from(was).unwrap_or(i32::MAX).clamp(judge.absolute_permille, 999);
    Judge { absolute_permille: bound, ..judge.clone() }
}

/// Answers of both sides, and those that guards call bad.
pub fn evidence(counted: Sides) -> Evidence {
    let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let Sides { service, monolith } = counted;
    Evidence {
        requests: int(service.requests),
        bad: int(service.bad),
        monolith_requests: int(monolith.requests),
        monolith_bad: int(monolith.bad),
    }
}

/// The share of answers that the service really gave, in per mille.
fn observed(Sides { service: Counts { requests, .. }, monolith }: Sides) -> Option<i32> {
    let all = requests + monolith.requests;
    (all > 0).then(|| i32::try_from(requests * 1000 / all).unwrap_or(1000))
}
