//! The migration machine under a model checker: every order in which things can happen, up to a number of states.
//!
//! The machine is that of production, called in [`pass`]; around it is a world that lags, forgets and breaks:
//! - [`world`]: what there is; [`agent`]: edge pods; [`store`]: EdgeWeights at the API server
//! - [`controllers`]: what a process does; [`actions`]: what may happen next
//! - [`invariants`]: the promises
//! - [`without`]: each guard taken out, and what then breaks
//!
//! Left out, since they would multiply the states: groups, edits, a monolith without endpoints, agents that restart.

#![allow(clippy::expect_used, reason = "a test may stop at the first surprise")]

mod actions;
mod agent;
mod controllers;
mod invariants;
mod pass;
mod setting;
mod store;
mod without;
mod world;

use actions::{Action, Migration};
use invariants::{ALWAYS, FORGETFUL, POSSIBLE, ROLLED_BACK, TAKEN_IS_OVER, TRUTH};
use setting::{Budget, Setting};
use stateright::{Checker, HasDiscoveries, Model};
use std::{collections::HashSet, time::Instant};

/// What goes wrong in the widest runs.
const MUCH: Budget = Budget { crashes: 2, breaches: 2, flips: 2, restores: 0 };

/// In which order states are looked at.
#[derive(Clone, Copy, Debug)]
enum Search {
    /// All that are near before any that is far: the shortest ways.
    Broad,
    /// One way to its end, then the next: far states within few.
    Deep,
}

/// What a run found.
struct Found {
    /// Different states.
    states: usize,
    /// Promises asked for that do not hold, with the way there.
    broken: Vec<(&'static str, Vec<Action>)>,
    /// Everything that was met, of promises broken and of what has to be possible.
    met: HashSet<&'static str>,
}

impl Found {
    fn of(checker: impl Checker<Migration>, asked: &[&'static str]) -> Self {
        let checker = checker.join();
        let states = checker.unique_state_count();
        let discoveries = checker.discoveries();
        let met = discoveries.keys().copied().collect();
        let is_asked = |name: &&'static str| asked.contains(name);
        let broken = discoveries.into_iter().filter(|(name, _)| is_asked(name));
        Self { states, broken: broken.map(|(name, path)| (name, path.into_actions())).collect(), met }
    }

    /// That no promise was broken.
    fn assert_kept(&self) {
        assert!(self.broken.is_empty(), "broken, with the way there: {:#?}", self.broken);
    }
}

/// Looks at states until all are seen, `most` were made (many of them more than once), or one of the promises `asked`
/// is broken.
fn run(setting: Setting, search: Search, most: usize, asked: &[&'static str]) -> Found {
    let begun = Instant::now();
    let finish = HasDiscoveries::AnyOf(asked.iter().copied().collect());
    let checker = Migration { setting }.checker().threads(2).target_state_count(most).finish_when(finish);
    let found = match search {
        Search::Broad => Found::of(checker.spawn_bfs(), asked),
        Search::Deep => Found::of(checker.spawn_dfs(), asked),
    };
    let seconds = begun.elapsed().as_secs_f64();
    println!("{setting:?}, {search:?}: {} states in {seconds:.1} s", found.states);
    found
}

fn alone(budget: Budget) -> Setting {
    Setting { controllers: 1, budget, without: None }
}

fn rivals(budget: Budget) -> Setting {
    Setting { controllers: 2, budget, without: None }
}

#[test]
fn one_process_keeps_its_promises_and_arrives() {
    let asked = [&ALWAYS[..], &TRUTH].concat();
    let budget = Budget { crashes: 1, breaches: 1, flips: 1, restores: 0 };
    let found = run(alone(budget), Search::Broad, 20_000_000, &asked);
    found.assert_kept();
    let missing: Vec<_> = POSSIBLE.into_iter().filter(|name| !found.met.contains(name)).collect();
    assert_eq!(missing, [""; 0], "never happens, so nothing was shown");
}

#[test]
fn the_machine_keeps_its_promises() {
    let mut states = 0;
    for search in [Search::Broad, Search::Deep] {
        let found = run(rivals(MUCH), search, 5_000_000, &ALWAYS);
        found.assert_kept();
        states += found.states;
    }
    assert!(states >= 1_000_000, "only {states} states");
}

#[test]
fn a_restored_store_mutes_nobody() {
    let budget = Budget { crashes: 0, restores: 1, breaches: 1, flips: 1 };
    let found = run(rivals(budget), Search::Broad, 2_000_000, &FORGETFUL);
    found.assert_kept();
}

#[test]
#[ignore = "some minutes and gigabytes: for a release"]
fn the_machine_keeps_its_promises_for_long() {
    let found = run(rivals(MUCH), Search::Deep, 70_000_000, &ALWAYS);
    found.assert_kept();
    assert!(found.states >= 10_000_000, "only {} states", found.states);
}

#[test]
fn status_is_true_whoever_writes_it() {
    let budget = Budget { breaches: 1, flips: 1, ..Budget::default() };
    run(rivals(budget), Search::Broad, 6_000_000, &TRUTH).assert_kept();
}

#[test]
fn a_restored_store_undoes_no_rollback() {
    let budget = Budget { breaches: 1, flips: 1, restores: 1, crashes: 0 };
    run(alone(budget), Search::Broad, 6_000_000, &[TAKEN_IS_OVER, ROLLED_BACK]).assert_kept();
}

#[test]
fn a_process_that_hears_nobody_calls_nothing_acknowledged() {
    let budget = Budget { crashes: 1, flips: 0, restores: 1, breaches: 1 };
    let asked = [&TRUTH[..], &[ROLLED_BACK]].concat();
    run(alone(budget), Search::Broad, 6_000_000, &asked).assert_kept();
}
