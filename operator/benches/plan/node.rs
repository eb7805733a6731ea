//! Rollbacks of real pods under real traffic, at length. I/O: the cluster.

use crate::{Fault, step};
use e2e::{
    campaign::rollbacks::{self, Outcome, Work},
    harness::{
        evidence::{median, quantile},
        fleet::Fleet,
        scenario::{Turn, in_namespace},
    },
    report::{Goal, Report},
};
use serde_json::json;
use std::time::{Duration, Instant};

const PODS: i32 = 3;
/// A load ends by itself; this is later than any campaign does.
const AT_MOST: Duration = Duration::from_secs(3600);
/// The operator's own figure. 67 requests a second for each of three load pods.
const OURS: Work = Work { permille: 250, rate: 201, runs: 300, at_most: AT_MOST };
/// What other tools were measured by: a fifth of the traffic, and the best of them needed 1.6 s and 33 bad answers.
const PEERS: Work = Work { permille: 200, runs: 20, ..OURS };

/// Runs both campaigns, and adds their rows.
pub async fn measure(report: &mut Report) -> Result<(), Fault> {
    let ours = campaign("bench-rollback", OURS).await?;
    of_ours(&ours, report);
    let peers = campaign("bench-peers", PEERS).await?;
    of_peers(&peers, report);
    let (lost, sent) = (ours.lost() + peers.lost(), ours.records.len() + peers.records.len());
    let method = format!(
        "of {sent} requests of keep-alive, fresh and HTTP/2 clients that never retry, in {} rollbacks: no full answer, \
         or an error that no backend gave",
        ours.runs.len() + peers.runs.len()
    );
    report.row("lost", lost as f64, "requests", Some(Goal::Exactly(0.0)), method);
    Ok(())
}

async fn campaign(name: &str, work: Work) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let Work { permille, rate, runs, .. } = work;
    step(begun, &format!("{runs} rollbacks on {PODS} edge pods, {rate} requests/s, {permille} per mille"));
    let done = in_namespace(name, Turn::Alone, async |namespace| {
        // With a key of its own the operator tells edge pods itself, beside writing weights.
        namespace.grant().await?;
        let fleet = Fleet::deploy(namespace).await?;
        fleet.change_edge(json!({"replicas": PODS})).await?;
        rollbacks::run(&fleet, work).await
    })
    .await?;
    step(begun, &format!("{} requests", done.records.len()));
    Ok(done)
}

fn of_ours(done: &Outcome, report: &mut Report) {
    let Work { permille, rate, runs, .. } = OURS;
    let last = done.last_micros();
    let ms = |permille| quantile(&last, permille) as f64 / 1000.0;
    let what = format!(
        "{runs} runs at {rate} requests/s on {} edge pods and a weight of {permille} per mille, half of the service's \
         answers made to fail at any moment; from the answer with which clients had 5 bad ones of all pods together",
        done.pods
    );
    let method = format!(
        "{what}, to the send time of the last request that the service answered, on whichever edge pod that was; 0 \
         means that none was sent to it after the breach"
    );
    report.row("rollback_ms_p50", ms(500), "ms", None, method.clone());
    report.row("rollback_ms_p99", ms(990), "ms", Some(Goal::AtMost(250.0)), method.clone());
    report.row("rollback_ms_max", ms(1000), "ms", None, method);
    let decided = done.after_breach_ms(|run| Some(run.seen.decided_micros));
    let sent = done.after_breach_ms(|run| run.told_micros);
    let applied = done.after_breach_ms(|run| run.applied_micros);
    let mut add = |name: &'static str, values: &[f64], until: &str| {
        let method =
            format!("median of {}: {what}, {until}; less than 0: before the client had it", values.len());
        report.row(name, median(values), "ms", None, method);
    };
    add(
        "rollback_decided_ms",
        &decided,
        "to the operator's decision, by the plan's history: logged by NGINX, counted by the agent, sent to the \
         operator, summed up and judged",
    );
    add(
        "rollback_sent_ms",
        &sent,
        "to the last edge pod's answer to the operator's message, by its agent's log",
    );
    add("rollback_applied_ms", &applied, "to the last edge pod's switch, by its agent's log");
    let alone = done.runs.iter().filter(|run| run.seen.alone).count();
    let method = "in which the answers of one edge pod breached the guard by themselves, so that its agent may have \
                  been first; all others are the operator's";
    report.row("breaches_of_one_pod", alone as f64, "rollbacks", None, method);
}

fn of_peers(done: &Outcome, report: &mut Report) {
    let Work { permille, rate, runs, .. } = PEERS;
    let what = format!(
        "median of {runs} runs at {rate} requests/s and a weight of {permille} per mille, half of the service's \
         answers made to fail at any moment"
    );
    let seconds: Vec<f64> = done.runs.iter().map(|run| run.harmed_micros() as f64 / 1e6).collect();
    let method =
        format!("{what}: from the first bad answer that a client got to the last decision for the service");
    report.row("same_work_seconds_p50", median(&seconds), "s", Some(Goal::AtMost(0.4)), method);
    let bad: Vec<f64> = done.runs.iter().map(|run| run.seen.bad as f64).collect();
    let method = format!("{what}: answers of 500 and more that clients got from the service");
    report.row("same_work_bad_p50", median(&bad), "answers", Some(Goal::AtMost(8.0)), method);
}
