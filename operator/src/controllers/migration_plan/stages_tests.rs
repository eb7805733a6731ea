//! Stages of a plan, through everything that their gates may say, and a drill from its beginning to its end.

use super::super::acts::Act;
use super::super::conditions;
use super::super::machine::tests::{Rules, at, profile, route, rules};
use super::super::machine::{Effect, step};
use super::*;
use serde_json::{Value, json};
use stomaton_crds::v1alpha1::{
    Action, Approves, MigrationPlan, Outcome, PlanActionSpec, Profile, RouteWeights,
};

/// Two stages with one route each, and edge pods that follow at once, unless a test says otherwise.
struct World {
    profile: Profile,
    rules: Rules,
    /// Names of routes, and the stage of each.
    routes: Vec<(&'static str, Option<&'static str>)>,
    facts: Facts,
    acts: Vec<Act>,
    state: State,
    entries: BTreeMap<String, RouteWeights>,
    revision: i64,
    /// Whether edge pods follow what is written.
    follows: bool,
    millis: i64,
}

fn stages(gates: Value, exit: Value) -> Vec<Stage> {
    let all = json!([{"name": "shared", "gates": gates, "exit": exit}, {"name": "domain"}]);
    serde_json::from_value(all).unwrap()
}

fn job() -> Value {
    json!({"name": "dry-run", "job": {"cronJob": "data-dry-run"}})
}

fn fact(of: &str, says: Says) -> Fact {
    Fact { of: of.into(), says }
}

fn passed() -> Fact {
    fact("t1", Says::Passed("Job dry-run-1 completed".into()))
}

impl World {
    fn new(gates: Value, exit: Value) -> Self {
        Self {
            profile: profile(&[50, 1000], 10),
            rules: Rules { stages: stages(gates, exit), ..rules(30, 2) },
            routes: vec![("auth", Some("shared")), ("search", Some("domain"))],
            facts: Facts::default(),
            acts: Vec::new(),
            state: State::default(),
            entries: BTreeMap::new(),
            revision: 0,
            follows: true,
            millis: 0,
        }
    }

    fn says(&mut self, gate: &str, exit: bool, fact: Fact) {
        self.facts.insert(Place { stage: "shared".into(), exit, gate: gate.into() }, fact);
    }

    fn now(&self) -> Timestamp {
        at(0).checked_add(jiff::SignedDuration::from_millis(self.millis)).unwrap()
    }

    fn pass(&mut self, change: impl Fn(&mut Route<'_>)) -> Vec<Effect> {
        let of = |&(name, stage): &(&'static str, Option<&'static str>)| {
            let mut route = route(&self.profile);
            (route.name, route.id, route.stage) = (name, Some(format!("id-{name}")), stage);
            route.entry = self.entries.get(&format!("id-{name}")).cloned();
            (route.weights_revision, route.seen) = (self.revision, 0);
            route.acknowledged = Some(if self.follows { self.revision } else { 0 });
            route.counted.service.requests = 100;
            change(&mut route);
            route
        };
        let routes: Vec<Route<'_>> = self.routes.iter().map(of).collect();
        let terms = self.rules.terms();
        let (mut next, effects) = step(&terms, &routes, &self.facts, &self.state, &self.acts, self.now());
        if !effects.is_empty() {
            self.revision += 1;
        }
        for effect in &effects {
            self.entries.insert(effect.id.clone(), effect.weights.clone());
            next.written(&effect.route, self.revision);
        }
        self.state = next;
        effects
    }

    /// Passes until nothing is left to do at this moment.
    fn settle(&mut self) {
        for _ in 0..20 {
            let before = self.state.clone();
            if self.pass(|_| {}).is_empty() && self.state == before {
                return;
            }
        }
        panic!("does not settle: {:#?}", self.state);
    }

    fn wait(&mut self, seconds: i64) {
        self.millis += seconds * 1000;
        self.settle();
    }

    fn act(&mut self, action: Action, spec_hash: Option<&str>) -> (Outcome, String) {
        let number = self.acts.len();
        let spec = PlanActionSpec {
            plan: "p".into(),
            action,
            route: None,
            user: "alice".into(),
            reason: None,
            approves: spec_hash.map(|hash| Approves { attempt: None, step: None, spec_hash: hash.into() }),
            stage: Some("shared".into()),
        };
        let at = self.now();
        self.acts.push(Act { name: format!("act-{number}"), uid: format!("uid-{number}"), spec, at });
        self.pass(|_| {});
        let acted = self.state.acts.last().unwrap();
        (acted.outcome, acted.message.clone())
    }

    fn status(&self, name: &str) -> &RouteStatus {
        self.state.routes.iter().find(|status| status.name == name).unwrap()
    }

    fn weight(&self, name: &str) -> i32 {
        self.entries.get(&format!("id-{name}")).map_or(0, |entry| entry.effective("public"))
    }

    fn gate(&self) -> &GateStatus {
        &self.state.stages[0].gates[0]
    }

    fn phases(&self) -> Vec<StagePhase> {
        self.state.stages.iter().map(|stage| stage.phase).collect()
    }

    fn wanted(&self) -> Vec<(String, i32)> {
        let wanted = wanting(&self.rules.stages, &self.state.stages);
        wanted.into_iter().map(|(_, place, _, attempt)| (place.gate, attempt)).collect()
    }
}

#[test]
fn stages_come_one_after_the_other() {
    let mut world = World::new(json!([]), json!([]));
    world.settle();
    assert_eq!(world.phases(), [StagePhase::Open, StagePhase::Waiting]);
    assert_eq!((world.weight("auth"), world.weight("search")), (50, 0));
    let waits = &world.status("search").waits_for;
    assert_eq!(waits, "stage shared, which comes before stage domain, to be done");
    world.wait(20);
    world.wait(20);
    assert_eq!(world.status("auth").phase, Phase::Done);
    assert_eq!(world.phases(), [StagePhase::Done, StagePhase::Open]);
    assert_eq!(world.weight("search"), 50);
}

#[test]
fn a_route_without_a_stage_is_bound_by_none_and_an_empty_stage_is_done() {
    let mut world = World::new(json!([job()]), json!([]));
    world.routes = vec![("auth", None), ("search", Some("domain"))];
    world.settle();
    assert_eq!((world.weight("auth"), world.weight("search")), (50, 0));
    world.says("dry-run", false, passed());
    world.settle();
    assert_eq!(world.phases(), [StagePhase::Done, StagePhase::Open]);
    assert_eq!(world.weight("search"), 50);
}

#[test]
fn a_gate_holds_its_stage_until_it_has_passed_and_says_why() {
    let mut world = World::new(json!([job()]), json!([]));
    world.settle();
    assert_eq!(world.weight("auth"), 0);
    assert_eq!(world.wanted(), [("dry-run".to_owned(), 1)]);
    world.says("dry-run", false, fact("t1", Says::NotYet("Job dry-run-1 runs".into())));
    world.settle();
    assert_eq!(world.status("auth").waits_for, "gate dry-run of stage shared: Job dry-run-1 runs");
    let look_again = super::super::machine::wake(&world.rules.terms(), &[], &world.state, world.now());
    assert_eq!(look_again, Some(ASK_AGAIN));
    world.says("dry-run", false, passed());
    world.settle();
    assert_eq!(world.weight("auth"), 50);
    assert_eq!(world.gate().state, GateState::Passed);
    assert_eq!(world.wanted(), [], "an open stage asks nothing");
}

#[test]
fn a_stage_that_is_open_stays_so_whatever_is_said_and_edited() {
    let mut world = World::new(json!([{"name": "up", "services": {}}]), json!([]));
    world.settle();
    world.says("up", false, fact("s", Says::Passed("2 services are Ready".into())));
    world.settle();
    assert_eq!(world.phases()[0], StagePhase::Open);
    world.says("up", false, fact("s", Says::NotYet("auth is not Ready".into())));
    world.rules.stages = stages(json!([job()]), json!([]));
    let before = world.state.stages.clone();
    world.settle();
    assert_eq!(world.state.stages, before);
}

#[test]
fn services_follow_until_the_stage_opens_and_a_job_does_not() {
    let mut world = World::new(json!([job(), {"name": "up", "services": {}}]), json!([]));
    world.settle();
    assert_eq!(world.wanted().len(), 2, "both are asked at once");
    world.says("dry-run", false, fact("t1", Says::Unknown("no answer".into())));
    world.says("up", false, fact("s", Says::Passed("ready".into())));
    world.settle();
    world.says("dry-run", false, passed());
    world.says("up", false, fact("s", Says::NotYet("auth is not Ready".into())));
    world.settle();
    assert_eq!(world.phases()[0], StagePhase::Waiting);
    assert_eq!(world.status("auth").waits_for, "gate up of stage shared: auth is not Ready");
    // The Job was cleaned up; what it has shown stays shown.
    world.says("dry-run", false, fact("t2", Says::Failed("gone".into())));
    world.says("up", false, fact("s", Says::Passed("ready".into())));
    world.settle();
    assert_eq!(world.phases()[0], StagePhase::Open);
}

#[test]
fn a_job_that_failed_holds_until_its_template_is_mended() {
    let mut world = World::new(json!([job()]), json!([]));
    world.settle();
    world.says("dry-run", false, fact("t1", Says::Failed("Job dry-run-1: exit code 3".into())));
    world.settle();
    assert_eq!((world.gate().state, world.gate().attempt), (GateState::Failed, 1));
    let waits = &world.status("auth").waits_for;
    assert_eq!(waits, "gate dry-run of stage shared, which failed: Job dry-run-1: exit code 3");
    world.wait(100_000);
    assert_eq!(world.gate().attempt, 1, "nothing is tried again by itself");
    assert_eq!(world.wanted(), [("dry-run".to_owned(), 1)], "a template that is mended has to be seen");
    world.says("dry-run", false, fact("t2", Says::Failed("Job dry-run-1: exit code 3".into())));
    world.pass(|_| {});
    assert_eq!((world.gate().state, world.gate().attempt), (GateState::Asked, 2));
    assert_eq!(world.wanted(), [("dry-run".to_owned(), 2)]);
    world.says("dry-run", false, fact("t2", Says::Passed("done".into())));
    world.settle();
    assert_eq!(world.weight("auth"), 50);
}

#[test]
fn a_template_that_was_mended_while_its_job_ran_is_tried_too() {
    let mut world = World::new(json!([job()]), json!([]));
    world.settle();
    world.says("dry-run", false, fact("t1", Says::NotYet("runs".into())));
    world.settle();
    world.says("dry-run", false, fact("t2", Says::Failed("exit code 3".into())));
    world.pass(|_| {});
    world.pass(|_| {});
    assert_eq!((world.gate().state, world.gate().attempt), (GateState::Asked, 2));
}

#[test]
fn a_person_may_have_a_failed_gate_asked_anew() {
    let mut world = World::new(json!([job()]), json!([]));
    world.settle();
    let (outcome, message) = world.act(Action::Resume, None);
    assert_eq!((outcome, message.as_str()), (Outcome::Refused, "no gate of stage shared has failed"));
    world.says("dry-run", false, fact("t1", Says::Failed("exit code 3".into())));
    world.settle();
    let (outcome, message) = world.act(Action::Resume, None);
    assert_eq!((outcome, message.as_str()), (Outcome::Done, "gate dry-run of stage shared is asked anew"));
    assert_eq!(
        (world.gate().state, world.gate().attempt),
        (GateState::Asked, 2),
        "what is still said is of the first attempt"
    );
}

#[test]
fn a_gate_that_was_edited_is_asked_anew() {
    let mut world = World::new(json!([job(), {"name": "go", "approval": {}}]), json!([]));
    world.settle();
    world.says("dry-run", false, passed());
    world.settle();
    assert_eq!((world.gate().state, world.phases()[0]), (GateState::Passed, StagePhase::Waiting));
    let other = json!({"name": "dry-run", "job": {"cronJob": "another"}});
    world.rules.stages = stages(json!([other, {"name": "go", "approval": {}}]), json!([]));
    world.pass(|_| {});
    assert_eq!((world.gate().state, world.gate().attempt), (GateState::Asked, 2));
    assert_eq!(world.status("auth").waits_for, "gate dry-run of stage shared: no answer yet");
}

#[test]
fn an_approval_is_asked_when_the_others_have_passed_and_is_bound_to_the_spec() {
    let mut world = World::new(json!([{"name": "go", "approval": {}}, job()]), json!([]));
    world.settle();
    let (outcome, message) = world.act(Action::Approve, Some("0123456789abcdef"));
    assert_eq!(
        (outcome, message.as_str()),
        (Outcome::Refused, "no gate of stage shared waits for an approval now")
    );
    world.says("dry-run", false, passed());
    world.settle();
    assert_eq!(
        world.status("auth").waits_for,
        "an approval of gate go: kubectl stomaton approve --stage shared"
    );
    let (outcome, message) = world.act(Action::Approve, Some("fedcba9876543210"));
    assert!(outcome == Outcome::Refused && message.contains("edited"), "{message}");
    let (outcome, message) = world.act(Action::Approve, Some("0123456789abcdef"));
    assert_eq!((outcome, message.as_str()), (Outcome::Done, "gate go of stage shared has passed"));
    assert_eq!(world.gate().message, "approved by alice");
    world.settle();
    assert_eq!(world.weight("auth"), 50);
}

#[test]
fn the_next_stage_waits_for_the_exit_of_this_one() {
    let mut world = World::new(json!([]), json!([job()]));
    world.says("dry-run", true, passed());
    world.settle();
    assert_eq!(world.wanted(), [], "routes of the stage are not done");
    world.facts.clear();
    world.wait(20);
    world.wait(20);
    assert_eq!(world.status("auth").phase, Phase::Done);
    assert_eq!((world.phases()[0], world.weight("search")), (StagePhase::Open, 0));
    assert_eq!(world.wanted(), [("dry-run".to_owned(), 1)]);
    world.says("dry-run", true, passed());
    world.settle();
    assert_eq!((world.phases()[0], world.weight("search")), (StagePhase::Done, 50));
    // What is done stays so, even if its route comes back.
    world.pass(|route| route.target_ready = route.name != "auth");
    world.settle();
    assert_eq!((world.phases()[0], world.weight("search")), (StagePhase::Done, 50));
}

#[test]
fn an_attempt_after_a_rollback_needs_no_gate_again() {
    let mut world = World::new(json!([]), json!([]));
    world.settle();
    // The stage gets a gate and loses its status, as after a restore: what had begun is not bound by it.
    world.rules.stages = stages(json!([job()]), json!([]));
    world.state.stages.clear();
    world.pass(|route| route.target_ready = route.name != "auth");
    world.settle();
    assert_eq!(world.status("auth").phase, Phase::RolledBack);
    world.wait(40);
    assert_eq!((world.status("auth").attempt, world.weight("auth")), (2, 50));
}

/// A stage of two routes whose first is drilled; edge pods do not follow by themselves.
fn drill() -> World {
    let drill = json!({"name": "drill", "drill": {"route": "auth", "within": "250ms"}});
    let mut world = World::new(json!([drill, job()]), json!([]));
    world.routes = vec![("auth", Some("shared")), ("media", Some("shared"))];
    world.rules.rollback.max_attempts = 1;
    world.says("dry-run", false, passed());
    world.settle();
    world
}

#[test]
fn a_drill_takes_its_route_back_and_then_the_stage_opens() {
    let mut world = drill();
    assert_eq!((world.weight("auth"), world.weight("media")), (50, 0), "the drilled one goes first");
    assert!(world.status("media").waits_for.contains("gate drill of stage shared: route auth"));
    world.wait(9);
    assert_eq!(world.weight("auth"), 50, "its first step is not over");
    world.millis += 1000;
    let effects = world.pass(|_| {});
    assert!(effects[0].weights.latched && effects.len() == 1, "{effects:?}");
    assert_eq!(world.state.history.last().unwrap().message, "rollback drill");
    world.millis += 48;
    world.settle();
    assert_eq!(world.gate().message, "every edge pod followed in 48 ms, bound 250 ms");
    assert_eq!(world.phases()[0], StagePhase::Open);
    assert_eq!((world.weight("auth"), world.weight("media")), (50, 50), "at once");
    let status = world.status("auth");
    assert_eq!((status.attempt, status.epoch), (2, 1), "other users go first, and no attempt is used up");
    assert_eq!(world.rules.rollback.attempts(status), 2);
    world.wait(20);
    assert_eq!(world.weight("auth"), 1000, "it is drilled once");
}

#[test]
fn a_drill_that_is_too_slow_stops_the_stage_until_a_person_wants_another() {
    let mut world = drill();
    world.millis += 10_000;
    world.follows = true;
    world.pass(|_| {});
    world.follows = false;
    world.millis += 251;
    world.settle();
    world.follows = true;
    world.settle();
    assert_eq!(world.gate().state, GateState::Failed);
    assert_eq!(world.gate().message, "every edge pod followed only in 251 ms, bound 250 ms");
    world.wait(100_000);
    assert_eq!((world.weight("auth"), world.weight("media")), (0, 0));
    let waits = &world.status("auth").waits_for;
    assert!(waits.starts_with("gate drill of stage shared, which failed"), "{waits}");
    assert!(failed(&world.state.stages).unwrap().contains("resume --stage shared"));
    assert_eq!(world.act(Action::Resume, None).0, Outcome::Done);
    world.settle();
    assert_eq!((world.gate().attempt, world.weight("auth"), world.weight("media")), (2, 50, 0));
    world.millis += 10_000;
    world.pass(|_| {});
    world.millis += 20;
    world.settle();
    assert_eq!(world.phases()[0], StagePhase::Open);
    assert_eq!((world.weight("auth"), world.weight("media")), (50, 50));
    assert_eq!(world.status("auth").drill.as_ref().unwrap().drills, 2);
}

#[test]
fn a_breach_before_the_drill_is_an_ordinary_rollback() {
    let mut world = drill();
    world.rules.rollback.max_attempts = 2;
    world.pass(|route| route.target_ready = route.name != "auth");
    world.settle();
    assert_eq!((world.status("auth").phase, world.gate().state), (Phase::RolledBack, GateState::Asked));
    assert_eq!((world.status("auth").drill.clone(), world.weight("media")), (None, 0));
    world.wait(29);
    assert_eq!(world.weight("auth"), 0, "the cooldown is not over");
    world.wait(1);
    assert_eq!((world.status("auth").attempt, world.weight("auth")), (2, 50));
    world.wait(10);
    assert_eq!(world.phases()[0], StagePhase::Open, "and the drill is done then");
    assert_eq!(world.status("auth").attempt, 3);
}

#[test]
fn a_drill_needs_a_monolith_to_go_to() {
    let mut world = drill();
    world.millis += 10_000;
    assert_eq!(world.pass(|route| route.safe_ready = false), []);
    assert!(world.status("auth").waits_for.contains("the rollback drill goes there"));
    assert!(world.pass(|_| {})[0].weights.latched);
}

#[test]
fn what_a_stage_waits_for_is_the_reason_of_the_plan() {
    let mut world = World::new(json!([job(), {"name": "go", "approval": {}}]), json!([]));
    let reason = |world: &World| {
        let plan: MigrationPlan = serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan",
            "metadata": {"name": "p", "uid": "u"},
            "spec": {"gatewayRef": {"name": "edge"}, "routes": [], "profiles": []},
        }))
        .unwrap();
        let routes: Vec<Route<'_>> =
            world.routes.iter().map(|(name, _)| Route { name, ..route(&world.profile) }).collect();
        let terms = world.rules.terms();
        let status = conditions::status(&plan, &terms, &routes, None, world.state.clone(), world.now());
        let ready = &status.conditions[0];
        (ready.status.clone(), ready.reason.clone(), ready.message.clone())
    };
    let is = |status: &str, reason: &str, message: &str| {
        (status.to_owned(), reason.to_owned(), message.to_owned())
    };
    world.settle();
    let waits = is("True", "WaitingForGate", "stage shared waits for gate dry-run: no answer yet");
    assert_eq!(reason(&world), waits);
    world.says("dry-run", false, fact("t1", Says::Failed("exit code 3".into())));
    world.settle();
    let failed = "gate dry-run of stage shared failed: exit code 3; mend that, then: kubectl stomaton resume --stage shared";
    assert_eq!(reason(&world), is("False", "GateFailed", failed));
    world.act(Action::Resume, None);
    world.says("dry-run", false, passed());
    world.settle();
    let approval = "stage shared waits for an approval of gate go: kubectl stomaton approve --stage shared";
    assert_eq!(reason(&world), is("False", "ApprovalNeeded", approval));
}

#[test]
fn what_is_asked_names_the_services_of_the_stage() {
    let spec: MigrationPlanSpec = serde_json::from_value(json!({
        "gatewayRef": {"name": "edge"}, "profiles": [],
        "stages": [{"name": "shared", "gates": [{"name": "up", "services": {}}]}],
        "routes": [
            {"name": "a", "target": {"name": "auth"}, "profile": "p", "stage": "shared"},
            {"name": "b", "target": {"name": "auth"}, "profile": "p", "stage": "shared"},
            {"name": "c", "target": {"name": "media"}, "profile": "p"},
        ],
    }))
    .unwrap();
    let gate = GateStatus {
        name: "up".into(),
        state: GateState::Asked,
        of: spec.stages[0].gates[0].hash(),
        ..GateStatus::default()
    };
    let status = StageStatus { name: "shared".into(), gates: vec![gate], ..StageStatus::default() };
    let asked = asked(&spec, &[status]);
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].place.gate.as_str(), &asked[0].targets[..]), ("up", &["auth"][..]));
}
