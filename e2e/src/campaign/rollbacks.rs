//! A service that breaks again and again under load, each time at another moment, and is taken back by the operator.
//! Takes a fleet and how often; gives what clients saw, and when each step of each rollback was done. I/O: the cluster.
//!
//! A route comes back when it is told to, not after a rest: so no fault of one run is seen in the next. The times are
//! those of one machine's clock where the cluster has one node; elsewhere they are as good as its clocks.

use crate::{
    harness::{
        Doing as _, Error,
        evidence::{Evidence, Rollback},
        fleet::{Fleet, Plan, ROUTE},
        traffic::{Mix, Traffic},
        wait::{self, Seen},
    },
    load::record::Record,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, LogParams};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};
use stomaton_crds::v1alpha1::{MigrationPlan, MigrationPlanStatus, Phase, RouteStatus};

/// Two entries of history each, and a plan keeps 100.
const RUNS_A_PLAN: usize = 45;
const LIMIT: Duration = Duration::from_secs(60);
/// Share of the service's answers that fail, in per mille.
const FAILING: u16 = 500;
/// A run says how far the campaign is this often.
const SAY_EVERY: usize = 25;

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Weight of the service when it breaks, in per mille.
    pub permille: i32,
    /// Requests a second.
    pub rate: u32,
    /// How often it breaks.
    pub runs: usize,
    /// The load ends by itself after this time.
    pub at_most: Duration,
}

/// One rollback.
#[derive(Clone, Debug)]
pub struct Run {
    /// As clients saw it.
    pub seen: Rollback,
    /// When the last edge pod had answered the operator's message, in microseconds since the Unix epoch; none: no pod
    /// has.
    pub told_micros: Option<u64>,
    /// When the last edge pod had switched, in microseconds since the Unix epoch; none: not each of them said so.
    pub applied_micros: Option<u64>,
}

impl Run {
    /// From the first bad answer that a client got to the last decision for the service, in microseconds.
    pub fn harmed_micros(&self) -> u64 {
        self.seen.breach_micros + self.seen.last_micros() - self.seen.first_bad_micros
    }
}

/// What became of it.
pub struct Outcome {
    /// Every request that was sent.
    pub records: Vec<Record>,
    /// Every rollback.
    pub runs: Vec<Run>,
    /// Edge pods.
    pub pods: usize,
}

impl Outcome {
    /// Requests that were lost.
    pub fn lost(&self) -> usize {
        let status = MigrationPlanStatus::default();
        Evidence { records: &self.records, status: &status }.lost().len()
    }

    /// For each run, when the last edge pod last chose the service, in microseconds after the breach.
    pub fn last_micros(&self) -> Vec<u64> {
        self.runs.iter().map(|run| run.seen.last_micros()).collect()
    }

    /// Milliseconds from the breach to a step of a rollback, for the runs that have it. Negative: it was done before
    /// the client had the answer.
    pub fn after_breach_ms(&self, step: impl Fn(&Run) -> Option<u64>) -> Vec<f64> {
        let of = |run: &Run| Some((step(run)? as f64 - run.seen.breach_micros as f64) / 1000.0);
        self.runs.iter().filter_map(of).collect()
    }
}

/// What the agent of an edge pod has logged.
#[derive(Debug)]
struct Mark {
    pod: String,
    at_micros: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// It answered a message to take the route back.
    Told,
    /// NGINX has other weights, or a latch.
    Switched,
}

/// Breaks the service so often.
pub async fn run(fleet: &Fleet<'_>, work: Work) -> Result<Outcome, Error> {
    let pods = fleet.edge_pods().await?;
    let mix = Mix { at_most: work.at_most, ..Mix::of_all_kinds(work.rate) };
    let traffic = Traffic::start(fleet, mix).await?;
    let mut plans = Vec::new();
    for (number, first) in (0..work.runs).step_by(RUNS_A_PLAN).enumerate() {
        let name = format!("breaks-{number}");
        let runs = RUNS_A_PLAN.min(work.runs - first);
        plans.push(through(fleet, &name, work, first..first + runs).await?);
        delete(fleet, &name).await?;
    }
    let records = traffic.finish().await?;
    let mut runs = Vec::new();
    for (status, marks) in plans {
        runs.extend(join(&records, &status, &marks, pods.len())?);
    }
    Ok(Outcome { records, runs, pods: pods.len() })
}

/// These runs, by one plan; gives its last status and what edge pods logged in each run.
async fn through(
    fleet: &Fleet<'_>,
    name: &str,
    work: Work,
    runs: Range<usize>,
) -> Result<(MigrationPlanStatus, Vec<Vec<Mark>>), Error> {
    // One long step, so that nothing but the guard ends an attempt; and one attempt, so that the next waits for a word.
    let ramp = vec![(work.permille, "1h"), (1000, "1h")];
    let plan = Plan { name, ramp, min_requests: 20, cooldown: "1h", max_attempts: 1 };
    fleet.apply_plan(&plan).await?;
    let (mut status, mut marks) = (MigrationPlanStatus::default(), Vec::new());
    for (attempt, run) in (1..).zip(runs) {
        let what = format!("attempt {attempt} to be at its weight");
        let at_weight = |route: &RouteStatus| {
            (route.attempt, route.phase, route.weights.applied) == (attempt, Phase::Ramp, work.permille)
        };
        fleet.route_is(name, &what, LIMIT, at_weight).await?;
        tokio::time::sleep(moment(run)).await;
        let begun = Instant::now();
        fleet.break_content(FAILING).await?;
        status = fleet.route_is(name, "the rollback", LIMIT, |r| r.phase == Phase::RolledBack).await?;
        fleet.mend_content().await?;
        marks.push(logged(fleet, begun.elapsed()).await?);
        if (run + 1) % SAY_EVERY == 0 {
            eprintln!("        {} of {} rollbacks", run + 1, work.runs);
        }
        if run + 1 < work.runs && marks.len() < RUNS_A_PLAN {
            fleet.namespace.stomaton(&["resume", ROUTE, "--plan", name]).await?;
        }
    }
    Ok((status, marks))
}

/// How long a run waits before the fault, so that it meets the loops of edge and operator at another moment each time:
/// up to a second, spread by a multiplicative hash.
fn moment(run: usize) -> Duration {
    Duration::from_millis(300 + ((run as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54))
}

/// What the agents logged in the last so much time, and a second more.
async fn logged(fleet: &Fleet<'_>, within: Duration) -> Result<Vec<Mark>, Error> {
    let pods = fleet.namespace.api::<Pod>();
    let seconds = i64::try_from(within.as_secs()).unwrap_or(i64::MAX).saturating_add(2);
    let params =
        LogParams { container: Some("agent".into()), since_seconds: Some(seconds), ..LogParams::default() };
    let mut marks = Vec::new();
    for pod in fleet.edge_pods().await? {
        let log = pods.logs(&pod, &params).await.doing(format!("read the log of {pod}"))?;
        marks.extend(log.lines().filter_map(|line| mark(&pod, line)));
    }
    Ok(marks)
}

/// A line of an agent's log, if it is about a rollback.
fn mark(pod: &str, line: &str) -> Option<Mark> {
    let line: Value = serde_json::from_str(line).ok()?;
    let what = match line["message"].as_str()? {
        "a kill was answered" => What::Told,
        "weights switched" => What::Switched,
        _ => return None,
    };
    let at: Timestamp = line["timestamp"].as_str()?.parse().ok()?;
    Some(Mark { pod: pod.to_owned(), at_micros: u64::try_from(at.as_microsecond()).ok()?, what })
}

/// The rollbacks of one plan, with what edge pods logged of each.
fn join(
    records: &[Record],
    status: &MigrationPlanStatus,
    marks: &[Vec<Mark>],
    pods: usize,
) -> Result<Vec<Run>, Error> {
    let id = status.routes.first().map(|route| route.id.as_str());
    let own: Vec<Record> = records.iter().filter(|r| r.route() == id).cloned().collect();
    let rollbacks = Evidence { records: &own, status }.rollbacks(&Plan::GUARD);
    if rollbacks.len() != marks.len() {
        let (found, wanted) = (rollbacks.len(), marks.len());
        return Err(Error::Broken(format!("{found} rollbacks in the plan's history, not {wanted}")));
    }
    let unseen = || Error::Broken("a rollback whose breach no client saw".into());
    let of = |(seen, marks): (Option<Rollback>, &Vec<Mark>)| -> Result<Run, Error> {
        let seen = seen.ok_or_else(unseen)?;
        if seen.last_decision.len() != pods {
            return Err(Error::Broken("an edge pod without traffic after a breach".into()));
        }
        let told = first_of_each(marks, What::Told, seen.decided_micros);
        let switched = first_of_each(marks, What::Switched, seen.decided_micros);
        Ok(Run {
            told_micros: told.into_values().max(),
            applied_micros: Some(switched).filter(|s| s.len() == pods).and_then(|s| s.into_values().max()),
            seen,
        })
    };
    rollbacks.into_iter().zip(marks).map(of).collect()
}

/// For each edge pod, when it first did so after the decision.
fn first_of_each(marks: &[Mark], what: What, decided_micros: u64) -> BTreeMap<&str, u64> {
    let mut first = BTreeMap::new();
    for mark in marks.iter().filter(|mark| mark.what == what && mark.at_micros >= decided_micros) {
        let at = first.entry(mark.pod.as_str()).or_insert(mark.at_micros);
        *at = mark.at_micros.min(*at);
    }
    first
}

/// Deletes a plan, and waits until it is gone.
async fn delete(fleet: &Fleet<'_>, name: &str) -> Result<(), Error> {
    let plans = fleet.namespace.api::<MigrationPlan>();
    plans.delete(name, &DeleteParams::default()).await.doing(format!("delete the plan {name}"))?;
    wait::object(&plans, name, "the plan to be gone", LIMIT, |plan| {
        Seen::when(plan.is_none(), || "it is there".to_owned())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_line_says_when_it_was_told_and_when_it_switched() {
        let line = |message: &str| {
            format!(r#"{{"timestamp":"1970-01-01T00:00:02.000003Z","level":"INFO","message":"{message}"}}"#)
        };
        let what = |message: &str| mark("edge-0", &line(message)).map(|mark| (mark.what, mark.at_micros));
        assert_eq!(what("a kill was answered"), Some((What::Told, 2_000_003)));
        assert_eq!(what("weights switched"), Some((What::Switched, 2_000_003)));
        assert_eq!((what("latched"), mark("edge-0", "no JSON").is_some()), (None, false));
    }

    #[test]
    fn what_a_pod_did_before_the_decision_is_not_of_the_rollback() {
        let mark = |pod: &str, at_micros| Mark { pod: pod.into(), at_micros, what: What::Switched };
        let marks = [mark("a", 5), mark("a", 30), mark("a", 20), mark("b", 25)];
        assert_eq!(first_of_each(&marks, What::Switched, 10), [("a", 20), ("b", 25)].into());
        assert!(first_of_each(&marks, What::Told, 10).is_empty());
    }

    #[test]
    fn faults_come_at_moments_that_are_spread_over_a_second() {
        let moments: Vec<_> = (0..50).map(moment).collect();
        assert!(moments.iter().all(|m| (300..1324).contains(&m.as_millis())), "{moments:?}");
        let tenths: std::collections::BTreeSet<_> = moments.iter().map(|m| m.as_millis() / 100).collect();
        assert!(tenths.len() >= 10, "{tenths:?}");
    }
}
