//! The pure parts of the load generator against naive versions of themselves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may stop at a surprise, as tests may"
)]

use e2e::load::judge::{Guard, WeightChange, breach, half_moved, last_service_decision_after, stale};
use e2e::load::record::{EdgeHeader, Loss, Mode, Origin, Origins, Record, Side};
use e2e::load::summary::summarise;
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Service), Just(Side::Monolith)]
}

fn name() -> impl Strategy<Value = String> {
    // Quotes, newlines and the like must survive the line format too.
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), any::<String>()]
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::Connect),
        Just(Loss::Reset),
        Just(Loss::Eof),
        Just(Loss::Timeout),
        Just(Loss::Tls),
        Just(Loss::Protocol),
        Just(Loss::H2Unprocessed),
    ]
}

/// 0 to 1000 in steps of 200, so that limits are met exactly.
fn fifth() -> impl Strategy<Value = u16> {
    (0u16..=5).prop_map(|n| n * 200)
}

prop_compose! {
    fn origin()(
        route in option::of(name()), side in option::of(side()), pod in option::of(name()),
        served_by in option::of(name()), certificate in option::of(name()),
        audience in option::of(prop_oneof![Just("internal".to_owned()), Just("public".to_owned()), any::<String>()]),
    ) -> Arc<Origin> {
        Arc::new(Origin { route, side, audience, pod, served_by, certificate })
    }
}

prop_compose! {
    /// Times are small, so that windows, changes and records meet.
    fn record()(
        sent_micros in 0u64..100, latency in 0u64..20, origin in origin(), numbers: (u32, u32, u16),
        path in 0u16..3, status in prop_oneof![Just(200u16), Just(404), Just(500), Just(503)],
        bucket in option::of(prop_oneof![0u16..1000, fifth().prop_map(|n| n.min(999))]),
        mode in prop_oneof![Just(Mode::Keepalive), Just(Mode::Fresh), Just(Mode::Http2)],
        loss in option::weighted(0.2, loss()),
    ) -> Record {
        Record {
            sent_micros,
            received_micros: sent_micros + latency,
            // A lost request had no headers.
            origin: if loss.is_some() { Arc::default() } else { origin },
            key: numbers.0,
            seq: numbers.1,
            client: numbers.2,
            path,
            status: if loss.is_some() { 0 } else { status },
            bucket: bucket.filter(|_| loss.is_none()),
            mode,
            loss,
        }
    }
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(record(), 0..60)
}

/// Answers of the service alone, sorted by time, with times in milliseconds.
fn answers() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec((0u64..4, any::<bool>(), prop::bool::weighted(0.8)), 0..80).prop_map(|steps| {
        let mut now = 0;
        let answer = |(wait, bad, service): (u64, bool, bool)| {
            now += wait * 1000;
            let side = Some(if service { Side::Service } else { Side::Monolith });
            Record {
                sent_micros: now,
                received_micros: now,
                origin: Arc::new(Origin { side, ..Origin::default() }),
                key: 0,
                seq: 0,
                client: 0,
                path: 0,
                status: if bad { 500 } else { 200 },
                bucket: None,
                mode: Mode::Fresh,
                loss: None,
            }
        };
        steps.into_iter().map(answer).collect()
    })
}

/// Every suffix at every answer.
fn naive_breach(guard: &Guard, sorted: &[Record]) -> Option<u64> {
    let service: Vec<&Record> = sorted.iter().filter(|r| r.side() == Some(Side::Service)).collect();
    for (last, now) in service.iter().enumerate() {
        for first in 0..=last {
            let run = &service[first..=last];
            let bad = run.iter().filter(|r| r.status >= 500).count() as u64;
            let recent =
                run.iter().all(|r| now.received_micros - r.received_micros <= guard.window_ms * 1000);
            if recent && bad >= guard.min_bad && bad * 1000 >= guard.bad_permille * run.len() as u64 {
                return Some(now.received_micros);
            }
        }
    }
    None
}

/// Changes of routes `a` and `b`, each route's in order and at distinct times.
fn changes() -> impl Strategy<Value = Vec<WeightChange>> {
    let step = (any::<bool>(), any::<bool>(), 1u64..15, option::weighted(0.8, 0u64..20), fifth());
    prop::collection::vec(step, 0..12).prop_map(|steps| {
        let mut now = 0;
        let change = |(a, internal, wait, taken, permille): (bool, bool, u64, Option<u64>, u16)| {
            now += wait;
            WeightChange {
                route: if a { "a" } else { "b" }.to_owned(),
                audience: internal.then(|| "internal".to_owned()),
                permille,
                begun_micros: now,
                acknowledged_micros: taken.map(|taken| now + taken),
            }
        };
        steps.into_iter().map(change).collect()
    })
}

/// Whether the record must come from one side, and if so, whether it does.
fn naive_fresh(changes: &[WeightChange], record: &Record) -> Option<bool> {
    let (route, bucket, side) = (record.route()?, record.bucket?, record.side()?);
    let mut verdict = None;
    let concerns = |c: &&WeightChange| c.route == route && c.audience.as_deref() == record.audience();
    for change in changes.iter().filter(concerns) {
        let settled = change.acknowledged_micros.is_some_and(|at| at < record.sent_micros);
        let disturbed = changes.iter().any(|other| {
            concerns(&other)
                && other.begun_micros > change.begun_micros
                && other.begun_micros <= record.received_micros
        });
        if settled && !disturbed {
            verdict = Some((side == Side::Service) == (bucket < change.permille));
        }
    }
    verdict
}

proptest! {
    #[test]
    fn a_record_survives_its_line(record in record()) {
        let line = record.to_line();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(Record::from_line(&line).unwrap(), record);
    }

    #[test]
    fn an_edge_header_is_read_as_it_was_written(
        route in option::of("[a-z0-9-]{1,12}"), side in option::of(side()), bucket in option::of(0u16..1000),
        pod in option::of("[a-z0-9-]{1,12}"),
    ) {
        let parts = [
            route.as_ref().map(|r| format!("route={r}")),
            side.map(|s| format!("side={}", if s == Side::Service { "service" } else { "monolith" })),
            bucket.map(|b| format!("bucket={b}")),
            pod.as_ref().map(|p| format!("pod={p}")),
        ];
        let header = parts.into_iter().flatten().collect::<Vec<_>>().join(";");
        let (route_, pod_) = (route.as_deref(), pod.as_deref());
        let expected = EdgeHeader { route: route_, side, bucket, pod: pod_, audience: None };
        prop_assert_eq!(EdgeHeader::parse(&header), expected);
        let shared = Origins::default().share(&expected, None, Some("c"));
        let (route, pod) = (route.clone(), pod.clone());
        let origin = Origin { route, side, pod, certificate: Some("c".into()), ..Origin::default() };
        prop_assert_eq!(&*shared, &origin);
    }

    #[test]
    fn any_header_can_be_read(header: String) {
        EdgeHeader::parse(&header);
    }

    #[test]
    fn the_summary_counts_every_record_once(records in records()) {
        let summary = summarise(&records);
        let count = |wanted: &dyn Fn(&&Record) -> bool| records.iter().filter(wanted).count() as u64;
        let unprocessed = count(&|r| r.loss == Some(Loss::H2Unprocessed));

        prop_assert_eq!(summary.sent, records.len() as u64);
        prop_assert_eq!(summary.answered, count(&|r| r.loss.is_none()));
        prop_assert_eq!(summary.h2_unprocessed, unprocessed);
        prop_assert_eq!(summary.lost, count(&|r| r.loss.is_some()) - unprocessed);
        prop_assert_eq!(summary.lost_by.values().sum::<u64>(), summary.lost);
        prop_assert_eq!(summary.status.values().sum::<u64>(), summary.answered);
        prop_assert_eq!(summary.side.values().sum::<u64>(), summary.answered);
        let service = count(&|r| r.side() == Some(Side::Service));
        prop_assert_eq!(summary.side.get("service").copied().unwrap_or(0), service);
        for (index, path) in summary.paths.iter().enumerate() {
            let index = index as u16;
            prop_assert_eq!(path.sent, count(&|r| r.path == index));
            prop_assert_eq!(path.failed, count(&|r| r.path == index && r.status >= 500));
        }
        let slowest = records.iter().filter(|r| r.loss.is_none()).map(Record::latency_micros).max();
        prop_assert_eq!(summary.latency_ms.max, slowest.unwrap_or(0) as f64 / 1000.0);

        let json = serde_json::to_string(&summary).unwrap();
        prop_assert_eq!(serde_json::from_str::<e2e::load::summary::Summary>(&json).unwrap(), summary);
    }

    #[test]
    fn the_breach_is_the_first_bad_enough_suffix(
        answers in answers(), min_bad in 1u64..6, bad_permille in fifth(), window_ms in 0u64..30,
    ) {
        let guard = Guard { min_bad, bad_permille: u64::from(bad_permille), window_ms };
        let expected = naive_breach(&guard, &answers);
        prop_assert_eq!(breach(&guard, &answers), expected);
        // Several load pods hand in their records one after the other.
        let (even, odd): (Vec<_>, Vec<_>) =
            answers.iter().partition(|r| (r.received_micros / 1000) % 2 == 0);
        prop_assert_eq!(breach(&guard, odd.into_iter().chain(even)), expected);
    }

    #[test]
    fn last_decisions_lie_between_breach_and_resumption(
        records in records(), breach in 0u64..100, length in 0u64..100,
    ) {
        let last = last_service_decision_after(breach, breach + length, &records);
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for record in &records {
            let (Some(pod), sent) = (record.pod(), record.sent_micros) else { continue };
            if sent >= breach && sent < breach + length {
                let after = if record.side() == Some(Side::Service) { sent - breach } else { 0 };
                let entry = expected.entry(pod.to_owned()).or_default();
                *entry = after.max(*entry);
            }
        }
        prop_assert_eq!(last, expected);
    }

    #[test]
    fn stale_answers_are_those_that_no_change_excuses(changes in changes(), records in records()) {
        let found = stale(&changes, &records);
        let verdicts: Vec<Option<bool>> = records.iter().map(|r| naive_fresh(&changes, r)).collect();
        let expected: Vec<&Record> =
            records.iter().zip(&verdicts).filter(|(_, v)| **v == Some(false)).map(|(r, _)| r).collect();
        prop_assert_eq!(found.checked, verdicts.iter().flatten().count() as u64);
        prop_assert_eq!(found.stale, expected);
    }
}

fn answer(sent: u64, route: &str, bucket: u16, side: Side) -> Record {
    let origin = Origin { route: Some(route.into()), side: Some(side), ..Origin::default() };
    Record {
        sent_micros: sent,
        received_micros: sent + 5,
        origin: Arc::new(origin),
        key: 0,
        seq: 0,
        client: 0,
        path: 0,
        status: 200,
        bucket: Some(bucket),
        mode: Mode::Keepalive,
        loss: None,
    }
}

#[test]
fn a_request_in_flight_when_a_change_begins_is_not_stale() {
    let change = |permille, begun_micros, acknowledged_micros| WeightChange {
        route: "r".into(),
        audience: None,
        permille,
        begun_micros,
        acknowledged_micros: Some(acknowledged_micros),
    };
    let changes = [change(100, 10, 20), change(0, 100, 110)];
    let wrong = |sent| answer(sent, "r", 50, Side::Monolith);
    // Before the acknowledgement, right after it, in flight at 100.
    let records = [wrong(20), wrong(21), wrong(94), wrong(95)];
    let found = stale(&changes, &records);
    assert_eq!((found.checked, found.stale), (2, vec![&records[1], &records[2]]));
    // Bucket 50 is the service's below 100 and the monolith's at 0.
    let right = [answer(30, "r", 50, Side::Service), answer(120, "r", 50, Side::Monolith)];
    assert_eq!(stale(&changes, &right).stale, Vec::<&Record>::new());
    assert_eq!(stale(&changes, &right).checked, 2);
}

#[test]
fn a_guard_of_five_bad_and_a_fifth_breaches_at_the_fifth() {
    let guard = Guard { min_bad: 5, bad_permille: 200, window_ms: 1000 };
    let mut records: Vec<Record> = (0..100).map(|n| answer(n * 1000, "r", 0, Side::Service)).collect();
    for bad in [60, 62, 64, 66, 68, 70] {
        records[bad].status = 503;
    }
    assert_eq!(breach(&guard, &records), Some(68 * 1000 + 5));
}

#[test]
fn a_group_is_half_moved_when_one_route_is_still_on_the_old_side_after_another_was_seen_on_the_new() {
    let seen = answer(10, "a", 100, Side::Service);
    let half = answer(16, "b", 150, Side::Monolith);
    let fine = [
        // Sent before the new side was seen.
        answer(15, "b", 150, Side::Monolith),
        // Not of a key that moves, not of the group.
        answer(16, "b", 200, Side::Monolith),
        answer(16, "c", 150, Side::Monolith),
    ];
    let records: Vec<Record> = fine.into_iter().chain([seen, half.clone()]).collect();
    assert_eq!(half_moved(&["a", "b"], None, (0, 200), &records), [&half]);
    assert_eq!(half_moved(&["a", "b"], Some("internal"), (0, 200), &records), Vec::<&Record>::new());
    // Back again: the new side is the other one.
    let back = [answer(0, "a", 100, Side::Monolith), answer(6, "b", 100, Side::Service)];
    assert_eq!(half_moved(&["a", "b"], None, (200, 0), &back), [&back[1]]);
}
