//! Counts per route over all edge pods, and whether a guard is breached. Pure: time comes in.

use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, VecDeque};
use stomaton_crds::{
    edge_state::{EdgeState, Sides, Stretch},
    guard::{Answers, Terms},
    v1alpha1::Guard,
};

/// Answers that came within this many microseconds are kept as one entry, so that a window of any length stays small.
const GRAIN_MICROS: i64 = 20_000;
/// How far back answers are kept. A guard that looks back further sees this much.
const KEEP_MICROS: i64 = 600 * 1_000_000;

/// Why a guard tripped, with the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Name of the guard.
    pub guard: String,
    /// Bad answers of the service in the stretch that tripped it.
    pub bad: u64,
    /// All answers of the service in that stretch.
    pub requests: u64,
    /// Length of that stretch, in milliseconds.
    pub over_ms: i64,
    /// When it was seen.
    pub at: Timestamp,
    /// The edge pod that took the route back before anybody here did; none: the guard is ours.
    pub reported_by: Option<String>,
}

/// Counts per route, summed over pods and over the boots of their agents.
#[derive(Default)]
pub struct Tally {
    /// Last counters of each pod, to make differences of.
    last: HashMap<String, LastLine>,
    routes: HashMap<String, RouteTally>,
}

#[derive(Default)]
struct LastLine {
    boot: String,
    counters: BTreeMap<String, ByAudience>,
}

/// Answers of both sides, by audience.
pub type ByAudience = BTreeMap<String, Sides>;

#[derive(Default)]
struct RouteTally {
    totals: ByAudience,
    /// Answers of the service by time, oldest first, at most one entry a grain.
    recent: VecDeque<(i64, Recent)>,
}

/// The part of [`Counts`] that guards look at: there are many of these.
#[derive(Clone, Copy, Default)]
struct Recent {
    requests: u64,
    bad: u64,
}

impl Recent {
    fn add(&mut self, requests: u64, bad: u64) {
        self.requests += requests;
        self.bad += bad;
    }
}

impl Tally {
    /// Counts what came since the pod's last line. A new boot begins at zero, so all of its line is new; the first
    /// line of a pod ever seen is only a beginning: what it counted earlier was judged by whoever was there.
    pub fn record(&mut self, pod: &str, state: &EdgeState, now: Timestamp) {
        let first = !self.last.contains_key(pod);
        let last = self.last.entry(pod.to_owned()).or_default();
        if last.boot != state.boot {
            *last = LastLine { boot: state.boot.clone(), counters: BTreeMap::new() };
        }
        for (route, audiences) in &state.counters {
            let before = last.counters.entry(route.clone()).or_default();
            // Who is seen for the first time has a beginning only.
            let tally = (!first).then(|| self.routes.entry(route.clone()).or_default());
            let news = audiences.iter().map(|(audience, sides)| {
                let before = before.insert(audience.clone(), *sides).unwrap_or_default();
                (audience, since(*sides, before))
            });
            match tally {
                Some(tally) => tally.record(news, now),
                None => news.for_each(drop),
            }
        }
        // A route that is gone from the line is gone from the edge.
        last.counters.retain(|route, _| state.counters.contains_key(route));
    }

    /// Drops what is known of a pod that is gone; what it counted stays counted.
    pub fn forget(&mut self, pod: &str) {
        self.last.remove(pod);
    }

    /// Everything counted for a route.
    pub fn totals(&self, route: &str) -> ByAudience {
        self.routes.get(route).map(|r| r.totals.clone()).unwrap_or_default()
    }

    /// Whether `guard` is breached by answers that came after `from`: see [`Terms::trip`].
    pub fn breach(&self, route: &str, guard: &Guard, from: Timestamp, now: Timestamp) -> Option<Breach> {
        let answers =
            |(at, counts): &(i64, Recent)| Answers { at: *at, requests: counts.requests, bad: counts.bad };
        let recent = self.routes.get(route)?.recent.iter().rev().map(answers);
        let since = recent.take_while(|answers| answers.at >= from.as_microsecond());
        let Stretch { bad, requests, over_millis } = Terms::from(guard).trip(since, now.as_microsecond())?;
        let guard = guard.name.clone();
        Some(Breach { guard, bad, requests, over_ms: over_millis, at: now, reported_by: None })
    }
}

impl RouteTally {
    fn record<'a>(&mut self, news: impl Iterator<Item = (&'a String, Sides)>, now: Timestamp) {
        let (mut requests, mut bad) = (0, 0);
        for (audience, new) in news {
            let total = self.totals.entry(audience.clone()).or_default();
            *total = sum(*total, new);
            (requests, bad) = (requests + new.service.requests, bad + new.service.bad);
        }
        if (requests, bad) == (0, 0) {
            return;
        }
        let now = now.as_microsecond();
        match self.recent.back_mut() {
            Some((at, recent)) if now - *at < GRAIN_MICROS => recent.add(requests, bad),
            _ => self.recent.push_back((now, Recent { requests, bad })),
        }
        while self.recent.front().is_some_and(|(at, _)| now - at > KEEP_MICROS) {
            self.recent.pop_front();
        }
    }
}

/// Both sides together.
pub fn sum(a: Sides, b: Sides) -> Sides {
    Sides { monolith: a.monolith + b.monolith, service: a.service + b.service }
}

/// What came since `earlier`.
pub fn since(sides: Sides, earlier: Sides) -> Sides {
    Sides { monolith: sides.monolith.since(earlier.monolith), service: sides.service.since(earlier.service) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stomaton_crds::edge_state::Counts;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000 + millis).unwrap()
    }

    fn line(boot: &str, requests: u64, bad: u64) -> EdgeState {
        let counts = |requests, bad| Counts { requests, bad, ..Counts::default() };
        let sides = Sides { service: counts(requests, bad), monolith: counts(2 * requests, 0) };
        EdgeState {
            boot: boot.into(),
            counters: [("r".to_owned(), [("public".to_owned(), sides)].into())].into(),
            ..EdgeState::default()
        }
    }

    fn guard(min_bad: i64, bad_permille: i64, window_ms: u64) -> Guard {
        let window = std::time::Duration::from_millis(window_ms).into();
        Guard { name: "g".into(), min_bad, bad_permille, window }
    }

    /// A tally that has seen each pod once, with nothing counted.
    fn tally(pods: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for pod in pods {
            tally.record(pod, &line("b", 0, 0), at(-10_000));
        }
        tally
    }

    #[test]
    fn bad_answers_of_all_pods_are_summed() {
        let mut tally = tally(&["p1", "p2"]);
        tally.record("p1", &line("b", 3, 3), at(0));
        assert_eq!(tally.breach("r", &guard(5, 200, 1000), at(-5000), at(0)), None);
        tally.record("p2", &line("b", 2, 2), at(100));
        let breach = tally.breach("r", &guard(5, 200, 1000), at(-5000), at(100)).unwrap();
        assert_eq!((breach.bad, breach.requests), (5, 5));
    }

    #[test]
    fn a_long_good_past_does_not_hide_a_bad_present() {
        let mut tally = tally(&["p"]);
        for i in 1..=100 {
            tally.record("p", &line("b", i * 100, 0), at(i64::try_from(i).unwrap() * 50));
        }
        tally.record("p", &line("b", 10_010, 5), at(5_100));
        let breach = tally.breach("r", &guard(5, 200, 10_000), at(-5000), at(5_100)).unwrap();
        assert_eq!((breach.bad, breach.requests), (5, 10));
    }

    #[test]
    fn answers_before_the_attempt_do_not_count() {
        let mut tally = tally(&["p"]);
        tally.record("p", &line("b", 9, 9), at(0));
        assert!(tally.breach("r", &guard(5, 200, 10_000), at(-1), at(10)).is_some());
        assert_eq!(tally.breach("r", &guard(5, 200, 10_000), at(1), at(10)), None);
    }

    #[test]
    fn a_restarted_agent_is_counted_from_zero_and_never_twice() {
        let mut tally = tally(&["p"]);
        tally.record("p", &line("b", 10, 1), at(0));
        tally.record("p", &line("b2", 4, 1), at(10));
        tally.record("p", &line("b2", 4, 1), at(20));
        let Sides { service, monolith } = tally.totals("r")["public"];
        assert_eq!([service, monolith].map(|counts| (counts.requests, counts.bad)), [(14, 2), (28, 0)]);
    }

    #[test]
    fn the_first_line_of_a_pod_is_only_a_beginning() {
        let mut tally = Tally::default();
        tally.record("p", &line("b", 1000, 900), at(0));
        assert_eq!(tally.breach("r", &guard(5, 200, 10_000), at(-5000), at(0)), None);
        assert!(tally.totals("r").is_empty());
    }

    proptest! {
        /// The scan over grains agrees with looking at every stretch of single answers that ends now, as long as
        /// answers are further apart than a grain.
        #[test]
        fn a_breach_is_what_the_definition_says(bads in prop::collection::vec(any::<bool>(), 1..60), min_bad in 1i64..6, permille in 1i64..1000) {
            let mut tally = tally(&["p"]);
            let (mut requests, mut bad) = (0, 0);
            for (i, is_bad) in bads.iter().enumerate() {
                requests += 1;
                bad += u64::from(*is_bad);
                tally.record("p", &line("b", requests, bad), at(i64::try_from(i).unwrap() * 25));
            }
            let expected = (1..=bads.len()).any(|n| {
                let stretch = &bads[bads.len() - n..];
                let bad = stretch.iter().filter(|b| **b).count();
                bad >= usize::try_from(min_bad).unwrap() && bad * 1000 >= usize::try_from(permille).unwrap() * n
            });
            let now = at(i64::try_from(bads.len() - 1).unwrap() * 25);
            prop_assert_eq!(tally.breach("r", &guard(min_bad, permille, 600_000), at(-5000), now).is_some(), expected);
        }
    }
}
