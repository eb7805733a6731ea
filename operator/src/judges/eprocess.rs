//! Evidence that may be looked at as often as one likes. Pure.
//!
//! Each function gives the natural logarithm of an e-value: while what it speaks against is true, it passes ln(1/a) at
//! any look whatever with a probability of at most a. Two kinds:
//! - Attribution. Of all bad answers, how many are the service's, given its share of the traffic? If the service were
//!   `r` times as bad as the monolith, each bad answer would be the service's with odds `r * n1 : n0`. What both sides
//!   have in common (day and night, a database that is slow) drops out: only the split is tested.
//! - Absolute. How many answers of the service are bad, against a bound?
//!
//! Both take totals, not windows. Bad answers are attributed by the share of traffic over the whole step, so that share
//! must not change within one: counts of different weights, or of audiences with weights of their own, are not to be
//! put together. Exact for rare bad answers; when they are frequent, the tests are slower than they could be, and no
//! less safe: the split of a given number of bad answers then varies less than is reckoned with.

use stomaton_crds::v1alpha1::Evidence;

/// How much worse a service may be that Harm looks for. No one of them has to be right: evidence is the mean over all.
const WORSE: [f64; 6] = [1.5, 2.0, 3.0, 5.0, 10.0, 20.0];
/// How far below an absolute bound a service may be that Safe looks for.
const BELOW: [f64; 4] = [0.05, 0.1, 0.25, 0.5];

/// Answers of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Side {
    /// All of them.
    pub all: f64,
    /// Those that are bad, no more than all.
    pub bad: f64,
}

/// Answers of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// Of the service.
    pub service: Side,
    /// Of the monolith.
    pub monolith: Side,
}

impl Side {
    fn of(all: i64, bad: i64) -> Self {
        let all = all.max(0);
        Self { all: all as f64, bad: bad.clamp(0, all) as f64 }
    }

    /// Share of bad answers; 0 of none.
    pub fn share(self) -> f64 {
        if self.all > 0.0 { self.bad / self.all } else { 0.0 }
    }

    fn times(self, factor: f64) -> Self {
        Self { all: self.all * factor, bad: self.bad * factor }
    }
}

impl Pair {
    /// What will have been counted when it is so many times as much, at the present shares.
    pub fn times(self, factor: f64) -> Self {
        Self { service: self.service.times(factor), monolith: self.monolith.times(factor) }
    }

    /// The service's share of all answers; none when one side has not answered, and nothing can be compared.
    fn split(self) -> Option<f64> {
        let both = self.service.all > 0.0 && self.monolith.all > 0.0;
        both.then(|| self.service.all / (self.service.all + self.monolith.all))
    }

    fn bad(self) -> f64 {
        self.service.bad + self.monolith.bad
    }
}

impl From<Evidence> for Pair {
    fn from(evidence: Evidence) -> Self {
        let Evidence { requests, bad, monolith_requests, monolith_bad } = evidence;
        Self { service: Side::of(requests, bad), monolith: Side::of(monolith_requests, monolith_bad) }
    }
}

/// Against "the service is at most `margin` times as bad as the monolith". 0 while one side has not answered.
pub fn harm(pair: Pair, margin: f64) -> f64 {
    let Some(theta) = pair.split() else { return 0.0 };
    let null = (theta * (margin - 1.0)).ln_1p();
    mean(WORSE.map(|r| {
        let worse = (theta * (r * margin - 1.0)).ln_1p();
        pair.service.bad * r.ln() + pair.bad() * (null - worse)
    }))
}

/// Against "at most a share of `bound` is bad": looks for odds that are so many times as high, so that no alternative is
/// a share above 1.
pub fn harm_absolute(service: Side, bound: f64) -> f64 {
    mean(WORSE.map(|r| service.bad * r.ln() - service.all * (bound * (r - 1.0)).ln_1p()))
}

/// Against "the service is at least `margin` times as bad as the monolith"; looks for one that is as good. It lives on
/// bad answers of the monolith: without any it says nothing. 0 while one side has not answered.
pub fn safe_relative(pair: Pair, margin: f64) -> f64 {
    let Some(theta) = pair.split() else { return 0.0 };
    pair.bad() * (theta * (margin - 1.0)).ln_1p() - pair.service.bad * margin.ln()
}

/// Against "at least a share of `bound` is bad", whatever the monolith does.
pub fn safe_absolute(service: Side, bound: f64) -> f64 {
    let good = service.all - service.bad;
    mean(BELOW.map(|f| service.bad * f.ln() + good * ((-f * bound).ln_1p() - (-bound).ln_1p())))
}

/// Logarithm of the mean of what these are logarithms of.
fn mean<const N: usize>(logs: [f64; N]) -> f64 {
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logs.iter().map(|log| (log - top).exp()).sum();
    top + (sum / N as f64).ln()
}
