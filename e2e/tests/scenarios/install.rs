//! What a new user does by hand, following the README.

use e2e::harness::{
    evidence::Evidence,
    fleet::Fleet,
    scenario::{Turn, scenario},
    traffic::{Mix, Traffic},
};
use std::time::Duration;
use stomaton_crds::v1alpha1::Phase;

/// The operator is there by `kubectl apply -k manifests/install`: every scenario installs it so. Here the worked
/// example follows as it is written, but for the name of its namespace.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn the_example_as_written_is_ready_and_migrates_by_itself() {
    scenario("install", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy_as_written(namespace).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(80)).await?;
        // Four answers a second of the service in the first step: judges want some hundred.
        let limit = Duration::from_secs(300);
        let status =
            fleet.route_is("stomaton", "the plan to finish", limit, |r| r.phase == Phase::Done).await?;
        let records = traffic.finish().await?;
        let evidence = Evidence { records: &records, status: &status };
        evidence.nothing_lost()?;
        assert_eq!(evidence.stale().stale, Vec::<&e2e::load::record::Record>::new());
        assert!(evidence.stale().checked > 1000, "only {} answers prove anything", evidence.stale().checked);
        let said = namespace.harness.kubectl(&["-n", &namespace.name, "get", "ssvc,sgw,mplan"]).await?;
        println!("{said}");
        assert!(said.contains("Migrated"), "`kubectl get` does not say that the plan is done: {said}");
        Ok(())
    })
    .await;
}
