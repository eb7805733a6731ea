//! From bad answers that edge pods count to the write that takes the route back, as the API server answers it. I/O.

use crate::{
    Fault,
    fleet::{FIRST, Fleet, PATIENCE, PLANS, QUICK},
    step,
};
use e2e::{
    harness::evidence::median,
    report::{Goal, Report},
};
use jiff::Timestamp;
use serde_json::Value;
use std::time::{Duration, Instant};
use stomaton_crds::v1alpha1::{MigrationPlan, Phase};

/// Rollbacks of one series.
const SAMPLES: u32 = 30;
/// Answers that each edge pod counts, all of them bad: the guard asks for 5 of both pods.
const BAD: u64 = 3;
/// Between two looks at the plan.
const POLL: Duration = Duration::from_millis(50);

/// Milliseconds of each rollback of the small Gateway's route.
pub async fn samples(fleet: &Fleet, when: &str) -> Result<Vec<f64>, Fault> {
    let begun = Instant::now();
    step(begun, &format!("{SAMPLES} rollbacks {when}"));
    let (mut id, mut attempt) = at_weight(fleet, 1).await?;
    let mut samples = Vec::new();
    for sample in 0..SAMPLES {
        // Loops of a second and of five are met at another moment each time.
        tokio::time::sleep(Duration::from_millis(u64::from(300 + (190 * sample) % 1000))).await;
        let (mark, counted) = (fleet.server.mark(), Timestamp::now());
        fleet.quick.iter().for_each(|agent| agent.count(&id, BAD, BAD));
        // The next attempt follows at once: then the write of this one is in the log.
        (id, attempt) = at_weight(fleet, attempt + 1).await?;
        samples.push(written(&fleet.server.requests(mark)?, counted)?);
    }
    step(begun, &format!("median {:.1} ms, longest {:.1} ms", median(&samples), longest(&samples)));
    Ok(samples)
}

/// Adds the row.
pub fn compare(idle: &[f64], busy: &[f64], report: &mut Report) {
    let method = format!(
        "{SAMPLES} rollbacks while {PLANS} plans are looked at every 5 s, over as many before those plans are there, \
         of the same route: from the moment at which two simulated edge pods have counted {BAD} bad answers each to \
         the answer of the API server to the write of EdgeWeights, by its audit log; medians {:.1} and {:.1} ms, \
         longest {:.1} and {:.1} ms",
        median(busy),
        median(idle),
        longest(busy),
        longest(idle)
    );
    let ratio = median(busy) / median(idle);
    report.row("rollback_write_ratio_busy", ratio, "ratio", Some(Goal::AtMost(1.5)), method);
}

fn longest(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::NAN, f64::max)
}

/// Waits until the route is at its weight, in this attempt or a later one; gives its identity and that attempt.
async fn at_weight(fleet: &Fleet, attempt: i32) -> Result<(String, i32), Fault> {
    let (plans, begun) = (fleet.api::<MigrationPlan>(), Instant::now());
    loop {
        let status = plans.get(QUICK).await?.status.unwrap_or_default();
        let there = status.routes.first().filter(|route| {
            route.attempt >= attempt && route.phase == Phase::Ramp && route.weights.applied == FIRST
        });
        if let Some(route) = there {
            return Ok((route.id.clone(), route.attempt));
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("attempt {attempt} is not at its weight: {:?}", status.routes).into());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Milliseconds from `counted` to the first write of the small Gateway's weights that was not refused.
fn written(requests: &[Value], counted: Timestamp) -> Result<f64, Fault> {
    let is_write = |request: &&Value| {
        let object = &request["objectRef"];
        request["verb"] == "update"
            && object["resource"] == "edgeweights"
            && object["name"] == QUICK
            && request["responseStatus"]["code"] == 200
    };
    let answered = |request: &Value| request["stageTimestamp"].as_str()?.parse::<Timestamp>().ok();
    let first = requests.iter().filter(is_write).filter_map(answered).min();
    let first = first.ok_or("the audit log has no write of the rollback")?;
    Ok(first.duration_since(counted).as_secs_f64() * 1000.0)
}
