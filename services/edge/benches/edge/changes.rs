//! How long a change takes until users meet it: of a weight, through three pods; of a route, beside a thousand others.
//! I/O.

use crate::{
    Fault, load,
    plane::{Plane, fixed, id, moving, structure},
    pod::EdgePod,
    process::until,
    step,
};
use e2e::{
    harness::{evidence::quantile, fleet::now_micros},
    load::record::{Record, Side},
    report::{Goal, Report},
};
use serde_json::Value;
use std::{
    path::Path,
    time::{Duration, Instant},
};
use stomaton_edge::control::Verb;

const PODS: usize = 3;
const CHANGES: i64 = 100;
/// How long a weight stays once it is in force.
const HELD: Duration = Duration::from_millis(100);

/// Changes a weight from all to nothing and back, and adds a row.
pub async fn weights(plane: &mut Plane, nginx: &Path, report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, &format!("{CHANGES} changes of a weight, {PODS} pods"));
    let backend = load::backend().await?.to_string();
    plane.configure("weights", structure(1, &backend, &[moving(1, "/moving")], true)).await?;
    plane.weigh("weights", 1, &[(1, 0)]).await?;
    let (mut pods, mut loads) = (Vec::new(), Vec::new());
    for number in 0..PODS {
        let pod = EdgePod::start(plane, nginx, "weights", &format!("weights-{number}"), 2).await?;
        pod.serves(1, 1).await?;
        let options = "--path /moving --mode keepalive=4 --mode fresh=1 --mode http2=1 --think 5ms";
        loads.push(load::start(pod.address, options).await?);
        pods.push(pod);
    }
    let mut changes = Vec::new();
    for revision in 2..2 + CHANGES {
        let to = if revision % 2 == 0 { Side::Service } else { Side::Monolith };
        changes.push((now_micros(), to));
        plane.weigh("weights", revision, &[(1, if to == Side::Service { 1000 } else { 0 })]).await?;
        for pod in &pods {
            pod.serves(1, revision).await?;
        }
        tokio::time::sleep(HELD).await;
    }
    let mut last = Vec::new();
    for load in &loads {
        let records = load::stop(load).await?;
        nothing_lost(&records)?;
        last.extend(last_decisions(&changes, &records));
    }
    let ms = |permille| quantile(&last, permille) as f64 / 1000.0;
    step(begun, &format!("p50 {} ms, max {} ms", ms(500), ms(1000)));
    let method = format!(
        "{CHANGES} changes between nothing and all, {PODS} agents at an API server, NGINX of two workers each, about 800 \
         requests/s on each: from before EdgeWeights is written to the send time of the last request that the old \
         side answered; {} values, median {} ms, longest {} ms; the operator's part is in the rollbacks of `make test-e2e`",
        last.len(),
        ms(500),
        ms(1000)
    );
    report.row("weight_change_ms_p99", ms(990), "ms", Some(Goal::AtMost(250.0)), method);
    Ok(())
}

/// For each change, how long after it the other side was still chosen, in microseconds; 0 if it was not.
fn last_decisions(changes: &[(u64, Side)], records: &[Record]) -> Vec<u64> {
    let next = |index: usize| changes.get(index + 1).map_or(u64::MAX, |(at, _)| *at);
    let last = |(index, (at, to)): (usize, &(u64, Side))| {
        let of_old = |r: &&Record| {
            (*at..next(index)).contains(&r.sent_micros) && r.side().is_some_and(|side| side != *to)
        };
        records.iter().filter(of_old).map(|r| r.sent_micros - at).max().unwrap_or(0)
    };
    changes.iter().enumerate().map(last).collect()
}

const ROUTES: u64 = 1000;
const ADDED: i64 = 40;
/// An agent leaves so much time between two reloads.
const SPACING: Duration = Duration::from_millis(1200);

/// Adds routes to an edge of a thousand, one after the other, and adds a row.
pub async fn routes(plane: &mut Plane, nginx: &Path, report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, &format!("{ADDED} new routes beside {}", ROUTES - 1));
    let backend = load::backend().await?.to_string();
    let others: Vec<Value> = (1..ROUTES).map(|n| moving(n, &format!("/api/v{n}"))).collect();
    let with = |revision: i64| {
        let new = fixed(number(revision), &format!("/new/{revision}"));
        structure(revision, &backend, &[&others[..], &[new]].concat(), true)
    };
    plane.configure("routes", with(1)).await?;
    plane.weigh("routes", 1, &[(1, 500)]).await?;
    let pod = EdgePod::start(plane, nginx, "routes", "routes-0", 2).await?;
    pod.serves(1, 1).await?;
    let options = "--path /api/v1 --path /api/v500 --mode keepalive=4 --mode fresh=1 --think 20ms";
    let load = load::start(pod.address, options).await?;
    let (mut took, mut floors) = (Vec::new(), Vec::new());
    for revision in 2..2 + ADDED {
        tokio::time::sleep(SPACING).await;
        let written = Instant::now();
        plane.configure("routes", with(revision)).await?;
        answers(&pod, revision).await?;
        took.push(micros(written.elapsed()));
        pod.serves(revision, 1).await?;
        // The same test and the same reload, by nobody's wish: what NGINX itself takes.
        tokio::time::sleep(SPACING).await;
        let floor = Instant::now();
        pod.supervisor.ask(Verb::Test(pod.configuration())).await?;
        pod.supervisor.ask(Verb::Reload).await?;
        floors.push(micros(floor.elapsed()));
    }
    let records = load::stop(&load).await?;
    nothing_lost(&records)?;
    let beyond: Vec<u64> =
        took.iter().zip(&floors).map(|(took, floor)| took.saturating_sub(*floor)).collect();
    let ms = |values: &[u64], permille| quantile(values, permille) as f64 / 1000.0;
    let method = format!(
        "{ADDED} times, beside {} others: from before EdgeConfig is applied to the first answer of the new route on a \
         fresh connection, less what `nginx -t` and a reload of the same configuration take right after it (median {} \
         ms); the whole took {} ms, median, {} ms at most; {} requests meanwhile, none lost, none answered by an error",
        ROUTES - 1,
        ms(&floors, 500),
        ms(&took, 500),
        ms(&took, 1000),
        records.len()
    );
    step(begun, &method);
    report.row("new_route_ms_p99", ms(&beyond, 990), "ms", Some(Goal::AtMost(500.0)), method);
    Ok(())
}

/// Number of the route that came with a revision.
fn number(revision: i64) -> u64 {
    ROUTES + revision.unsigned_abs()
}

/// Waits until the route that came with a revision answers on a fresh connection.
async fn answers(pod: &EdgePod, revision: i64) -> Result<(), Fault> {
    let fresh = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
    let (url, id) = (format!("http://{}/new/{revision}", pod.address), id(number(revision)));
    until("the new route to answer", async || {
        let answer = fresh.get(&url).send().await?.error_for_status()?;
        let said = answer.headers().get("x-stomaton-edge").and_then(|value| value.to_str().ok());
        Ok(said.is_some_and(|said| said.contains(&id)).then_some(()))
    })
    .await
}

fn nothing_lost(records: &[Record]) -> Result<(), Fault> {
    match records.iter().find(|r| r.status != 200) {
        None => Ok(()),
        Some(first) => Err(format!("lost, or answered by an error: {}", first.to_line()).into()),
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
