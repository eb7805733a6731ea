//! What the edge stands on dies: a worker of NGINX, the API server. Only what a dying process held may be lost.

use e2e::{
    harness::{
        evidence::Evidence,
        fleet::{Fleet, Plan, now_micros},
        scenario::{Turn, scenario},
        traffic::{Mix, Traffic},
    },
    load::record::{Loss, Record},
};
use k8s_openapi::api::core::v1::Pod;
use std::time::Duration;
use stomaton_crds::v1alpha1::{MigrationPlanStatus, Phase};

/// Clients of all load pods together: as many requests are under way at most.
const CLIENTS: usize = 3 * (8 + 4 + 4);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_worker_that_is_killed_takes_along_what_it_held_and_no_more() {
    scenario("worker", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(300)).await?;
        let mut kills = Vec::new();
        for edge in fleet.edge_pods().await? {
            let begun = now_micros();
            namespace.harness.kill_worker(&namespace.api::<Pod>(), &edge).await?;
            kills.push((edge, begun..now_micros()));
            traffic.goes_on(600).await?;
        }
        let records = traffic.finish().await?;
        let status = MigrationPlanStatus::default();
        let evidence = Evidence { records: &records, status: &status };
        let lost = evidence.lost();
        println!("{} requests, {} lost with {} workers", records.len(), lost.len(), kills.len());
        for record in &lost {
            // A connection that ended, at the moment of a kill: not refused, not late, and no error by the edge.
            let cut = matches!(record.loss, Some(Loss::Reset | Loss::Eof));
            let at_a_kill = kills.iter().any(|(_, kill)| kill.contains(&record.received_micros));
            assert!(cut && at_a_kill, "not explained by a kill: {}", record.to_line());
        }
        assert!(lost.len() <= kills.len() * CLIENTS, "{} lost: more than were under way", lost.len());
        for (edge, kill) in &kills {
            let after = |r: &&Record| r.pod() == Some(edge) && r.sent_micros > kill.end && r.status == 200;
            assert!(records.iter().filter(after).count() > 100, "{edge} hardly answers after the kill");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn without_an_api_server_users_notice_nothing_and_the_plan_goes_on_with_the_next() {
    scenario("apiserver", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(200)).await?;
        let ramp = (1..=8).map(|step| (step * 125, "2s")).collect();
        let plan = Plan { name: "steps", ramp, min_requests: 20, cooldown: "1s", max_attempts: 1 };
        fleet.apply_plan(&plan).await?;
        let limit = Duration::from_secs(60);
        let before = fleet.route_is("steps", "the ramp to begin", limit, |r| r.weights.applied > 0).await?;
        assert_eq!(before.routes[0].phase, Phase::Ramp, "the kill comes too late to prove anything");

        namespace.harness.kill_api_server().await?;
        let limit = Duration::from_secs(180);
        let status = fleet.route_is("steps", "the plan to finish", limit, |r| r.phase == Phase::Done).await?;
        namespace.harness.operator_is_available(Duration::from_secs(90)).await?;
        let records = traffic.finish().await?;
        let evidence = Evidence { records: &records, status: &status };
        println!("{} requests", records.len());
        evidence.nothing_lost()?;
        assert_eq!(evidence.stale().stale, Vec::<&Record>::new());
        let back = status.history.iter().filter(|t| t.phase == Phase::RollingBack).count();
        assert_eq!(back, 0, "an API server that is away is no reason to roll back");
        Ok(())
    })
    .await;
}
