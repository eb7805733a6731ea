//! How many requests an edge accepts of those that it may. Takes a fleet, its size and how many clients there are; gives
//! the accepted rate over the one that is configured. I/O: the cluster.

use crate::harness::{
    Error,
    evidence::Evidence,
    fleet::{EDGE, Fleet, now_micros},
    traffic::{Mix, Traffic},
    wait,
    wait::Seen,
};
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::{Gateway, MigrationPlanStatus};

/// Requests a second that a client may send, or all clients together.
const ALLOWED: u32 = 40;
/// Requests that may come at once: few, so that they are soon used up.
const BURST: u32 = 8;
/// What a client sends, for each that it may.
const TOO_MUCH: u32 = 3;
/// How long accepted requests are counted, and how long they are not before that: the burst.
const SECONDS: u32 = 6;
const FIRST: u32 = 2;
/// A pod that goes is counted for 30 s more.
const SHARED_WITHIN: Duration = Duration::from_secs(90);

/// Accepted over allowed, for each of so many clients: pods with an address each.
pub async fn of_client(fleet: &Fleet<'_>, pods: i32, clients: u32) -> Result<f64, Error> {
    let per_client = json!({"requestsPerSecond": ALLOWED, "burst": BURST});
    allow(fleet, pods, json!({"mode": "Enforce", "perClient": per_client}), json!({})).await?;
    let traffic = Traffic::anywhere(fleet, mix(clients)).await?;
    Ok(accepted(traffic, clients).await? / f64::from(ALLOWED * clients))
}

/// Accepted over allowed, for a route's total over as many edge pods, each of which has more asked of it than its share.
pub async fn of_total(fleet: &Fleet<'_>, pods: i32) -> Result<f64, Error> {
    let total = json!({"requestsPerSecond": ALLOWED, "burst": BURST});
    let limit = json!({"rateLimit": {"class": "Unlimited", "total": total}});
    allow(fleet, pods, json!({"mode": "Enforce"}), limit).await?;
    is_shared(fleet, pods).await?;
    let clients = pods.unsigned_abs().max(2);
    let traffic = Traffic::start(fleet, mix(clients)).await?;
    Ok(accepted(traffic, clients).await? / f64::from(ALLOWED))
}

/// An edge of this size with these limits.
async fn allow(fleet: &Fleet<'_>, pods: i32, limits: Value, of_route: Value) -> Result<(), Error> {
    let mut route = json!({"name": "content", "match": {"pathPrefix": "/api/v1/content"}});
    if let (Some(route), Some(more)) = (route.as_object_mut(), of_route.as_object()) {
        route.extend(more.clone());
    }
    fleet.change_edge(json!({"replicas": pods, "rateLimits": limits, "routes": [route]})).await
}

/// Waits until the limit is shared by so many pods: by fewer than before it is only when they have been fewer for a while.
async fn is_shared(fleet: &Fleet<'_>, pods: i32) -> Result<(), Error> {
    let gateways = fleet.namespace.api::<Gateway>();
    let what = format!("the limit to be shared by {pods}");
    wait::object(&gateways, EDGE, &what, SHARED_WITHIN, |gateway| {
        let limits = gateway.and_then(|gateway| gateway.status.as_ref()?.limits.as_ref());
        let seen = limits.map_or(0, |limits| limits.shared_by);
        Seen::when(seen == pods, || format!("it is shared by {seen}"))
    })
    .await?;
    fleet.edge_is_ready().await
}

fn mix(clients: u32) -> Mix {
    let modes = vec!["keepalive=4", "http2=4"];
    Mix { pods: clients, modes, ..Mix::of_all_kinds(clients * ALLOWED * TOO_MUCH) }
}

/// Requests a second that were answered, once the burst is used up.
async fn accepted(traffic: Traffic<'_>, clients: u32) -> Result<f64, Error> {
    let rate = u64::from(clients * ALLOWED * TOO_MUCH);
    traffic.goes_on(rate * u64::from(FIRST)).await?;
    let from = now_micros();
    traffic.goes_on(rate * u64::from(SECONDS)).await?;
    let to = now_micros();
    let records = traffic.finish().await?;
    let status = MigrationPlanStatus::default();
    Evidence { records: &records, status: &status }.nothing_lost()?;
    let odd = records.iter().find(|r| r.status != 200 && r.status != 429);
    if let Some(odd) = odd {
        return Err(Error::Broken(format!("neither answered nor refused: {}", odd.to_line())));
    }
    let answered =
        |r: &&crate::load::record::Record| r.status == 200 && (from..to).contains(&r.received_micros);
    Ok(records.iter().filter(answered).count() as f64 * 1e6 / (to - from).max(1) as f64)
}
