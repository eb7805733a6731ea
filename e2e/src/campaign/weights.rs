//! Weights of three routes that move under load, through one plan after the other: a plan's history has 100 entries. Takes
//! a fleet, plans and steps; gives what clients saw and what the plans say. I/O: the cluster.

use crate::{
    harness::{
        Doing as _, Error,
        evidence::Evidence,
        fleet::{CONTENT, Fleet, Plan},
        traffic::{Mix, Traffic},
    },
    load::record::Record,
};
use kube::api::DeleteParams;
use serde_json::json;
use std::time::Duration;
use stomaton_crds::v1alpha1::{MigrationPlan, MigrationPlanStatus, Phase};

/// The routes, with their paths: all of them go to the content service.
const ROUTES: [(&str, &str); 3] = [
    ("recent", "/api/v1/content/recent"),
    ("stats", "/api/v1/content/stats"),
    ("content", "/api/v1/content"),
];

/// What became of it.
pub struct Outcome {
    /// Every request that was sent.
    pub records: Vec<Record>,
    /// The last status of each plan.
    pub statuses: Vec<MigrationPlanStatus>,
}

impl Outcome {
    /// What records and each plan prove together.
    pub fn evidence(&self) -> impl Iterator<Item = Evidence<'_>> {
        self.statuses.iter().map(|status| Evidence { records: &self.records, status })
    }
}

/// Weight changes that plans of so many steps make.
pub const fn changes(plans: usize, steps: usize) -> usize {
    plans * steps * ROUTES.len()
}

/// Moves three routes to the service and back, so many times in so many steps, and on until so many requests were sent.
/// Steps are 32 at most: the history has a line for each step of each route.
pub async fn run(
    fleet: &Fleet<'_>,
    mix: Mix,
    plans: usize,
    steps: usize,
    requests: u64,
) -> Result<Outcome, Error> {
    let rate = u64::from(mix.rate.max(1));
    let routes = ROUTES.map(|(name, path)| json!({"name": name, "match": {"pathPrefix": path}}));
    fleet.change_edge(json!({"routes": routes})).await?;
    let traffic = Traffic::start(fleet, mix).await?;
    let mut statuses = Vec::with_capacity(plans);
    for number in 0..plans {
        let name = format!("steps-{number}");
        statuses.push(through(fleet, &name, steps).await?);
        let plans = fleet.namespace.api::<MigrationPlan>();
        plans.delete(&name, &DeleteParams::default()).await.doing(format!("delete the plan {name}"))?;
    }
    traffic.reaches(requests, Duration::from_secs(60 + 2 * requests / rate)).await?;
    Ok(Outcome { records: traffic.finish().await?, statuses })
}

/// Applies a plan, and waits until all of its routes are done.
async fn through(fleet: &Fleet<'_>, name: &str, steps: usize) -> Result<MigrationPlanStatus, Error> {
    let share = |step: usize| i32::try_from(step * 1000 / steps).unwrap_or(1000);
    let ramp = (1..=steps).map(|step| (share(step), "500ms")).collect();
    let mut plan = Plan { name, ramp, min_requests: 1, cooldown: "1s", max_attempts: 1 }.object();
    let of_plan = |(name, _)| json!({"name": name, "target": {"name": CONTENT}, "profile": "ramp"});
    plan["spec"]["routes"] = json!(ROUTES.map(of_plan));
    fleet.namespace.apply_object(&plan).await?;
    let limit = Duration::from_secs(60 + 5 * steps as u64);
    let done = |routes: &[_]| {
        let of_route = |route: &stomaton_crds::v1alpha1::RouteStatus| route.phase == Phase::Done;
        routes.len() == ROUTES.len() && routes.iter().all(of_route)
    };
    fleet.routes_are(name, "the plan to finish", limit, done).await
}
