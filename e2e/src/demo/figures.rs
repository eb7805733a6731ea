//! The demo's figures. Takes records and status, gives the report. Pure.

use crate::{
    harness::evidence::{Evidence, Rollback, quantile},
    load::{judge::Guard, record::Record},
    report::{Goal, Report},
};
use std::collections::BTreeMap;
use stomaton_crds::{edge_state::EdgeState, v1alpha1::MigrationPlanStatus};

/// What the demo has measured.
pub(super) struct Figures<'a> {
    pub(super) records: &'a [Record],
    pub(super) status: &'a MigrationPlanStatus,
    pub(super) guard: Guard,
    pub(super) reloads: u64,
    pub(super) seconds: f64,
}

impl Figures<'_> {
    /// The rows of `demo.json`.
    pub(super) fn report(&self) -> Report {
        let evidence = Evidence { records: self.records, status: self.status };
        let stale = evidence.stale();
        let last: Vec<u64> =
            self.rollbacks().iter().flat_map(|r| r.last_decision.values().copied()).collect();
        let pods = last.len();
        // No rollback seen is no fast rollback.
        let rollback = |permille| if pods == 0 { f64::INFINITY } else { ms(quantile(&last, permille)) };
        let bar = Some(Goal::AtMost(1000.0));
        let zero = Some(Goal::Exactly(0.0));

        let mut report = Report::new("demo");
        let sent = "records of all load pods";
        report.row("requests_sent", self.records.len() as f64, "requests", Some(Goal::AtLeast(1.0)), sent);
        let lost = format!(
            "no full answer, or an error that no backend gave; {} HTTP/2 streams that a GOAWAY names as unprocessed \
             are not counted",
            evidence.unprocessed()
        );
        report.row("requests_lost", evidence.lost().len() as f64, "requests", zero, lost);
        let checked = format!(
            "of {} answers sent after a weight was acknowledged and complete before the next change",
            stale.checked
        );
        let stale = if stale.checked == 0 { f64::INFINITY } else { stale.stale.len() as f64 };
        report.row("stale_after_ack", stale, "answers", zero, checked);
        let method = format!(
            "from the answer that breached the guard ({} bad, {} per mille) to the send time of the last request \
             that the service answered, on each of {pods} edge pods; the aim is 250 ms",
            self.guard.min_bad, self.guard.bad_permille
        );
        report.row("rollback_ms_p50", rollback(500), "ms", bar, method.clone());
        report.row("rollback_ms_max", rollback(1000), "ms", bar, method);
        let changes = "revisions of EdgeWeights in the plan's history";
        report.row("weight_changes", evidence.weight_changes() as f64, "changes", None, changes);
        let reloads = "reloads of NGINX that the agents count, over all edge pods: structure only";
        report.row("reloads", self.reloads as f64, "reloads", None, reloads);
        report.row("seconds_total", self.seconds.round(), "s", None, "from start to figures");
        report
    }

    /// How the rollback's time is to be read: a zero looks too good.
    pub(super) fn reading(&self) -> Option<String> {
        let first = self.rollbacks().iter().flat_map(|r| r.first_return.values().copied()).max()?;
        Some(format!(
            "the first of the service's users to be answered by the monolith came {} ms after the breach (the slower \
             edge pod); a rollback_ms of 0 means that no request went to the service after it",
            ms(first)
        ))
    }

    fn rollbacks(&self) -> Vec<Rollback> {
        let evidence = Evidence { records: self.records, status: self.status };
        evidence.rollbacks(&self.guard).into_iter().flatten().collect()
    }
}

fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Reloads over all edge pods between two looks; a pod or agent that is new counts from its start.
pub(super) fn reloads(before: &BTreeMap<String, EdgeState>, after: &BTreeMap<String, EdgeState>) -> u64 {
    let since = |(pod, now): (&String, &EdgeState)| {
        let then = before.get(pod).filter(|then| then.boot == now.boot).map_or(0, |then| then.reloads);
        now.reloads.saturating_sub(then)
    };
    after.iter().map(since).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_is_nothing_proved() {
        let status = MigrationPlanStatus::default();
        let guard = crate::harness::fleet::Plan::GUARD;
        let figures = Figures { records: &[], status: &status, guard, reloads: 0, seconds: 1.0 };
        let broken = figures.report().broken().join("\n");
        for name in ["requests_sent", "stale_after_ack", "rollback_ms_p50", "rollback_ms_max"] {
            assert!(broken.contains(name), "{name} is fine without evidence: {broken}");
        }
    }

    #[test]
    fn reloads_count_from_the_first_look_and_from_zero_after_a_restart() {
        let state = |boot: &str, reloads| EdgeState { boot: boot.into(), reloads, ..EdgeState::default() };
        let looks = |a: EdgeState, b: EdgeState| BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let before = looks(state("1", 3), state("1", 5));
        let after = looks(state("1", 4), state("2", 2));
        assert_eq!(reloads(&before, &after), 1 + 2);
    }
}
