//! How many requests an edge accepts of those that it may. Takes a fleet, its size and how many clients there are; gives
//! the accepted rate over the one that is configured. I/O: the cluster.

use crate::harness::{
    Error,
    evidence::Evidence,
    fleet::{Fleet, now_micros},
    traffic::{Mix, Traffic},
};
use serde_json::{Value, json};
use stomaton_crds::v1alpha1::MigrationPlanStatus;

/// Requests a second that a client may send, or all clients together.
const ALLOWED: u32 = 40;
/// Requests that may come at once: few, so that they are soon used up.
const BURST: u32 = 8;
/// What a client sends, for each that it may.
const TOO_MUCH: u32 = 3;
/// How long accepted requests are counted, and how long they are not before that: the burst.
const SECONDS: u32 = 6;
const FIRST: u32 = 2;

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
