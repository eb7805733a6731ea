//! Weights that move under load, through one plan after the other: a ramp has 64 steps at most, and a plan's history 100
//! entries. Takes a fleet, plans and steps; gives what clients saw and what the plans say. I/O: the cluster.

use crate::{
    harness::{
        Doing as _, Error,
        evidence::Evidence,
        fleet::{Fleet, Plan},
        traffic::{Mix, Traffic},
    },
    load::record::Record,
};
use kube::api::DeleteParams;
use std::time::Duration;
use stomaton_crds::v1alpha1::{MigrationPlan, MigrationPlanStatus, Phase};

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

/// Moves the content route to the service and back, so many times in so many steps, and on until so many requests were
/// sent.
pub async fn run(
    fleet: &Fleet<'_>,
    mix: Mix,
    plans: usize,
    steps: i32,
    requests: u64,
) -> Result<Outcome, Error> {
    let rate = u64::from(mix.rate.max(1));
    let traffic = Traffic::start(fleet, mix).await?;
    let mut statuses = Vec::with_capacity(plans);
    for number in 0..plans {
        let name = format!("steps-{number}");
        let ramp = (1..=steps).map(|step| (step * 1000 / steps, "500ms")).collect();
        fleet
            .apply_plan(&Plan { name: &name, ramp, min_requests: 1, cooldown: "1s", max_attempts: 1 })
            .await?;
        let limit = Duration::from_secs(60 + 5 * steps.unsigned_abs() as u64);
        statuses.push(fleet.route_is(&name, "the plan to finish", limit, |r| r.phase == Phase::Done).await?);
        let plans = fleet.namespace.api::<MigrationPlan>();
        plans.delete(&name, &DeleteParams::default()).await.doing(format!("delete the plan {name}"))?;
    }
    let limit = Duration::from_secs(60 + 2 * requests / rate);
    traffic.reaches(requests, limit).await?;
    Ok(Outcome { records: traffic.finish().await?, statuses })
}
