//! Judges that go by what Prometheus counts: since when, what they ask, and what they say without an answer. No I/O:
//! answers are those that [`Prometheus`] was given last.
//!
//! Unlike the edge, Prometheus is asked for a stretch of time, so nothing has to be left out: the stretch begins after the
//! warm-up, and anew when either side is replaced. A judge without an answer holds, and says why; it neither forgets
//! what it last counted nor says Harm.

use super::machine::Route;
use crate::prometheus::{
    Prometheus, Reading, Trouble,
    query::{About, Question},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use std::time::Duration;
use stomaton_crds::v1alpha1::{
    Certainty, Evidence, Gateway, Judge, JudgeStatus, MigrationPlan, RouteStatus, Verdict,
};

/// When counting begins for a judge that said `before`; none before the step was acknowledged.
pub fn begins(
    status: &RouteStatus,
    before: Option<&JudgeStatus>,
    certainty: &Certainty,
) -> Option<Timestamp> {
    let warm = status.since.as_ref()?.0.checked_add(Duration::from(certainty.warm_up)).ok()?;
    let replaced = before.and_then(|before| before.since.as_ref());
    Some(replaced.map_or(warm, |MicroTime(replaced)| warm.max(*replaced)))
}

/// Gives the routes that are under way what was counted of them, and keeps the questions open.
pub fn read(
    plan: &MigrationPlan,
    gateway: Option<&Gateway>,
    prometheus: &Prometheus,
    routes: &mut [Route<'_>],
    now: Timestamp,
) {
    let (Some(status), Some(gateway)) = (&plan.status, gateway) else { return };
    let namespace = plan.namespace().unwrap_or_default();
    for route in routes {
        let is_it = |s: &&RouteStatus| s.name == route.name && Some(&s.id) == route.id.as_ref();
        let Some(status) = status.routes.iter().find(is_it).filter(|s| s.phase.is_under_way()) else {
            continue;
        };
        let Some(spec) = plan.spec.routes.iter().find(|spec| spec.name == route.name) else { continue };
        let entry = gateway.spec.routes.iter().find(|entry| entry.name == route.name);
        let monolith =
            entry.and_then(|entry| entry.backend.as_ref()).unwrap_or(&gateway.spec.default_backend);
        let about = About {
            namespace: &namespace,
            route: route.name,
            service: &spec.target.name,
            monolith: &monolith.name,
        };
        for judge in &plan.spec.judges {
            let before = status.judges.iter().find(|before| before.name == judge.name);
            let since = begins(status, before, &plan.spec.certainty).filter(|since| *since < now);
            if let (Some(counts), Some(since)) = (&judge.prometheus, since) {
                let reading = prometheus.reading(&Question::of(counts, about, since));
                route.readings.insert(judge.name.clone(), reading);
            }
        }
    }
}

/// What is counted for a judge since `since`: nothing before it, and not yet what is on its way.
pub fn counted(route: &Route<'_>, judge: &Judge, since: Option<Timestamp>, now: Timestamp) -> Reading {
    if since.is_none_or(|since| since >= now) {
        return Ok(Evidence::default());
    }
    route.readings.get(&judge.name).cloned().unwrap_or(Err(Trouble::NotYet))
}

/// What a judge says that has no answer: what it last counted of the same stretch, and that it holds. Harm that an answer
/// has shown stays.
pub fn holds(
    judge: &Judge,
    before: Option<&JudgeStatus>,
    since: Option<Timestamp>,
    trouble: &Trouble,
) -> JudgeStatus {
    let since = since.map(MicroTime);
    let same = before.filter(|before| before.since == since);
    if let Some(harm) = same.filter(|same| same.verdict == Verdict::Harm) {
        return harm.clone();
    }
    JudgeStatus {
        name: judge.name.clone(),
        verdict: Verdict::NotYet,
        monolith_permille: before.and_then(|before| before.monolith_permille),
        missing: format!("Prometheus: {trouble}"),
        since,
        ..same.cloned().unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "monitored_tests.rs"]
mod tests;
