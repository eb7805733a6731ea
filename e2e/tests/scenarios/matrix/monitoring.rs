//! A judge that asks a real Prometheus: a route goes on by what that counts, and stays while it is away.

use e2e::harness::{
    Error,
    evidence::Evidence,
    fleet::{Fleet, Plan},
    monitoring::Monitoring,
    scenario::{Turn, scenario},
    traffic::{Mix, Traffic},
};
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::{MigrationPlanStatus, Phase, RouteStatus, Verdict};

const PLAN: &str = "monitored";
const LIMIT: Duration = Duration::from_secs(120);
/// Longer than it takes to ask anew.
const AWAY: Duration = Duration::from_secs(10);

/// A plan with one judge, which counts what services say of themselves. The first step lasts until Prometheus is gone.
fn plan() -> Value {
    let ramp = vec![(100, "60s"), (500, "1s"), (1000, "1s")];
    let mut object = Plan { name: PLAN, ramp, min_requests: 20, cooldown: "1h", max_attempts: 1 }.object();
    let count = |more: &str| {
        let series =
            format!(r#"http_requests_total{{target="{{{{target}}}}",route=~"/api/v1/content/.+"{more}}}"#);
        format!("sum(increase({series}[{{{{window}}}}]))")
    };
    object["spec"]["judges"] = json!([{
        "name": "own-counts",
        "of": "Prometheus",
        "prometheus": {"bad": count(r#",status="5xx""#), "all": count("")},
    }]);
    object
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_judge_goes_by_prometheus_and_holds_while_it_is_away() {
    scenario("monitoring", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let monitoring = Monitoring::deploy(&fleet).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(200)).await?;
        traffic.goes_on(200).await?;
        let mut status = MigrationPlanStatus::default();
        monitoring
            .asked(async || {
                namespace.apply_object(&plan()).await?;
                let safe = |r: &RouteStatus| r.judges.iter().any(|judge| judge.verdict == Verdict::Safe);
                let counted = "Prometheus to show that the service is good";
                fleet.route_is(PLAN, counted, LIMIT, safe).await?;
                monitoring.scale(0).await?;
                let gone = |words: &str| words.contains("judge own-counts: Prometheus: ");
                fleet.route_is(PLAN, "the judge to miss it", LIMIT, |r| gone(&r.waits_for)).await?;
                tokio::time::sleep(AWAY).await;
                let held = fleet.plan_status(PLAN).await?;
                let route = &held.routes[0];
                println!("without Prometheus: {}", route.waits_for);
                assert!(gone(&route.waits_for), "{}", route.waits_for);
                assert_eq!((route.phase, route.weights.applied), (Phase::Ramp, 100));
                monitoring.scale(1).await?;
                status = fleet.route_is(PLAN, "the end", LIMIT, |r| r.phase == Phase::Done).await?;
                Ok(())
            })
            .await?;
        let back = status.history.iter().filter(|t| t.phase == Phase::RollingBack).count();
        if back > 0 {
            return Err(Error::Broken(format!("a source that is away took it back: {:?}", status.history)));
        }
        let records = traffic.finish().await?;
        Evidence { records: &records, status: &status }.nothing_lost()
    })
    .await;
}
