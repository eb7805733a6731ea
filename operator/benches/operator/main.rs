//! `make bench-operator`: what the operator costs. 500 StomatonServices on an API server of their own, the operator as
//! a process with the rights of the installation; every write is counted by the API server's audit log.
//! Writes `target/reports/bench-operator.json`, and ends with an error when a figure is not what was promised.

mod bare;
#[path = "../shared/process.rs"]
mod process;
#[path = "../shared/server.rs"]
mod server;
mod services;

use e2e::{
    bench::{Fault, kept, step},
    report::{Goal, Report},
};
use process::Process;
use server::{Server, Writes};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// What is reconciled.
const KIND: &str = "StomatonService";
/// Services that are created at once.
const SERVICES: usize = 500;
/// Passes at the same time, the operator's default; the bare loop has as many.
const CONCURRENCY: usize = 8;
/// How long the operator is watched at rest.
const WATCHED: Duration = Duration::from_secs(60);
/// How often a leader is killed.
const KILLS: usize = 3;
/// Longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    e2e::bench::main("bench-operator", run())
}

async fn run() -> Result<(), Fault> {
    let mut report = Report::new("bench-operator");
    let server = Server::start().await?;
    throughput(&server, &mut report).await?;
    restart_and_rest(&server, &mut report).await?;
    steady(&server, &mut report).await?;
    failover(&server, &mut report).await?;

    let path = report.write()?;
    println!("\n{report}\n{}", path.display());
    kept(&report)
}

/// How fast the operator writes, beside a loop that does nothing but the same writes.
async fn throughput(server: &Server, report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, &format!("{SERVICES} services at once, by the operator"));
    let operator = Process::start(server, "fleet", &[])?;
    operator.is_ready(PATIENCE).await?;
    let mark = server.mark();
    server.create_services("fleet", SERVICES, None).await?;
    server.all_deployed("fleet", SERVICES, PATIENCE).await?;
    server.at_rest(PATIENCE).await?;
    let ours = Writes::of_operator(&server.requests(mark)?)?;
    step(begun, &format!("{ours}; RSS {:.1} MiB", operator.rss_mib()?));
    operator.stop(PATIENCE).await?;

    step(begun, "the same writes by a bare loop");
    server.at_rest(PATIENCE).await?;
    let mark = server.mark();
    bare::run(server, "fleet", "bare", &ours).await?;
    server.at_rest(PATIENCE).await?;
    let bare = bare::writes(&server.requests(mark)?)?;
    step(begun, &format!("{bare}"));

    let method = format!(
        "{SERVICES} StomatonServices created at once; writes/s of the operator ({} passes at a time, dev profile as in the \
         images of the tests) from its first to its last write until all are deployed, by the audit log, divided by those \
         of a client loop that sends the same applies, status patches and Events by as many workers to the same API \
         server, while as many StomatonServices are created at once",
        CONCURRENCY
    );
    report.row(
        "writes_ratio",
        ours.per_second() / bare.per_second(),
        "ratio",
        Some(Goal::AtLeast(0.7)),
        method,
    );
    report.row("writes_per_second", ours.per_second(), "writes/s", None, format!("of the operator: {ours}"));
    report.row(
        "bare_writes_per_second",
        bare.per_second(),
        "writes/s",
        None,
        format!("of the bare loop: {bare}"),
    );
    Ok(())
}

/// What a restart writes, and what the operator takes when nothing happens.
async fn restart_and_rest(server: &Server, report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, &format!("a restart with {SERVICES} services"));
    let mark = server.mark();
    let operator = Process::start(server, "fleet", &[])?;
    operator.has_reconciled(KIND, SERVICES as u64, PATIENCE).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let writes = Writes::of_operator(&server.requests(mark)?)?;
    let method = format!(
        "a start with {SERVICES} services that are as specified: writes until each was reconciled, and 5 s more, by the \
         audit log"
    );
    report.row("restart_writes", writes.count as f64, "writes", Some(Goal::Exactly(0.0)), method);

    step(begun, &format!("{} s at rest", WATCHED.as_secs()));
    let before = operator.cpu_seconds()?;
    tokio::time::sleep(WATCHED).await;
    let cpu = (operator.cpu_seconds()? - before) * 60.0 / WATCHED.as_secs_f64();
    let method =
        format!("VmRSS of the process with {SERVICES} services, after {} s at rest", WATCHED.as_secs());
    report.row("rss_mib", operator.rss_mib()?, "MiB", None, method);
    let method = format!("user and system time, resync of 30 m, over {} s", WATCHED.as_secs());
    report.row("cpu_seconds_per_min_at_rest", cpu, "s", None, method);
    operator.stop(PATIENCE).await
}

/// What is written although nothing happens.
async fn steady(server: &Server, report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, &format!("{} s with a resync of 5 s", WATCHED.as_secs()));
    let operator = Process::start(server, "fleet", &[("RESYNC", "5s")])?;
    operator.has_reconciled(KIND, SERVICES as u64, PATIENCE).await?;
    let (mark, passes, cpu) = (server.mark(), operator.passes(KIND).await?, operator.cpu_seconds()?);
    tokio::time::sleep(WATCHED).await;
    let (passes, cpu) = (operator.passes(KIND).await? - passes, operator.cpu_seconds()? - cpu);
    let writes = Writes::of_operator(&server.requests(mark)?)?;
    step(begun, &format!("{} writes in {passes} passes, {cpu:.1} s of CPU", writes.count));
    let method = format!(
        "{SERVICES} services, resync 5 s, {} s: {passes} passes; writes other than of Leases, by the audit log",
        WATCHED.as_secs()
    );
    report.row("steady_writes", writes.count as f64, "writes", Some(Goal::Exactly(0.0)), method);
    if passes < 5 * SERVICES as u64 {
        return Err(format!("only {passes} passes: that nothing was written proves nothing").into());
    }
    operator.stop(PATIENCE).await
}

/// How long nobody works after a leader was killed.
async fn failover(server: &Server, report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, &format!("{KILLS} leaders are killed"));
    let elected = |name: &'static str| {
        let settings = [
            ("LEADER_ELECT", "true"),
            ("POD_NAMESPACE", "stomaton-system"),
            ("POD_NAME", name),
            ("POD_UID", "1"),
        ];
        Process::start(server, "fleet", &settings)
    };
    let mut worst = Duration::ZERO;
    let mut leader = elected("operator-0")?;
    leader.until("leads", PATIENCE, async || Ok(leader.metric("stomaton_leader ").await? == 1.0)).await?;
    for (kill, name) in ["operator-1", "operator-2", "operator-3"].into_iter().take(KILLS).enumerate() {
        let standby = elected(name)?;
        standby.is_ready(PATIENCE).await?;
        leader.kill()?;
        let killed = Instant::now();
        server.create_services("fleet", 1, Some(&format!("after-{kill}"))).await?;
        server.deployed("fleet", &format!("after-{kill}-0"), PATIENCE).await?;
        step(begun, &format!("taken over after {:.1} s", killed.elapsed().as_secs_f64()));
        worst = worst.max(killed.elapsed());
        leader = standby;
    }
    let method = format!(
        "{KILLS} times SIGKILL of the leader, with a standby: until the standby has deployed a service that was created \
         at the kill; the longest. The Lease lasts 10 s"
    );
    report.row("failover_seconds", worst.as_secs_f64(), "s", Some(Goal::AtMost(15.0)), method);
    leader.stop(PATIENCE).await
}
