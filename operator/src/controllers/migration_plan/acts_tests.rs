//! What people may do, and what becomes of it.

use super::super::machine::tests::{Rules, at, profile, route, rules};
use super::super::machine::{Effect, step};
use super::super::stages::Facts;
use super::*;
use stomaton_crds::v1alpha1::{Approves, Profile, RouteWeights};

/// A plan of one route whose writes are acknowledged at once.
struct World {
    profile: Profile,
    rules: Rules,
    acts: Vec<Act>,
    state: State,
    entry: Option<RouteWeights>,
    revision: i64,
    second: i64,
    counted: u64,
}

impl World {
    fn new() -> Self {
        Self {
            profile: profile(&[50, 250, 1000], 10),
            rules: rules(30, 1),
            acts: Vec::new(),
            state: State::default(),
            entry: None,
            revision: 0,
            second: 0,
            counted: 100,
        }
    }

    fn act(&mut self, action: Action, route: Option<&str>) {
        self.act_as(action, route, None);
    }

    fn act_as(&mut self, action: Action, route: Option<&str>, approves: Option<Approves>) {
        let number = self.acts.len();
        let spec = PlanActionSpec {
            plan: "p".into(),
            action,
            route: route.map(Into::into),
            user: "alice".into(),
            reason: Some("a bad night".into()),
            approves,
            stage: None,
        };
        let act =
            Act { name: format!("act-{number}"), uid: format!("uid-{number}"), spec, at: at(self.second) };
        self.acts.push(act);
    }

    fn settle(&mut self) {
        for _ in 0..10 {
            let mut input = route(&self.profile);
            (input.entry, input.weights_revision) = (self.entry.clone(), self.revision);
            input.acknowledged = Some(self.revision);
            input.counted.service.requests = self.counted;
            let (mut next, effects) = step(
                &self.rules.terms(),
                &[input],
                &Facts::default(),
                &self.state,
                &self.acts,
                at(self.second),
            );
            for Effect { route, weights, .. } in &effects {
                self.revision += 1;
                self.entry = Some(weights.clone());
                next.written(route, self.revision);
            }
            let still = next == self.state;
            self.state = next;
            if still && effects.is_empty() {
                return;
            }
        }
        panic!("does not settle: {:?}", self.state);
    }

    fn status(&self) -> &RouteStatus {
        &self.state.routes[0]
    }

    fn weight(&self) -> i32 {
        self.entry.as_ref().map_or(0, |entry| entry.effective("public"))
    }

    fn last(&self) -> (Outcome, &str) {
        let acted = self.state.acts.last().unwrap();
        (acted.outcome, &acted.message)
    }
}

const CONTENT: Option<&str> = Some("content");

#[test]
fn who_holds_a_route_is_said_until_it_goes_on() {
    let mut world = World::new();
    world.settle();
    world.act(Action::Hold, CONTENT);
    world.second = 100;
    world.settle();
    assert_eq!(world.weight(), 50);
    assert_eq!(world.status().waits_for, "Resume: held by alice (a bad night)");
    world.act(Action::Resume, CONTENT);
    world.settle();
    assert_eq!(world.weight(), 250);
    assert_eq!(world.state.acts.len(), 2, "none is done twice");
}

#[test]
fn a_plan_that_is_halted_begins_nothing() {
    let mut world = World::new();
    world.act(Action::Halt, None);
    world.settle();
    assert_eq!(world.weight(), 0);
    assert!(world.status().waits_for.contains("alice halted the plan"), "{}", world.status().waits_for);
    world.act(Action::Resume, CONTENT);
    world.settle();
    assert_eq!(world.weight(), 0);
    assert!(world.last().1.contains("halted still"), "{:?}", world.last());
    world.act(Action::Resume, None);
    world.settle();
    assert_eq!(world.weight(), 50);
}

#[test]
fn what_a_person_takes_back_stays_back_until_they_say_otherwise() {
    let mut world = World::new();
    world.settle();
    world.act(Action::Rollback, CONTENT);
    world.settle();
    assert_eq!((world.status().phase, world.weight()), (Phase::RolledBack, 0));
    let why = &world.state.history.last().unwrap().message;
    assert_eq!(why, "taken back by alice (a bad night)");
    world.second = 100_000;
    world.settle();
    assert_eq!(world.weight(), 0);
    // Its only attempt was used; a person who says so gives another one, to other users.
    world.act(Action::Resume, CONTENT);
    world.settle();
    assert_eq!((world.status().attempt, world.status().epoch, world.weight()), (2, 1, 50));
}

#[test]
fn a_promotion_is_for_one_step_and_waits_for_nothing() {
    let mut world = World::new();
    world.counted = 0;
    world.act(Action::Promote, CONTENT);
    world.settle();
    assert_eq!(world.last().0, Outcome::Refused, "nothing is on its way");
    assert_eq!(world.weight(), 50);
    world.act(Action::Promote, CONTENT);
    world.settle();
    assert_eq!((world.last().0, world.weight()), (Outcome::Done, 250));
    world.second = 1000;
    world.settle();
    assert_eq!(world.weight(), 250, "no evidence");
}

#[test]
fn an_approval_is_bound_to_what_was_looked_at() {
    let mut world = World::new();
    world.profile.ramp[1].approval = true;
    world.settle();
    world.second = 20;
    world.settle();
    assert_eq!((world.weight(), world.status().waits_for.as_str()), {
        (50, "an approval of step 2: kubectl stomaton approve content")
    });
    let approves = |attempt, step, hash: &str| Approves {
        attempt: Some(attempt),
        step: Some(step),
        spec_hash: hash.into(),
    };
    for (wrong, why) in [
        (approves(1, 2, "fedcba9876543210"), "edited"),
        (approves(2, 2, "0123456789abcdef"), "comes to step 2 of attempt 1"),
        (approves(1, 3, "0123456789abcdef"), "comes to step 2 of attempt 1"),
    ] {
        world.act_as(Action::Approve, CONTENT, Some(wrong));
        world.settle();
        assert_eq!((world.last().0, world.weight()), (Outcome::Refused, 50));
        assert!(world.last().1.contains(why), "{:?}", world.last());
    }
    world.act_as(Action::Approve, CONTENT, Some(approves(1, 2, "0123456789abcdef")));
    world.settle();
    assert_eq!((world.last().0, world.weight()), (Outcome::Done, 250));
    assert_eq!(world.status().approved, None, "for one step only");
}

#[test]
fn the_first_step_can_need_an_approval_too() {
    let mut world = World::new();
    world.profile.ramp[0].approval = true;
    world.settle();
    assert_eq!(world.weight(), 0);
    let approves = Approves { attempt: Some(1), step: Some(1), spec_hash: "0123456789abcdef".into() };
    world.act_as(Action::Approve, CONTENT, Some(approves));
    world.settle();
    assert_eq!(world.weight(), 50);
}

#[test]
fn a_route_that_is_not_in_the_plan_is_refused_by_name() {
    let mut world = World::new();
    world.act(Action::Hold, Some("nobody"));
    world.settle();
    assert_eq!(world.last(), (Outcome::Refused, "the plan has no route nobody"));
}

#[test]
fn acts_are_kept_up_to_a_bound_but_none_is_done_again() {
    let mut world = World::new();
    for _ in 0..MAX_ACTS + 5 {
        world.act(Action::Hold, CONTENT);
    }
    world.settle();
    assert_eq!(world.state.acts.len(), MAX_ACTS + 5, "they still come");
    // Their answers have arrived.
    let first = world.acts.remove(0);
    world.settle();
    assert_eq!(world.state.acts.len(), MAX_ACTS + 4);
    assert!(world.state.acts.iter().all(|acted| acted.uid != first.uid));
}
