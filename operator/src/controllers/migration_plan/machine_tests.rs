//! The machine against a world that forgets, lags and breaks at any moment.

use super::super::terms::{Back, Closed};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use stomaton_crds::{
    conditions::Reason,
    edge_state::{Counts, Mix},
    v1alpha1::{Bad, Budget, Certainty, Judge, RampStep, Rollback, Stage, Verdict, Weights},
};

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

pub fn profile(permilles: &[i32], hold: u64) -> Profile {
    let ramp = permilles.iter().map(|&permille| RampStep {
        audience: None,
        permille,
        min_hold: Duration::from_secs(hold).into(),
        approval: false,
    });
    Profile { name: "p".into(), ramp: ramp.collect(), min_requests: 20, soak: None }
}

/// What a plan says as a whole.
#[derive(Default)]
pub struct Rules {
    pub rollback: Rollback,
    pub judges: Vec<Judge>,
    pub certainty: Certainty,
    pub budget: Budget,
    pub closed: Option<Closed>,
    pub back: Option<Back>,
    pub stages: Vec<Stage>,
}

impl Rules {
    pub fn terms(&self) -> Terms<'_> {
        Terms {
            rollback: &self.rollback,
            judges: &self.judges,
            certainty: &self.certainty,
            budget: &self.budget,
            spec_hash: "0123456789abcdef".into(),
            closed: self.closed.clone(),
            back: self.back.clone(),
            stages: &self.stages,
        }
    }
}

/// Rules of nothing but rollbacks.
pub fn rules(cooldown: u64, max_attempts: i32) -> Rules {
    Rules { rollback: rollback(cooldown, max_attempts), ..Rules::default() }
}

fn rollback(cooldown: u64, max_attempts: i32) -> Rollback {
    Rollback { cooldown: Duration::from_secs(cooldown).into(), max_attempts, ..Rollback::default() }
}

/// A route of which everything is as it should be.
pub fn route(profile: &Profile) -> Route<'_> {
    Route {
        name: "content",
        group: None,
        id: Some("0123456789abcdef".into()),
        profile,
        problem: None,
        structured: true,
        entry: None,
        weights_revision: 0,
        seen: 0,
        taken: 0,
        acknowledged: None,
        target_ready: true,
        safe_ready: true,
        counted: Sides::default(),
        judged: Sides::default(),
        breach: None,
        depends_on: &[],
        revisions: "new/old".into(),
        behind: Vec::new(),
        readings: BTreeMap::new(),
        point_of_no_return: None,
        start_at: None,
        stage: None,
    }
}

pub fn breach(attempt: i32) -> Option<(i32, Breach)> {
    let breach = Breach {
        guard: "bad-answers".into(),
        bad: 5,
        requests: 9,
        over_ms: 120,
        at: at(0),
        reported_by: None,
    };
    Some((attempt, breach))
}

fn answers(requests: u64) -> Sides {
    let counts = |requests| Counts { requests, ..Counts::default() };
    Sides { service: counts(requests), monolith: counts(3 * requests) }
}

/// Plan, edge and pods in one: applies effects, acknowledges, counts.
struct World {
    profile: Profile,
    rules: Rules,
    acts: Vec<Act>,
    state: State,
    entry: Option<RouteWeights>,
    revision: i64,
    acknowledged: Option<i64>,
    counted: u64,
    second: i64,
}

impl World {
    fn new(permilles: &[i32]) -> Self {
        Self {
            profile: profile(permilles, 10),
            rules: rules(30, 2),
            acts: Vec::new(),
            state: State::default(),
            entry: None,
            revision: 0,
            acknowledged: Some(0),
            counted: 100,
            second: 0,
        }
    }

    fn pass(&mut self, change: impl FnOnce(&mut Route<'_>)) -> Option<Effect> {
        let mut input = route(&self.profile);
        input.entry = self.entry.clone();
        input.weights_revision = self.revision;
        input.acknowledged = self.acknowledged;
        input.counted = answers(self.counted);
        change(&mut input);
        let (mut next, effects) =
            step(&self.rules.terms(), &[input], &Facts::default(), &self.state, &self.acts, at(self.second));
        let effect = effects.into_iter().next();
        if let Some(effect) = &effect {
            self.revision += 1;
            self.entry = Some(effect.weights.clone());
            next.written(&effect.route, self.revision);
        }
        self.state = next;
        effect
    }

    /// Passes until nothing is left to do at this moment, every pod acknowledging at once.
    fn settle(&mut self) {
        for _ in 0..10 {
            self.acknowledged = Some(self.revision);
            let before = self.state.clone();
            if self.pass(|_| {}).is_none() && self.state == before {
                return;
            }
        }
        panic!("does not settle: {:?}", self.state);
    }

    fn status(&self) -> &RouteStatus {
        &self.state.routes[0]
    }

    fn at_edge(&self) -> i32 {
        self.entry.as_ref().map_or(0, |e| e.effective(AUDIENCE_PUBLIC))
    }
}

#[test]
fn a_healthy_route_goes_through_every_weight_to_the_end() {
    let mut world = World::new(&[50, 250, 1000]);
    let mut seen = Vec::new();
    for second in 0..60 {
        world.second = second;
        world.settle();
        if seen.last() != Some(&world.at_edge()) {
            seen.push(world.at_edge());
        }
    }
    assert_eq!(seen, [50, 250, 1000]);
    assert_eq!(world.status().phase, Phase::Done);
    assert_eq!(world.status().weights, Weights { desired: 1000, applied: 1000, observed: Some(250) });
    assert!(world.state.history.iter().all(|t| t.acknowledged.is_some()), "{:#?}", world.state.history);
}

#[test]
fn nothing_begins_while_something_is_missing_and_status_says_what() {
    let p = profile(&[1000], 1);
    type TakeAway = fn(&mut Route<'_>);
    let missing: [(&str, TakeAway); 4] = [
        ("target", |r| r.target_ready = false),
        ("monolith", |r| r.safe_ready = false),
        ("structure", |r| r.structured = false),
        ("no such route", |r| r.problem = Some("no such route".into())),
    ];
    for (word, take_away) in missing {
        let mut input = route(&p);
        take_away(&mut input);
        let (state, effects) =
            step(&rules(1, 1).terms(), &[input], &Facts::default(), &State::default(), &[], at(0));
        assert_eq!(effects, [], "{word}");
        assert!(state.routes[0].waits_for.contains(word), "{}", state.routes[0].waits_for);
    }
}

#[test]
fn no_answers_no_advance() {
    let mut world = World::new(&[50, 1000]);
    world.counted = 19;
    world.settle();
    world.second = 1000;
    world.settle();
    assert_eq!(world.at_edge(), 50);
    assert!(world.status().waits_for.contains("19 of 20"), "{}", world.status().waits_for);
    world.counted = 20;
    world.settle();
    assert_eq!(world.at_edge(), 1000);
}

#[test]
fn no_acknowledgement_no_hold() {
    let mut world = World::new(&[50, 1000]);
    world.pass(|_| {});
    world.second = 1000;
    for acknowledged in [None, Some(0)] {
        world.acknowledged = acknowledged;
        assert_eq!(world.pass(|_| {}), None);
        assert_eq!((world.status().weights.applied, world.status().since.clone()), (0, None));
    }
}

#[test]
fn what_edge_pods_have_seen_and_nobody_else_knows_acknowledges_nothing() {
    let mut world = World::new(&[50, 1000]);
    world.pass(|_| {});
    world.acknowledged = Some(world.revision + 1);
    let seen = world.revision + 1;
    world.pass(|r| r.seen = seen);
    assert_eq!((world.status().weights.applied, world.status().since.clone()), (0, None));
    world.pass(|_| {});
    assert_eq!(world.status().weights.applied, 50);
}

#[test]
fn a_breach_is_answered_in_the_same_pass_whatever_else_is_the_matter() {
    let mut world = World::new(&[50, 1000]);
    world.settle();
    let effect = world.pass(|r| {
        (r.breach, r.acknowledged, r.structured, r.target_ready) = (breach(1), None, false, false);
        r.problem = Some("anything".into());
    });
    assert!(effect.unwrap().weights.latched);
    assert_eq!(world.at_edge(), 0);
    assert_eq!(world.status().phase, Phase::RollingBack);
    assert!(world.state.history.last().unwrap().message.contains("5 of 9"));
}

#[test]
fn who_does_not_follow_a_rollback_is_named() {
    let mut world = World::new(&[50, 1000]);
    world.settle();
    world.pass(|r| r.breach = breach(1));
    let mut waits_for = |behind: &[&str]| {
        world.pass(|r| r.behind = behind.iter().map(|pod| (*pod).to_owned()).collect());
        world.status().waits_for.clone()
    };
    assert_eq!(waits_for(&["a", "b"]), "edge pods to follow the rollback: a, b");
    assert_eq!(waits_for(&["a", "b", "c", "d", "e"]), "edge pods to follow the rollback: a, b, c and 2 more");
    assert_eq!(waits_for(&[]), "every edge pod to acknowledge the rollback");
}

#[test]
fn a_breach_of_an_earlier_attempt_says_nothing_about_this_one() {
    let mut world = World::new(&[50, 1000]);
    world.settle();
    assert_eq!(world.pass(|r| r.breach = breach(0)), None);
}

#[test]
fn without_a_monolith_traffic_stays() {
    let mut world = World::new(&[50, 1000]);
    world.settle();
    assert_eq!(world.pass(|r| (r.breach, r.safe_ready) = (breach(1), false)), None);
    assert_eq!(world.at_edge(), 50);
    assert!(world.status().waits_for.contains("monolith"), "{}", world.status().waits_for);
    assert!(world.pass(|r| r.breach = breach(1)).unwrap().weights.latched, "and goes back once there is one");
}

#[test]
fn after_a_rollback_other_users_go_first_and_attempts_end() {
    let mut world = World::new(&[50, 1000]);
    world.settle();
    world.pass(|r| r.breach = breach(1));
    world.settle();
    assert_eq!((world.status().phase, world.status().epoch), (Phase::RolledBack, 1));
    world.second = 29;
    world.settle();
    assert_eq!(world.at_edge(), 0, "the cooldown is not over");
    world.second = 30;
    assert_eq!(world.pass(|r| r.structured = false), None, "the new salt is not acknowledged");
    world.settle();
    assert_eq!((world.status().attempt, world.at_edge()), (2, 50));
    world.pass(|r| r.breach = breach(2));
    world.settle();
    world.second = 10_000;
    world.settle();
    assert_eq!((world.status().phase, world.at_edge()), (Phase::RolledBack, 0));
    assert!(world.status().waits_for.contains("maxAttempts"), "{}", world.status().waits_for);
}

#[test]
fn a_target_without_endpoints_gets_nothing() {
    let mut world = World::new(&[50, 1000]);
    world.settle();
    assert!(world.pass(|r| r.target_ready = false).unwrap().weights.latched);
}

#[test]
fn an_edited_target_begins_anew() {
    let mut world = World::new(&[50, 1000]);
    world.settle();
    world.pass(|r| (r.id, r.entry, r.structured) = (Some("fedcba9876543210".into()), None, false));
    assert_eq!((world.status().phase, world.status().attempt), (Phase::Pending, 0));
}

#[test]
fn an_edited_profile_moves_no_weight_by_itself() {
    let mut world = World::new(&[50, 1000]);
    world.settle();
    world.profile = profile(&[400, 1000], 10);
    world.settle();
    assert_eq!(world.at_edge(), 50);
    world.second = 10;
    world.settle();
    assert_eq!(world.at_edge(), 400);
}

#[test]
fn an_audience_has_the_service_before_everybody() {
    let mut world = World::new(&[50, 1000]);
    let step = RampStep {
        audience: Some("internal".into()),
        permille: 1000,
        min_hold: Duration::from_secs(10).into(),
        approval: false,
    };
    world.profile.ramp.insert(0, step);
    world.settle();
    let internal = |world: &World| world.entry.as_ref().unwrap().effective("internal");
    assert_eq!((world.at_edge(), internal(&world), world.status().step), (0, 1000, 1));
    assert_eq!(world.status().phase, Phase::Cohort);
    world.second = 9;
    world.settle();
    assert_eq!(world.at_edge(), 0, "the hold of the audience's step is not over");
    // The record of a write is lost: what the edge carries is taken over whole.
    world.state = State::default();
    world.settle();
    assert_eq!((world.at_edge(), internal(&world), world.status().step), (0, 1000, 1));
    world.second = 20;
    world.settle();
    assert_eq!((world.at_edge(), internal(&world), world.status().step), (50, 1000, 2));
    world.pass(|r| r.breach = breach(1));
    assert_eq!((world.at_edge(), internal(&world)), (0, 0));
    assert!(world.status().audiences.is_empty());
    world.settle();
    world.second = 60;
    world.settle();
    assert_eq!((world.at_edge(), internal(&world), world.status().attempt), (0, 1000, 2));
}

#[test]
fn a_latch_set_past_the_machine_is_adopted() {
    let mut world = World::new(&[50, 1000]);
    world.settle();
    world.entry = Some(RouteWeights { latched: true, attempt: 1, step: 1, ..RouteWeights::default() });
    world.revision += 1;
    world.settle();
    assert_eq!(world.status().phase, Phase::RolledBack);
}

#[test]
fn what_edge_pods_have_taken_back_is_not_forgotten_with_the_store() {
    // The store is that of a time before the rollback: weight, and a status that knows nothing.
    let mut world = World::new(&[50, 1000]);
    world.settle();
    let effect = world.pass(|r| (r.taken, r.seen) = (1, 9)).unwrap();
    assert!(effect.weights.latched && effect.weights.attempt == 1);
    // Or it is empty.
    let mut world = World::new(&[50, 1000]);
    let effect = world.pass(|r| (r.taken, r.seen) = (1, 9)).unwrap();
    assert!(effect.weights.latched && effect.weights.attempt == 1);
    // A pod that is late says nothing about a further attempt.
    let mut world = World::new(&[50, 1000]);
    world.settle();
    world.pass(|r| r.breach = breach(1));
    world.settle();
    world.second = 100;
    world.settle();
    assert_eq!((world.status().attempt, world.at_edge()), (2, 50));
    assert_eq!(world.pass(|r| r.taken = 1), None);
}

#[test]
fn deleted_weights_are_written_again() {
    let mut world = World::new(&[50, 1000]);
    world.settle();
    world.entry = None;
    assert!(world.pass(|_| {}).is_some());
    assert_eq!(world.at_edge(), 50);
}

#[test]
fn taking_back_goes_before_giving() {
    let p = profile(&[50, 1000], 10);
    let mut world = World::new(&[50, 1000]);
    world.settle();
    let mut second = world.status().clone();
    second.name = "other".into();
    let state = State {
        routes: vec![second.clone(), RouteStatus { name: "content".into(), ..second }],
        ..State::default()
    };
    let mut rises = route(&p);
    (rises.name, rises.entry, rises.acknowledged, rises.counted) =
        ("other", world.entry.clone(), Some(1), answers(50));
    let mut falls = route(&p);
    (falls.entry, falls.breach) = (world.entry.clone(), breach(1));
    let (_, effects) = step(&rules(1, 1).terms(), &[rises, falls], &Facts::default(), &state, &[], at(100));
    assert_eq!(effects.iter().map(|effect| effect.route.as_str()).collect::<Vec<_>>(), ["content"]);
}

#[test]
fn history_is_bounded() {
    let permilles: Vec<i32> = (1..=200).map(|n| n * 5).collect();
    let mut world = World::new(&permilles);
    for second in 0..3000 {
        world.second = second;
        world.settle();
    }
    assert_eq!(world.status().phase, Phase::Done);
    assert_eq!(world.state.history.len(), MAX_HISTORY);
}

#[test]
fn a_soak_comes_between_the_last_step_and_the_end() {
    let mut world = World::new(&[1000]);
    world.profile.soak = Some(Duration::from_secs(100).into());
    world.settle();
    world.second = 10;
    world.settle();
    assert_eq!((world.status().phase, world.at_edge()), (Phase::Soak, 1000));
    assert!(world.status().waits_for.contains("the soak, until"), "{}", world.status().waits_for);
    world.second = 109;
    world.settle();
    assert_eq!(world.status().phase, Phase::Soak);
    world.second = 110;
    world.settle();
    assert_eq!(world.status().phase, Phase::Done);
    let evidence: Vec<_> = world.state.history.iter().map(|t| t.evidence.is_some()).collect();
    assert_eq!(evidence, [false, false, true], "what was counted is said once");
    world.rules.back = Some(Back { why: "the end".into(), done_too: false });
    world.settle();
    assert_eq!(world.at_edge(), 1000);
    world.rules.back = Some(Back { why: "the end".into(), done_too: true });
    assert!(world.pass(|_| {}).unwrap().weights.latched);
}

#[test]
fn while_the_plan_is_closed_nothing_rises_and_everything_falls() {
    let closed = Closed { reason: Reason::OutsideWindow, what: "Monday".into(), until: Some(at(500)) };
    let mut world = World::new(&[50, 1000]);
    world.rules.closed = Some(closed.clone());
    world.settle();
    assert_eq!((world.at_edge(), world.status().waits_for.as_str()), (0, "Monday"));
    let p = profile(&[50], 1);
    let wake = wake(&world.rules.terms(), &[route(&p)], &world.state, at(100));
    assert_eq!(wake, Some(Duration::from_secs(400)));
    world.rules.closed = None;
    world.settle();
    world.rules.closed = Some(closed);
    world.second = 100;
    world.settle();
    assert_eq!((world.at_edge(), world.status().waits_for.as_str()), (50, "Monday"));
    assert!(world.pass(|r| r.breach = breach(1)).unwrap().weights.latched);
}

#[test]
fn a_route_begins_when_those_it_depends_on_are_done() {
    let (p, on) = (profile(&[1000], 10), ["content".to_owned()]);
    let rules = rules(1, 1);
    let mut second = route(&p);
    (second.name, second.depends_on) = ("other", &on);
    let routes = [route(&p), second];
    let (state, _) = step(&rules.terms(), &routes, &Facts::default(), &State::default(), &[], at(0));
    assert_eq!(state.routes[1].phase, Phase::Pending);
    assert!(state.routes[1].waits_for.contains("route content"), "{}", state.routes[1].waits_for);
    let done = RouteStatus { phase: Phase::Done, ..state.routes[0].clone() };
    let before = State { routes: vec![done, state.routes[1].clone()], ..State::default() };
    assert_eq!(
        step(&rules.terms(), &routes, &Facts::default(), &before, &[], at(1)).0.routes[1].phase,
        Phase::Ramp
    );
}

#[test]
fn no_more_routes_are_on_their_way_than_the_budget_has_room_for() {
    let p = profile(&[1000], 10);
    let names = ["a", "b", "c"];
    let routes = names.map(|name| Route { name, ..route(&p) });
    let mut rules = rules(1, 1);
    rules.budget.moving_routes = Some(2);
    let (state, _) = step(&rules.terms(), &routes, &Facts::default(), &State::default(), &[], at(0));
    assert_eq!(
        state.routes.iter().map(|s| s.phase).collect::<Vec<_>>(),
        [Phase::Ramp, Phase::Ramp, Phase::Pending]
    );
    assert!(state.routes[2].waits_for.contains("the budget: 2 routes"), "{}", state.routes[2].waits_for);
    // A group needs room for all of it, or the whole edge.
    let grouped = names.map(|name| Route { name, group: Some("g"), ..route(&p) });
    let (state, _) = step(&rules.terms(), &grouped, &Facts::default(), &State::default(), &[], at(0));
    assert!(state.routes.iter().all(|s| s.phase == Phase::Ramp));
}

#[test]
fn a_budget_of_bad_answers_stops_what_rises() {
    let mut world = World::new(&[50, 250, 1000]);
    world.rules.budget.bad_per_day = Some(7);
    world.settle();
    world.second = 20;
    world.pass(|r| r.counted.service.bad = 7);
    assert_eq!(world.at_edge(), 50);
    assert!(world.status().waits_for.contains("7 bad answers"), "{}", world.status().waits_for);
    // Said once, of the step that ended; after a day it is forgotten.
    world.pass(|r| (r.counted.service.bad, r.breach) = (7, breach(1)));
    world.settle();
    world.second = 3600;
    world.settle();
    assert_eq!(world.status().phase, Phase::RolledBack);
    world.second = 90_000;
    world.settle();
    assert_eq!(world.status().attempt, 2);
}

pub fn judged() -> Rules {
    let judge = Judge {
        name: "client-errors".into(),
        of: Bad::ClientErrors,
        slower_than: None,
        tolerable_permille: 1,
        safe_margin_permille: 2000,
        absolute_permille: 20,
        prometheus: None,
    };
    Rules { judges: vec![judge], ..rules(30, 2) }
}

/// So many answers of the service of which so many are 404, and ten times as many good ones of the monolith.
pub fn answered(requests: u64, missing: u64) -> Sides {
    let of = |requests, missing| Counts {
        requests,
        bad: 0,
        mix: Mix { classes: [0, requests - missing, 0, missing, 0], ..Mix::default() },
    };
    Sides { service: of(requests, missing), monolith: of(10 * requests, 0) }
}

#[test]
fn a_judge_is_heard_before_a_weight_rises_and_takes_back_what_hurts() {
    let mut world = World::new(&[50, 1000]);
    world.rules = judged();
    world.settle();
    world.second = 5;
    world.pass(|r| r.judged = answered(100, 0));
    world.second = 20;
    world.pass(|r| r.judged = answered(150, 0));
    assert_eq!(world.at_edge(), 50, "50 answers after the warm-up show nothing");
    let said = &world.status().judges[0];
    assert_eq!((said.verdict, said.counted.requests), (Verdict::NotYet, 150));
    assert!(world.status().waits_for.contains("judge client-errors"), "{}", world.status().waits_for);
    world.pass(|r| r.judged = answered(1000, 0));
    assert_eq!(world.at_edge(), 1000);
    assert_eq!(world.status().judges[0].counted.requests, 0, "each step is judged for itself");

    let mut world = World::new(&[50, 1000]);
    world.rules = judged();
    world.settle();
    world.second = 5;
    let effect = world.pass(|r| r.judged = answered(200, 40));
    assert!(effect.unwrap().weights.latched, "20 % of 404 where the monolith has none");
    assert!(world.state.history.last().unwrap().message.contains("judge client-errors: 40 of 200"));
}

#[test]
fn what_is_counted_while_caches_are_cold_or_of_pods_that_are_gone_is_left_out() {
    let mut world = World::new(&[50, 1000]);
    world.rules = judged();
    world.settle();
    world.second = 1;
    world.pass(|r| r.judged = answered(200, 40));
    assert_eq!(world.status().judges[0].counted.requests, 0, "warming up");
    world.second = 20;
    world.pass(|r| r.judged = answered(1200, 40));
    assert_eq!(world.at_edge(), 1000, "1,000 good ones since");

    let mut world = World::new(&[50, 1000]);
    world.rules = judged();
    world.settle();
    for (second, revisions, counted) in [(5, "new/old", 1000), (20, "newer/old", 0)] {
        world.second = second;
        world.pass(|r| (r.judged, r.revisions) = (answered(1000, 0), revisions.into()));
        assert_eq!(world.status().judges[0].counted.requests, counted, "{revisions}");
    }
    assert_eq!(world.at_edge(), 50);
}

#[test]
fn where_the_monolith_answers_nothing_it_is_what_it_was() {
    let mut world = World::new(&[50, 1000]);
    world.rules = judged();
    world.settle();
    // One in ten is 404 on both sides: that is what users ask for.
    let natural = |requests: u64| {
        let Sides { service, .. } = answered(requests, requests / 10);
        Sides { service, monolith: service }
    };
    world.second = 20;
    world.pass(|r| r.judged = natural(20_000));
    assert_eq!(world.at_edge(), 1000);
    let alone = |requests, missing| Sides { monolith: Counts::default(), ..answered(requests, missing) };
    world.settle();
    world.second = 40;
    world.pass(|r| r.judged = alone(2000, 200));
    assert_eq!(world.status().judges[0].monolith_permille, Some(100));
    assert_eq!(world.status().judges[0].verdict, Verdict::Safe, "{:?}", world.status().judges);
    world.second = 41;
    world.settle();
    let mut hurt = world.state.clone();
    hurt.routes[0].phase = Phase::Soak;
    world.state = hurt;
    assert!(world.pass(|r| r.judged = alone(4000, 2000)).unwrap().weights.latched);
}

/// What may happen between two passes.
#[derive(Clone, Debug)]
enum Happening {
    Seconds(i64),
    Acknowledge,
    Silence,
    Answers(u64),
    Breach,
    TargetFlaps,
    /// The process dies after the edge write, before the status write.
    CrashAfterEdgeWrite,
    /// Somebody deletes EdgeWeights.
    WeightsDeleted,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (1i64..15).prop_map(Happening::Seconds),
        6 => Just(Happening::Acknowledge),
        1 => Just(Happening::Silence),
        3 => (0u64..60).prop_map(Happening::Answers),
        1 => Just(Happening::Breach),
        1 => Just(Happening::TargetFlaps),
        2 => Just(Happening::CrashAfterEdgeWrite),
        1 => Just(Happening::WeightsDeleted),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens, in whatever order: a weight rises only by one declared step, after an acknowledgement and
    /// with evidence; and a breach is followed by 0 in the same pass and until the next attempt.
    #[test]
    fn weights_rise_only_with_evidence(happenings in prop::collection::vec(happening(), 1..120)) {
        let declared = [0, 50, 250, 600, 1000];
        let mut world = World::new(&declared[1..]);
        let mut latched: BTreeSet<i32> = BTreeSet::new();
        for what in happenings {
            let (before, acknowledged, counted) = (world.at_edge(), world.acknowledged, world.counted);
            let attempt_before = world.entry.as_ref().map_or(0, |e| e.attempt);
            let saved = world.state.clone();
            let mut breached = false;
            let mut target_ready = true;
            match what {
                Happening::Seconds(n) => world.second += n,
                Happening::Acknowledge => world.acknowledged = Some(world.revision),
                Happening::Silence => world.acknowledged = None,
                Happening::Answers(n) => world.counted = n,
                Happening::Breach => breached = true,
                Happening::TargetFlaps => target_ready = false,
                Happening::WeightsDeleted => world.entry = None,
                Happening::CrashAfterEdgeWrite => {}
            }
            let crash = matches!(what, Happening::CrashAfterEdgeWrite);
            let deleted = matches!(what, Happening::WeightsDeleted);
            let was_moving = world.state.routes.first().is_some_and(|r| r.phase.has_weight());
            let attempt = world.state.routes.first().map_or(0, |r| r.attempt);
            world.pass(|r| {
                r.breach = breached.then(|| breach(attempt)).flatten();
                r.target_ready = target_ready;
            });
            let after = world.at_edge();
            prop_assert!(declared.contains(&after));
            if (breached || !target_ready) && was_moving {
                prop_assert_eq!(after, 0);
                latched.insert(attempt);
            }
            if let Some(entry) = &world.entry {
                prop_assert!(entry.latched || !latched.contains(&entry.attempt), "attempt {} went on", entry.attempt);
            }
            let attempt_after = world.entry.as_ref().map_or(0, |e| e.attempt);
            if after > before && !deleted && attempt_after == attempt_before && before > 0 {
                let steps = declared.iter().filter(|d| **d > before && **d <= after).count();
                prop_assert_eq!(steps, 1, "from {} to {}", before, after);
                prop_assert!(acknowledged.is_some() || matches!(what, Happening::Acknowledge));
                prop_assert!(counted >= 20 || matches!(what, Happening::Answers(n) if n >= 20));
            }
            if crash {
                world.state = saved;
            }
        }
    }

    /// However often the process dies, a healthy route ends where it would have ended without.
    #[test]
    fn crashes_do_not_change_the_end(crashes in prop::collection::btree_set(0usize..60, 0..20)) {
        let mut world = World::new(&[50, 250, 1000]);
        for pass in 0..120 {
            world.second += 3;
            world.acknowledged = Some(world.revision);
            let saved = world.state.clone();
            world.pass(|_| {});
            if crashes.contains(&pass) {
                world.state = saved;
            }
        }
        prop_assert_eq!(world.status().phase, Phase::Done);
        prop_assert_eq!((world.at_edge(), world.status().attempt), (1000, 1));
    }
}
