//! Routes that this pod holds on their safe side against the weights it was given, and what ends that. Pure.
//!
//! A latch takes back one attempt of a route. Who wrote EdgeWeights may not have known of it, so weights of the same
//! attempt never lift it, however new they are. It ends when EdgeWeights, not older than the latch, say the same
//! themselves, or begin a further attempt.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::{edge_state::Latch, v1alpha1::EdgeWeightsSpec};

/// As many as EdgeWeights can have routes. More can only be of routes that are gone, or made up.
const MOST: usize = 1024;

/// What these weights mean for a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing.
    Holds,
    /// They hold the route on its safe side themselves.
    Said,
    /// They begin an attempt after the one that it takes back.
    Superseded,
}

/// What became of a latch that was to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is set.
    Set,
    /// Nothing had to be done: the route is held already.
    Held,
    /// It is of the past: a further attempt has begun.
    Superseded,
    /// There are too many.
    Full,
}

/// All latches of this pod, by route id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Latches(BTreeMap<String, Latch>);

impl Latches {
    /// All of them.
    pub(super) fn all(&self) -> &BTreeMap<String, Latch> {
        &self.0
    }

    /// Holds `route` on its safe side, unless `weights`, which are in force, make that needless. Of two latches on one
    /// route the one of the higher attempt counts; none of them is ever ended by another.
    pub(super) fn set(
        &mut self,
        route: &str,
        mut latch: Latch,
        weights: Option<&EdgeWeightsSpec>,
    ) -> Outcome {
        match weights.map_or(Standing::Holds, |weights| standing(route, &latch, weights)) {
            Standing::Superseded => return Outcome::Superseded,
            Standing::Said => return Outcome::Held,
            Standing::Holds => latch.revision = latch.revision.max(weights.map_or(0, |w| w.revision)),
        }
        match self.0.get(route) {
            Some(there) if latch.attempt <= there.attempt => return Outcome::Held,
            Some(there) => latch.revision = latch.revision.max(there.revision),
            None if self.0.len() >= MOST => return Outcome::Full,
            None => {}
        }
        self.0.insert(route.to_owned(), latch);
        Outcome::Set
    }

    /// Ends what newly admitted `weights` end; gives the routes it was.
    pub(super) fn meet(&mut self, weights: &EdgeWeightsSpec) -> Vec<String> {
        let ended = |(route, latch): (&String, &Latch)| {
            (standing(route, latch, weights) != Standing::Holds).then(|| route.clone())
        };
        let ended: Vec<String> = self.0.iter().filter_map(ended).collect();
        self.0.retain(|route, _| !ended.contains(route));
        ended
    }

    /// Drops what is of routes that are gone: neither `known` nor in weights that are not older. Gives whether any was.
    pub(super) fn forget(&mut self, known: &BTreeSet<&str>, weights: Option<&EdgeWeightsSpec>) -> bool {
        let before = self.0.len();
        self.0.retain(|route, latch| {
            let not_there =
                |w: &EdgeWeightsSpec| w.revision >= latch.revision && !w.routes.contains_key(route);
            known.contains(route.as_str()) || !weights.is_some_and(not_there)
        });
        self.0.len() < before
    }

    /// What is to be in force of `weights`. A route that is not among them is on its safe side anyway.
    pub(super) fn over(&self, weights: &EdgeWeightsSpec) -> EdgeWeightsSpec {
        let mut over = weights.clone();
        for route in self.0.keys() {
            if let Some(entry) = over.routes.get_mut(route) {
                entry.latched = true;
            }
        }
        over
    }
}

fn standing(route: &str, latch: &Latch, weights: &EdgeWeightsSpec) -> Standing {
    match weights.routes.get(route).filter(|_| weights.revision >= latch.revision) {
        Some(entry) if entry.attempt > latch.attempt => Standing::Superseded,
        Some(entry) if entry.attempt == latch.attempt && entry.latched => Standing::Said,
        _ => Standing::Holds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stomaton_crds::{edge_state::Why, v1alpha1::RouteWeights};

    const ROUTE: &str = "00000000000000aa";

    fn latch(revision: i64, attempt: i32) -> Latch {
        Latch { attempt, revision, why: Why::Kill, at_micros: 0, counted: None }
    }

    fn weights(revision: i64, attempt: i32, latched: bool) -> EdgeWeightsSpec {
        let permille = [("public".to_owned(), 1000)].into();
        let entry = RouteWeights { permille, latched, attempt, step: 1 };
        EdgeWeightsSpec { revision, routes: [(ROUTE.to_owned(), entry)].into() }
    }

    fn on_service(latches: &Latches, weights: &EdgeWeightsSpec) -> bool {
        latches.over(weights).routes[ROUTE].effective("public") > 0
    }

    #[test]
    fn every_case_of_the_rule() {
        use Standing::{Holds, Said, Superseded};
        // Of a latch of attempt 3, set at revision 10: attempt of the weights, whether latched, and what that means in
        // an older revision and in one that is not.
        let cases = [
            (2, false, Holds, Holds),
            (2, true, Holds, Holds),
            (3, false, Holds, Holds),
            (3, true, Holds, Said),
            (4, false, Holds, Superseded),
            (4, true, Holds, Superseded),
        ];
        for (attempt, latched, older, newer) in cases {
            for (revision, expected) in [(9, older), (10, newer), (11, newer)] {
                let found = standing(ROUTE, &latch(10, 3), &weights(revision, attempt, latched));
                assert_eq!(found, expected, "revision {revision}, attempt {attempt}, latched {latched}");
            }
        }
        let without = EdgeWeightsSpec { revision: 11, routes: BTreeMap::new() };
        assert_eq!(standing(ROUTE, &latch(10, 3), &without), Holds, "silence lifts nothing");
    }

    #[test]
    fn a_latch_of_the_past_is_not_set() {
        let mut latches = Latches::default();
        assert_eq!(latches.set(ROUTE, latch(5, 1), Some(&weights(7, 2, false))), Outcome::Superseded);
        assert_eq!(latches.set(ROUTE, latch(5, 2), Some(&weights(7, 2, true))), Outcome::Held);
        assert_eq!(latches, Latches::default());
        // Weights that another route has got meanwhile are no reason not to.
        assert_eq!(latches.set(ROUTE, latch(5, 2), Some(&weights(7, 2, false))), Outcome::Set);
        assert_eq!(latches.all()[ROUTE].revision, 7);
    }

    #[test]
    fn a_latch_may_come_before_the_weights_it_is_about() {
        let mut latches = Latches::default();
        assert_eq!(latches.set(ROUTE, latch(9, 2), Some(&weights(7, 1, false))), Outcome::Set);
        assert!(!on_service(&latches, &weights(7, 1, false)));
        for late in [weights(8, 2, false), weights(9, 2, false), weights(10, 2, false)] {
            assert_eq!(latches.meet(&late), Vec::<String>::new());
            assert!(!on_service(&latches, &late));
        }
        assert_eq!(latches.meet(&weights(11, 2, true)), [ROUTE]);
    }

    #[test]
    fn of_two_latches_the_higher_attempt_counts() {
        let mut latches = Latches::default();
        assert_eq!(latches.set(ROUTE, latch(9, 2), None), Outcome::Set);
        assert_eq!(latches.set(ROUTE, latch(12, 2), None), Outcome::Held);
        assert_eq!(latches.set(ROUTE, latch(12, 1), None), Outcome::Held);
        assert_eq!(latches.all()[ROUTE], latch(9, 2));
        assert_eq!(latches.set(ROUTE, latch(8, 3), None), Outcome::Set);
        assert_eq!(latches.all()[ROUTE], latch(9, 3));
    }

    #[test]
    fn what_is_of_a_route_that_is_gone_is_dropped() {
        let gone = |revision| EdgeWeightsSpec { revision, routes: BTreeMap::new() };
        let mut latches = Latches::default();
        latches.set(ROUTE, latch(5, 1), None);
        assert!(!latches.forget(&[].into(), None));
        assert!(!latches.forget(&[].into(), Some(&gone(4))), "weights from before it");
        assert!(!latches.forget(&[].into(), Some(&weights(5, 1, false))));
        assert!(!latches.forget(&[ROUTE].into(), Some(&gone(6))));
        assert!(latches.forget(&[].into(), Some(&gone(5))));
        assert!(latches.all().is_empty());
    }

    #[test]
    fn what_is_made_up_fills_no_memory() {
        let mut latches = Latches::default();
        for number in 0..MOST {
            assert_eq!(latches.set(&format!("{number:016x}"), latch(1, 1), None), Outcome::Set);
        }
        assert_eq!(latches.set("ffffffffffffffff", latch(1, 1), None), Outcome::Full);
        assert_eq!(latches.set(&format!("{:016x}", 0), latch(1, 2), None), Outcome::Set);
    }

    proptest! {
        /// Whatever comes in whatever order: from a latch on, nobody is on the service until EdgeWeights that are not
        /// older say so too, or begin a further attempt.
        #[test]
        fn nothing_else_lifts_a_latch(
            happenings in prop::collection::vec((0..4_i64, 1..4_i32, any::<bool>(), any::<bool>()), 1..40),
        ) {
            let mut latches = Latches::default();
            let mut in_force = weights(1, 1, false);
            // The attempt that is taken back, and since which revision.
            let mut taken: Option<(i32, i64)> = None;
            for (step, attempt, latched, is_latch) in happenings {
                let revision = in_force.revision + step;
                if is_latch {
                    let outcome = latches.set(ROUTE, latch(revision, attempt), Some(&in_force));
                    let there = &in_force.routes[ROUTE];
                    let is_past = step == 0 && there.attempt > attempt;
                    let is_said = step == 0 && there.attempt == attempt && there.latched;
                    prop_assert_eq!(outcome == Outcome::Superseded, is_past);
                    if !is_past && !is_said && taken.is_none_or(|(highest, _)| attempt > highest) {
                        prop_assert_eq!(outcome, Outcome::Set);
                        let since = taken.map_or(revision, |(_, since)| since.max(revision));
                        taken = Some((attempt, since));
                    }
                } else if step > 0 {
                    in_force = weights(revision, attempt, latched);
                    let ended = !latches.meet(&in_force).is_empty();
                    let may_end = |(of, since): (i32, i64)| {
                        revision >= since && (attempt > of || (attempt == of && latched))
                    };
                    prop_assert_eq!(ended, taken.is_some_and(may_end));
                    taken = taken.filter(|_| !ended);
                }
                let held = taken.is_some() || in_force.routes[ROUTE].latched;
                prop_assert_eq!(on_service(&latches, &in_force), !held);
            }
        }
    }
}
