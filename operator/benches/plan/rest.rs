//! What a thousand plans cost while nothing happens, and what a restart does to them. I/O.

use crate::{
    Fault,
    fleet::{Fleet, KIND, PATIENCE, PLANS, ROUTES},
    server::Writes,
    step,
};
use e2e::report::{Goal, Report};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use stomaton_crds::v1alpha1::EdgeWeightsSpec;

/// How long the operator is watched.
const WATCHED: Duration = Duration::from_secs(60);
/// Passes over each plan without which nothing is shown.
const ROUNDS: u64 = 5;

/// What is written although nothing happens, and what that takes.
pub async fn steady(fleet: &Fleet, report: &mut Report) -> Result<(), Fault> {
    let (begun, seconds) = (Instant::now(), WATCHED.as_secs());
    let (server, operator) = (&fleet.server, &fleet.operator);
    step(begun, &format!("{seconds} s with a resync of 5 s"));
    let (mark, passes, cpu) = (server.mark(), operator.passes(KIND).await?, operator.cpu_seconds()?);
    tokio::time::sleep(WATCHED).await;
    let (passes, cpu) = (operator.passes(KIND).await? - passes, operator.cpu_seconds()? - cpu);
    let writes = Writes::of_operator(&server.requests(mark)?)?;
    step(begun, &format!("{} writes in {passes} passes", writes.count));
    let what = format!("{PLANS} plans of {ROUTES} routes over 10 Gateways, in mid-ramp, resync 5 s");
    let method =
        format!("{what}, {seconds} s: {passes} passes; writes other than of Leases, by the audit log");
    // That nothing is written proves nothing of plans that nobody looks at.
    let count = if passes >= ROUNDS * PLANS as u64 { writes.count as f64 } else { f64::NAN };
    report.row("steady_writes", count, "writes", Some(Goal::Exactly(0.0)), method);
    let method = format!("VmRSS of the operator, {what}");
    report.row("rss_mib", operator.rss_mib()?, "MiB", None, method);
    let method = format!("user and system time of the operator over {seconds} s, of one core, {what}");
    report.row("cpu_percent", 100.0 * cpu / WATCHED.as_secs_f64(), "%", None, method);
    Ok(())
}

/// What a kill in mid-ramp changes.
pub async fn restart(fleet: Fleet, report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, "kill -9 of the operator in mid-ramp, and another");
    fleet.server.at_rest(PATIENCE).await?;
    let (before, mark) = (fleet.weights().await?, fleet.server.mark());
    let fleet = fleet.restarted().await?;
    fleet.operator.has_reconciled(KIND, 2 * PLANS as u64, PATIENCE).await?;
    fleet.server.at_rest(PATIENCE).await?;
    let writes = Writes::of_operator(&fleet.server.requests(mark)?)?;
    let moves = moves(&before, &fleet.weights().await?);
    let written = format!("{:?}", writes.by_resource);
    step(begun, &format!("{moves} weights moved; {} writes: {written}", writes.count));
    let what = format!("SIGKILL of the operator while {PLANS} plans are in mid-ramp, and a start of another");
    let method = format!("{what}: entries of EdgeWeights that differ after two passes over each plan");
    report.row("restart_weight_moves", moves as f64, "weights", Some(Goal::Exactly(0.0)), method);
    let method = format!("{what}: nothing is due, so nothing should be written: {written}");
    report.row("restart_writes", writes.count as f64, "writes", Some(Goal::Exactly(0.0)), method);
    fleet.operator.stop(PATIENCE).await
}

/// Entries that are not as they were.
fn moves(before: &BTreeMap<String, EdgeWeightsSpec>, after: &BTreeMap<String, EdgeWeightsSpec>) -> usize {
    let entries = |all: &BTreeMap<String, EdgeWeightsSpec>| -> BTreeMap<_, _> {
        all.values().flat_map(|weights| weights.routes.clone()).collect()
    };
    let (before, after) = (entries(before), entries(after));
    let changed = before.iter().filter(|(id, entry)| after.get(*id) != Some(entry)).count();
    changed + after.keys().filter(|id| !before.contains_key(*id)).count()
}
