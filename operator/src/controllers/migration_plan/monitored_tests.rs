//! A judge that asks Prometheus, through everything it may be told.

use super::super::{
    judging,
    machine::{
        State, step,
        tests::{Rules, at, profile, route, rules},
        wanted,
    },
    stages::Facts,
};
use super::*;
use serde_json::json;
use std::collections::BTreeMap;
use stomaton_crds::{
    edge_state::{Counts, Sides},
    keys::AUDIENCE_PUBLIC,
    v1alpha1::{Bad, MigrationPlanStatus, Phase, Profile, PrometheusCounts, Weights},
};

const GOOD: Evidence = Evidence { requests: 1000, bad: 0, monolith_requests: 10_000, monolith_bad: 0 };
const WORSE: Evidence = Evidence { requests: 200, bad: 40, monolith_requests: 2000, monolith_bad: 0 };

fn judged() -> Rules {
    let judge = Judge {
        name: "checkout".into(),
        of: Bad::Prometheus,
        slower_than: None,
        tolerable_permille: 1,
        safe_margin_permille: 2000,
        absolute_permille: 20,
        prometheus: Some(PrometheusCounts { bad: "bad".into(), all: "all".into() }),
    };
    Rules { judges: vec![judge], ..rules(30, 2) }
}

/// At 50 per mille, which every edge pod acknowledged at second 0.
fn under_way() -> RouteStatus {
    RouteStatus {
        name: "content".into(),
        id: "0123456789abcdef".into(),
        phase: Phase::Ramp,
        attempt: 1,
        step: 1,
        revision: 1,
        weights: Weights { desired: 50, applied: 50, ..Weights::default() },
        since: Some(MicroTime(at(0))),
        ..RouteStatus::default()
    }
}

/// The same route as it is seen, enough of whose answers the edge has counted.
fn seen<'a>(profile: &'a Profile, status: &RouteStatus, reading: Option<Reading>) -> Route<'a> {
    let service = Counts { requests: 100, ..Counts::default() };
    Route {
        entry: wanted(status),
        weights_revision: 1,
        acknowledged: Some(1),
        counted: Sides { service, ..Sides::default() },
        readings: reading.map(|reading| ("checkout".to_owned(), reading)).into_iter().collect(),
        ..route(profile)
    }
}

fn look(status: &mut RouteStatus, second: i64, reading: Option<Reading>) -> JudgeStatus {
    let (rules, profile) = (judged(), profile(&[50, 1000], 10));
    let route = seen(&profile, status, reading);
    judging::look(&rules.terms(), &route, status, at(second));
    status.judges[0].clone()
}

/// What one pass makes of it at second 20: the weight that the edge is to have, and why.
fn moved(reading: Reading) -> (Option<(i32, bool)>, String) {
    let (rules, profile, status) = (judged(), profile(&[50, 1000], 10), under_way());
    let route = seen(&profile, &status, Some(reading));
    let before = State { routes: vec![status], ..State::default() };
    let (next, effects) = step(&rules.terms(), &[route], &Facts::default(), &before, &[], at(20));
    let weights = effects.first().map(|effect| &effect.weights);
    let weight = weights.map(|w| (w.permille.get(AUDIENCE_PUBLIC).copied().unwrap_or(0), w.latched));
    let why = next.history.last().map_or_else(|| next.routes[0].waits_for.clone(), |t| t.message.clone());
    (weight, why)
}

#[test]
fn what_prometheus_counts_lets_a_route_go_on_or_takes_it_back() {
    let (weight, _) = moved(Ok(GOOD));
    assert_eq!(weight, Some((1000, false)));
    let (weight, why) = moved(Ok(WORSE));
    assert_eq!(weight, Some((0, true)));
    assert!(why.contains("judge checkout: 40 of 200"), "{why}");
}

#[test]
fn without_data_or_a_source_a_route_stays_and_says_so() {
    for (trouble, words) in [
        (Trouble::NotTold, "judge checkout: Prometheus: the operator has no --prometheus-url"),
        (Trouble::NoData("service"), "Prometheus: no data"),
        (Trouble::Silent, "Prometheus: no answer within 5 s"),
    ] {
        let (weight, why) = moved(Err(trouble));
        assert_eq!(weight, None);
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn a_broken_source_makes_no_judge_forget_and_none_sure() {
    let mut status = under_way();
    assert_eq!(look(&mut status, 20, Some(Ok(GOOD))).verdict, Verdict::Safe);
    for reading in [Some(Err(Trouble::Silent)), None] {
        let said = look(&mut status, 21, reading);
        assert_eq!((said.verdict, said.counted), (Verdict::NotYet, GOOD));
        assert!(said.missing.starts_with("Prometheus: "), "{}", said.missing);
    }
    let said = look(&mut status, 22, Some(Ok(GOOD)));
    assert_eq!((said.verdict, said.missing.as_str()), (Verdict::Safe, ""));
    // Where there is no way back, Harm is waited with.
    assert_eq!(look(&mut status, 23, Some(Ok(WORSE))).verdict, Verdict::Harm);
    assert_eq!(look(&mut status, 24, Some(Err(Trouble::Silent))).verdict, Verdict::Harm);
}

#[test]
fn counting_begins_after_the_warm_up_and_anew_with_other_pods_and_with_soak() {
    let mut status = under_way();
    let said = look(&mut status, 1, Some(Ok(WORSE)));
    assert_eq!((said.counted, said.since), (Evidence::default(), Some(MicroTime(at(2)))));
    assert_eq!(look(&mut status, 3, Some(Ok(GOOD))).counted, GOOD);

    status.revisions = "older/old".into();
    let said = look(&mut status, 20, Some(Ok(WORSE)));
    assert_eq!((said.counted, said.since), (Evidence::default(), Some(MicroTime(at(20)))));
    let said = look(&mut status, 21, Some(Ok(GOOD)));
    assert_eq!((said.counted, said.since), (GOOD, Some(MicroTime(at(20)))));

    (status.phase, status.since) = (Phase::Soak, Some(MicroTime(at(30))));
    let said = look(&mut status, 31, Some(Ok(WORSE)));
    assert_eq!((said.counted, said.since), (Evidence::default(), Some(MicroTime(at(32)))));
    // What was counted of another stretch is not shown for this one.
    let said = look(&mut status, 40, Some(Err(Trouble::Silent)));
    assert_eq!((said.verdict, said.counted), (Verdict::NotYet, Evidence::default()));
}

#[test]
fn only_what_is_under_way_and_warm_is_asked_for() {
    let mut plan: MigrationPlan = serde_json::from_value(json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan",
        "metadata": {"name": "p", "namespace": "shop", "uid": "u"},
        "spec": {
            "gatewayRef": {"name": "edge"},
            "routes": [{"name": "content", "target": {"name": "t"}, "profile": "p"}],
            "profiles": [{"name": "p", "ramp": [{"permille": 1000}]}],
            "judges": [
                {"name": "errors", "of": "Errors"},
                {"name": "checkout", "of": "Prometheus", "prometheus": {"bad": "bad", "all": "all"}},
            ],
        },
    }))
    .unwrap();
    let gateway: Gateway = serde_json::from_value(json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway", "metadata": {"name": "edge"},
        "spec": {
            "defaultBackend": {"name": "monolith"},
            "routes": [{"name": "content", "match": {"pathPrefix": "/content"}}],
        },
    }))
    .unwrap();
    let profile = profile(&[50, 1000], 10);
    let asked = |plan: &MigrationPlan, second| {
        let mut routes = [route(&profile)];
        read(plan, Some(&gateway), &Prometheus::new(None), &mut routes, at(second));
        routes[0].readings.clone()
    };
    let with = |phase| MigrationPlanStatus {
        routes: vec![RouteStatus { phase, ..under_way() }],
        ..MigrationPlanStatus::default()
    };
    plan.status = Some(with(Phase::Ramp));
    assert!(asked(&plan, 1).is_empty());
    let not_told = BTreeMap::from([("checkout".to_owned(), Err(Trouble::NotTold))]);
    assert_eq!(asked(&plan, 20), not_told);
    plan.status = Some(with(Phase::Done));
    assert!(asked(&plan, 20).is_empty());
}
