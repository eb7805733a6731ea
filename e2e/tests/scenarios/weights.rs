//! Weights move under load without a loss and without an answer from the wrong side.

use e2e::{
    harness::{
        Error,
        evidence::Evidence,
        fleet::{Fleet, Plan},
        scenario::{Turn, scenario},
        traffic::{Mix, Traffic},
    },
    report::{Goal, Report},
};
use std::time::Duration;
use stomaton_crds::v1alpha1::Phase;

const REQUESTS: u64 = 100_000;
const STEPS: i32 = 40;
/// The step of the first attempt on which the service breaks.
const BREAK_AT: i32 = 12;

fn plan() -> Plan<'static> {
    Plan {
        name: "steps",
        ramp: (1..=STEPS).map(|step| (step * 1000 / STEPS, "1s")).collect(),
        min_requests: 20,
        cooldown: "2s",
        max_attempts: 2,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn fifty_weight_changes_and_a_rollback_lose_nothing() {
    scenario("weights", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let edges = fleet.edge_pods().await?.len();
        let traffic = Traffic::start(&fleet, Mix::of_all_habits(900)).await?;

        fleet.apply_plan(&plan()).await?;
        let limit = Duration::from_secs(120);
        fleet
            .route_is("steps", "the first attempt to get far enough", limit, |route| {
                route.step >= BREAK_AT && route.weights.applied > 0
            })
            .await?;
        fleet.break_content(500).await?;
        fleet.route_is("steps", "the rollback", limit, |r| r.phase == Phase::RolledBack).await?;
        fleet.mend_content().await?;
        let limit = Duration::from_secs(240);
        let status =
            fleet.route_is("steps", "the end of the ramp", limit, |r| r.phase == Phase::Done).await?;
        traffic.reaches(REQUESTS, Duration::from_secs(180)).await?;

        let records = traffic.finish().await?;
        let evidence = Evidence { records: &records, status: &status };
        let report = report(&evidence, edges);
        println!("{report}\n{}", report.write()?.display());
        // A number of lost requests explains nothing.
        evidence.nothing_lost()?;
        let broken = report.broken();
        if broken.is_empty() { Ok(()) } else { Err(Error::Broken(broken.join("; "))) }
    })
    .await;
}

fn report(evidence: &Evidence<'_>, edges: usize) -> Report {
    let stale = evidence.stale();
    let rollbacks = evidence.status.history.iter().filter(|t| t.phase == Phase::RollingBack).count();
    let zero = Some(Goal::Exactly(0.0));
    let mut report = Report::new("e2e-weights");
    report.row("requests_sent", evidence.records.len() as f64, "requests", Some(Goal::AtLeast(REQUESTS as f64)), "records of all load pods: keep-alive, fresh and HTTP/2 clients; looking for closed connections, not looking, and 30 ms away");
    report.row(
        "requests_lost",
        evidence.lost().len() as f64,
        "requests",
        zero,
        "no full answer, or an error that no backend gave",
    );
    report.row(
        "h2_unprocessed",
        evidence.unprocessed() as f64,
        "streams",
        None,
        "HTTP/2 streams that a GOAWAY names as unprocessed",
    );
    report.row(
        "stale_after_ack",
        stale.stale.len() as f64,
        "answers",
        zero,
        "sent after the weight was acknowledged, complete before the next change, and from the other side",
    );
    report.row(
        "answers_checked",
        stale.checked as f64,
        "answers",
        Some(Goal::AtLeast(REQUESTS as f64 / 4.0)),
        "answers that a settled weight bound to a side",
    );
    report.row(
        "weight_changes",
        evidence.weight_changes() as f64,
        "changes",
        Some(Goal::AtLeast(51.0)),
        "revisions of EdgeWeights in the plan's history, the rollback included",
    );
    report.row("rollbacks", rollbacks as f64, "rollbacks", Some(Goal::Exactly(1.0)), "in the plan's history");
    report.row("edge_pods", edges as f64, "pods", Some(Goal::AtLeast(2.0)), "each met by a load pod");
    report
}
