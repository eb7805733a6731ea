//! Routes come and go under load: nothing is lost, and no answer comes from the wrong side.

use e2e::{
    campaign::structure,
    harness::{
        Error,
        evidence::Evidence,
        fleet::Fleet,
        scenario::{Turn, scenario},
        traffic::Mix,
    },
};

/// `make bench-edge` makes more.
const CHANGES: usize = 12;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn routes_that_come_and_go_lose_nothing() {
    scenario("structure", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let outcome = structure::run(&fleet, Mix::of_all_habits(200), CHANGES).await?;
        let evidence = Evidence { records: &outcome.records, status: &outcome.status };
        let (requests, unprocessed) = (outcome.records.len(), evidence.unprocessed());
        println!("{requests} requests, {} reloads, {unprocessed} streams unprocessed", outcome.reloads);
        assert!(outcome.reloads >= (CHANGES * outcome.pods) as u64, "only {} reloads", outcome.reloads);
        evidence.nothing_lost()?;
        let stale = evidence.stale();
        assert!(stale.checked > 1000, "only {} answers prove anything", stale.checked);
        match stale.stale.first() {
            None => Ok(()),
            Some(first) => Err(Error::Broken(format!("from the wrong side: {}", first.to_line()))),
        }
    })
    .await;
}
