//! The state diagram of docs/migration.md, found out from the machine: from every place that a route comes to, each
//! thing that can happen to it alone, and the phase that follows. `make diagram` writes it. Reads and writes that page.

use super::acts::{Act, next_number};
use super::machine::tests::{answered, at, breach, judged, profile, route};
use super::machine::{Route, State, step};
use super::ramp::elapsed;
use super::stages::Facts;
use super::terms::{Back, Closed};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::Path,
    sync::LazyLock,
    time::Duration,
};
use stomaton_crds::{
    conditions::Reason,
    v1alpha1::{
        Action, Approves, Phase, PlanActionSpec, PointOfNoReturn, Profile, RampStep, RouteStatus,
        RouteWeights,
    },
};

const BEGIN: &str = "<!-- Drawn by `make diagram`, from the machine. -->\n";
const END: &str = "<!-- End of what is drawn. -->\n";

/// The route that is looked at, and the other one of its group.
const GROUP: [&str; 2] = ["content", "cart"];
const EDIT: &str = "an edit";

/// Something without which a route does not begin, or does not stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Target,
    Monolith,
    Structure,
    Open,
    NoHalt,
    Order,
    Room,
}

const NEEDS: [Need; 7] =
    [Need::Target, Need::Monolith, Need::Structure, Need::Open, Need::NoHalt, Need::Order, Need::Room];

/// One thing that happens, while everything else stays as it is.
#[derive(Clone, Copy, Debug)]
enum Change {
    Acknowledged,
    Seconds(i64),
    Answers,
    /// Answers that a judge calls harm.
    Harm,
    Breach,
    /// A breach of the other route of the group.
    BreachBeside,
    Lost(Need),
    Back(Need),
    Act(Action),
    /// Somebody latches at the edge, past the machine.
    Latched,
    /// Edge pods have taken back by weights that nobody else knows.
    Taken,
    /// The write of the status that followed the last write to the edge is lost.
    Unrecorded,
    Edited,
}

impl Change {
    fn all() -> impl Iterator<Item = Self> {
        let alone = [
            Self::Acknowledged,
            Self::Seconds(5),
            Self::Seconds(3600),
            Self::Answers,
            Self::Harm,
            Self::Breach,
            Self::BreachBeside,
            Self::Latched,
            Self::Taken,
            Self::Unrecorded,
            Self::Edited,
        ];
        let acts = [Action::Approve, Action::Hold, Action::Resume, Action::Promote, Action::Rollback];
        let needs = NEEDS.into_iter().flat_map(|need| [Self::Lost(need), Self::Back(need)]);
        alone.into_iter().chain(acts.map(Self::Act)).chain(needs)
    }

    /// How the diagram calls it.
    fn words(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledgement",
            Self::Seconds(_) => "time",
            Self::Answers => "answers",
            Self::Harm => "a judge",
            Self::Breach => "a guard",
            Self::BreachBeside => "its group",
            Self::Lost(Need::Target) => "no endpoint",
            Self::Lost(Need::NoHalt) => "halt or deletion",
            Self::Lost(_) => "something missing",
            Self::Back(Need::Target | Need::Monolith) => "endpoints",
            Self::Back(Need::Structure) => "structure",
            Self::Back(Need::Open | Need::NoHalt) => "the plan may move",
            Self::Back(Need::Order) => "dependsOn",
            Self::Back(Need::Room) => "budget",
            Self::Act(action) => action.as_str(),
            Self::Latched | Self::Taken | Self::Unrecorded => "found at the edge",
            Self::Edited => EDIT,
        }
    }
}

/// What the plan says: how fast, and after which route.
struct Plan {
    profile: Profile,
    after: [String; 1],
    point: Option<PointOfNoReturn>,
}

/// Everybody at once, and no soak; an audience first, and a soak; or a soak past the point of no return.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Careful,
    Owned,
}

impl Plan {
    /// Each step needs an approval.
    fn new(way: Way) -> Self {
        let mut profile = profile(&[50, 1000], 10);
        if way == Way::Careful {
            let audience = Some("internal".to_owned());
            profile.ramp.insert(0, RampStep { audience, permille: 1000, ..profile.ramp[0].clone() });
        }
        profile.soak = (way != Way::Plain).then(|| Duration::from_secs(100).into());
        profile.ramp.iter_mut().for_each(|step| step.approval = true);
        let point = (way == Way::Owned).then_some(PointOfNoReturn::FullWeight);
        Self { profile, after: ["first".to_owned()], point }
    }
}

/// Plan, edge and pods in one. Nothing is acknowledged, and no time passes, but by a change.
#[derive(Clone, Default)]
struct World {
    state: State,
    /// The state before the last write to the edge, until that is acknowledged.
    unrecorded: Option<State>,
    entries: [Option<RouteWeights>; 2],
    revision: i64,
    acknowledged: i64,
    second: i64,
    /// Answers of the present step: good ones, and 404.
    good: u64,
    missing: u64,
    /// The attempt in which a guard tripped.
    breaches: [Option<i32>; 2],
    taken: i32,
    /// One at a time: what is missing together is mended one by one.
    lacks: Option<Need>,
    edited: bool,
}

impl World {
    fn status(&self) -> RouteStatus {
        self.state.routes.first().cloned().unwrap_or_default()
    }

    fn observed<'p>(&self, plan: &'p Plan, number: usize) -> Route<'p> {
        let edited = self.edited && number == 0;
        let counted = answered(self.good + self.missing, self.missing);
        Route {
            name: GROUP[number],
            group: Some("shop"),
            id: Some(format!("{number}{edited}")),
            structured: self.lacks != Some(Need::Structure) && !edited,
            entry: self.entries[number].clone(),
            weights_revision: self.revision,
            seen: self.revision,
            taken: if edited { 0 } else { self.taken },
            acknowledged: Some(self.acknowledged),
            target_ready: self.lacks != Some(Need::Target),
            safe_ready: self.lacks != Some(Need::Monolith),
            counted,
            judged: counted,
            breach: self.breaches[number].and_then(breach),
            depends_on: &plan.after,
            point_of_no_return: plan.point,
            ..route(&plan.profile)
        }
    }

    fn pass(&mut self, plan: &Plan, acts: &[Act]) {
        let lack = self.lacks;
        let lacks = |need: Need| lack == Some(need);
        let mut rules = judged();
        rules.budget.moving_routes = Some(2);
        let closed = || Closed { reason: Reason::Halted, what: "its time".into(), until: None };
        rules.closed = (lacks(Need::Open) || lacks(Need::NoHalt)).then(closed);
        rules.back = lacks(Need::NoHalt).then(|| Back { why: "halt".into(), done_too: true });
        let mut routes: Vec<Route<'_>> = (0..2).map(|number| self.observed(plan, number)).collect();
        let mut before = self.state.clone();
        // Of these the Gateway knows nothing, so they stand where they are put.
        let first = if lacks(Need::Order) { Phase::Pending } else { Phase::Done };
        let beside = if lacks(Need::Room) { Phase::Ramp } else { Phase::Done };
        for (name, phase) in [("first", first), ("beside", beside)] {
            routes.push(Route { name, id: None, ..route(&plan.profile) });
            before.routes.push(RouteStatus { name: name.into(), phase, ..RouteStatus::default() });
        }
        let (mut next, effects) =
            step(&rules.terms(), &routes, &Facts::default(), &before, acts, at(self.second));
        next.routes.truncate(GROUP.len());
        if !effects.is_empty() {
            let mut unrecorded = std::mem::take(&mut self.state);
            unrecorded.acts.clear();
            self.unrecorded = Some(unrecorded);
            self.revision += 1;
            (self.good, self.missing) = (0, 0);
        }
        for effect in effects {
            next.written(&effect.route, self.revision);
            let number = GROUP.iter().position(|name| *name == effect.route).unwrap();
            self.entries[number] = Some(effect.weights);
        }
        next.history.clear();
        self.state = next;
    }

    /// Passes until nothing follows any more.
    fn settle(&mut self, plan: &Plan, acts: &[Act], mut moved: impl FnMut(Phase, Phase)) {
        for _ in 0..10 {
            let (before, from) = (self.state.clone(), self.status().phase);
            self.pass(plan, acts);
            moved(from, self.status().phase);
            if self.state == before {
                self.state.acts.clear();
                return;
            }
        }
        panic!("does not settle: {:?}", self.state);
    }

    /// Makes the change, and gives the act that it is; none if it cannot happen here.
    fn make(&mut self, change: Change, plan: &Plan) -> Option<Vec<Act>> {
        let status = self.status();
        let free = self.lacks.is_none() && status.held.is_none() && status.recalled.is_none();
        match change {
            Change::Acknowledged => (self.acknowledged, self.unrecorded) = (self.revision, None),
            Change::Seconds(seconds) => self.second += seconds,
            Change::Answers => self.good += 1000,
            Change::Harm => (self.good, self.missing) = (self.good + 100, self.missing + 400),
            Change::Breach => self.breaches[0] = Some(status.attempt),
            Change::BreachBeside => self.breaches[1] = Some(status.attempt),
            Change::Lost(need) if free => self.lacks = Some(need),
            Change::Back(need) if self.lacks == Some(need) => self.lacks = None,
            Change::Lost(_) | Change::Back(_) => return None,
            Change::Act(Action::Hold | Action::Rollback) if !free => return None,
            Change::Act(action) => return Some(vec![self.act(action, &status, plan)]),
            Change::Latched => {
                self.entries.iter_mut().flatten().for_each(|entry| entry.latched = true);
                self.revision += 1;
            }
            Change::Taken => self.taken = status.attempt.max(1),
            Change::Unrecorded => self.state = self.unrecorded.take()?,
            Change::Edited => {
                (self.edited, self.entries[0], self.breaches[0]) = (true, None, None);
            }
        }
        Some(Vec::new())
    }

    fn act(&self, action: Action, status: &RouteStatus, plan: &Plan) -> Act {
        let approves = || Approves {
            attempt: Some(if status.phase.has_weight() { status.attempt } else { status.attempt + 1 }),
            step: Some(next_number(&self.observed(plan, 0), status)),
            spec_hash: judged().terms().spec_hash,
        };
        let spec = PlanActionSpec {
            plan: "plan".into(),
            action,
            route: Some(GROUP[0].into()),
            user: "ann".into(),
            reason: None,
            approves: (action == Action::Approve).then(approves),
            stage: None,
        };
        Act { name: "act".into(), uid: "act".into(), spec, at: at(self.second) }
    }

    /// What makes a difference to what can follow. Places with the same key are looked at once.
    fn key(&self) -> String {
        let of = |(number, status): (usize, &RouteStatus)| {
            let place = (status.phase, status.phase.has_weight().then_some(status.step), status.attempt);
            let past = (status.crossing, status.crossed, status.frozen_in);
            let waited = elapsed(status, at(self.second)).map(|waited| waited.as_secs());
            let waited = waited.map(|seconds| (seconds >= 5, seconds >= 3600));
            let verdicts: Vec<_> = status.judges.iter().map(|judge| judge.verdict).collect();
            let breached = self.breaches[number] == Some(status.attempt);
            let stopped = (status.held.is_some(), status.recalled.is_some());
            let given = (status.approved, status.promoted, status.granted);
            let enough = status.evidence.requests >= 20;
            format!("{:?}", (place, past, waited, verdicts, enough, breached, stopped, given))
        };
        let routes: Vec<String> = self.state.routes.iter().enumerate().map(of).collect();
        let acknowledged = self.acknowledged == self.revision;
        format!("{:?}", (routes, self.lacks, self.taken, acknowledged, self.unrecorded.is_some()))
    }
}

/// A phase, in the order of the way.
type Place = (u8, &'static str);
/// What leads from one phase to another.
type Arrows = BTreeMap<(Place, Place), BTreeSet<&'static str>>;

fn place(phase: Phase) -> Place {
    (phase as u8, phase.as_str())
}

/// Attempts within which is looked: a further one has no other ways.
const MOST_ATTEMPTS: i32 = 2;

/// Adds what leads from phase to phase in this plan, from everywhere that a route comes to within these attempts.
fn explore(plan: &Plan, arrows: &mut Arrows) {
    let lacking = NEEDS.into_iter().map(Some).chain([None]);
    let mut open: VecDeque<World> = lacking.map(|lacks| World { lacks, ..World::default() }).collect();
    let mut seen = BTreeSet::new();
    for world in &mut open {
        world.settle(plan, &[], |_, _| {});
        seen.insert(world.key());
    }
    while let Some(world) = open.pop_front() {
        for change in Change::all() {
            let mut next = world.clone();
            let Some(acts) = next.make(change, plan) else { continue };
            next.settle(plan, &acts, |from, to| {
                if from != to {
                    arrows.entry((place(from), place(to))).or_default().insert(change.words());
                }
            });
            if !next.edited && next.status().attempt <= MOST_ATTEMPTS && seen.insert(next.key()) {
                open.push_back(next);
            }
        }
    }
}

static ARROWS: LazyLock<Arrows> = LazyLock::new(|| {
    let mut arrows = Arrows::new();
    for way in [Way::Plain, Way::Careful, Way::Owned] {
        explore(&Plan::new(way), &mut arrows);
    }
    arrows
});

fn drawn() -> String {
    // Arrows from everywhere would hide all others.
    let (edits, moves): (Vec<_>, Vec<_>) =
        ARROWS.iter().partition(|(_, why)| why.iter().all(|words| *words == EDIT));
    let mut lines =
        vec!["```mermaid".to_owned(), "stateDiagram-v2".to_owned(), "    [*] --> Pending".to_owned()];
    for (((_, from), (_, to)), why) in moves {
        let why: Vec<&str> = why.iter().copied().collect();
        let rows: Vec<String> = why.chunks(3).map(|row| row.join(", ")).collect();
        lines.push(format!("    {from} --> {to}: {}", rows.join(",<br/>")));
    }
    let edited: Vec<&str> = edits.iter().map(|(((_, from), _), _)| *from).collect();
    lines.push(format!(
        "    note left of Pending: {EDIT} of the route leads here from<br/>{}",
        edited.join(", ")
    ));
    lines.push("```\n".to_owned());
    lines.join("\n")
}

#[test]
fn the_diagram_in_the_docs_is_that_of_the_machine() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/migration.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (there, after) = rest.split_once(END).unwrap();
    let drawn = drawn();
    if std::env::var_os("STOMATON_WRITE").is_some() {
        fs::write(&path, [before, BEGIN, drawn.as_str(), END, after].concat()).unwrap();
    } else {
        assert!(
            there == drawn,
            "docs/migration.md differs from the machine: run `make diagram`. It is\n{drawn}"
        );
    }
}

#[test]
fn everything_that_hurts_takes_back_at_once_and_the_way_goes_on_from_there() {
    let why = |from: Phase, to: Phase| ARROWS.get(&(place(from), place(to))).cloned().unwrap_or_default();
    let hurts = ["Rollback", "a guard", "halt or deletion", "its group", "no endpoint"];
    for from in [Phase::Cohort, Phase::Ramp, Phase::Soak, Phase::Done] {
        let back = why(from, Phase::RollingBack);
        assert!(hurts.iter().all(|words| back.contains(words)), "{from:?}: {back:?}");
        assert_eq!(back.contains("a judge"), from != Phase::Done, "{from:?}: {back:?}");
    }
    assert_eq!(why(Phase::RollingBack, Phase::RolledBack), BTreeSet::from(["acknowledgement"]));
    // Who is being taken back gets no weight, whatever happens, and nobody who was taken back is done.
    let from_back: Vec<&str> =
        ARROWS.keys().filter(|(from, _)| from.1 == "RollingBack").map(|(_, to)| to.1).collect();
    assert_eq!(from_back, ["Pending", "RolledBack"]);
    assert!(why(Phase::RolledBack, Phase::Ramp).contains("time"));
    for (from, to) in
        [(Phase::Pending, Phase::Done), (Phase::Cohort, Phase::Done), (Phase::RolledBack, Phase::Done)]
    {
        assert_eq!(why(from, to), BTreeSet::new(), "{from:?} to {to:?}");
    }
}
