//! Routes that come and go under load, while a weight of a half is in force. Takes a fleet and a number of changes; gives
//! what clients saw, and how often NGINX was reloaded. I/O: the cluster.

use crate::{
    harness::{
        Error,
        fleet::{Fleet, Plan},
        traffic::{Mix, Traffic},
    },
    load::record::Record,
};
use serde_json::json;
use std::time::Duration;
use stomaton_crds::v1alpha1::MigrationPlanStatus;

/// What became of it.
pub struct Outcome {
    /// Every request that was sent.
    pub records: Vec<Record>,
    /// Status of the plan that keeps the weight.
    pub status: MigrationPlanStatus,
    /// Reloads of all edge pods together.
    pub reloads: u64,
    /// Edge pods.
    pub pods: usize,
}

/// Changes the structure so often, each time when every edge pod serves the change before.
pub async fn run(fleet: &Fleet<'_>, mix: Mix, changes: usize) -> Result<Outcome, Error> {
    let rate = u64::from(mix.rate);
    let ramp = vec![(500, "1h"), (1000, "1h")];
    let plan = Plan { name: "half", ramp, min_requests: 20, cooldown: "1s", max_attempts: 1 };
    fleet.apply_plan(&plan).await?;
    let what = "half of the route to be on the service";
    let limit = Duration::from_secs(60);
    fleet.route_is("half", what, limit, |route| route.weights.applied == 500).await?;

    let traffic = Traffic::start(fleet, mix).await?;
    let before = reloads(fleet).await?;
    for change in 1..=changes {
        let routes = json!([
            {"name": "content", "match": {"pathPrefix": "/api/v1/content"}},
            {"name": "content-legacy", "match": {"pathPrefix": "/api/v1/stomaton/content"}},
            {"name": "passing", "match": {"pathPrefix": format!("/passing/{change}")}},
        ]);
        fleet.change_edge(json!({"routes": routes})).await?;
        // Half a second of traffic on the new structure.
        traffic.goes_on(rate / 2).await?;
    }
    // Old workers keep their connections for 3 s.
    traffic.goes_on(4 * rate).await?;
    let after = reloads(fleet).await?;
    let records = traffic.finish().await?;
    let (status, pods) = (fleet.plan_status("half").await?, fleet.edge_pods().await?.len());
    Ok(Outcome { records, status, reloads: after - before, pods })
}

async fn reloads(fleet: &Fleet<'_>) -> Result<u64, Error> {
    Ok(fleet.edge_states().await?.values().map(|state| state.reloads).sum())
}
