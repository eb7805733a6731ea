//! A route on its way past its point of no return, through everything that takes others back.

use super::super::acts::Act;
use super::super::machine::tests::{Rules, at, profile, route, rules};
use super::super::machine::{Effect, State, step};
use super::super::stages::Facts;
use super::super::terms::{Back, Closed};
use super::*;
use crate::edges::tally::Breach;
use proptest::prelude::*;
use std::time::Duration;
use stomaton_crds::{
    conditions::Reason,
    v1alpha1::{Action, JudgeStatus, Outcome, PlanActionSpec, Profile, RouteWeights, Verdict},
};

/// Plan and edge in one: every write is acknowledged at once.
struct World {
    profile: Profile,
    rules: Rules,
    point: PointOfNoReturn,
    acts: Vec<Act>,
    state: State,
    entry: Option<RouteWeights>,
    revision: i64,
    second: i64,
}

impl World {
    fn new(permilles: &[i32], point: PointOfNoReturn) -> Self {
        Self {
            profile: profile(permilles, 10),
            rules: rules(30, 3),
            point,
            acts: Vec::new(),
            state: State::default(),
            entry: None,
            revision: 0,
            second: 0,
        }
    }

    /// One that crossed before its last step, and is done.
    fn done() -> Self {
        let mut world = Self::new(&[50, 1000], PointOfNoReturn::FullWeight);
        for second in [0, 20, 40] {
            world.second = second;
            world.settle(|_| {});
        }
        assert_eq!((world.status().phase, world.status().crossed), (Phase::Done, true));
        world
    }

    fn pass(&mut self, change: impl Fn(&mut Route<'_>)) -> Vec<Effect> {
        let mut input = route(&self.profile);
        input.point_of_no_return = Some(self.point);
        input.entry = self.entry.clone();
        (input.weights_revision, input.seen) = (self.revision, self.revision);
        input.acknowledged = Some(self.revision);
        input.counted.service.requests = 100;
        change(&mut input);
        let (mut next, effects) =
            step(&self.rules.terms(), &[input], &Facts::default(), &self.state, &self.acts, at(self.second));
        for effect in &effects {
            self.revision += 1;
            self.entry = Some(effect.weights.clone());
            next.written(&effect.route, self.revision);
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

    fn act(&mut self, action: Action) {
        let number = self.acts.len();
        let spec = PlanActionSpec {
            plan: "p".into(),
            action,
            route: Some("content".into()),
            user: "alice".into(),
            reason: None,
            approves: None,
            stage: None,
        };
        let (name, uid) = (format!("act-{number}"), format!("uid-{number}"));
        self.acts.push(Act { name, uid, spec, at: at(self.second) });
    }

    fn status(&self) -> &RouteStatus {
        &self.state.routes[0]
    }

    fn at_edge(&self) -> i32 {
        self.entry.as_ref().map_or(0, |entry| entry.effective("public"))
    }
}

fn unstructured(route: &mut Route<'_>) {
    route.structured = false;
}

fn breach(attempt: i32) -> Option<(i32, Breach)> {
    let guard = "bad-answers".into();
    let breach = Breach { guard, bad: 5, requests: 9, over_ms: 120, at: at(0), reported_by: None };
    Some((attempt, breach))
}

#[test]
fn the_way_back_is_gone_everywhere_before_the_step_that_needs_none() {
    let mut world = World::new(&[50, 1000], PointOfNoReturn::FullWeight);
    world.settle(|_| {});
    assert!(!world.status().has_no_way_back(), "it is not its turn yet");
    world.second = 20;
    world.settle(unstructured);
    assert_eq!((world.status().crossing, world.status().crossed, world.at_edge()), (true, false, 50));
    assert!(world.status().waits_for.contains("without a way back"), "{}", world.status().waits_for);
    let said = &world.state.history.last().unwrap().message;
    assert!(said.contains("point of no return"), "{said}");
    world.settle(|_| {});
    assert_eq!((world.status().crossing, world.status().crossed, world.at_edge()), (false, true, 1000));
    assert!(world.state.history.iter().all(|t| t.acknowledged.is_some()), "{:#?}", world.state.history);
}

#[test]
fn a_ramp_of_one_step_crosses_before_it_begins() {
    let mut world = World::new(&[1000], PointOfNoReturn::FullWeight);
    world.settle(unstructured);
    assert!(!world.status().crossing, "it has no structure to begin with");
    assert_eq!(world.pass(|_| {}), []);
    world.settle(unstructured);
    assert_eq!((world.status().phase, world.status().crossing, world.at_edge()), (Phase::Pending, true, 0));
    world.settle(|_| {});
    let status = world.status();
    assert_eq!((status.phase, status.attempt, world.at_edge()), (Phase::Ramp, 1, 1000));
}

#[test]
fn a_further_attempt_crosses_too_and_lifts_the_latch_of_the_one_before() {
    let mut world = World::new(&[50, 1000], PointOfNoReturn::FullWeight);
    world.settle(|_| {});
    world.settle(|route| route.breach = breach(1));
    assert_eq!((world.status().phase, world.at_edge()), (Phase::RolledBack, 0));
    world.profile = profile(&[1000], 10);
    world.second = 40;
    world.settle(|_| {});
    assert_eq!((world.status().attempt, world.status().crossed, world.at_edge()), (2, true, 1000));
}

#[test]
fn a_point_at_the_end_is_crossed_after_the_soak() {
    let mut world = World::new(&[50, 1000], PointOfNoReturn::Done);
    world.profile.soak = Some(Duration::from_secs(20).into());
    for second in [0, 20, 40] {
        world.second = second;
        world.settle(|_| {});
        assert!(!world.status().has_no_way_back(), "at second {second}");
    }
    assert_eq!(world.status().phase, Phase::Soak);
    world.second = 70;
    world.settle(unstructured);
    assert_eq!((world.status().phase, world.status().crossing), (Phase::Soak, true));
    world.settle(|_| {});
    assert_eq!((world.status().phase, world.status().crossed), (Phase::Done, true));
}

#[test]
fn a_point_that_is_named_when_the_route_is_done_is_crossed_then() {
    let mut world = World::new(&[1000], PointOfNoReturn::Done);
    let without = |route: &mut Route<'_>| route.point_of_no_return = None;
    world.settle(without);
    world.second = 20;
    world.settle(without);
    assert_eq!((world.status().phase, world.status().has_no_way_back()), (Phase::Done, false));
    world.settle(|_| {});
    assert_eq!((world.status().phase, world.status().crossed), (Phase::Done, true));
}

#[test]
fn what_keeps_weights_from_rising_keeps_a_route_from_crossing() {
    let mut world = World::new(&[1000], PointOfNoReturn::Done);
    world.settle(|_| {});
    world.second = 20;
    let closed = Closed { reason: Reason::OutsideWindow, what: "Monday".into(), until: None };
    world.rules.closed = Some(closed);
    world.settle(|_| {});
    assert!(!world.status().has_no_way_back());
    assert_eq!(world.status().waits_for, "Monday");
    world.rules.closed = None;
    world.settle(|_| {});
    assert!(world.status().crossed);
}

#[test]
fn nothing_takes_back_what_has_no_way_back() {
    type Blow = fn(&mut World);
    let blows: [(&str, Blow); 6] = [
        ("a guard", |world| world.settle(|route| route.breach = breach(1))),
        ("the plan", |world| world.rules.back = Some(Back { why: "the end".into(), done_too: true })),
        ("a person", |world| world.act(Action::Rollback)),
        ("break-glass", |world| {
            world.entry = Some(RouteWeights { latched: true, attempt: 1, step: 2, ..RouteWeights::default() })
        }),
        ("edge pods", |world| world.settle(|route| route.taken = 1)),
        ("a lost store", |world| world.entry = None),
    ];
    for (who, blow) in blows {
        let mut world = World::done();
        blow(&mut world);
        world.settle(|_| {});
        assert_eq!((world.status().phase, world.at_edge()), (Phase::Done, 1000), "{who}");
        assert_eq!(world.status().recalled, None, "{who}");
    }
}

#[test]
fn a_rollback_by_a_person_is_refused_in_words() {
    let mut world = World::done();
    world.act(Action::Rollback);
    world.settle(|_| {});
    let acted = world.state.acts.last().unwrap();
    assert_eq!(acted.outcome, Outcome::Refused);
    assert!(acted.message.contains("the point of no return is behind it"), "{}", acted.message);
}

#[test]
fn what_was_latched_while_it_crossed_is_of_an_attempt_that_is_over() {
    let mut world = World::new(&[50, 1000], PointOfNoReturn::FullWeight);
    world.settle(|_| {});
    world.second = 20;
    world.settle(unstructured);
    world.entry = Some(RouteWeights { latched: true, attempt: 1, step: 1, ..RouteWeights::default() });
    world.revision += 1;
    assert_eq!(world.pass(unstructured), [], "nobody hears of weights now");
    world.settle(|_| {});
    assert_eq!((world.status().attempt, world.at_edge()), (2, 1000));
}

#[test]
fn a_route_whose_target_is_away_freezes_until_a_person_resumes_it() {
    let mut world = World::done();
    world.settle(|route| route.target_ready = false);
    assert_eq!((world.status().phase, world.at_edge()), (Phase::Frozen, 1000));
    let why = "a person: the target has no ready endpoint; the point of no return is behind it, so it stays with the service";
    assert_eq!(world.status().waits_for, why);
    world.settle(|_| {});
    assert_eq!((world.status().phase, world.status().waits_for.as_str()), (Phase::Frozen, why));
    world.act(Action::Resume);
    world.settle(|_| {});
    let status = world.status();
    assert_eq!((status.phase, status.frozen_in, world.at_edge()), (Phase::Done, None, 1000));
    assert_eq!(status.attempt, 2, "what was counted before counts no more");
}

#[test]
fn a_resume_without_a_cure_freezes_anew() {
    let mut world = World::done();
    let away = |route: &mut Route<'_>| route.target_ready = false;
    world.settle(away);
    world.act(Action::Resume);
    world.settle(away);
    assert_eq!((world.status().phase, world.status().frozen_in), (Phase::Frozen, Some(Phase::Done)));
}

#[test]
fn a_judge_that_says_harm_freezes_it_where_it_is_watched() {
    let profile = profile(&[1000], 10);
    let harm = JudgeStatus { name: "errors".into(), verdict: Verdict::Harm, ..JudgeStatus::default() };
    let mut status =
        RouteStatus { phase: Phase::Soak, crossed: true, judges: vec![harm], ..RouteStatus::default() };
    assert!(hurt(&route(&profile), &status).unwrap().contains("judge errors"));
    status.crossed = false;
    assert_eq!(hurt(&route(&profile), &status), None, "it goes back");
    (status.crossed, status.phase, status.frozen_in) = (true, Phase::Frozen, Some(Phase::Soak));
    thaw(&mut status);
    assert_eq!((status.phase, hurt(&route(&profile), &status)), (Phase::Soak, None));
}

#[test]
fn an_edited_route_stays_with_its_service() {
    let mut world = World::done();
    let edited = |route: &mut Route<'_>| route.id = Some("fedcba9876543210".into());
    world.entry = None;
    let effects = world.pass(edited);
    assert_eq!((effects[0].id.as_str(), world.at_edge()), ("fedcba9876543210", 1000));
    world.settle(edited);
    assert_eq!((world.status().phase, world.status().crossed), (Phase::Done, true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever happens once a route crosses: no write takes it back, and it is never on its way back.
    #[test]
    fn from_crossing_on_no_write_takes_it_back(
        at_the_end in any::<bool>(),
        happenings in prop::collection::vec(0u8..12, 1..100),
    ) {
        let point = if at_the_end { PointOfNoReturn::Done } else { PointOfNoReturn::FullWeight };
        let mut world = World::new(&[50, 250, 1000], point);
        let mut had_none = false;
        for what in happenings {
            let saved = world.state.clone();
            let attempt = world.state.routes.first().map_or(0, |status| status.attempt);
            match what {
                0..=3 => world.second += 15,
                4 => world.act(Action::Rollback),
                5 => world.act(Action::Resume),
                6 => world.entry = None,
                7 => {
                    world.revision += 1;
                    world.entry.iter_mut().for_each(|entry| entry.latched = true);
                }
                _ => {}
            }
            let effects = world.pass(|route| {
                route.structured = what != 8;
                route.target_ready = what != 9;
                route.breach = (what == 10).then(|| breach(attempt)).flatten();
            });
            let status = world.status();
            prop_assert!(!had_none || effects.iter().all(|effect| !effect.weights.latched), "{:?}", effects);
            prop_assert!(!had_none || status.has_no_way_back());
            had_none |= status.has_no_way_back();
            let goes_back = matches!(status.phase, Phase::RollingBack);
            prop_assert!(!had_none || !goes_back);
            // A crash after the write and before its record. What status says first is never lost.
            if what == 11 && saved.routes.first().is_some_and(RouteStatus::has_no_way_back) == had_none {
                world.state = saved;
            }
        }
    }
}
