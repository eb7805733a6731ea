//! Two routes of one group, through everything that can happen to one of them.

use super::super::machine::tests::{at, rules};
use super::super::machine::{Effect, step};
use super::super::stages::Facts;
use super::*;
use crate::edges::tally::Breach;
use std::collections::BTreeMap;
use std::time::Duration;
use stomaton_crds::{
    edge_state::{Counts, Sides},
    v1alpha1::{Profile, RampStep, RouteWeights},
};

const NAMES: [&str; 2] = ["cart", "checkout"];

/// Plan and edge in one: every write is acknowledged at once.
struct World {
    profile: Profile,
    state: State,
    entries: BTreeMap<String, RouteWeights>,
    revision: i64,
    second: i64,
    /// By name of the route; 100 unless said otherwise.
    counted: BTreeMap<&'static str, u64>,
}

impl World {
    fn new() -> Self {
        let ramp = [50, 250, 1000].map(|permille| RampStep {
            audience: None,
            permille,
            min_hold: Duration::from_secs(10).into(),
            approval: false,
        });
        Self {
            profile: Profile { name: "p".into(), ramp: ramp.into(), min_requests: 20, soak: None },
            state: State::default(),
            entries: BTreeMap::new(),
            revision: 0,
            second: 0,
            counted: BTreeMap::new(),
        }
    }

    fn pass(&mut self, change: impl Fn(&mut Route<'_>)) -> Vec<Effect> {
        let route = |name: &'static str| {
            let requests = self.counted.get(name).copied().unwrap_or(100);
            let mut route = Route {
                name,
                group: Some("buying"),
                id: Some(format!("id-{name}")),
                profile: &self.profile,
                problem: None,
                structured: true,
                entry: self.entries.get(&format!("id-{name}")).cloned(),
                weights_revision: self.revision,
                seen: self.revision,
                taken: 0,
                acknowledged: Some(self.revision),
                target_ready: true,
                safe_ready: true,
                counted: Sides { service: Counts { requests, ..Counts::default() }, ..Sides::default() },
                judged: Sides::default(),
                breach: None,
                depends_on: &[],
                revisions: String::new(),
                behind: Vec::new(),
                readings: BTreeMap::new(),
                point_of_no_return: None,
                start_at: None,
                stage: None,
            };
            change(&mut route);
            route
        };
        let routes = NAMES.map(route);
        let rules = rules(30, 3);
        let (mut next, effects) =
            step(&rules.terms(), &routes, &Facts::default(), &self.state, &[], at(self.second));
        if !effects.is_empty() {
            self.revision += 1;
            for effect in &effects {
                self.entries.insert(effect.id.clone(), effect.weights.clone());
                next.written(&effect.route, self.revision);
            }
        }
        self.state = next;
        effects
    }

    /// Passes until nothing is left to do at this moment.
    fn settle(&mut self, change: impl Fn(&mut Route<'_>)) {
        for _ in 0..10 {
            let before = self.state.clone();
            if self.pass(&change).is_empty() && self.state == before {
                return;
            }
        }
        panic!("does not settle: {:?}", self.state);
    }

    fn at_edge(&self) -> [i32; 2] {
        NAMES.map(|name| self.entries.get(&format!("id-{name}")).map_or(0, |entry| entry.effective("public")))
    }

    fn waits_for(&self) -> [&str; 2] {
        [0, 1].map(|at| self.state.routes[at].waits_for.as_str())
    }
}

fn breach_of(name: &str) -> impl Fn(&mut Route<'_>) {
    let name = name.to_owned();
    move |route| {
        if route.name == name {
            let at = at(0);
            let breach = Breach {
                guard: "bad-answers".into(),
                bad: 5,
                requests: 9,
                over_ms: 120,
                at,
                reported_by: None,
            };
            route.breach = Some((1, breach));
        }
    }
}

#[test]
fn routes_of_a_group_rise_in_the_same_write() {
    let mut world = World::new();
    let mut seen = Vec::new();
    for second in 0..60 {
        world.second = second;
        for _ in 0..10 {
            let effects = world.pass(|_| {});
            assert!(effects.is_empty() || effects.len() == 2, "{effects:?}");
            let [a, b] = world.at_edge();
            assert_eq!(a, b);
            if seen.last() != Some(&a) {
                seen.push(a);
            }
        }
    }
    assert_eq!(seen, [50, 250, 1000]);
    assert!(world.state.routes.iter().all(|status| status.phase == Phase::Done));
}

#[test]
fn one_that_is_not_ready_holds_the_others() {
    let mut world = World::new();
    world.settle(|route| route.target_ready = route.name != "checkout");
    assert_eq!(world.at_edge(), [0, 0]);
    assert!(
        world.waits_for()[0].contains("route checkout of its group: the target"),
        "{:?}",
        world.waits_for()
    );
    world.settle(|_| {});
    assert_eq!(world.at_edge(), [50, 50]);
    world.second = 100;
    world.counted.insert("checkout", 19);
    world.settle(|_| {});
    assert_eq!(world.at_edge(), [50, 50]);
    assert!(world.waits_for()[0].contains("19 of 20"), "{:?}", world.waits_for());
    world.counted.clear();
    world.settle(|_| {});
    assert_eq!(world.at_edge(), [250, 250]);
}

#[test]
fn one_that_is_taken_back_takes_the_others_with_it() {
    let mut world = World::new();
    world.settle(|_| {});
    let effects = world.pass(breach_of("checkout"));
    assert_eq!(effects.len(), 2, "in one write");
    assert!(effects.iter().all(|effect| effect.weights.latched));
    let told = &world.state.history;
    assert!(
        told.iter().any(|t| t.route == "cart" && t.message.contains("route checkout of its group")),
        "{told:?}"
    );
    world.settle(|_| {});
    assert!(
        world.state.routes.iter().all(|s| (s.phase, s.epoch) == (Phase::RolledBack, 1)),
        "{:?}",
        world.state
    );
    world.second = 29;
    world.settle(|_| {});
    assert_eq!(world.at_edge(), [0, 0], "the cooldown is not over");
    world.second = 31;
    assert_eq!(world.pass(|_| {}).len(), 2);
    assert_eq!(world.at_edge(), [50, 50]);
}

#[test]
fn a_latch_that_was_set_past_the_machine_takes_the_others_with_it() {
    let mut world = World::new();
    world.settle(|_| {});
    let latch = RouteWeights { latched: true, attempt: 1, step: 1, ..RouteWeights::default() };
    world.entries.insert("id-cart".into(), latch);
    world.revision += 1;
    world.settle(|_| {});
    assert_eq!(world.at_edge(), [0, 0]);
    assert!(world.state.routes.iter().all(|status| status.phase == Phase::RolledBack));
}

#[test]
fn one_that_begins_anew_is_waited_for() {
    let mut world = World::new();
    world.settle(|_| {});
    world.second = 20;
    world.settle(|_| {});
    assert_eq!(world.at_edge(), [250, 250]);
    let edited = |route: &mut Route<'_>, entry: Option<RouteWeights>| {
        if route.name == "checkout" {
            (route.id, route.entry, route.acknowledged) = (Some("id-edited".into()), entry, None);
        }
    };
    world.pass(|route| edited(route, None));
    let entry = world.entries["id-edited"].clone();
    assert_eq!(entry.effective("public"), 50);
    world.second = 35;
    world.pass(|route| edited(route, Some(entry.clone())));
    assert_eq!(world.at_edge()[0], 250);
    assert!(world.waits_for()[0].contains("to come as far as this one"), "{:?}", world.waits_for());
}

#[test]
fn routes_without_a_group_are_for_themselves() {
    let mut world = World::new();
    world.settle(|route| route.group = None);
    world.settle(|route| {
        route.group = None;
        breach_of("checkout")(route);
    });
    assert_eq!(world.at_edge(), [50, 0]);
}
