//! The campaigns that need real pods, at length. I/O: the cluster.

use crate::{Fault, step};
use e2e::{
    campaign::{limits, structure, weights},
    harness::{
        evidence::Evidence,
        fleet::Fleet,
        scenario::{Turn, in_namespace},
        traffic::Mix,
    },
    report::{Goal, Report},
};
use serde_json::json;
use std::time::{Duration, Instant};
use stomaton_crds::v1alpha1::MigrationPlanStatus;

const PODS: i32 = 3;
/// Weight changes: plans of so many steps, each of them two revisions, and four steps more for audiences.
const CHANGES: usize = 200;
const PLANS: usize = 4;
const STEPS: usize = 24;
const REQUESTS: u64 = 500_000;
const STRUCTURES: usize = 100;
/// A load ends by itself; this is later than any campaign does.
const AT_MOST: Duration = Duration::from_secs(3600);

/// Runs all campaigns, and adds their rows.
pub async fn measure(report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, &format!("{CHANGES} weight changes on {PODS} edge pods, {REQUESTS} requests"));
    let moved = in_namespace("bench-weights", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        fleet.change_edge(json!({"replicas": PODS})).await?;
        let mix = Mix { at_most: AT_MOST, ..weights::clients(900) };
        weights::run(&fleet, mix, PLANS, STEPS, REQUESTS).await
    })
    .await?;
    of_weights(&moved, report);
    drop(moved);

    step(begun, &format!("{STRUCTURES} structural changes on {PODS} edge pods"));
    let changed = in_namespace("bench-structure", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        fleet.change_edge(json!({"replicas": PODS})).await?;
        let mix = Mix { at_most: AT_MOST, ..Mix::of_all_habits(300) };
        structure::run(&fleet, mix, STRUCTURES).await
    })
    .await?;
    of_structure(&changed, report);
    drop(changed);

    step(begun, "accepted rates with 1, 2 and 4 edge pods");
    let rates = in_namespace("bench-limits", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let mut rates = Vec::new();
        for (name, pods) in [("rate_ratio_1", 1), ("rate_ratio_2", 2), ("rate_ratio_4", 4)] {
            let one = limits::of_client(&fleet, pods, 1).await?;
            let many = limits::of_client(&fleet, pods, 4).await?;
            rates.push((name, pods, [limits::of_total(&fleet, pods).await?, one, many]));
        }
        Ok(rates)
    })
    .await?;
    for (name, pods, [total, one, many]) in rates {
        // The one that is farthest off speaks for all.
        let ratios = [total, one, many];
        let worst = ratios.into_iter().max_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs()));
        let method = format!(
            "accepted over allowed, {pods} edge pods, the farthest from 1 of: a route's total {total:.3}, one client \
             {one:.3}, four clients {many:.3}; three times as much was sent"
        );
        let bounds = Goal::Between(0.85, 1.15);
        report.row(name, worst.unwrap_or(f64::NAN), "ratio", Some(bounds), method);
    }
    Ok(())
}

fn of_weights(moved: &weights::Outcome, report: &mut Report) {
    let status = MigrationPlanStatus::default();
    let evidence = Evidence { records: &moved.records, status: &status };
    let (sent, stale) = (moved.records.len(), moved.stale());
    let method = format!(
        "records of all load pods on {PODS} edge pods; keep-alive, fresh and HTTP/2 clients that never retry: looking for \
         closed connections, not looking, and 30 ms away"
    );
    report.row("requests", sent as f64, "requests", Some(Goal::AtLeast(REQUESTS as f64)), method);
    let method = "revisions of EdgeWeights by plans that move three routes, two of them a group, for two audiences and \
                  then for everybody";
    let (made, wanted) = (moved.revisions as f64, Goal::AtLeast(CHANGES as f64));
    report.row("weight_changes", made, "changes", Some(wanted), method);
    let method = format!(
        "no full answer, or an error that no backend gave; beside them {} HTTP/2 streams that a GOAWAY named as \
         unprocessed, when a plan came or went",
        evidence.unprocessed()
    );
    report.row("lost", evidence.lost().len() as f64, "requests", Some(Goal::Exactly(0.0)), method);
    let method = format!(
        "of {} answers that a settled weight bound to a side: sent after its acknowledgement, complete before the next \
         change, and from the other side",
        stale.checked
    );
    // Nothing checked proves nothing.
    let found = if stale.checked > REQUESTS / 4 { stale.stale.len() as f64 } else { f64::NAN };
    report.row("stale_after_ack", found, "answers", Some(Goal::Exactly(0.0)), method);
    let method = "sent to an edge pod that had put the other route of the group to the new side for such a key, and answered \
                  by the old one";
    let half = moved.half_moved().len() as f64;
    report.row("half_moved", half, "answers", Some(Goal::Exactly(0.0)), method);
}

fn of_structure(changed: &structure::Outcome, report: &mut Report) {
    let evidence = Evidence { records: &changed.records, status: &changed.status };
    let wanted = Goal::AtLeast((STRUCTURES * changed.pods) as f64);
    let method = format!("of NGINX, by its agents: {STRUCTURES} changes on {} edge pods", changed.pods);
    report.row("reloads", changed.reloads as f64, "reloads", Some(wanted), method);
    let method = format!(
        "of {} requests over those reloads, clients as above; beside them {} HTTP/2 streams that a GOAWAY named as \
         unprocessed, and {} answers of {} from the wrong side",
        changed.records.len(),
        evidence.unprocessed(),
        evidence.stale().stale.len(),
        evidence.stale().checked
    );
    report.row("lost_in_reloads", evidence.lost().len() as f64, "requests", Some(Goal::Exactly(0.0)), method);
}
