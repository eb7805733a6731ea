//! What a request costs NGINX, in processor time, against the same NGINX with a bare `proxy_pass`. Every round measures
//! all of them in another order, and each is compared with the bare one of its round. A second bare one is the control:
//! where it strays, nothing else that was measured means anything. I/O.

use crate::{
    Fault, load,
    plane::{Plane, fixed, moving, structure},
    pod::{Bare, EdgePod},
    process::cpu_nanos,
    step,
};
use e2e::report::{Goal, Report};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_setaffinity},
};
use serde_json::json;
use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

const ROUNDS: usize = 9;
const REQUESTS: u64 = 20_000;
const CLIENTS: u32 = 16;
/// Where a control may be.
const CONTROL: (f64, f64) = (0.95, 1.05);
/// Lines wait in NGINX' buffer for 200 ms: they belong to the requests that wrote them.
const WRITTEN: Duration = Duration::from_millis(300);

/// What is measured: its row, what it may cost, and what it aims at.
const ROWS: [(&str, f64, f64); 3] =
    [("cpu_ratio_settled", 1.50, 1.40), ("cpu_ratio_migrating", 1.85, 1.75), ("cpu_ratio_auth", 2.50, 2.40)];

/// One way through an NGINX.
struct Arm {
    address: SocketAddr,
    path: &'static str,
    workers: Vec<i32>,
}

/// Measures, and adds four rows.
pub async fn measure(plane: &mut Plane, nginx: &Path, report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, &format!("CPU per request: {ROUNDS} rounds of {REQUESTS} requests"));
    let backend = load::backend().await?;
    let bare = [Bare::start(nginx, backend).await?, Bare::start(nginx, backend).await?];
    let pod = edge(plane, nginx, backend).await?;
    let of_edge = |path, workers: &[i32]| Arm { address: pod.address, path, workers: workers.to_vec() };
    let of_bare = |bare: &Bare| {
        Ok::<_, Fault>(Arm { address: bare.address, path: "/settled", workers: bare.workers()? })
    };
    let workers = pod.workers().await?;
    let arms = [
        of_bare(&bare[0])?,
        of_bare(&bare[1])?,
        of_edge("/settled", &workers),
        of_edge("/migrating", &workers),
        of_edge("/known", &workers),
    ];
    arms.iter().flat_map(|arm| &arm.workers).try_for_each(|pid| pin(*pid))?;

    // What is paid once (connections, first pages) is paid before.
    for arm in &arms {
        cost(arm).await?;
    }
    let mut ratios: [Vec<f64>; 4] = Default::default();
    for round in 1..=ROUNDS {
        let mut order = [0, 1, 2, 3, 4];
        fastrand::shuffle(&mut order);
        let mut costs = [0.0; 5];
        for arm in order {
            costs[arm] = cost(&arms[arm]).await?;
        }
        for (ratios, cost) in ratios.iter_mut().zip(&costs[1..]) {
            ratios.push(cost / costs[0]);
        }
        let micros = costs.map(|nanos| (nanos / 10.0).round() / 100.0);
        step(
            begun,
            &format!("round {round}: {micros:?} us a request (bare, bare, settled, migrating, auth)"),
        );
    }
    rows(&mut ratios, report);
    Ok(())
}

fn rows([control, measured @ ..]: &mut [Vec<f64>; 4], report: &mut Report) {
    let (control, said) = median(control);
    let holds = (CONTROL.0..=CONTROL.1).contains(&control);
    let how = format!(
        "nanoseconds on the processor of one worker, by /proc/PID/task/*/schedstat, for {REQUESTS} requests of {CLIENTS} \
         kept-alive clients, answers of 70 bytes; median of {ROUNDS} ratios to a bare proxy_pass of the same NGINX \
         in the same round"
    );
    report.row(
        "cpu_ratio_control",
        control,
        "ratio",
        Some(Goal::Between(CONTROL.0, CONTROL.1)),
        format!("a second bare proxy_pass, {said}; {how}"),
    );
    for ((name, bar, aim), ratios) in ROWS.into_iter().zip(measured) {
        let (ratio, said) = median(ratios);
        // A ratio beside a control that strays is none.
        let ratio = if holds { ratio } else { f64::NAN };
        let method = format!("{said}, aimed at {aim}; limits, log and security headers on; {how}");
        report.row(name, ratio, "ratio", Some(Goal::AtMost(bar)), method);
    }
}

/// An edge of one worker with a route that stays, one at a half, and one at a half for users who are known.
async fn edge(plane: &mut Plane, nginx: &Path, backend: SocketAddr) -> Result<EdgePod, Fault> {
    let mut known = moving(3, "/known");
    known["handling"] = json!({"auth": "FailClosed"});
    let routes = [fixed(1, "/settled"), moving(2, "/migrating"), known];
    plane.configure("cpu", structure(1, &backend.to_string(), &routes, false)).await?;
    plane.weigh("cpu", 1, &[(2, 500), (3, 500)]).await?;
    let pod = EdgePod::start(plane, nginx, "cpu", "cpu-0", 1).await?;
    pod.serves(1, 1).await?;
    Ok(pod)
}

/// Nanoseconds for each request.
async fn cost(arm: &Arm) -> Result<f64, Fault> {
    let before = cpu_nanos(&arm.workers)?;
    let options = format!("--path {} --mode keepalive={CLIENTS} --requests {REQUESTS}", arm.path);
    let summary = load::end(&load::start(arm.address, &options).await?).await?;
    tokio::time::sleep(WRITTEN).await;
    Ok((cpu_nanos(&arm.workers)? - before) as f64 / summary.answered as f64)
}

/// Keeps a worker on the first processor: moves from one to the other cost it time of its own.
fn pin(pid: i32) -> Result<(), Fault> {
    let mut first = CpuSet::new();
    first.set(0);
    Ok(sched_setaffinity(Pid::from_raw(pid), &first)?)
}

/// The median, and in words how far the values are apart.
fn median(values: &mut [f64]) -> (f64, String) {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let (least, most) = (at(0), at(values.len().saturating_sub(1)));
    (at(values.len() / 2), format!("{least:.2} to {most:.2}"))
}
