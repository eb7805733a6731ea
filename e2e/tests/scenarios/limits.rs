//! As many requests are accepted as were allowed, however many edge pods and clients there are.

use e2e::{
    campaign::limits,
    harness::{
        fleet::Fleet,
        scenario::{Turn, scenario},
    },
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn as_many_requests_are_accepted_as_are_allowed() {
    scenario("limits", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let measured = [
            ("one client, two pods", limits::of_client(&fleet, 2, 1).await?),
            ("three clients, two pods", limits::of_client(&fleet, 2, 3).await?),
            ("all together, two pods", limits::of_total(&fleet, 2).await?),
            ("all together, one pod", limits::of_total(&fleet, 1).await?),
        ];
        println!("{measured:?}");
        for (what, ratio) in measured {
            assert!((0.85..=1.15).contains(&ratio), "{what}: {ratio:.3} of what is allowed");
        }
        Ok(())
    })
    .await;
}
