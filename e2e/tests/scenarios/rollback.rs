//! How fast the traffic leaves a service that breaks, by the operator.

use e2e::{
    campaign::rollbacks::{self, Outcome, Run, Work},
    harness::{
        Error,
        evidence::{median, quantile},
        fleet::Fleet,
        scenario::{Turn, scenario},
    },
    report::{Goal, Report},
};
use serde_json::json;
use std::time::Duration;

const PODS: i32 = 3;
/// 67 a second for each of three load pods.
const WORK: Work = Work { permille: 250, rate: 201, runs: 50, at_most: Duration::from_secs(900) };

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn the_service_gets_no_request_half_a_second_after_the_breach() {
    scenario("rollback", Turn::Alone, async |namespace| {
        // With a key of its own the operator tells edge pods itself, beside writing weights.
        namespace.grant().await?;
        let fleet = Fleet::deploy(namespace).await?;
        fleet.change_edge(json!({"replicas": PODS})).await?;
        let done = rollbacks::run(&fleet, WORK).await?;
        for (number, Run { seen, .. }) in done.runs.iter().enumerate() {
            println!(
                "run {number}: {} bad, last decision for the service {:?} us",
                seen.bad, seen.last_decision
            );
        }
        let report = report(&done);
        println!("{report}\n{}", report.write()?.display());
        let broken = report.broken();
        if broken.is_empty() { Ok(()) } else { Err(Error::Broken(broken.join("; "))) }
    })
    .await;
}

fn report(done: &Outcome) -> Report {
    let last = done.last_micros();
    let ms = |permille| quantile(&last, permille) as f64 / 1000.0;
    let Work { permille, rate, runs, .. } = WORK;
    let method = format!(
        "{runs} runs at {rate} requests/s on {} edge pods and a weight of {permille} per mille, half of the service's \
         answers made to fail; from the answer that breached the guard (5 bad of all pods together, 200 per mille) to \
         the send time of the last request that the service answered, on whichever edge pod that was; 0 means that \
         none was sent to it after the breach",
        done.pods
    );
    let mut report = Report::new("e2e-rollback");
    report.row("rollback_ms_p50", ms(500), "ms", Some(Goal::AtMost(250.0)), method.clone());
    report.row("rollback_ms_p90", ms(900), "ms", None, method.clone());
    report.row("rollback_ms_max", ms(1000), "ms", Some(Goal::AtMost(500.0)), method);
    let first: Vec<u64> = done.runs.iter().flat_map(|r| r.seen.first_return.values().copied()).collect();
    report.row(
        "first_return_ms_max",
        quantile(&first, 1000) as f64 / 1000.0,
        "ms",
        None,
        "from the breach to the send time of the first request of a user of the service that the monolith answered, on \
         each edge pod: the rollback came no later; how much earlier, the traffic is too thin to tell",
    );
    report.row(
        "rollbacks",
        done.runs.len() as f64,
        "rollbacks",
        Some(Goal::Exactly(runs as f64)),
        "in the plans' histories, each with a breach that clients saw",
    );
    report.row(
        "breaches_of_one_pod",
        done.runs.iter().filter(|run| run.seen.alone).count() as f64,
        "rollbacks",
        Some(Goal::AtMost(runs as f64 / 2.0)),
        "in which the answers of one edge pod breached the guard by themselves, so that its agent may have been first",
    );
    let bad: Vec<f64> = done.runs.iter().map(|run| run.seen.bad as f64).collect();
    let method = "answers of 500 and more that clients got from the service, a run";
    report.row("bad_answers", median(&bad), "a run", None, method);
    report.row("requests_sent", done.records.len() as f64, "requests", None, "records of all load pods");
    report.row(
        "requests_lost",
        done.lost() as f64,
        "requests",
        Some(Goal::Exactly(0.0)),
        "no full answer, or an error that no backend gave",
    );
    report
}
