//! What judges say of a service, by what was counted of it and of the monolith in the present step. Pure.
//!
//! - [`eprocess`]: how much evidence there is
//! - `missing`: what a judge still waits for, in words
//! - this file: which answers are bad, and when evidence is enough
//!
//! A verdict follows from the counts of the present step alone, so whoever reads the status can work it out again. Counts
//! begin anew with each step, and with each operator.
//!
//! Decided here:
//! - Judges share the certainty of the plan: with three of them, each has a third of it. Each splits its part of Safe
//!   between "not worse than the monolith" and "below the absolute bound", for it takes whichever comes first.
//! - Where the monolith no longer answers, nothing can be compared. Then, and only then (see `alone`), Harm is a share of
//!   bad answers that is surely above the absolute bound. While the monolith answers and is as bad, it is not the
//!   service's fault, and no reason to go back.
//! - Evidence is not tempered. Bad answers that come in bursts on one side weigh more than they should, but totals do not
//!   show bursts, so a factor would only be a guess that makes every verdict late. With bursts of 10 s whose size has a
//!   variance of 0.5, 1 and 2 times its mean squared, a nominal 1 % of false Harm becomes about 1 %, 3 % and 5 %. What
//!   stands beside evidence bounds what that does: nothing is Harm within the tolerable share, or by fewer than
//!   [`MIN_BAD`] answers.

pub mod eprocess;
mod missing;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use eprocess::{Pair, harm, harm_absolute, safe_absolute, safe_relative};
use std::time::Duration;
use stomaton_crds::{
    edge_state::{Counts, LATENCY_BOUNDS_MS, Sides},
    v1alpha1::{Bad, Certainty, Evidence, Judge, JudgeStatus, Verdict},
};

/// Bad answers of the service that Harm takes at least. While its weight is small, fewer are chance, however much evidence
/// they seem.
pub const MIN_BAD: f64 = 3.0;
/// Answers of the service before the monolith's silence means that it has no part in the route any more. With a weight of
/// 950 per mille it has fewer than 1 for 100 of them by chance once in 50 000 times.
const SILENCE_AFTER: f64 = 300.0;
/// Answers of the service for each of the monolith from which on the monolith counts as gone. A few come late, of
/// requests that were on their way when the weight changed.
const SILENCE_SHARE: f64 = 100.0;
/// Bad answers that the monolith would have given at the absolute bound. With that many, comparison itself can speak
/// against a service that is above the bound: it gains about one nat for each that the monolith does not give.
const COMPARABLE: f64 = 10.0;
/// What is slow when a judge does not say; the schema makes it say so.
const SLOW: Duration = Duration::from_secs(1);

/// Answers that are bad to this judge.
pub fn bad(judge: &Judge, counts: Counts) -> u64 {
    match judge.of {
        Bad::Errors => counts.bad,
        Bad::ClientErrors => counts.mix.classes[3],
        Bad::Redirects => counts.mix.classes[2],
        Bad::Slow => sum(&counts.mix.latency[last_in_time(judge) + 1..]),
        // Nothing that the edge counts.
        Bad::Prometheus => 0,
    }
}

/// What was counted, as this judge sees it.
pub fn evidence(judge: &Judge, Sides { monolith, service }: Sides) -> Evidence {
    let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Evidence {
        requests: int(known(judge, service)),
        bad: int(bad(judge, service)),
        monolith_requests: int(known(judge, monolith)),
        monolith_bad: int(bad(judge, monolith)),
    }
}

/// What the judge says, one of `judges` of the plan, of what was counted in `elapsed`. What was left out is not its to
/// say.
pub fn judge(
    judge: &Judge,
    certainty: &Certainty,
    judges: usize,
    evidence: Evidence,
    elapsed: Duration,
) -> JudgeStatus {
    let (enough, pair) = (Enough::of(certainty, judges), Pair::from(evidence));
    let weighed = Weighed::of(judge, enough, pair);
    let missing = match weighed.verdict {
        Verdict::NotYet => missing::missing(judge, enough, pair, weighed, elapsed),
        Verdict::Safe | Verdict::Harm => String::new(),
    };
    JudgeStatus {
        name: judge.name.clone(),
        verdict: weighed.verdict,
        counted: evidence,
        harm_millinats: millinats(weighed.harm),
        safe_millinats: millinats(weighed.safe),
        missing,
        ..JudgeStatus::default()
    }
}

/// The last bucket of what is not slow. A bound that the edge does not count by takes the next lower one; there is none
/// below the lowest.
fn last_in_time(judge: &Judge) -> usize {
    let bound = judge.slower_than.map_or(SLOW, Duration::from);
    LATENCY_BOUNDS_MS.iter().rposition(|ms| Duration::from_millis(*ms) <= bound).unwrap_or(0)
}

/// Answers of which this judge can tell whether they are bad: an older agent does not say what they were like, and what is
/// not known is not good.
fn known(judge: &Judge, counts: Counts) -> u64 {
    match judge.of {
        Bad::Errors => counts.requests,
        Bad::ClientErrors | Bad::Redirects | Bad::Slow => {
            sum(&counts.mix.latency).max(sum(&counts.mix.classes))
        }
        Bad::Prometheus => 0,
    }
}

fn sum(counters: &[u64]) -> u64 {
    counters.iter().fold(0, |sum, n| sum.saturating_add(*n))
}

/// How much evidence is enough for one judge, in nats.
#[derive(Clone, Copy, Debug)]
struct Enough {
    harm: f64,
    safe: f64,
}

impl Enough {
    fn of(certainty: &Certainty, judges: usize) -> Self {
        let judges = judges.max(1) as f64;
        let nats = |permille, ways: f64| (ways / share(permille)).ln();
        Self {
            harm: nats(certainty.false_harm_permille, judges),
            safe: nats(certainty.false_safe_permille, 2.0 * judges),
        }
    }
}

/// A share in per mille, as a number between 0 and 1 and neither of them.
fn share(permille: i32) -> f64 {
    f64::from(permille.clamp(1, 999)) / 1000.0
}

/// Evidence, in nats, and what follows from it.
#[derive(Clone, Copy, Debug)]
struct Weighed {
    harm: f64,
    safe: f64,
    verdict: Verdict,
}

impl Weighed {
    fn of(judge: &Judge, enough: Enough, pair: Pair) -> Self {
        let bound = share(judge.absolute_permille);
        let harm = if alone(pair, bound) { harm_absolute(pair.service, bound) } else { harm(pair, 1.0) };
        let safe = safe(judge, pair);
        let verdict = if harm >= enough.harm && matters(judge, pair) {
            Verdict::Harm
        } else if safe >= enough.safe {
            Verdict::Safe
        } else {
            Verdict::NotYet
        };
        Self { harm, safe, verdict }
    }
}

/// The better of the two reasons to call the service safe.
fn safe(judge: &Judge, pair: Pair) -> f64 {
    let margin = f64::from(judge.safe_margin_permille.max(1001)) / 1000.0;
    safe_relative(pair, margin).max(safe_absolute(pair.service, share(judge.absolute_permille)))
}

/// Whether it would hurt anybody if it were true that the service is worse.
fn matters(judge: &Judge, pair: Pair) -> bool {
    let tolerable = f64::from(judge.tolerable_permille) / 1000.0;
    pair.service.bad >= MIN_BAD && pair.service.share() > tolerable
}

/// Whether the monolith has no part in the route any more, so that nothing can be compared: it gave fewer than 1 answer
/// for 100 of at least 300 of the service, and so few that it could not have shown that it is better. At weights of 990
/// per mille and more a monolith that is as bad may so be taken for gone.
fn alone(Pair { service, monolith }: Pair, bound: f64) -> bool {
    service.all >= SILENCE_AFTER
        && monolith.all * SILENCE_SHARE < service.all
        && monolith.all * bound < COMPARABLE
}

/// In thousandths, and no further than anybody cares.
fn millinats(nats: f64) -> i64 {
    (nats * 1000.0).round().clamp(-1e9, 1e9) as i64
}
