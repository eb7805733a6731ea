//! Every answer is counted, once, also across the death of an agent.

use e2e::harness::{
    Error,
    fleet::Fleet,
    scenario::{Turn, scenario},
    traffic::{Mix, Traffic},
    wait::{self, Seen},
};
use k8s_openapi::api::core::v1::Pod;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn agents_count_what_clients_saw_and_one_that_is_killed_goes_on_counting() {
    scenario("counting", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let (before, gaps) = counted(&fleet, 2).await?;
        assert_eq!(gaps, 0);
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(200)).await?;
        traffic.goes_on(400).await?;
        for edge in fleet.edge_pods().await? {
            namespace.harness.kill(&namespace.api::<Pod>(), &edge, "agent").await?;
            traffic.goes_on(400).await?;
        }
        let unrecorded = traffic.unrecorded();
        let records = traffic.finish().await?;
        let lost = records.iter().filter(|r| r.loss.is_some()).count();
        assert_eq!(lost, 0, "whether a lost request was logged nobody knows");
        let answers = records.len() as u64 + unrecorded;

        // Lines of good answers wait in NGINX' buffer, up to 200 ms.
        wait::until("every answer to be counted", Duration::from_secs(30), async || {
            let (lines, _) = counted(&fleet, 2).await?;
            let seen = lines.saturating_sub(before);
            Ok(Seen::when(seen >= answers, || format!("{seen} of {answers}")))
        })
        .await?;
        let (lines, gaps) = counted(&fleet, 2).await?;
        println!("{answers} answers, {} lines, {gaps} gaps", lines - before);
        assert_eq!((lines - before, gaps), (answers, 0));
        Ok(())
    })
    .await;
}

/// Lines and gaps that so many edge pods have counted.
async fn counted(fleet: &Fleet<'_>, pods: usize) -> Result<(u64, u64), Error> {
    wait::until("every edge pod to say what it counted", Duration::from_secs(60), async || {
        let states = fleet.edge_states().await?;
        let of = |states: &std::collections::BTreeMap<String, stomaton_crds::edge_state::EdgeState>| {
            (states.values().map(|s| s.lines).sum(), states.values().map(|s| s.gaps).sum())
        };
        Ok(if states.len() == pods {
            Seen::Yes(of(&states))
        } else {
            Seen::NotYet(format!("{} of {pods}", states.len()))
        })
    })
    .await
}
