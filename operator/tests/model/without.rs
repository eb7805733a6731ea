//! Each guard taken out: then a promise is broken, and the checker says how. A model that finds nothing here would
//! prove nothing elsewhere.

use crate::{
    Search,
    invariants::{ACKNOWLEDGED, LATCHED, REACHES, READY, TAKEN_IS_OVER},
    run,
    setting::{Budget, Guard, Setting},
};

/// More than the longest of these ways needs.
const MOST: usize = 6_000_000;
/// With the guard in place, this many are looked at.
const FEW: usize = 200_000;

/// That the promise is broken without the guard, and not with it.
fn it_takes(guard: Guard, controllers: usize, budget: Budget, promise: &'static str) {
    let with = Setting { controllers, budget, without: None };
    run(with, Search::Broad, FEW, &[promise]).assert_kept();
    let without = Setting { without: Some(guard), ..with };
    let found = run(without, Search::Broad, MOST, &[promise]);
    let [(_, trace)] = &found.broken[..] else { panic!("nothing breaks without {guard:?}") };
    println!("without {guard:?}, against \"{promise}\": {trace:?}");
}

#[test]
fn it_takes_a_compare_and_swap() {
    let budget = Budget { breaches: 1, ..Budget::default() };
    it_takes(Guard::CompareAndSwap, 2, budget, LATCHED);
}

#[test]
fn it_takes_a_fence() {
    let budget = Budget { breaches: 1, ..Budget::default() };
    it_takes(Guard::Fence, 1, budget, TAKEN_IS_OVER);
}

#[test]
fn it_takes_an_acknowledgement_by_all() {
    it_takes(Guard::Acknowledgement, 1, Budget::default(), ACKNOWLEDGED);
}

#[test]
fn it_takes_a_look_at_endpoints() {
    let budget = Budget { flips: 1, ..Budget::default() };
    it_takes(Guard::Readiness, 1, budget, READY);
}

#[test]
fn it_takes_a_latch() {
    let budget = Budget { breaches: 1, crashes: 1, ..Budget::default() };
    it_takes(Guard::Latch, 1, budget, TAKEN_IS_OVER);
}

#[test]
fn it_takes_revisions_above_what_agents_have_seen() {
    let budget = Budget { flips: 1, restores: 1, ..Budget::default() };
    it_takes(Guard::Minting, 1, budget, REACHES);
}
