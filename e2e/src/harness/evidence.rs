//! What records and a plan's status prove together. Pure.

use super::Error;
use crate::load::{
    judge::{Guard, Staleness, WeightChange, breach, last_service_decision_after, stale},
    record::{Loss, Record, Side},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::v1alpha1::{MigrationPlanStatus, Phase, Transition};

/// Records of every load pod, and the last status of the plan that moved weights meanwhile.
pub struct Evidence<'a> {
    /// What was sent, and what became of it.
    pub records: &'a [Record],
    /// What the operator says it did. Only transitions that its bounded history still has are judged.
    pub status: &'a MigrationPlanStatus,
}

/// One rollback, as clients saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// When the answers that clients had got breached the guard, in microseconds since the Unix epoch.
    pub breach_micros: u64,
    /// For each edge pod, when it last chose the service, in microseconds after the breach; 0 if it did not after it.
    pub last_decision: BTreeMap<String, u64>,
    /// For each edge pod, when it first gave a user of the service to the monolith, in microseconds after the breach.
    /// The rollback happened between the two; how far they are apart is a matter of how much was sent.
    pub first_return: BTreeMap<String, u64>,
    /// When a client got the first bad answer of the attempt, in microseconds since the Unix epoch.
    pub first_bad_micros: u64,
    /// Bad answers of the service that clients got in the attempt.
    pub bad: usize,
    /// When the operator decided, in microseconds since the Unix epoch.
    pub decided_micros: u64,
    /// Whether the answers of one edge pod breached the guard by themselves, no later than those of all together.
    pub alone: bool,
}

impl Rollback {
    /// When the last edge pod last chose the service, in microseconds after the breach; 0 if none did after it.
    pub fn last_micros(&self) -> u64 {
        self.last_decision.values().copied().max().unwrap_or(0)
    }
}

impl<'a> Evidence<'a> {
    /// Requests that users would miss: without a full answer, or answered by an error that no backend gave. HTTP/2
    /// streams that a GOAWAY names as unprocessed are counted apart, by [`Evidence::unprocessed`].
    pub fn lost(&self) -> Vec<&Record> {
        self.records.iter().filter(|record| is_lost(record)).collect()
    }

    /// An error that says what was lost, by kind and edge pod, and what the first of it was.
    pub fn nothing_lost(&self) -> Result<(), Error> {
        let lost = self.lost();
        let Some(first) = lost.first() else { return Ok(()) };
        let mut kinds = BTreeMap::<_, usize>::new();
        for record in &lost {
            *kinds.entry((record.mode, record.loss, record.status, record.pod())).or_default() += 1;
        }
        let kinds = kinds.iter().map(|((mode, loss, status, pod), n)| {
            let what = loss.map_or_else(|| format!("status {status}"), |loss| format!("{loss:?}"));
            format!("{n} {mode:?}: {what} ({})", pod.unwrap_or("no edge pod known"))
        });
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        let (all, n) = (self.records.len(), lost.len());
        Err(Error::Broken(format!("{n} of {all} requests lost: {kinds}; the first: {}", first.to_line())))
    }

    /// HTTP/2 streams that a GOAWAY named as unprocessed: any client may send them again.
    pub fn unprocessed(&self) -> usize {
        self.records.iter().filter(|record| record.loss == Some(Loss::H2Unprocessed)).count()
    }

    /// Answers by the side that the acknowledged weight had not chosen.
    pub fn stale(&self) -> Staleness<'a> {
        stale(&self.changes(), self.records)
    }

    /// Revisions of the weights that the plan's history names.
    pub fn weight_changes(&self) -> usize {
        let revisions: BTreeSet<_> = self.status.history.iter().map(|t| t.revision).collect();
        revisions.len() - usize::from(revisions.contains(&0))
    }

    /// Every rollback of the history. `None` stands for one whose breach no client saw.
    pub fn rollbacks(&self, guard: &Guard) -> Vec<Option<Rollback>> {
        let history = &self.status.history;
        let begun = history.iter().enumerate().filter(|(_, t)| t.phase == Phase::RollingBack);
        begun.map(|(index, _)| self.rollback(guard, index)).collect()
    }

    /// The rollback that the history has at this index.
    fn rollback(&self, guard: &Guard, index: usize) -> Option<Rollback> {
        let history = &self.status.history;
        let route = &history[index].route;
        let of_route = |t: &&Transition| t.route == *route;
        let attempt =
            history[..index].iter().filter(of_route).rev().take_while(|t| t.phase != Phase::RollingBack);
        let from = attempt.last().map_or(0, |first| micros(&first.at));
        let resumed = history[index + 1..].iter().find(of_route).map_or(u64::MAX, |next| micros(&next.at));
        let id = self.status.routes.iter().find(|r| r.name == *route).map(|r| r.id.as_str());
        let of_id = || self.records.iter().filter(|r| r.route() == id);
        let own = || of_id().filter(move |r| (from..resumed).contains(&r.received_micros));
        let breach_micros = breach(guard, own())?;
        let bad = || own().filter(|r| r.side() == Some(Side::Service) && r.status >= 500);
        let pods: BTreeSet<&str> = own().filter_map(|r| r.pod()).collect();
        let by_itself = |pod: &&str| {
            let at = breach(guard, own().filter(|r| r.pod() == Some(*pod)));
            at.is_some_and(|at| at <= breach_micros)
        };
        let weight = history[..index].iter().rfind(of_route).map_or(0, |t| t.permille);
        let decided = micros(&history[index].at);
        Some(Rollback {
            breach_micros,
            last_decision: last_service_decision_after(breach_micros, resumed, of_id()),
            first_return: first_return(
                breach_micros,
                weight,
                of_id().filter(|r| (decided..resumed).contains(&r.sent_micros)),
            ),
            first_bad_micros: bad().map(|r| r.received_micros).min().unwrap_or(breach_micros),
            bad: bad().count(),
            decided_micros: decided,
            alone: pods.iter().any(by_itself),
        })
    }

    fn changes(&self) -> Vec<WeightChange> {
        let id = |name: &str| self.status.routes.iter().find(|r| r.name == name).map(|r| r.id.clone());
        let change = |t: &Transition| {
            Some(WeightChange {
                route: id(&t.route)?,
                audience: None,
                permille: u16::try_from(t.permille).unwrap_or(0),
                begun_micros: micros(&t.at),
                acknowledged_micros: t.acknowledged.as_ref().map(micros),
            })
        };
        self.status.history.iter().filter_map(change).collect()
    }
}

/// An error unless every request was answered, and every answer is a success: for services that nobody breaks on
/// purpose.
pub fn all_well(records: &[Record]) -> Result<(), Error> {
    Evidence { records, status: &MigrationPlanStatus::default() }.nothing_lost()?;
    let bad: Vec<_> =
        records.iter().filter(|r| r.loss.is_none() && !(200..300).contains(&r.status)).collect();
    let Some(first) = bad.first() else { return Ok(()) };
    let (n, all) = (bad.len(), records.len());
    Err(Error::Broken(format!("{n} of {all} answers are no success; the first: {}", first.to_line())))
}

/// For each edge pod, the earliest request of a user of the service that the monolith answered. Pods that had none
/// are absent.
fn first_return<'a>(
    breach_micros: u64,
    weight: i32,
    records: impl Iterator<Item = &'a Record>,
) -> BTreeMap<String, u64> {
    let mut first = BTreeMap::new();
    for record in records.filter(|r| r.side() == Some(Side::Monolith)) {
        let of_service = record.bucket.is_some_and(|bucket| i32::from(bucket) < weight);
        let Some(pod) = record.pod().filter(|_| of_service) else { continue };
        let after = record.sent_micros.saturating_sub(breach_micros);
        first.entry(pod.to_owned()).and_modify(|least: &mut u64| *least = after.min(*least)).or_insert(after);
    }
    first
}

/// The value that this share of all values, in per mille, does not exceed; 0 of none.
pub fn quantile(values: &[u64], permille: usize) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * permille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// The value in the middle; not a number of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn is_lost(record: &Record) -> bool {
    let made_by_the_edge = record.status >= 500 && record.origin.served_by.is_none();
    record.loss.is_some_and(|loss| loss != Loss::H2Unprocessed) || made_by_the_edge
}

fn micros(MicroTime(at): &MicroTime) -> u64 {
    u64::try_from(at.as_microsecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use stomaton_crds::v1alpha1::RouteStatus;

    const ID: &str = "0123456789abcdef";
    const GUARD: Guard = Guard { min_bad: 2, bad_permille: 200, window_ms: 10_000 };

    fn at(micros: i64) -> MicroTime {
        MicroTime(Timestamp::from_microsecond(micros).unwrap())
    }

    fn transition(
        begun: i64,
        acknowledged: Option<i64>,
        phase: Phase,
        permille: i32,
        revision: i64,
    ) -> Transition {
        Transition {
            at: at(begun),
            route: "content".into(),
            phase,
            permille,
            revision,
            acknowledged: acknowledged.map(at),
            evidence: None,
            message: String::new(),
        }
    }

    fn status(history: Vec<Transition>) -> MigrationPlanStatus {
        let route = RouteStatus { name: "content".into(), id: ID.into(), ..RouteStatus::default() };
        MigrationPlanStatus { routes: vec![route], history, ..MigrationPlanStatus::default() }
    }

    fn answer(sent: u64, side: &str, bucket: u16, status: u16) -> Record {
        let line = format!(
            r#"{{"sent":{sent},"received":{},"mode":"keepalive","client":0,"seq":0,"key":0,"path":0,"status":{status},
            "route":"{ID}","side":"{side}","bucket":{bucket},"pod":"edge-0","served_by":"x"}}"#,
            sent + 1
        );
        Record::from_line(&line).unwrap()
    }

    #[test]
    fn an_error_of_the_edge_itself_is_a_loss_and_one_of_a_backend_is_not() {
        let mut made_by_edge = answer(1, "service", 0, 502);
        made_by_edge.origin = std::sync::Arc::default();
        let mut cut = answer(1, "service", 0, 0);
        cut.loss = Some(Loss::Reset);
        let mut goaway = answer(1, "service", 0, 0);
        goaway.loss = Some(Loss::H2Unprocessed);
        let records = [answer(1, "service", 0, 500), made_by_edge.clone(), cut.clone(), goaway];
        let evidence = Evidence { records: &records, status: &status(vec![]) };
        assert_eq!(evidence.lost(), [&made_by_edge, &cut]);
        let words = evidence.nothing_lost().unwrap_err().to_string();
        let said =
            "2 of 4 requests lost: 1 Keepalive: status 502 (no edge pod known), 1 Keepalive: Reset (edge-0)";
        assert!(words.starts_with(said), "{words}");
        assert_eq!(evidence.unprocessed(), 1);
    }

    #[test]
    fn all_is_well_only_with_an_answer_to_everything_that_is_a_success() {
        assert!(all_well(&[answer(1, "service", 0, 200), answer(2, "service", 0, 204)]).is_ok());
        let refused = all_well(&[answer(1, "service", 0, 200), answer(2, "service", 0, 401)]);
        let words = refused.unwrap_err().to_string();
        assert!(
            words.starts_with("1 of 2 answers are no success; the first: ") && words.contains("401"),
            "{words}"
        );
        let mut cut = answer(1, "service", 0, 0);
        cut.loss = Some(Loss::Eof);
        assert!(all_well(&[cut]).unwrap_err().to_string().starts_with("1 of 1 requests lost"));
    }

    #[test]
    fn an_answer_counts_as_stale_only_under_a_settled_weight() {
        let history = vec![
            transition(100, Some(200), Phase::Ramp, 500, 1),
            transition(300, Some(400), Phase::RollingBack, 0, 2),
        ];
        let records = [
            answer(150, "monolith", 10, 200), // not acknowledged yet
            answer(250, "monolith", 10, 200), // stale
            answer(260, "service", 10, 200),
            answer(350, "service", 10, 200), // being taken back
            answer(450, "service", 10, 200), // stale
        ];
        let status = status(history);
        let evidence = Evidence { records: &records, status: &status };
        let found = evidence.stale();
        assert_eq!((found.checked, found.stale), (3, vec![&records[1], &records[4]]));
        assert_eq!(evidence.weight_changes(), 2);
    }

    #[test]
    fn a_rollback_is_judged_by_the_answers_of_its_own_attempt() {
        let history = vec![
            transition(100, Some(110), Phase::Ramp, 500, 1),
            transition(300, Some(320), Phase::RollingBack, 0, 2),
            transition(1000, Some(1010), Phase::Ramp, 500, 3),
            transition(2000, Some(2020), Phase::RollingBack, 0, 4),
            transition(3000, Some(3010), Phase::Ramp, 500, 5),
        ];
        let records = [
            answer(200, "service", 1, 500),
            answer(210, "service", 1, 500), // breach at 211
            answer(305, "service", 1, 200), // 94 after it
            answer(400, "monolith", 1, 200),
            answer(1100, "service", 1, 500),
            answer(1500, "service", 1, 500),    // breach at 1501
            answer(1600, "monolith", 700, 200), // never a user of the service
            answer(2100, "monolith", 1, 200),
            answer(3100, "service", 1, 500), // the next attempt
        ];
        let status = status(history);
        let found = Evidence { records: &records, status: &status }.rollbacks(&GUARD);
        let rollback = |(first_bad_micros, breach_micros), decided_micros, last, first| {
            let of_pod = |micros| [("edge-0".to_owned(), micros)].into();
            let (last_decision, first_return) = (of_pod(last), of_pod(first));
            Some(Rollback {
                breach_micros,
                last_decision,
                first_return,
                first_bad_micros,
                bad: 2,
                decided_micros,
                alone: true,
            })
        };
        let expected = [rollback((201, 211), 300, 94, 189), rollback((1101, 1501), 2000, 0, 599)];
        assert_eq!(found, expected);
        assert_eq!(found.iter().flatten().map(Rollback::last_micros).collect::<Vec<_>>(), [94, 0]);
    }

    #[test]
    fn quantiles_are_values_that_were_there() {
        assert_eq!(quantile(&[], 500), 0);
        assert_eq!(quantile(&[7], 500), 7);
        assert_eq!(quantile(&[4, 1, 3, 2], 500), 2);
        assert_eq!(quantile(&[4, 1, 3, 2], 1000), 4);
    }

    #[test]
    fn a_median_is_a_value_that_was_there() {
        assert_eq!(median(&[3.0, -1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
