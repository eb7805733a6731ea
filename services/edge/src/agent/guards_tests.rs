//! Guards against simulated users: what must be found is, and nothing is found where nothing hurts.

use super::*;
use proptest::prelude::*;

const ROUTE: &str = "00000000000000aa";
/// A second.
const S: i64 = 1_000_000;

fn weights(attempt: i32, permille: i32) -> RouteWeights {
    let permille = [("public".to_owned(), permille)].into();
    RouteWeights { permille, latched: false, attempt, step: 1 }
}

fn guard() -> EdgeGuard {
    EdgeGuard { min_bad: 5, bad_permille: 200, window_millis: 10_000 }
}

/// A route with its counters, looked at as time goes by.
struct Edge {
    guards: Guards,
    weights: RouteWeights,
    counters: BTreeMap<String, Sides>,
    now: i64,
}

impl Edge {
    fn new(permille: i32) -> Self {
        let counters = BTreeMap::from([("public".to_owned(), Sides::default())]);
        let mut edge = Self { guards: Guards::default(), weights: weights(1, permille), counters, now: 0 };
        assert_eq!(edge.look(), []);
        edge
    }

    fn look(&mut self) -> Vec<Finding> {
        let (guards, counters) = (&[guard()], Some(&self.counters));
        self.guards.look(self.now, [Armed { route: ROUTE, weights: &self.weights, guards, counters }])
    }

    /// What comes within `micros`, and is found then.
    fn after(&mut self, micros: i64, service: (u64, u64), monolith: u64) -> Vec<Finding> {
        self.now += micros;
        let sides = self.counters.get_mut("public").unwrap();
        sides.service.requests += service.0;
        sides.service.bad += service.1;
        sides.monolith.requests += monolith;
        self.look()
    }
}

fn whys(findings: &[Finding]) -> Vec<Why> {
    findings.iter().map(|finding| finding.why).collect()
}

#[test]
fn a_bad_share_is_found_whatever_came_before() {
    let mut edge = Edge::new(500);
    assert_eq!(edge.after(S, (1000, 0), 1000), []);
    assert_eq!(edge.after(S, (20, 4), 20), []);
    let found = edge.after(S / 10, (1, 1), 0);
    let counted = Stretch { bad: 5, requests: 21, over_millis: 100 };
    assert_eq!(found, [Finding { route: ROUTE.into(), attempt: 1, why: Why::BadShare, counted }]);
}

#[test]
fn what_came_before_an_attempt_says_nothing_about_it() {
    let mut edge = Edge::new(500);
    assert_eq!(whys(&edge.after(S, (9, 9), 9)), [Why::BadShare]);
    edge.weights = weights(2, 500);
    assert_eq!(edge.after(S, (4, 4), 0), [], "the first look at an attempt is only a beginning");
    assert_eq!(whys(&edge.after(S, (4, 4), 0)), [Why::NoEndpoints]);
    assert_eq!(whys(&edge.after(S, (1, 1), 0)), [Why::BadShare]);
    // Nobody on the service, and then again: what is not armed is forgotten.
    edge.guards.look(edge.now, []);
    assert_eq!(edge.look(), []);
}

#[test]
fn a_service_that_only_fails_is_suspected_before_it_is_many_answers() {
    let mut edge = Edge::new(10);
    assert_eq!(edge.after(S, (1, 1), 99), [], "one is none");
    let found = edge.after(S, (1, 1), 99);
    let counted = Stretch { bad: 2, requests: 2, over_millis: 1000 };
    assert_eq!(found, [Finding { route: ROUTE.into(), attempt: 1, why: Why::NoEndpoints, counted }]);
    assert_eq!(edge.after(S / 10, (1, 0), 0), [], "somebody answers");
}

#[test]
fn bad_answers_in_turn_are_so_however_soon_they_follow_a_good_one() {
    let mut edge = Edge::new(1000);
    assert_eq!(edge.after(S, (1, 0), 0), []);
    assert_eq!(edge.after(1, (1, 1), 0), []);
    assert_eq!(whys(&edge.after(1, (1, 1), 0)), [Why::NoEndpoints]);
    assert_eq!(edge.after(1, (1, 0), 0), []);
}

#[test]
fn a_service_that_hangs_is_suspected() {
    for permille in [100, 500, 1000] {
        let mut edge = Edge::new(permille);
        let service = u64::try_from(permille).unwrap() / 10;
        for _ in 0..10 {
            assert_eq!(edge.after(S, (service, 0), 100 - service), []);
        }
        let mut hung = 0;
        let found = loop {
            hung += 1;
            assert!(hung <= 6, "not found at {permille}");
            let found = edge.after(S, (0, 0), 100 - service);
            if !found.is_empty() {
                break found;
            }
        };
        assert_eq!(whys(&found), [Why::MissingAnswers], "at {permille}, after {hung} s");
        assert!(found[0].counted.bad >= EXPECTED);
    }
}

#[test]
fn one_that_hangs_from_the_start_is_suspected_too() {
    let mut edge = Edge::new(500);
    let found = (0..6).map(|_| edge.after(S, (0, 0), 50)).find(|found| !found.is_empty()).unwrap();
    assert_eq!(whys(&found), [Why::MissingAnswers]);
}

/// Numbers that look like chance and are the same each time.
struct Chance(u64);

impl Chance {
    /// One of `0..n`.
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Users who stay on their side, some of whom ask ten times as often as others, who come and go, at any weight and
    /// at any load: nothing is found, not even a suspicion, while nothing is bad.
    #[test]
    fn nothing_is_found_where_nothing_hurts(seed: u64, permille in 200..=1000_i32, load in 1..4_u64) {
        let mut chance = Chance(seed);
        let mut edge = Edge::new(permille);
        let user = |chance: &mut Chance| {
            let eager = if chance.below(10) == 0 { 10 } else { 1 };
            (chance.below(1000) < u64::try_from(permille).unwrap_or(0), eager)
        };
        let mut users: Vec<(bool, u64)> = (0..500).map(|_| user(&mut chance)).collect();
        for _ in 0..300 {
            let (mut service, mut monolith) = (0, 0);
            for (on_service, eager) in &users {
                let asks = u64::from(chance.below(50) < load * eager);
                if *on_service { service += asks } else { monolith += asks }
            }
            let leaves = usize::try_from(chance.below(500)).unwrap();
            users[leaves] = user(&mut chance);
            let found = edge.after(S / 5, (service, 0), monolith);
            prop_assert!(found.is_empty(), "{:?} after {} s", found, edge.now / S);
        }
    }

    /// Whatever is counted: without a bad answer nothing is certain, and nobody is taken for gone.
    #[test]
    fn without_a_bad_answer_nothing_is_certain(
        steps in prop::collection::vec((1..3_000_000_i64, 0..200_u64, 0..200_u64, 0..=1000_i32, 1..3_i32), 1..60),
    ) {
        let mut edge = Edge::new(500);
        for (micros, service, monolith, permille, attempt) in steps {
            edge.weights = weights(attempt, permille);
            for finding in edge.after(micros, (service, 0), monolith) {
                prop_assert_eq!(finding.why, Why::MissingAnswers);
                prop_assert!(finding.counted.bad >= EXPECTED / 2);
            }
        }
    }

    /// A service that fails one answer in two, at any weight that gives it some: found within 60 of its answers.
    #[test]
    fn harm_is_found_soon(seed: u64, permille in 10..=1000_u64) {
        let mut chance = Chance(seed);
        let mut edge = Edge::new(i32::try_from(permille).unwrap());
        let mut answers = 0;
        loop {
            let on_service = chance.below(1000) < permille;
            let bad = on_service && chance.below(2) == 0;
            answers += u64::from(on_service);
            let found = edge.after(S / 1000, (u64::from(on_service), u64::from(bad)), u64::from(!on_service));
            if found.iter().any(|finding| finding.why == Why::BadShare) {
                break;
            }
            prop_assert!(answers < 60, "{} answers of the service", answers);
        }
    }
}
