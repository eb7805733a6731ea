//! Three routes, two of them a group, go to the service for one audience after the other, under load: nothing is lost,
//! nobody is on the wrong side, and the group is never half moved.

use e2e::{
    campaign::weights,
    harness::{
        evidence::Evidence,
        fleet::Fleet,
        scenario::{Turn, scenario},
    },
    load::record::Record,
};
use stomaton_crds::v1alpha1::MigrationPlanStatus;

/// `make bench-edge` makes more.
const STEPS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn audiences_and_a_group_move_whole_and_nobody_is_on_the_wrong_side() {
    scenario("cohorts", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let outcome = weights::run(&fleet, weights::clients(300), 1, STEPS, 0).await?;
        let status = MigrationPlanStatus::default();
        Evidence { records: &outcome.records, status: &status }.nothing_lost()?;
        let stale = outcome.stale();
        println!(
            "{} requests, {} checked, {} revisions",
            outcome.records.len(),
            stale.checked,
            outcome.revisions
        );
        assert!(stale.checked > 1000, "only {} answers prove anything", stale.checked);
        assert_eq!(stale.stale, Vec::<&Record>::new());
        assert_eq!(outcome.half_moved(), Vec::<&Record>::new());
        // Two for each step: of the group, and of the route that is for itself.
        assert!(outcome.revisions >= 2 * (4 + STEPS), "only {} revisions", outcome.revisions);
        for audience in weights::AUDIENCES {
            let of_it = outcome.records.iter().filter(|r| r.audience() == audience).count();
            assert!(of_it > 300, "only {of_it} answers to {audience:?}");
        }
        Ok(())
    })
    .await;
}
