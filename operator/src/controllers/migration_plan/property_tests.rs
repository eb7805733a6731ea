//! What is true of the machine whatever happens, in whatever order, to three routes: in a group or not, one after another
//! or not, with little room in the budget. The edge is simulated: it has what was written, and acknowledges now and then.

use super::acts::Act;
use super::machine::tests::{Rules, answered, at, breach, judged, profile, route, rules};
use super::machine::{Effect, Route, State, step, wanted};
use super::stages::Facts;
use super::terms::{Back, Closed};
use proptest::prelude::*;
use std::collections::BTreeMap;
use stomaton_crds::{
    conditions::Reason,
    v1alpha1::{Action, Phase, PlanActionSpec, Profile, RampStep, RouteWeights},
};

const NAMES: [&str; 3] = ["cart", "checkout", "search"];
/// Seconds that each step lasts at least.
const HOLD: i64 = 10;
/// Fewer faultless answers cannot show that less than 2 % are bad.
const SAFE_TAKES: u64 = 250;

/// What may happen between two looks.
#[derive(Clone, Debug)]
enum Happening {
    Seconds(i64),
    Acknowledge,
    Silence,
    /// Good answers of every service.
    Answers(u64),
    /// 404 of one of them.
    Missing(usize),
    Breach(usize),
    /// For a moment the target has no endpoint.
    TargetFlaps(usize),
    Monolith(bool),
    Act(Action, usize),
    /// The plan may not move.
    Closed(bool),
    /// The plan takes everything back.
    Back(bool),
    /// The profile is edited: once.
    Profile,
    MovingRoutes(i32),
    Edit(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let one = || 0..NAMES.len();
    let acts =
        vec![Action::Hold, Action::Resume, Action::Resume, Action::Promote, Action::Rollback, Action::Halt];
    let act = (prop::sample::select(acts), one()).prop_map(|(action, number)| Happening::Act(action, number));
    let usual = prop_oneof![
        4 => (1i64..40).prop_map(Happening::Seconds),
        6 => Just(Happening::Acknowledge),
        1 => Just(Happening::Silence),
        4 => (50u64..400).prop_map(Happening::Answers),
        2 => act,
    ];
    let hurts = prop_oneof![
        one().prop_map(Happening::Missing),
        one().prop_map(Happening::Breach),
        one().prop_map(Happening::TargetFlaps),
        prop::bool::weighted(0.7).prop_map(Happening::Monolith),
        prop::bool::weighted(0.2).prop_map(Happening::Back),
    ];
    let edits = prop_oneof![
        prop::bool::weighted(0.3).prop_map(Happening::Closed),
        Just(Happening::Profile),
        (1i32..=3).prop_map(Happening::MovingRoutes),
        one().prop_map(Happening::Edit),
    ];
    prop_oneof![17 => usual, 2 => hurts, 1 => edits]
}

/// What the edge has of one route, and what came since it was written.
#[derive(Clone, Debug, Default)]
struct Entry {
    weights: RouteWeights,
    revision: i64,
    acknowledged_at: Option<i64>,
    good: u64,
    missing: u64,
    /// Whether somebody wanted the next step without waiting.
    promoted: bool,
}

/// Plan, edge and pods in one.
struct World {
    grouped: bool,
    /// What the last route waits for.
    order: Vec<String>,
    /// Before and after the edit. Its next step has a higher number from every place of the first.
    profiles: [Profile; 2],
    edited: usize,
    rules: Rules,
    acts: Vec<Act>,
    state: State,
    /// By identity.
    edge: BTreeMap<String, Entry>,
    edits: [u32; 3],
    revision: i64,
    acknowledged: Option<i64>,
    second: i64,
    /// The attempt in which a guard tripped.
    breaches: [Option<i32>; 3],
    monolith: bool,
}

/// Half of an audience first.
fn careful(permilles: &[i32]) -> Profile {
    let mut profile = profile(permilles, HOLD.unsigned_abs());
    let audience = Some("internal".to_owned());
    profile.ramp.insert(0, RampStep { audience, permille: 500, ..profile.ramp[0].clone() });
    profile
}

impl World {
    fn new(grouped: bool, ordered: bool, moving_routes: i32) -> Self {
        let mut rules = judged();
        rules.rollback.max_attempts = 3;
        rules.budget.moving_routes = Some(moving_routes);
        Self {
            grouped,
            order: if ordered { vec![NAMES[1].to_owned()] } else { Vec::new() },
            profiles: [careful(&[100, 1000]), careful(&[50, 300, 1000])],
            edited: 0,
            rules,
            acts: Vec::new(),
            state: State::default(),
            edge: BTreeMap::new(),
            edits: [0; 3],
            revision: 0,
            acknowledged: Some(0),
            second: 0,
            breaches: [None; 3],
            monolith: true,
        }
    }

    fn id(&self, number: usize) -> String {
        format!("{}-{}", NAMES[number], self.edits[number])
    }

    fn observed(&self, number: usize, gone: Option<usize>) -> Route<'_> {
        let id = self.id(number);
        let entry = self.edge.get(&id);
        let counted = entry.map(|e| answered(e.good + e.missing, e.missing)).unwrap_or_default();
        Route {
            name: NAMES[number],
            group: (self.grouped && number < 2).then_some("shop"),
            entry: entry.map(|e| e.weights.clone()),
            weights_revision: self.revision,
            seen: self.revision,
            acknowledged: self.acknowledged,
            target_ready: gone != Some(number),
            safe_ready: self.monolith,
            counted,
            judged: counted,
            breach: self.breaches[number].and_then(breach),
            depends_on: if number == 2 { &self.order } else { &[] },
            id: Some(id),
            ..route(&self.profiles[self.edited])
        }
    }

    /// One step, with everything that has to be true of it. Gives whether anything moved.
    fn pass(&mut self, gone: Option<usize>) -> Result<bool, TestCaseError> {
        let (now, acknowledged, second) = (at(self.second), self.acknowledged, self.second);
        for entry in self.edge.values_mut().filter(|entry| acknowledged >= Some(entry.revision)) {
            entry.acknowledged_at.get_or_insert(second);
        }
        let routes: Vec<Route<'_>> = (0..NAMES.len()).map(|number| self.observed(number, gone)).collect();
        let terms = self.rules.terms();
        let (mut next, effects) = step(&terms, &routes, &Facts::default(), &self.state, &self.acts, now);
        let again = step(&terms, &routes, &Facts::default(), &self.state, &self.acts, now);
        prop_assert!(again == (next.clone(), effects.clone()), "the same gives something else");
        self.harm_is_answered(&routes, &next, &effects)?;
        self.beginnings_have_room(&next, &effects)?;
        for effect in &effects {
            self.may_be_written(effect, &next)?;
        }
        let wrote = !effects.is_empty();
        self.revision += i64::from(wrote);
        for Effect { route, id, weights } in effects {
            next.written(&route, self.revision);
            self.edge.insert(id, Entry { weights, revision: self.revision, ..Entry::default() });
        }
        let moved = wrote || next != self.state;
        self.state = next;
        Ok(moved)
    }

    /// Whatever hurts is answered in the same step, unless there is no way back.
    fn harm_is_answered(
        &self,
        routes: &[Route<'_>],
        next: &State,
        effects: &[Effect],
    ) -> Result<(), TestCaseError> {
        for (route, after) in routes.iter().zip(&next.routes) {
            let Some(before) = self.state.routes.iter().find(|s| s.name == after.name) else { continue };
            let breached = route.breach.as_ref().is_some_and(|(attempt, _)| *attempt == before.attempt);
            let wanted_back = after.recalled.is_some() || self.rules.back.is_some();
            let hurts = breached || !route.target_ready || wanted_back;
            if before.id != after.id || !before.phase.has_weight() || !hurts || !route.safe_ready {
                continue;
            }
            prop_assert!(!after.phase.has_weight(), "{} goes on: {after:?}", route.name);
            // One write is for one group; that of another one that comes back may go first.
            let latched = route.entry.as_ref().is_some_and(|entry| entry.latched);
            let writes = effects.iter().any(|effect| effect.weights.latched);
            prop_assert!(latched || writes, "{} waits: {after:?}", route.name);
        }
        Ok(())
    }

    /// What begins has room in the budget, or is one group alone.
    fn beginnings_have_room(&self, next: &State, effects: &[Effect]) -> Result<(), TestCaseError> {
        let attempt = |id: &str| self.edge.get(id).map_or(0, |entry| entry.weights.attempt);
        let begins = |e: &Effect| !e.weights.latched && e.weights.attempt > attempt(&e.id);
        let under_way = next.routes.iter().filter(|status| status.phase.is_under_way());
        let names: Vec<&str> = under_way.map(|status| status.name.as_str()).collect();
        let allowed = self.rules.budget.moving_routes.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let one_group = self.grouped && !names.contains(&NAMES[2]);
        let fits = names.len() <= allowed || one_group;
        prop_assert!(fits || !effects.iter().any(begins), "{names:?} at once, {allowed} may be");
        Ok(())
    }

    /// No latch is lifted within an attempt, and no weight rises without everything that it needs.
    fn may_be_written(&self, effect: &Effect, next: &State) -> Result<(), TestCaseError> {
        let old = self.edge.get(&effect.id).cloned().unwrap_or_default();
        let new = &effect.weights;
        prop_assert!(new.attempt >= old.weights.attempt, "{effect:?} after {old:?}");
        let begins = new.attempt > old.weights.attempt;
        prop_assert!(begins || new.latched || !old.weights.latched, "{effect:?} lifts the latch of {old:?}");
        let more = |audience| new.effective(audience) > old.weights.effective(audience);
        if !more("internal") && !more("public") {
            return Ok(());
        }
        let held = next.routes.iter().any(|status| status.name == effect.route && status.held.is_some());
        let stopped = held || next.halted.is_some() || self.rules.closed.is_some();
        prop_assert!(!stopped, "{effect:?} although it is stopped");
        if begins {
            prop_assert!(self.monolith, "{effect:?} without a way back");
            return Ok(());
        }
        prop_assert!(self.acknowledged >= Some(old.revision), "{effect:?} before all serve {old:?}");
        let lasted = old.acknowledged_at.map_or(0, |since| self.second - since);
        let shown = lasted >= HOLD && old.good >= SAFE_TAKES;
        prop_assert!(old.promoted || shown, "{effect:?} after {lasted} s of {old:?}");
        Ok(())
    }

    /// Passes until nothing moves, as the operator makes them. Then the edge has what is wanted.
    fn settle(&mut self, gone: Option<usize>) -> Result<(), TestCaseError> {
        for _ in 0..12 {
            if !self.pass(gone)? {
                for (number, status) in self.state.routes.iter().enumerate() {
                    let has = self.edge.get(&self.id(number)).map(|entry| entry.weights.clone());
                    prop_assert_eq!(has, wanted(status), "{}", &status.name);
                }
                return Ok(());
            }
        }
        Err(TestCaseError::fail(format!("does not settle: {:?}", self.state)))
    }

    /// With `lost`, the operator dies after its next write to the edge and before that to the status.
    fn happen(&mut self, what: &Happening, lost: bool) -> Result<(), TestCaseError> {
        let mut gone = None;
        match *what {
            Happening::Seconds(seconds) => self.second += seconds,
            Happening::Acknowledge => self.acknowledged = Some(self.revision),
            Happening::Silence => self.acknowledged = None,
            Happening::Answers(good) => self.edge.values_mut().for_each(|entry| entry.good += good),
            Happening::Missing(number) => {
                let id = self.id(number);
                self.edge.get_mut(&id).into_iter().for_each(|entry| entry.missing += 100);
            }
            Happening::Breach(number) => {
                let status = self.state.routes.get(number);
                self.breaches[number] = status.map(|status| status.attempt);
            }
            Happening::TargetFlaps(number) => gone = Some(number),
            Happening::Monolith(ready) => self.monolith = ready,
            Happening::Act(action, number) => self.act(action, number),
            Happening::Closed(closed) => {
                let why = Closed { reason: Reason::OutsideWindow, what: "Monday".into(), until: None };
                self.rules.closed = closed.then_some(why);
            }
            Happening::Back(back) => {
                self.rules.back = back.then(|| Back { why: "the end".into(), done_too: true });
            }
            Happening::Profile => self.edited = 1,
            Happening::MovingRoutes(number) => self.rules.budget.moving_routes = Some(number),
            Happening::Edit(number) => {
                self.edits[number] += 1;
                self.breaches[number] = None;
            }
        }
        if !lost {
            return self.settle(gone);
        }
        let recorded = self.state.clone();
        self.pass(gone)?;
        self.state = recorded;
        Ok(())
    }

    fn act(&mut self, action: Action, number: usize) {
        let of_the_plan = matches!(action, Action::Halt | Action::Resume);
        let spec = PlanActionSpec {
            plan: "plan".into(),
            action,
            route: (!of_the_plan).then(|| NAMES[number].to_owned()),
            user: "ann".into(),
            reason: None,
            approves: None,
            stage: None,
        };
        let name = format!("act-{:03}", self.acts.len());
        self.acts.push(Act { uid: name.clone(), name, spec, at: at(self.second) });
        if action == Action::Promote {
            let with_it = |other: usize| other == number || (self.grouped && other < 2 && number < 2);
            let ids: Vec<String> = (0..NAMES.len()).filter(|n| with_it(*n)).map(|n| self.id(n)).collect();
            let promoted = self.edge.iter_mut().filter(|(id, _)| ids.contains(id));
            promoted.for_each(|(_, entry)| entry.promoted = true);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn weights_rise_with_evidence_within_the_budget_and_come_back_at_once_whatever_happens(
        (grouped, ordered, moving_routes) in (any::<bool>(), any::<bool>(), 1i32..=3),
        happenings in prop::collection::vec((happening(), prop::bool::weighted(0.15)), 1..60),
    ) {
        let mut world = World::new(grouped, ordered, moving_routes);
        for (what, lost) in &happenings {
            world.happen(what, *lost)?;
        }
    }
}

#[test]
fn where_nothing_goes_wrong_every_route_of_this_world_arrives() {
    let phases = |world: &World| world.state.routes.iter().map(|s| s.phase).collect::<Vec<_>>();
    for (grouped, ordered) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new(grouped, ordered, 1);
        for _ in 0..15 {
            for what in [Happening::Acknowledge, Happening::Seconds(15), Happening::Answers(400)] {
                world.happen(&what, false).unwrap();
            }
        }
        assert_eq!(phases(&world), [Phase::Done; 3], "{grouped} {ordered}");
        // And the other way round.
        world.happen(&Happening::Breach(0), false).unwrap();
        let cart = &world.edge["cart-0"].weights;
        assert!(cart.latched && cart.attempt == 1, "{cart:?}");
        assert_eq!(world.edge["checkout-0"].weights.latched, grouped);
    }
}

#[test]
fn a_beginning_whose_record_was_lost_has_its_place_in_the_budget() {
    let p = profile(&[1000], 10);
    let permille = BTreeMap::from([("public".to_owned(), 1000)]);
    let begun = RouteWeights { permille, attempt: 1, step: 1, latched: false };
    let lost =
        Route { name: "b", id: Some("b".into()), entry: Some(begun), weights_revision: 1, ..route(&p) };
    let routes = [Route { name: "a", ..route(&p) }, lost];
    let mut rules = rules(1, 1);
    rules.budget.moving_routes = Some(1);
    let (state, effects) = step(&rules.terms(), &routes, &Facts::default(), &State::default(), &[], at(0));
    assert_eq!(state.routes.iter().map(|s| s.phase).collect::<Vec<_>>(), [Phase::Pending, Phase::Ramp]);
    assert_eq!(effects, []);
}
