//! What a judge still waits for, in words: how much evidence, how many answers, how long. Pure.

use super::{Enough, MIN_BAD, Pair, Weighed, eprocess::Side, safe, safe_absolute, share};
use std::time::Duration;
use stomaton_crds::v1alpha1::Judge;

/// What takes more answers than this will never come.
const NEVER: f64 = 1e9;

/// What is missing to Safe, and why Harm is not said although there is evidence for it.
pub(super) fn missing(
    judge: &Judge,
    enough: Enough,
    pair: Pair,
    weighed: Weighed,
    elapsed: Duration,
) -> String {
    let service = pair.service;
    if service.all <= 0.0 {
        return "no answer of the service is counted yet".to_owned();
    }
    let factor = |more: f64| (service.all + more) / service.all;
    let way = match least(|more| safe(judge, pair.times(factor(more))) >= enough.safe) {
        Some(more) => coming(service, more, elapsed),
        None => never(judge, enough, pair),
    };
    let has = weighed.safe.max(0.0);
    let harm = if weighed.harm >= enough.harm { innocent(service) } else { "" };
    format!("Safe needs {:.1} nats and has {has:.1}: {way}{harm}", enough.safe)
}

/// How far it is when answers go on as they are.
fn coming(service: Side, more: f64, elapsed: Duration) -> String {
    let shares = if service.bad > 0.0 { "at the present shares of bad ones" } else { "without a bad one" };
    let seconds = more * elapsed.as_secs_f64() / service.all;
    let when = if elapsed.is_zero() {
        String::new()
    } else {
        format!(", about {} at the present rate", lasting(seconds))
    };
    format!("about {:.0} more answers of the service {shares}{when}", rounded(more))
}

/// Why it never gets there when answers go on as they are.
fn never(judge: &Judge, enough: Enough, Pair { service, monolith }: Pair) -> String {
    let bound = share(judge.absolute_permille);
    let good = |more: f64| Side { all: service.all + more, ..service };
    let way_out = least(|more| safe_absolute(good(more), bound) >= enough.safe);
    let way_out = way_out.map_or_else(String::new, |more| {
        format!("; about {:.0} more without a bad one would do", rounded(more))
    });
    let compared =
        if monolith.all > 0.0 { format!(", monolith {}", percent(monolith.share())) } else { String::new() };
    format!(
        "at the present share of bad answers ({}) it never will: absolute bound {}{compared}{way_out}",
        percent(service.share()),
        percent(bound),
    )
}

/// Why there is evidence of harm and no Harm.
fn innocent(service: Side) -> &'static str {
    if service.bad < MIN_BAD {
        "; it seems worse, by too few bad answers to say Harm"
    } else {
        "; it is worse, by no more than is tolerable"
    }
}

/// The least whole number that is enough, from 1; none if that is not to be waited for. What is more than enough has to be
/// enough too: evidence at constant shares is convex in the number of answers and begins at 0, so it is.
fn least(enough: impl Fn(f64) -> bool) -> Option<f64> {
    let (mut low, mut high) = (0.0, 1.0);
    while !enough(high) {
        (low, high) = (high, high * 2.0);
        if high > NEVER {
            return None;
        }
    }
    while high - low > 1.0 {
        let middle = ((low + high) / 2.0_f64).floor();
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}

/// Two digits, upwards: it is an estimate.
fn rounded(n: f64) -> f64 {
    let unit = 10_f64.powf(n.max(10.0).log10().floor() - 1.0);
    (n / unit).ceil() * unit
}

/// Seconds in words.
fn lasting(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{:.0} s", seconds.ceil())
    } else if seconds < 7200.0 {
        format!("{:.0} min", (seconds / 60.0).ceil())
    } else if seconds < 172_800.0 {
        format!("{:.0} h", (seconds / 3600.0).ceil())
    } else {
        format!("{:.0} days", (seconds / 86_400.0).ceil())
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_found() {
        for expected in [1.0, 2.0, 3.0, 4.0, 5.0, 172.0, 65_536.0, 65_537.0] {
            assert_eq!(least(|n| n >= expected), Some(expected));
        }
        assert_eq!(least(|_| false), None);
    }

    #[test]
    fn estimates_have_two_digits() {
        assert_eq!(
            [1.0, 10.0, 99.0, 172.0, 100.0, 1201.0].map(rounded),
            [1.0, 10.0, 99.0, 180.0, 100.0, 1300.0]
        );
        let times = [0.2, 119.5, 120.0, 7199.0, 7200.0, 200_000.0].map(lasting);
        assert_eq!(times, ["1 s", "120 s", "2 min", "120 min", "2 h", "3 days"]);
    }
}
