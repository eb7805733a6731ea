//! When a guard trips: one rule for the operator, which counts all edge pods, and for each of them. Pure.

use crate::{
    edge_state::Stretch,
    v1alpha1::{EdgeGuard, Guard},
};

/// A guard, in numbers that answers are counted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Bad answers it takes at least.
    pub min_bad: u64,
    /// Share of bad answers it takes, in per mille.
    pub bad_permille: u64,
    /// How far back it looks, in microseconds.
    pub window_micros: i64,
}

/// Answers of the service that came together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// When, in microseconds.
    pub at: i64,
    /// All of them.
    pub requests: u64,
    /// Those that hurt.
    pub bad: u64,
}

impl Terms {
    /// Whether the guard trips at `now`: some stretch that ends now and is no longer than the window has enough bad
    /// answers, and enough of its answers are bad. The shortest such stretch says best when the harm began.
    pub fn trip(&self, newest_first: impl IntoIterator<Item = Answers>, now: i64) -> Option<Stretch> {
        let earliest = now.saturating_sub(self.window_micros);
        let mut sum = Stretch::default();
        for Answers { at, requests, bad } in newest_first.into_iter().take_while(|a| a.at >= earliest) {
            (sum.requests, sum.bad) = (sum.requests + requests, sum.bad + bad);
            if sum.bad >= self.min_bad && sum.bad * 1000 >= self.bad_permille * sum.requests {
                return Some(Stretch { over_millis: (now - at) / 1000, ..sum });
            }
        }
        None
    }
}

impl From<&Guard> for Terms {
    fn from(guard: &Guard) -> Self {
        let window = std::time::Duration::from(guard.window).as_micros();
        Self {
            min_bad: guard.min_bad.max(1).unsigned_abs(),
            bad_permille: guard.bad_permille.unsigned_abs(),
            window_micros: i64::try_from(window).unwrap_or(i64::MAX),
        }
    }
}

impl From<&EdgeGuard> for Terms {
    fn from(guard: &EdgeGuard) -> Self {
        Self {
            min_bad: guard.min_bad.max(1).unsigned_abs(),
            bad_permille: guard.bad_permille.unsigned_abs(),
            window_micros: guard.window_millis.saturating_mul(1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_stretch_is_given_and_what_is_older_than_the_window_is_not_looked_at() {
        let terms = Terms { min_bad: 2, bad_permille: 500, window_micros: 1_000_000 };
        let bad = |at| Answers { at, requests: 1, bad: 1 };
        let good = |at| Answers { at, requests: 1, bad: 0 };
        let now = 2_000_000;
        let found = terms.trip([good(now), bad(1_900_000), bad(1_800_000), bad(1_100_000)], now);
        assert_eq!(found, Some(Stretch { bad: 2, requests: 3, over_millis: 200 }));
        assert_eq!(terms.trip([bad(now), bad(999_999)], now), None);
        assert_eq!(terms.trip([bad(now), good(now), good(now), good(now), bad(now)], now), None);
    }

    #[test]
    fn a_guard_never_trips_without_a_bad_answer() {
        let terms = Terms::from(&EdgeGuard { min_bad: 0, bad_permille: 0, window_millis: i64::MAX });
        assert_eq!(terms.trip([Answers { at: 0, requests: 9, bad: 0 }], 0), None);
        assert!(terms.trip([Answers { at: 0, requests: 9, bad: 1 }], 0).is_some());
    }
}
