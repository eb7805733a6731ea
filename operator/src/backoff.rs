//! How long to leave an object alone that could not be reconciled: 1 s, doubling to 5 min, per object. While it is
//! the API server that fails, to 15 s only: when it is back, nothing else would wake the object.
//! The rule is pure over a map and a moment; [`Backoff`] adds the lock and the jitter.

use kube::runtime::utils::ResetTimerBackoff;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use stomaton_crds::conditions::Reason;

/// Wait after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait when the object itself is the trouble.
const LONGEST: Duration = Duration::from_secs(300);
/// Longest wait when the API server is.
const LONGEST_FOR_API: Duration = Duration::from_secs(15);
/// A failure older than this has no say any more: the object is gone, or its trouble is another one now.
const FORGET: Duration = Duration::from_secs(900);

/// Failures in a row, by UID: an object made anew under the same name starts afresh.
#[derive(Debug, Default)]
struct Failures(HashMap<String, (u32, Instant)>);

impl Failures {
    /// Notes a failure and says how long to wait.
    fn failed(&mut self, uid: &str, reason: Reason, now: Instant) -> Duration {
        self.0.retain(|_, (_, last)| now.duration_since(*last) < FORGET);
        let (count, last) = self.0.entry(uid.to_owned()).or_insert((0, now));
        (*count, *last) = (count.saturating_add(1), now);
        let longest = if reason == Reason::ApiError { LONGEST_FOR_API } else { LONGEST };
        FIRST.saturating_mul(1 << (*count - 1).min(16)).min(longest)
    }

    fn succeeded(&mut self, uid: &str) {
        self.0.remove(uid);
    }
}

/// Failures of all objects of all kinds.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<Failures>);

impl Backoff {
    /// Notes that a pass over `uid` failed and says how long to leave it alone.
    pub fn failed(&self, uid: &str, reason: Reason) -> Duration {
        jittered(self.lock().failed(uid, reason, Instant::now()))
    }

    /// Notes that a pass over `uid` succeeded.
    pub fn succeeded(&self, uid: &str) {
        self.lock().succeeded(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Failures> {
        // A panic elsewhere cannot leave a map half written that matters more than going on.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits of a watch that fails: 0.8 s, doubling to 10 s. What kube takes for it grows to 30 s, and for so long nobody
/// would hear that the API server is back.
pub fn of_watch() -> ResetTimerBackoff<Doubling> {
    // Only a watch that held for two minutes has recovered: one that fails after each list must not list all the time.
    ResetTimerBackoff::new(Doubling(FIRST_OF_WATCH), Duration::from_secs(120))
}

const FIRST_OF_WATCH: Duration = Duration::from_millis(800);
const LONGEST_OF_WATCH: Duration = Duration::from_secs(10);

/// Waits that double; the next one is inside.
pub struct Doubling(Duration);

impl Iterator for Doubling {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST_OF_WATCH);
        Some(jittered(wait))
    }
}

impl kube::runtime::utils::Backoff for Doubling {
    fn reset(&mut self) {
        self.0 = FIRST_OF_WATCH;
    }
}

/// `wait`, a tenth more or less by chance, so that what failed together does not come back together.
pub fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let waits: Vec<u64> = (0..11).map(|_| failures.failed("a", Reason::Invalid, now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        for _ in 0..100 {
            assert_eq!(failures.failed("a", Reason::Invalid, now), LONGEST);
        }
    }

    #[test]
    fn nobody_waits_long_for_an_api_server_that_is_back() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let waits: Vec<u64> = (0..6).map(|_| failures.failed("a", Reason::ApiError, now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 15, 15]);
    }

    #[test]
    fn one_object_does_not_slow_another_and_success_forgets() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        failures.failed("a", Reason::Invalid, now);
        failures.failed("a", Reason::Invalid, now);
        assert_eq!(failures.failed("b", Reason::Invalid, now), FIRST);
        failures.succeeded("a");
        assert_eq!(failures.failed("a", Reason::Invalid, now), FIRST);
    }

    #[test]
    fn objects_that_are_gone_do_not_stay_in_memory() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        failures.failed("gone", Reason::Invalid, now);
        failures.failed("new", Reason::Invalid, now + FORGET);
        assert_eq!(failures.0.keys().collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn a_watch_waits_ten_seconds_at_most() {
        let rounded: Vec<f64> = of_watch().take(7).map(|wait| wait.as_secs_f64()).collect();
        for (wait, about) in rounded.iter().zip([0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]) {
            assert!((wait / about - 1.0).abs() < 0.11, "{rounded:?}");
        }
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        for _ in 0..1000 {
            let wait = jittered(Duration::from_secs(100)).as_secs_f64();
            assert!((90.0..=110.0).contains(&wait), "{wait}");
        }
    }
}
