//! Edge pods come and go under load; no client notices.

use e2e::harness::{
    Doing as _, Error,
    evidence::Evidence,
    fleet::Fleet,
    scenario::{Turn, scenario},
    traffic::{Mix, Traffic},
    wait,
    wait::Seen,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use std::time::Duration;
use stomaton_crds::v1alpha1::MigrationPlanStatus;

const DELETIONS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn edge_pods_that_are_deleted_lose_nothing() {
    scenario("drain", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let mut records = Vec::new();
        for _ in 0..DELETIONS {
            // Begun anew, since the clients of a deleted pod all went to the other one.
            let traffic = Traffic::start(&fleet, Mix::of_all_kinds(600)).await?;
            replace_one(&fleet).await?;
            traffic.reaches(traffic.totals().await?.sent + 600, Duration::from_secs(30)).await?;
            records.extend(traffic.finish().await?);
        }
        let status = MigrationPlanStatus::default();
        let evidence = Evidence { records: &records, status: &status };
        println!("{} requests, {} streams refused as unprocessed", records.len(), evidence.unprocessed());
        evidence.nothing_lost()
    })
    .await;
}

/// Deletes an edge pod, and waits until it is gone and another one serves in its place.
async fn replace_one(fleet: &Fleet<'_>) -> Result<(), Error> {
    let before = fleet.edge_pods().await?;
    let pods = fleet.namespace.api::<Pod>();
    pods.delete(&before[0], &DeleteParams::default()).await.doing("delete an edge pod")?;
    let what = format!("the edge pod {} to be gone", before[0]);
    wait::object(&pods, &before[0], &what, Duration::from_secs(60), |pod| {
        Seen::when(pod.is_none(), || "it is still there".into())
    })
    .await?;
    wait::until("another edge pod to serve", Duration::from_secs(60), async || {
        let now = fleet.edge_pods().await?;
        Ok(Seen::when(now.len() == before.len(), || format!("{now:?}")))
    })
    .await
}
