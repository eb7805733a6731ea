//! How often judges are wrong, and how long they take: traffic that is made up, with seeds, so that the figures are the same
//! in every run.
//!
//! What may be wrong with a probability of at most `p` is found wrong in at most `p` of the runs and four standard
//! deviations of that number: with hardly any seeds would a rule that keeps its promise be above that.

use super::{tests::of, *};
use fastrand::Rng;

/// Seconds from one look to the next.
const LOOK: f64 = 10.0;

/// Counts of a step as they grow, one item a look.
struct Traffic {
    rng: Rng,
    /// Answers of both sides from one look to the next.
    answers: f64,
    /// The service's share of them.
    weight: f64,
    /// The monolith's share of bad answers; it rises and falls by half, and the service's with it.
    bad: f64,
    /// What comes to the service's share.
    worse: fn(f64) -> f64,
    looks: u32,
    pair: Pair,
}

fn traffic(seed: u64, rps: f64, bad: f64, worse: fn(f64) -> f64) -> Traffic {
    let answers = rps * LOOK;
    Traffic { rng: Rng::with_seed(seed), answers, weight: 0.05, bad, worse, looks: 0, pair: Pair::default() }
}

fn as_good(bad: f64) -> f64 {
    bad
}

fn twice_as_bad(bad: f64) -> f64 {
    2.0 * bad
}

impl Traffic {
    /// Exact for means that are not too large for `exp`; takes as many draws as it gives.
    fn poisson(&mut self, mean: f64) -> f64 {
        let (end, mut product, mut n) = ((-mean).exp(), self.rng.f64(), 0.0);
        while product > end {
            product *= self.rng.f64();
            n += 1.0;
        }
        n
    }
}

impl Iterator for Traffic {
    type Item = Pair;

    fn next(&mut self) -> Option<Pair> {
        self.looks += 1;
        let bad = self.bad * (1.0 + 0.5 * (f64::from(self.looks) / 30.0).sin());
        let alone = self.weight >= 1.0;
        let service =
            if alone { self.answers } else { self.poisson(self.answers * self.weight).min(self.answers) };
        let monolith = self.answers - service;
        self.pair.service.bad += self.poisson(service * (self.worse)(bad)).min(service);
        self.pair.monolith.bad += self.poisson(monolith * bad).min(monolith);
        self.pair.service.all += service;
        self.pair.monolith.all += monolith;
        Some(self.pair)
    }
}

/// Asserts that evidence passed what a probability asks for in no more runs than that probability allows.
fn passed_at_most(highest: &[f64], probability: f64) {
    let passed = highest.iter().filter(|nats| **nats >= (1.0 / probability).ln()).count();
    let runs = highest.len() as f64;
    let allowed = runs * probability + 4.0 * (runs * probability * (1.0 - probability)).sqrt();
    assert!(
        passed as f64 <= allowed,
        "{passed} of {runs} at {probability}, no more than {allowed:.0} are allowed"
    );
}

fn highest(evidence: impl Iterator<Item = f64>) -> f64 {
    evidence.fold(f64::NEG_INFINITY, f64::max)
}

/// The verdict of the only judge of a plan.
fn verdict(judge: &Judge, pair: Pair) -> Verdict {
    Weighed::of(judge, Enough::of(&Certainty::default(), 1), pair).verdict
}

/// A day, looked at every 10 s, without an end at Safe: as often as one can be wrong.
#[test]
fn a_service_that_is_as_good_is_rarely_harm() {
    let runs: Vec<f64> = (0..250)
        .map(|seed| {
            let pairs = traffic(seed, 50.0, 0.005, as_good).take(8640);
            highest(pairs.filter(|pair| pair.service.bad >= MIN_BAD).map(|pair| harm(pair, 1.0)))
        })
        .collect();
    [0.01, 0.05, 0.1].iter().for_each(|alpha| passed_at_most(&runs, *alpha));
    let wrong = runs.iter().filter(|nats| **nats >= 100.0_f64.ln()).count();
    // `make bench-plan` reads it.
    println!("false_harm_rate: {}", wrong as f64 / runs.len() as f64);
}

/// Seconds until Harm, in the middle of many runs.
fn median_to_harm(runs: u64, rps: f64, worse: fn(f64) -> f64) -> f64 {
    let judge = of(Bad::Errors);
    let looks = |seed| {
        let found =
            traffic(seed, rps, 0.005, worse).take(5000).position(|p| verdict(&judge, p) == Verdict::Harm);
        found.map_or(5000, |at| at + 1)
    };
    let mut looks: Vec<usize> = (0..runs).map(looks).collect();
    looks.sort_unstable();
    looks[looks.len() / 2] as f64 * LOOK
}

/// Medians that the design was chosen by. In each, the runs are so many that the median cannot be off by a look where a
/// look matters: of a service that is 16 times as bad, 55 % are found by the second look, 22 % by the first.
#[test]
fn harm_is_found_in_the_time_that_was_promised() {
    let near = |expected: f64, found: f64| {
        assert!((found - expected).abs() <= 0.25 * expected, "{found} s instead of {expected} s");
    };
    let (sixteen, two) =
        (median_to_harm(4000, 50.0, |bad| 16.0 * bad), median_to_harm(400, 50.0, twice_as_bad));
    // `make bench-plan` reads these.
    println!("detect_seconds_16x: {sixteen}\ndetect_seconds_2x: {two}");
    near(20.0, sixteen);
    near(100.0, median_to_harm(2000, 50.0, |bad| 5.0 * bad));
    near(830.0, two);
    near(10.0, median_to_harm(1000, 200.0, |bad| 16.0 * bad));
}

/// Just at the margin, and above the absolute bound: each reason for Safe would be wrong.
#[test]
fn a_service_at_its_margin_is_rarely_safe() {
    let judge = Judge { absolute_permille: 1, ..of(Bad::Errors) };
    let pairs = |seed| traffic(seed, 50.0, 0.005, twice_as_bad).take(300);
    let relative: Vec<f64> =
        (0..600).map(|seed| highest(pairs(seed).map(|pair| safe_relative(pair, 2.0)))).collect();
    [0.01, 0.05, 0.1].iter().for_each(|beta| passed_at_most(&relative, *beta));
    // Both reasons at half of the certainty are together no worse than one at all of it.
    let either: Vec<f64> =
        (0..600).map(|seed| highest(pairs(seed).map(|pair| safe(&judge, pair))) - 2.0_f64.ln()).collect();
    passed_at_most(&either, 0.01);
}

#[test]
fn a_service_without_errors_is_safe_in_minutes() {
    let enough = Enough::of(&Certainty::default(), 3);
    for seed in 0..50 {
        let is_safe = |pair: &Pair| Weighed::of(&of(Bad::Errors), enough, *pair).verdict == Verdict::Safe;
        let first = traffic(seed, 50.0, 0.0, as_good).take(100).find(is_safe).unwrap();
        // 371 are enough, and some 25 come between two looks.
        assert!((371.0..450.0).contains(&first.service.all), "{first:?}");
    }
}

/// Two in a hundred of the service are 404, none of the monolith: no error, no delay, but harm.
#[test]
fn answers_of_another_class_are_harm() {
    let enough = Enough::of(&Certainty::default(), 3);
    for seed in 0..50 {
        let is_harm = |pair: Pair| Weighed::of(&of(Bad::ClientErrors), enough, pair).verdict == Verdict::Harm;
        let found = traffic(seed, 50.0, 0.0, |_| 0.02).take(100).position(is_harm).unwrap();
        assert!(found < 60, "after {found} looks");
    }
    let answers = |of: [u64; 2]| {
        let mut counts = Counts { requests: of.iter().sum(), ..Counts::default() };
        (0..of[0]).for_each(|_| counts.mix.count(200, 3));
        (0..of[1]).for_each(|_| counts.mix.count(404, 3));
        counts
    };
    let sides = Sides { service: answers([196, 4]), monolith: answers([3800, 0]) };
    let said = |bad| {
        let judge = of(bad);
        super::judge(&judge, &Certainty::default(), 3, evidence(&judge, sides), Duration::from_secs(80))
            .verdict
    };
    assert_eq!([Bad::ClientErrors, Bad::Errors].map(said), [Verdict::Harm, Verdict::NotYet]);
}

/// Five in a hundred of both: far above the absolute bound, which has no say while there is something to compare.
#[test]
fn a_monolith_that_is_as_bad_is_no_reason_to_go_back() {
    let (judge, enough) = (of(Bad::Errors), Enough::of(&Certainty::default(), 3));
    let mut wrong = Vec::new();
    for seed in 0..200 {
        let pairs: Vec<Pair> = traffic(seed, 50.0, 0.05, as_good).take(200).collect();
        wrong.push(highest(pairs.iter().map(|pair| harm(*pair, 1.0))));
        assert!(pairs.iter().any(|pair| safe_relative(*pair, 2.0) >= enough.safe), "seed {seed}");
        assert!(pairs.iter().all(|pair| safe_absolute(pair.service, 0.02) < enough.safe), "seed {seed}");
    }
    passed_at_most(&wrong, 0.01);
    for hundreds in 1_i32..1000 {
        let exactly = |hundreds: f64| eprocess::Side { all: 100.0 * hundreds, bad: 5.0 * hundreds };
        let pair = Pair { service: exactly(hundreds.into()), monolith: exactly(19.0 * f64::from(hundreds)) };
        assert_ne!(Weighed::of(&judge, enough, pair).verdict, Verdict::Harm);
    }
}

/// The monolith is gone, and the service just at the bound when it is worst.
#[test]
fn a_service_alone_within_its_bound_is_rarely_harm_and_one_above_it_is() {
    let alone =
        |seed: u64, worse: fn(f64) -> f64| Traffic { weight: 1.0, ..traffic(seed, 5.0, 0.02 / 1.5, worse) };
    let judge = of(Bad::Errors);
    let runs: Vec<f64> = (0..300)
        .map(|seed| highest(alone(seed, as_good).take(300).map(|pair| harm_absolute(pair.service, 0.02))))
        .collect();
    passed_at_most(&runs, 0.01);
    for seed in 0..50 {
        let found = alone(seed, |_| 0.08).take(200).position(|pair| verdict(&judge, pair) == Verdict::Harm);
        assert!(found.is_some_and(|at| at < 60), "seed {seed}: {found:?}");
    }
}
