//! How long an edge pod takes by itself, with no operator anywhere, from the breach of a guard to the last request that it
//! gives to the service. I/O.

use crate::{
    Fault, load,
    plane::{Plane, id, moving, structure},
    pod::EdgePod,
    step,
};
use e2e::{
    harness::{evidence::quantile, fleet::now_micros},
    load::{
        judge::{Guard, breach, last_service_decision_after},
        record::Record,
    },
    report::{Goal, Report},
};
use serde_json::json;
use std::{
    path::Path,
    time::{Duration, Instant},
};

const BREACHES: usize = 50;
const GUARD: Guard = Guard { min_bad: 5, bad_permille: 200, window_ms: 500 };
/// How long the service fails; a guard that does not act is as slow as this.
const FAILS: Duration = Duration::from_millis(400);
/// How long it does not, so that one breach is not seen in the next.
const RESTS: Duration = Duration::from_millis(700);

/// Breaks a service again and again, and adds a row.
pub async fn measure(plane: &mut Plane, nginx: &Path, report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, &format!("{BREACHES} breaches, and nobody but the agent"));
    let service = load::Breakable::start().await?;
    let mut route = moving(1, "/moving");
    let Guard { min_bad, bad_permille, window_ms } = GUARD;
    route["guards"] = json!([{"minBad": min_bad, "badPermille": bad_permille, "windowMillis": window_ms}]);
    let mut spec = structure(1, &load::backend().await?.to_string(), &[route], true);
    spec["backends"]["service"] = json!(service.address.to_string());
    plane.configure("guard", spec).await?;
    plane.weigh_attempt("guard", 1, 1, &[(1, 500)]).await?;
    let pod = EdgePod::start(plane, nginx, "guard", "guard-0", 2).await?;
    pod.serves(1, 1).await?;
    let options = "--path /moving --mode keepalive=4 --mode fresh=1 --mode http2=1 --think 4ms";
    let load = load::start(pod.address, options).await?;

    let mut attempts = vec![now_micros()];
    for attempt in 2.. {
        tokio::time::sleep(RESTS).await;
        service.fail(true);
        tokio::time::sleep(FAILS).await;
        service.fail(false);
        if attempts.len() == BREACHES {
            break;
        }
        // A further attempt ends the latch of the one before.
        attempts.push(now_micros());
        plane.weigh_attempt("guard", attempt, attempt, &[(1, 500)]).await?;
        pod.serves(1, attempt).await?;
    }
    let records = load::stop(&load).await?;
    let last = last_decisions(&attempts, &records)?;
    let ms = |permille| quantile(&last, permille) as f64 / 1000.0;
    let method = format!(
        "{BREACHES} times, at half of about 700 requests/s, every answer of the service fails: from the client's answer that \
         breaches the guard ({min_bad} bad, {bad_permille} per mille) to the send time of the last request that the \
         service got; an agent and an NGINX, no operator; median {} ms, longest {} ms",
        ms(500),
        ms(1000)
    );
    step(begun, &method);
    report.row("guard_ms_p99", ms(990), "ms", Some(Goal::AtMost(100.0)), method);
    Ok(())
}

/// For each attempt, how long after its breach the service was still chosen, in microseconds.
fn last_decisions(attempts: &[u64], records: &[Record]) -> Result<Vec<u64>, Fault> {
    let route = id(1);
    let of = |(index, from): (usize, &u64)| {
        let to = attempts.get(index + 1).copied().unwrap_or(u64::MAX);
        let within = || {
            let of_attempt = |r: &&Record| (*from..to).contains(&r.sent_micros);
            records.iter().filter(of_attempt).filter(|r| r.route() == Some(&route))
        };
        let at = breach(&GUARD, within()).ok_or_else(|| format!("attempt {}: no breach", index + 1))?;
        Ok(last_service_decision_after(at, to, within()).into_values().max().unwrap_or(0))
    };
    attempts.iter().enumerate().map(of).collect()
}
