//! The edge grows, shrinks and is replaced under load; no client notices.

use e2e::harness::{
    Doing as _, Error,
    evidence::Evidence,
    fleet::Fleet,
    scenario::{Turn, scenario},
    traffic::{Mix, Traffic},
    wait::{self, Seen},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::ListParams};
use serde_json::json;
use std::time::Duration;
use stomaton_crds::{keys, v1alpha1::MigrationPlanStatus};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn an_edge_that_grows_shrinks_and_is_replaced_loses_nothing() {
    scenario("scale", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        fleet.change_edge(json!({"replicas": 1})).await?;
        is_of(&fleet, 1, &[]).await?;
        // A client stays with the pod it has, while that is there.
        let early = Traffic::start(&fleet, Mix::of_all_kinds(150)).await?;
        fleet.change_edge(json!({"replicas": 4})).await?;
        is_of(&fleet, 4, &[]).await?;
        let late = Traffic::start(&fleet, Mix { pods: 4, ..Mix::of_all_kinds(200) }).await?;
        late.goes_on(400).await?;

        fleet.change_edge(json!({"replicas": 1})).await?;
        let one = is_of(&fleet, 1, &[]).await?;
        late.goes_on(400).await?;

        let restart = ["-n", &namespace.name, "rollout", "restart", "deployment/edge-edge"];
        namespace.harness.kubectl(&restart).await?;
        is_of(&fleet, 1, &one).await?;
        fleet.edge_is_ready().await?;
        early.goes_on(300).await?;
        late.goes_on(400).await?;

        let (early, late) = (early.finish().await?, late.finish().await?);
        let records: Vec<_> = early.into_iter().chain(late).collect();
        let status = MigrationPlanStatus::default();
        let evidence = Evidence { records: &records, status: &status };
        println!("{} requests, {} streams refused as unprocessed", records.len(), evidence.unprocessed());
        evidence.nothing_lost()
    })
    .await;
}

/// Waits until the edge has so many pods, none of them one of `old`, all Ready and none on its way out; gives them.
async fn is_of(fleet: &Fleet<'_>, size: usize, old: &[String]) -> Result<Vec<String>, Error> {
    let edge = ListParams::default().labels(&format!("{}=edge", keys::GATEWAY));
    wait::until(&format!("the edge to be of {size} pods"), Duration::from_secs(120), async || {
        let all = fleet.namespace.api::<Pod>().list(&edge).await.doing("list edge pods")?.items;
        let all: Vec<_> = all.iter().map(|pod| pod.name_any()).collect();
        let ready = fleet.edge_pods().await?;
        let settled = all.len() == size && ready.len() == size && ready.iter().all(|pod| !old.contains(pod));
        Ok(if settled { Seen::Yes(ready) } else { Seen::NotYet(format!("{all:?}, ready {ready:?}")) })
    })
    .await
}
