//! How fast the traffic leaves a service that breaks.

use e2e::{
    harness::{
        Error,
        evidence::{Evidence, Rollback, quantile},
        fleet::{Fleet, Plan},
        scenario::{Turn, scenario},
        traffic::{Mix, Traffic},
    },
    report::{Goal, Report},
};
use std::time::Duration;
use stomaton_crds::v1alpha1::{MigrationPlanStatus, Phase};

const RUNS: usize = 10;
const RATE: u32 = 200;
const PERMILLE: i32 = 250;

/// One long step, so that nothing but the guard ends an attempt.
fn plan() -> Plan<'static> {
    Plan {
        name: "quarter",
        ramp: vec![(PERMILLE, "1h"), (1000, "1h")],
        min_requests: 20,
        cooldown: "1s",
        max_attempts: 1 + RUNS as i32,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn the_service_gets_no_request_a_second_after_the_breach() {
    scenario("rollback", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let edges = fleet.edge_pods().await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(RATE)).await?;
        fleet.apply_plan(&plan()).await?;

        for run in 0..RUNS {
            let attempt = 1 + run as i32;
            at_weight(&fleet, attempt).await?;
            // The fault meets the loops of edge and operator at another moment each time.
            tokio::time::sleep(Duration::from_millis(500 + 190 * run as u64)).await;
            fleet.break_content(500).await?;
            let limit = Duration::from_secs(30);
            fleet.route_is("quarter", "the rollback", limit, |r| r.phase == Phase::RolledBack).await?;
            fleet.mend_content().await?;
        }
        let status = at_weight(&fleet, 1 + RUNS as i32).await?;

        let records = traffic.finish().await?;
        let evidence = Evidence { records: &records, status: &status };
        let rollbacks: Vec<Rollback> = evidence.rollbacks(&Plan::GUARD).into_iter().flatten().collect();
        assert_eq!(rollbacks.len(), RUNS, "a breach that no client saw");
        for (run, rollback) in rollbacks.iter().enumerate() {
            let Rollback { last_decision, first_return, .. } = rollback;
            println!("run {run}: last decision for the service {last_decision:?} us, first against it {first_return:?} us");
            assert_eq!(rollback.last_decision.len(), edges.len(), "an edge pod without traffic");
        }
        let report = report(&evidence, &rollbacks);
        println!("{report}\n{}", report.write()?.display());
        let broken = report.broken();
        if broken.is_empty() { Ok(()) } else { Err(Error::Broken(broken.join("; "))) }
    })
    .await;
}

async fn at_weight(fleet: &Fleet<'_>, attempt: i32) -> Result<MigrationPlanStatus, Error> {
    let what = format!("attempt {attempt} to be at its weight");
    fleet
        .route_is("quarter", &what, Duration::from_secs(60), |route| {
            route.attempt == attempt && route.phase == Phase::Ramp && route.weights.applied == PERMILLE
        })
        .await
}

fn report(evidence: &Evidence<'_>, rollbacks: &[Rollback]) -> Report {
    let last: Vec<u64> = rollbacks.iter().flat_map(|r| r.last_decision.values().copied()).collect();
    let first: Vec<u64> = rollbacks.iter().flat_map(|r| r.first_return.values().copied()).collect();
    let ms = |permille| quantile(&last, permille) as f64 / 1000.0;
    let failed = evidence.records.iter().filter(|r| r.status >= 500).count();
    let method = format!(
        "{RUNS} runs at {RATE} requests/s and a weight of {PERMILLE} per mille, half of the service's answers made to \
         fail; from the answer that breached the guard (5 bad, 200 per mille) to the send time of the last request \
         that the service answered, on each edge pod: {} values; 0 means that none was sent to it after the breach",
        last.len()
    );
    let mut report = Report::new("e2e-rollback");
    report.row("rollback_ms_p50", ms(500), "ms", Some(Goal::AtMost(250.0)), method.clone());
    report.row("rollback_ms_p90", ms(900), "ms", None, method.clone());
    report.row("rollback_ms_max", ms(1000), "ms", Some(Goal::AtMost(1000.0)), method);
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
        rollbacks.len() as f64,
        "rollbacks",
        Some(Goal::Exactly(RUNS as f64)),
        "in the plan's history, each with a breach that clients saw",
    );
    report.row(
        "bad_answers",
        failed as f64 / rollbacks.len() as f64,
        "a run",
        None,
        "answers of 500 and more that clients got, a run",
    );
    report.row("requests_sent", evidence.records.len() as f64, "requests", None, "records of all load pods");
    report.row(
        "requests_lost",
        evidence.lost().len() as f64,
        "requests",
        Some(Goal::Exactly(0.0)),
        "no full answer, or an error that no backend gave",
    );
    report
}
