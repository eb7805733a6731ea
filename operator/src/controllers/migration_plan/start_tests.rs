//! Where attempts begin: plans that are made anew, and routes that were taken back.

use super::super::acts::Act;
use super::super::conditions;
use super::super::machine::tests::{Rules, at, profile, route, rules};
use super::super::machine::{Effect, Route, State, step};
use super::super::stages::Facts;
use super::super::terms::Back;
use super::*;
use crate::edges::tally::Breach;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use stomaton_crds::{
    edge_state::{Counts, Sides},
    v1alpha1::{
        Action, Approves, MigrationPlan, Phase, PlanActionSpec, RampStep, RestartAt, RouteWeights, StartAt,
    },
};

const ALONE: [&str; 1] = ["content"];
const BOTH: [&str; 2] = ["cart", "checkout"];

/// Plan and edge in one: every write is acknowledged at once, and enough is counted in every step.
struct World {
    names: Vec<&'static str>,
    group: Option<&'static str>,
    profile: Profile,
    rules: Rules,
    acts: Vec<Act>,
    state: State,
    entries: BTreeMap<String, RouteWeights>,
    revision: i64,
    second: i64,
    start_at: Option<StartAt>,
}

impl World {
    fn of(names: &[&'static str], start_at: Option<StartAt>) -> Self {
        Self {
            names: names.to_vec(),
            group: (names.len() > 1).then_some("buying"),
            profile: profile(&[50, 250, 500, 1000], 10),
            rules: rules(30, 100),
            acts: Vec::new(),
            state: State::default(),
            entries: BTreeMap::new(),
            revision: 0,
            second: 0,
            start_at,
        }
    }

    /// One whose routes come back to the step below.
    fn lower(names: &[&'static str]) -> Self {
        let mut world = Self::of(names, None);
        world.rules.rollback = Rollback { restart_at: RestartAt::LowerStep, ..world.rules.rollback.clone() };
        world
    }

    fn pass(&mut self, change: impl Fn(&mut Route<'_>)) -> Vec<Effect> {
        let of = |&name: &&'static str| {
            let mut route = Route {
                name,
                group: self.group,
                id: Some(format!("id-{name}")),
                weights_revision: self.revision,
                seen: self.revision,
                acknowledged: Some(self.revision),
                counted: Sides { service: Counts { requests: 100, ..Counts::default() }, ..Sides::default() },
                start_at: self.start_at,
                ..route(&self.profile)
            };
            change(&mut route);
            route.entry = route.id.as_ref().and_then(|id| self.entries.get(id).cloned());
            route
        };
        let routes: Vec<_> = self.names.iter().map(of).collect();
        let (mut next, effects) =
            step(&self.rules.terms(), &routes, &Facts::default(), &self.state, &self.acts, at(self.second));
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
        for _ in 0..20 {
            let before = self.state.clone();
            if self.pass(&change).is_empty() && self.state == before {
                return;
            }
        }
        panic!("does not settle: {:?}", self.state);
    }

    /// Where each route is: phase, step, and the weight of everybody at the edge.
    fn places(&self) -> Vec<(Phase, i32, i32)> {
        let weight =
            |name: &str| self.entries.get(&format!("id-{name}")).map_or(0, |entry| entry.effective("public"));
        self.state.routes.iter().map(|s| (s.phase, s.step, weight(&s.name))).collect()
    }

    fn waits_for(&self) -> &str {
        &self.state.routes[0].waits_for
    }

    /// The attempt that goes on, taken back and at rest, up to the moment when the next one may begin.
    fn falls(&mut self) {
        let attempt = self.state.routes[0].attempt;
        self.settle(breach_of(attempt));
        self.second += 10_000;
    }
}

fn breach_of(attempt: i32) -> impl Fn(&mut Route<'_>) {
    move |route| {
        let breach = Breach {
            guard: "bad-answers".into(),
            bad: 5,
            requests: 9,
            over_ms: 120,
            at: at(0),
            reported_by: None,
        };
        route.breach = Some((attempt, breach));
    }
}

fn at_step(step: i32) -> Option<StartAt> {
    Some(StartAt { step: Some(step), done: false })
}

fn done() -> Option<StartAt> {
    Some(StartAt { step: None, done: true })
}

fn closed(reason: Reason) -> Option<Closed> {
    Some(Closed { reason, what: "its time".into(), until: None })
}

#[test]
fn a_new_plan_puts_a_route_where_it_was_and_goes_on_from_there() {
    let mut world = World::of(&ALONE, at_step(2));
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::Ramp, 2, 250)]);
    assert!(world.state.history[0].message.contains("with step 2"), "{:?}", world.state.history);
    assert_eq!(world.state.routes[0].start_at, None, "it counts once");
    world.second = 11;
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::Ramp, 3, 500)]);

    let mut world = World::of(&ALONE, done());
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::Done, 4, 1000)]);
    assert_eq!(world.state.history.len(), 1, "no step on the way");
}

#[test]
fn audiences_have_what_they_had_there() {
    let mut world = World::of(&ALONE, at_step(3));
    let of = |audience: &str, permille| RampStep {
        audience: Some(audience.into()),
        permille,
        min_hold: Duration::from_secs(10).into(),
        approval: false,
    };
    world.profile.ramp.insert(0, of("suppliers", 200));
    world.profile.ramp.insert(0, of("internal", 1000));
    world.settle(|_| {});
    let entry = &world.entries["id-content"];
    assert_eq!(
        ["internal", "suppliers", "public"].map(|audience| entry.effective(audience)),
        [1000, 200, 50]
    );
    let mut world = World { profile: world.profile.clone(), ..World::of(&ALONE, at_step(2)) };
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::Cohort, 2, 0)]);
}

#[test]
fn what_beginning_takes_was_fulfilled_in_the_cluster_that_was_lost() {
    let on = ["other".to_owned()];
    for reason in [Reason::OutsideWindow, Reason::BudgetExhausted] {
        let mut world = World::of(&ALONE, at_step(2));
        world.profile.ramp[0].approval = true;
        world.rules.closed = closed(reason);
        world.settle(|_| {});
        assert_eq!(world.places(), [(Phase::Ramp, 2, 250)], "{reason:?}");
        world.second = 1000;
        world.settle(|_| {});
        assert_eq!(world.places(), [(Phase::Ramp, 2, 250)], "from there nothing rises before its time");
    }
    let profile = profile(&[50, 1000], 10);
    let ordered = Route { depends_on: &on, start_at: done(), ..route(&profile) };
    let (state, _) = step(&rules(1, 1).terms(), &[ordered], &Facts::default(), &State::default(), &[], at(0));
    assert_eq!(state.routes[0].phase, Phase::Done);
}

#[test]
fn routes_that_were_on_their_way_are_so_again_however_small_the_budget() {
    let mut world = World { group: None, ..World::of(&BOTH, at_step(2)) };
    world.rules.budget.moving_routes = Some(1);
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::Ramp, 2, 250); 2]);
    // One that waited for its turn does not take theirs.
    let mut world = World { group: None, ..World::of(&BOTH, at_step(2)) };
    world.rules.budget.moving_routes = Some(1);
    world.settle(|r| r.start_at = r.start_at.filter(|_| r.name == "checkout"));
    assert_eq!(world.places(), [(Phase::Pending, 0, 0), (Phase::Ramp, 2, 250)]);
}

#[test]
fn a_route_is_where_it_was_only_when_that_can_be_right() {
    type TakeAway = fn(&mut Route<'_>);
    let missing: [(&str, TakeAway); 5] = [
        ("the target", |r| r.target_ready = false),
        ("the monolith", |r| r.safe_ready = false),
        ("structure", |r| r.structured = false),
        ("mend it", |r| r.problem = Some("mend it".into())),
        ("no such route", |r| (r.id, r.problem) = (None, Some("no such route".into()))),
    ];
    for (word, take_away) in missing {
        let mut world = World::of(&ALONE, done());
        world.settle(take_away);
        assert_eq!(world.places(), [(Phase::Pending, 0, 0)], "{word}");
        assert!(world.waits_for().contains(word), "{}", world.waits_for());
        world.settle(|_| {});
        assert_eq!(world.places(), [(Phase::Done, 4, 1000)], "{word} has come");
    }
    for reason in [Reason::Halted, Reason::Observing, Reason::Deleting, Reason::Invalid] {
        let mut world = World::of(&ALONE, done());
        world.rules.closed = closed(reason);
        world.settle(|_| {});
        assert_eq!(world.places(), [(Phase::Pending, 0, 0)], "{reason:?}");
    }
}

#[test]
fn a_place_that_cannot_be_right_is_stalled_and_says_why() {
    for (place, safe_ready, reason) in [(1, false, "MonolithDown"), (3, true, "Invalid")] {
        let plan: MigrationPlan = serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan", "metadata": {"name": "shop"},
            "spec": {
                "gatewayRef": {"name": "edge"}, "profiles": [{"name": "p", "ramp": [{"permille": 50}, {"permille": 1000}]}],
                "routes": [{"name": "content", "target": {"name": "t"}, "profile": "p", "startAt": {"step": place}}],
            },
        }))
        .unwrap();
        let (spec, rules) = (&plan.spec.routes[0], rules(1, 1));
        let (terms, problem) = (rules.terms(), plan.spec.misplaced(spec));
        let route = Route { safe_ready, problem, start_at: spec.start_at, ..route(&plan.spec.profiles[0]) };
        let routes = [route];
        let (state, effects) = step(&terms, &routes, &Facts::default(), &State::default(), &[], at(0));
        assert_eq!(effects, []);
        let status = conditions::status(&plan, &terms, &routes, None, state, at(0));
        let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
        assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", reason), "{stalled:?}");
    }
}

#[test]
fn a_plan_that_is_known_is_where_its_status_says() {
    let mut world = World::of(&ALONE, None);
    world.rules.closed = closed(Reason::OutsideWindow);
    world.settle(|_| {});
    world.start_at = done();
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::Pending, 0, 0)]);
    // What is wrong with the place may be mended before it counts; a route that was edited is another one.
    let mut world = World::of(&ALONE, done());
    world.settle(|r| r.safe_ready = false);
    world.start_at = at_step(1);
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::Ramp, 1, 50)]);
    let mut world = World::of(&ALONE, done());
    world.settle(|r| r.safe_ready = false);
    world.settle(|r| r.id = Some("id-edited".into()));
    assert_eq!((world.state.routes[0].phase, world.state.routes[0].step), (Phase::Ramp, 1));
}

#[test]
fn what_the_edge_carries_counts_more_than_where_the_route_was() {
    let mut world = World { revision: 1, ..World::of(&ALONE, at_step(3)) };
    let permille = [("public".to_owned(), 50)].into();
    let entry = RouteWeights { permille, latched: false, attempt: 2, step: 1 };
    world.entries.insert("id-content".into(), entry);
    world.pass(|_| {});
    assert_eq!(world.places(), [(Phase::Ramp, 1, 50)]);
    let latch = RouteWeights { latched: true, attempt: 1, step: 3, ..RouteWeights::default() };
    let mut world = World { revision: 1, ..World::of(&ALONE, at_step(3)) };
    world.entries.insert("id-content".into(), latch);
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::RolledBack, 3, 0)]);
    assert_eq!(world.state.routes[0].start_at, None);
}

#[test]
fn a_lost_record_of_the_first_write_changes_nothing() {
    for start_at in [at_step(2), done()] {
        let mut world = World::of(&ALONE, start_at);
        world.settle(|_| {});
        let before = world.places();
        world.state = State::default();
        world.settle(|_| {});
        assert_eq!(world.places(), before);
    }
}

#[test]
fn a_route_that_is_back_where_it_was_comes_back_like_any_other() {
    let mut world = World::of(&ALONE, done());
    world.settle(|_| {});
    world.settle(breach_of(1));
    assert_eq!(world.places(), [(Phase::RolledBack, 4, 0)]);
    world.second = 10_000;
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::Ramp, 1, 50)], "the place counts once");
    let mut world = World::of(&ALONE, done());
    world.rules.back = Some(Back { why: "the end".into(), done_too: true });
    world.pass(|_| {});
    assert!(world.pass(|_| {})[0].weights.latched);
}

#[test]
fn a_group_is_where_it_was_in_one_write_or_not_at_all() {
    let mut world = World::of(&BOTH, at_step(3));
    world.settle(|r| r.target_ready = r.name != "checkout");
    assert_eq!(world.places(), [(Phase::Pending, 0, 0); 2]);
    assert_eq!(world.pass(|_| {}).len(), 2);
    assert_eq!(world.places(), [(Phase::Ramp, 3, 500); 2]);
    // One that begins as any other does takes the other with it, in its time.
    let mut world = World::of(&BOTH, at_step(3));
    let one = |r: &mut Route<'_>| r.start_at = r.start_at.filter(|_| r.name == "cart");
    world.rules.closed = closed(Reason::OutsideWindow);
    world.settle(one);
    assert_eq!(world.places(), [(Phase::Pending, 0, 0); 2]);
    world.rules.closed = None;
    world.settle(one);
    assert_eq!(world.places(), [(Phase::Ramp, 1, 50); 2]);
}

#[test]
fn a_route_that_fell_begins_one_step_lower_if_the_plan_says_so() {
    for (lower, expected) in [(false, [1, 1, 1]), (true, [1, 2, 1])] {
        let mut world = if lower { World::lower(&ALONE) } else { World::of(&ALONE, None) };
        let mut begun = Vec::new();
        // It falls at once, then after two steps more, and at once again.
        for rises in [0, 2, 0, 0] {
            world.settle(|_| {});
            begun.push(world.state.routes[0].step);
            for _ in 0..rises {
                world.second += 11;
                world.settle(|_| {});
            }
            world.falls();
        }
        assert_eq!(begun[1..], expected, "{:?}", world.state.history);
    }
}

#[test]
fn an_edited_ramp_is_entered_below_the_weight_that_fell() {
    let mut world = World::lower(&ALONE);
    for _ in 0..2 {
        world.settle(|_| {});
        world.second += 11;
    }
    assert_eq!(world.places(), [(Phase::Ramp, 2, 250)]);
    world.falls();
    assert_eq!(world.state.routes[0].fell_from, BTreeMap::from([("public".to_owned(), 250)]));
    world.profile = profile(&[300, 900, 1000], 10);
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::Ramp, 1, 300)], "the first step is the lowest there is");
    world.falls();
    world.profile = profile(&[10, 100, 290, 300, 1000], 10);
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::Ramp, 3, 290)]);
    assert!(world.state.routes[0].fell_from.is_empty());
}

#[test]
fn an_attempt_that_nobody_here_knows_of_fell_nobody_knows_where() {
    let mut world = World::lower(&ALONE);
    for _ in 0..3 {
        world.settle(|_| {});
        world.second += 11;
    }
    assert_eq!(world.places(), [(Phase::Ramp, 3, 500)]);
    world.settle(|r| r.taken = 2);
    world.second += 10_000;
    world.settle(|r| r.taken = 2);
    assert_eq!((world.state.routes[0].attempt, world.places()), (3, vec![(Phase::Ramp, 1, 50)]));
}

#[test]
fn a_group_begins_with_the_lowest_step_of_its_routes() {
    let (profile, rollback) = (profile(&[50, 250, 500, 1000], 1), World::lower(&BOTH).rules.rollback);
    let fell = |permille: i32| RouteStatus {
        phase: Phase::RolledBack,
        fell_from: [("public".to_owned(), permille)].into(),
        ..RouteStatus::default()
    };
    let step = |group: &[&RouteStatus]| Start::of(&rollback, &profile, group).step;
    let (high, middle, new) = (fell(1000), fell(500), RouteStatus::default());
    assert_eq!([step(&[&high]), step(&[&high, &middle]), step(&[&high, &new])], [3, 2, 1]);
}

#[test]
fn a_lower_restart_needs_the_approvals_up_to_its_step_again() {
    let mut world = World::lower(&ALONE);
    for _ in 0..3 {
        world.settle(|_| {});
        world.second += 11;
    }
    world.falls();
    world.profile.ramp[0].approval = true;
    world.settle(|_| {});
    assert!(world.waits_for().contains("an approval of step 2"), "{}", world.waits_for());
    let approves = |step: i32| Act {
        name: format!("approve-{step}"),
        uid: format!("uid-{step}"),
        spec: PlanActionSpec {
            plan: "shop".into(),
            action: Action::Approve,
            route: Some("content".into()),
            user: "alice".into(),
            reason: None,
            approves: Some(Approves {
                attempt: Some(2),
                step: Some(step),
                spec_hash: "0123456789abcdef".into(),
            }),
            stage: None,
        },
        at: at(world.second),
    };
    let acts = [approves(1), approves(2)];
    world.acts = acts[..1].to_vec();
    world.settle(|_| {});
    assert_eq!(world.state.routes[0].phase, Phase::RolledBack, "that is not where it begins");
    world.acts = acts.to_vec();
    world.settle(|_| {});
    assert_eq!(world.places(), [(Phase::Ramp, 2, 250)]);
}

proptest! {
    /// Wherever it falls, and whatever its ramp is by then: no attempt begins above the step below which it fell, except
    /// that there is nothing below the first.
    #[test]
    fn no_attempt_begins_above_the_step_below_the_one_that_fell(
        falls in prop::collection::vec((0usize..6, prop::collection::btree_set(1i32..1000, 0..6)), 1..8),
    ) {
        let mut world = World::lower(&ALONE);
        for (rises, ramp) in falls {
            world.settle(|_| {});
            for _ in 0..rises {
                world.second += 11;
                world.settle(|_| {});
            }
            let (_, _, fell_at) = world.places()[0];
            world.falls();
            world.profile = profile(&ramp.into_iter().chain([1000]).collect::<Vec<_>>(), 10);
            world.settle(|_| {});
            let (phase, step, weight) = world.places()[0];
            prop_assert_eq!(phase, Phase::Ramp);
            prop_assert!(step == 1 || weight < fell_at, "fell at {}, begins at {}", fell_at, weight);
        }
    }
}
