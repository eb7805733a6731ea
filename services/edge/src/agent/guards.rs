//! Whether this pod has to take a route back by itself, from what it alone has counted. Pure: time, counters and
//! weights come in.
//!
//! | guard | found when |
//! |---|---|
//! | `BadShare` | a guard of the plan trips, by the rule that the operator has too |
//! | `NoEndpoints` | the last answers of the service were bad, at least two in turn |
//! | `MissingAnswers` | far fewer answers are of the service than its weight says, or there were some and now are none |
//!
//! The first is certain. The other two are suspicions: a service that nobody asks gives no answers either, and weights
//! are shares of users, who do not ask equally often. Whoever looks at the service itself decides ([`super::guarding`]).

use std::collections::{BTreeMap, VecDeque};
use stomaton_crds::edge_state::{Sides, Stretch, Why};
use stomaton_crds::guard::{Answers, Terms};
use stomaton_crds::v1alpha1::{EdgeGuard, RouteWeights};

/// Answers that came within this many microseconds are one entry.
const GRAIN: i64 = 20_000;
/// How far back answers are looked at, at most.
const MOST: i64 = 600_000_000;
/// The last answers, when none of them was good, of a service that may be gone.
const GONE: Terms = Terms { min_bad: 2, bad_permille: 1000, window_micros: 10_000_000 };
/// Over which answers have to be missing.
const SILENCE: i64 = 5_000_000;
/// Answers that should have come meanwhile, at least.
const EXPECTED: u64 = 20;
/// Missing is what came to less than one of so many that should have come.
const FAR_BELOW: u64 = 8;

/// A route that the service may answer, and what was counted of it so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed<'a> {
    /// Its identity.
    pub(super) route: &'a str,
    /// What is in force of it.
    pub(super) weights: &'a RouteWeights,
    /// Guards of the plan.
    pub(super) guards: &'a [EdgeGuard],
    /// Counters by audience; they only grow.
    pub(super) counters: Option<&'a BTreeMap<String, Sides>>,
}

/// What was found of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The route.
    pub(super) route: String,
    /// The attempt that hurts.
    pub(super) attempt: i32,
    /// Which guard.
    pub(super) why: Why,
    /// The numbers.
    pub(super) counted: Stretch,
}

fn all_bad(Answers { requests, bad, .. }: Answers) -> bool {
    requests > 0 && bad == requests
}

/// What is remembered of routes that are armed.
#[derive(Debug, Default)]
pub(super) struct Guards(BTreeMap<String, Watched>);

#[derive(Debug)]
struct Watched {
    attempt: i32,
    since: i64,
    /// Counters at the last look.
    last: BTreeMap<String, Sides>,
    /// What came, oldest first.
    recent: VecDeque<Came>,
}

#[derive(Clone, Copy, Debug)]
struct Came {
    /// Of the service.
    answers: Answers,
    /// Answers that should have been the service's by the weight in force, in thousandths.
    expected_milli: u64,
}

impl Guards {
    /// Counts what came of these routes up to `now`, in microseconds, and judges it. What is no longer armed, or armed
    /// in another attempt, begins anew: nothing that came before counts.
    pub(super) fn look<'a>(&mut self, now: i64, armed: impl IntoIterator<Item = Armed<'a>>) -> Vec<Finding> {
        let mut before = std::mem::take(&mut self.0);
        let mut findings = Vec::new();
        for armed in armed {
            let same = |watched: &Watched| watched.attempt == armed.weights.attempt;
            let watched = before.remove(armed.route).filter(same);
            let mut watched = watched.unwrap_or_else(|| Watched::new(&armed, now));
            watched.count(&armed, now);
            findings.extend(watched.judge(&armed, now));
            self.0.insert(armed.route.to_owned(), watched);
        }
        findings
    }
}

impl Watched {
    fn new(armed: &Armed<'_>, now: i64) -> Self {
        let last = armed.counters.cloned().unwrap_or_default();
        Self { attempt: armed.weights.attempt, since: now, last, recent: VecDeque::new() }
    }

    fn count(&mut self, armed: &Armed<'_>, now: i64) {
        let mut came = Came { answers: Answers { at: now, ..Answers::default() }, expected_milli: 0 };
        for (audience, sides) in armed.counters.into_iter().flatten() {
            let before = self.last.get(audience).copied().unwrap_or_default();
            if *sides == before {
                continue;
            }
            let service = sides.service.since(before.service);
            let all = service.requests + sides.monolith.since(before.monolith).requests;
            came.answers.requests += service.requests;
            came.answers.bad += service.bad;
            let permille = armed.weights.effective(audience).clamp(0, 1000);
            came.expected_milli += all * u64::from(permille.unsigned_abs());
            self.last.insert(audience.clone(), *sides);
        }
        if came.answers.requests == 0 && came.expected_milli == 0 {
            return;
        }
        // Bad answers in turn are told from the good ones before them, however soon they came.
        let turned = |last: &Came| all_bad(came.answers) && !all_bad(last.answers);
        match self.recent.back_mut() {
            Some(last) if now - last.answers.at < GRAIN && !turned(last) => {
                last.answers.requests += came.answers.requests;
                last.answers.bad += came.answers.bad;
                last.expected_milli += came.expected_milli;
            }
            _ => self.recent.push_back(came),
        }
        let looked_at = armed.guards.iter().map(|guard| Terms::from(guard).window_micros);
        let kept = looked_at.max().unwrap_or(0).clamp(2 * SILENCE, MOST);
        while self.recent.front().is_some_and(|oldest| now - oldest.answers.at > kept) {
            self.recent.pop_front();
        }
    }

    /// The most certain of what there is to find.
    fn judge(&self, armed: &Armed<'_>, now: i64) -> Option<Finding> {
        let newest_first = || self.recent.iter().rev().map(|came| came.answers);
        let trip = |terms: Terms| terms.trip(newest_first(), now);
        let bad = || armed.guards.iter().find_map(|guard| trip(guard.into()));
        let found = None
            .or_else(|| bad().map(|counted| (Why::BadShare, counted)))
            .or_else(|| trip(GONE).map(|counted| (Why::NoEndpoints, counted)))
            .or_else(|| self.missing(now).map(|counted| (Why::MissingAnswers, counted)));
        let (why, counted) = found?;
        Some(Finding { route: armed.route.to_owned(), attempt: self.attempt, why, counted })
    }

    /// Answers of the service are missing, by its weight among those that came, or by what it gave before.
    fn missing(&self, now: i64) -> Option<Stretch> {
        if now - self.since < SILENCE {
            return None;
        }
        let between = |from: i64, to: i64| {
            let those = self.recent.iter().filter(move |c| (from..to).contains(&(now - c.answers.at)));
            those.fold((0, 0), |(answers, expected), came| {
                (answers + came.answers.requests, expected + came.expected_milli)
            })
        };
        let (answers, expected_milli) = between(0, SILENCE);
        let (before, _) = between(SILENCE, 2 * SILENCE);
        let by_weight = expected_milli / 1000;
        let expected = if by_weight >= EXPECTED && answers * FAR_BELOW <= by_weight {
            by_weight
        } else if before >= EXPECTED && answers == 0 {
            before
        } else {
            return None;
        };
        Some(Stretch { bad: expected - answers, requests: expected, over_millis: SILENCE / 1000 })
    }
}

#[cfg(test)]
#[path = "guards_tests.rs"]
mod tests;
