//! Verdicts over records: when a guard was breached, how long the service was still chosen, and which
//! answers came from the wrong side. Pure; give it the records of all load pods together.

use super::record::{Record, Side};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A hard guard on the service's bad share over a short window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Fewer bad answers than this never breach.
    pub min_bad: u64,
    /// The share of bad answers that breaches, in per mille.
    pub bad_permille: u64,
    /// How far back answers count, in milliseconds.
    pub window_ms: u64,
}

/// The first moment (in `received_micros`) at which the service's answers breach the guard, or `None`.
///
/// Breached means: among the answers of the last `window_ms`, some run of the most recent ones holds at
/// least `min_bad` bad ones (status >= 500) with `bad * 1000 >= bad_permille * total`. Records of other
/// sides are left out here; records of other routes must be left out by the caller.
pub fn breach<'a>(guard: &Guard, records: impl IntoIterator<Item = &'a Record>) -> Option<u64> {
    let mut answers: Vec<(u64, bool)> = records
        .into_iter()
        .filter(|r| r.side() == Some(Side::Service) && r.loss.is_none())
        .map(|r| (r.received_micros, r.status >= 500))
        .collect();
    answers.sort_by_key(|(received, _)| *received);

    // A run that breaches still does so when the good answers at its ends are cut off, so only runs
    // from one bad answer to another matter: (position among all answers, time).
    let bad: Vec<(usize, u64)> =
        answers.iter().enumerate().filter(|(_, (_, bad))| *bad).map(|(i, (at, _))| (i, *at)).collect();
    bad.iter().enumerate().find_map(|(last, &(end, now))| {
        let within = bad[..=last]
            .iter()
            .enumerate()
            .rev()
            .take_while(|(_, (_, at))| now - at <= guard.window_ms.saturating_mul(1000));
        within
            .map(|(first, &(start, _))| ((last - first + 1) as u64, (end - start + 1) as u64))
            .any(|(bad, total)| bad >= guard.min_bad && bad * 1000 >= guard.bad_permille * total)
            .then_some(now)
    })
}

/// For each edge pod, how long after the breach it still chose the service: the latest send time of a
/// request answered by the service, in microseconds after `breach_micros`; 0 when there was none.
///
/// Only requests sent before `resumed_micros` count, the moment from which the service may be chosen
/// again (the next attempt). Pods that answered nothing in between are absent: nothing is known of them.
pub fn last_service_decision_after<'a>(
    breach_micros: u64,
    resumed_micros: u64,
    records: impl IntoIterator<Item = &'a Record>,
) -> BTreeMap<String, u64> {
    let mut last = BTreeMap::new();
    for record in records {
        let Some(pod) = record.pod() else { continue };
        if !(breach_micros..resumed_micros).contains(&record.sent_micros) {
            continue;
        }
        let after = match record.side() {
            Some(Side::Service) => record.sent_micros - breach_micros,
            _ => 0,
        };
        match last.get_mut(pod) {
            Some(latest) => *latest = after.max(*latest),
            None => {
                last.insert(pod.to_owned(), after);
            }
        }
    }
    last
}

/// A change of one route's weight, as the operator reported it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightChange {
    /// The route, named as in `X-Stomaton-Edge`.
    pub route: String,
    /// The audience that has this weight; `None`: everybody who is of no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The service's share of the buckets from then on.
    pub permille: u16,
    /// Before anything could act on the new weight, in microseconds since the Unix epoch.
    pub begun_micros: u64,
    /// When every edge pod had acknowledged it; `None` while that has not happened.
    pub acknowledged_micros: Option<u64>,
}

/// The answers that [`stale`] looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Staleness<'a> {
    /// How many answers were bound to one side; a verdict over 0 says nothing.
    pub checked: u64,
    /// Those that came from the other side.
    pub stale: Vec<&'a Record>,
}

/// Finds answers from the wrong side: sent after a weight was acknowledged, complete before the next
/// change of that route for that audience was begun, and yet `side == service` disagrees with `bucket <
/// permille`.
///
/// A request still in flight when the next change begins may rightly get either side and is not
/// checked. Neither is one without route, bucket and side.
pub fn stale<'a>(changes: &[WeightChange], records: impl IntoIterator<Item = &'a Record>) -> Staleness<'a> {
    let mut by_route: BTreeMap<(&str, Option<&str>), Vec<&WeightChange>> = BTreeMap::new();
    for change in changes {
        by_route.entry((&change.route, change.audience.as_deref())).or_default().push(change);
    }
    by_route.values_mut().for_each(|list| list.sort_by_key(|c| c.begun_micros));

    let mut found = Staleness::default();
    for record in records {
        let (Some(route), Some(bucket), Some(side)) = (record.route(), record.bucket, record.side()) else {
            continue;
        };
        let list = by_route.get(&(route, record.audience())).map_or(&[][..], Vec::as_slice);
        let next = list.partition_point(|c| c.begun_micros <= record.sent_micros);
        let Some(current) = next.checked_sub(1).map(|i| list[i]) else { continue };
        let settled = current.acknowledged_micros.is_some_and(|at| at < record.sent_micros);
        let undisturbed = list.get(next).is_none_or(|c| record.received_micros < c.begun_micros);
        if settled && undisturbed {
            found.checked += 1;
            if (side == Side::Service) != (bucket < current.permille) {
                found.stale.push(record);
            }
        }
    }
    found
}

/// Finds answers that show a group half moved: once an edge pod had put one route of it to the new side for the keys that
/// a change moves, another request to it, sent after that answer, met the old side.
///
/// `routes` are those of the group, which share salt and weight; the change moves the keys whose buckets lie between
/// `from` and `to`, for one audience. Records must be of the time from this change to the next.
pub fn half_moved<'a>(
    routes: &[&str],
    audience: Option<&str>,
    (from, to): (u16, u16),
    records: impl IntoIterator<Item = &'a Record>,
) -> Vec<&'a Record> {
    let (moved, new) = if to > from { (from..to, Side::Service) } else { (to..from, Side::Monolith) };
    let concerned = |r: &&Record| {
        r.audience() == audience
            && r.route().is_some_and(|route| routes.contains(&route))
            && r.bucket.is_some_and(|bucket| moved.contains(&bucket))
    };
    let records: Vec<&Record> = records.into_iter().filter(concerned).collect();
    let mut first: BTreeMap<Option<&str>, u64> = BTreeMap::new();
    for record in records.iter().filter(|r| r.side() == Some(new)) {
        let at = first.entry(record.pod()).or_insert(u64::MAX);
        *at = record.received_micros.min(*at);
    }
    let late = |r: &&'a Record| {
        r.side().is_some_and(|side| side != new)
            && first.get(&r.pod()).is_some_and(|first| r.sent_micros > *first)
    };
    records.into_iter().filter(late).collect()
}
