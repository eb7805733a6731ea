//! What the agent costs beside NGINX, and whether it counts every line, across rotations and its own death. I/O.

use crate::{
    Fault, load,
    plane::{Plane, moving, structure},
    pod::EdgePod,
    process::cpu_nanos,
    step,
};
use e2e::{
    bench::rss_mib,
    report::{Goal, Report},
};
use serde_json::Value;
use std::{
    path::Path,
    time::{Duration, Instant},
};

const ROUTES: u64 = 100;
/// Two times so many: logs rotate at 8 MiB, which is about 60,000 lines.
const REQUESTS: u64 = 150_000;
const CLIENTS: &str = "--mode keepalive=16";
const KILLS: usize = 3;

/// Measures, and adds three rows.
pub async fn measure(plane: &mut Plane, nginx: &Path, report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, &format!("{REQUESTS} requests to {ROUTES} routes, and the agent beside them"));
    let backend = load::backend().await?.to_string();
    let routes: Vec<Value> = (1..=ROUTES).map(|n| moving(n, &format!("/api/v{n}"))).collect();
    plane.configure("counting", structure(1, &backend, &routes, false)).await?;
    let halves: Vec<_> = (1..=ROUTES).map(|n| (n, 500)).collect();
    plane.weigh("counting", 1, &halves).await?;
    let mut pod = EdgePod::start(plane, nginx, "counting", "counting-0", 2).await?;
    pod.serves(1, 1).await?;
    let paths: String = (1..=ROUTES).map(|n| format!(" --path /api/v{n}")).collect();
    let options = format!("{CLIENTS} --requests {REQUESTS}{paths}");

    let (workers, agent) = (pod.workers().await?, [pod.agent_pid()]);
    let before = (cpu_nanos(&workers)?, cpu_nanos(&agent)?);
    let first = load::end(&load::start(pod.address, &options).await?).await?;
    pod.until("every line to be counted", |state| state.lines >= first.answered).await?;
    let (of_nginx, of_agent) = (cpu_nanos(&workers)? - before.0, cpu_nanos(&agent)? - before.1);
    let rss = rss_mib(pod.agent_pid())?;

    step(begun, &format!("as many again, while {KILLS} agents are killed"));
    let load = load::start(pod.address, &options).await?;
    for kill in 1..=KILLS {
        let at = REQUESTS * kill as u64 / (KILLS as u64 + 1);
        while load.report().summary.sent < at {
            // A look costs the load time: it is 100 paths that are counted.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        pod.replace_agent().await?;
    }
    let second = load::end(&load).await?;
    let answers = first.answered + second.answered;
    // If lines are missing for good, the ratio says so.
    let all = pod.until("every line to be counted", |state| state.lines + state.gaps >= answers).await;
    let state = match all {
        Ok(state) => state,
        Err(_) => pod.state().await?,
    };
    step(begun, &format!("{answers} answers, {} lines, {} gaps", state.lines, state.gaps));
    let method = format!(
        "{} lines that the agent counted, of {answers} answers that clients had, over rotations at 8 MiB and {KILLS} times \
         SIGKILL of the agent; {} gaps reported",
        state.lines, state.gaps
    );
    let ratio = state.lines as f64 / answers as f64;
    report.row("log_lines_ratio", ratio, "ratio", Some(Goal::Exactly(1.0)), method);
    let method = format!("VmRSS with {ROUTES} routes after {REQUESTS} requests; aimed at 15");
    report.row("agent_rss_mib", rss, "MiB", Some(Goal::AtMost(32.0)), method);
    let method = format!(
        "processor time of the agent for each of NGINX' workers', by schedstat, over {} requests at full speed",
        first.answered
    );
    let share = of_agent as f64 * 100.0 / of_nginx.max(1) as f64;
    report.row("agent_cpu_share", share, "%", Some(Goal::AtMost(8.0)), method);
    Ok(())
}
