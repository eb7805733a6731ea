//! Weights that move under load: of three routes, two of them a group, for two audiences and then for everybody, through
//! one plan after the other (a plan's history has 100 entries). Takes a fleet, plans and steps; gives what clients saw and
//! what it has to be judged by. I/O: the cluster.

use crate::{
    harness::{
        Doing as _, Error,
        fleet::{CONTENT, Fleet, Plan, now_micros},
        service::list,
        traffic::{Mix, Traffic},
        wait::{self, Seen},
        weight_log::WeightLog,
    },
    load::{
        judge::{self, Staleness, WeightChange},
        record::Record,
    },
};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use stomaton_crds::v1alpha1::{MigrationPlan, MigrationPlanStatus, Phase, RouteStatus};

/// The routes, with their paths and groups: all of them go to the content service.
const ROUTES: [(&str, &str, Option<&str>); 3] = [
    ("recent", "/api/v1/content/recent", Some("pages")),
    ("stats", "/api/v1/content/stats", Some("pages")),
    ("content", "/api/v1/content", None),
];
/// What load pods ask for: every route. Neither side has the last path; a 404 is an answer like any other.
const PATHS: [&str; 3] =
    ["/api/v1/content/recent?limit=5", "/api/v1/content/stats", "/api/v1/content/nothing"];
const GROUP: &str = "pages";
const INTERNAL: &str = "internal";
const SUPPLIERS: &str = "suppliers";
/// Everybody, and those who are known by a token.
pub const AUDIENCES: [Option<&str>; 3] = [None, Some(INTERNAL), Some(SUPPLIERS)];
const HOLD: &str = "500ms";
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// What became of it.
pub struct Outcome {
    /// Every request that was sent, in the order in which they were.
    pub records: Vec<Record>,
    /// Revisions of the weights.
    pub revisions: usize,
    /// Every change of every route, for each audience.
    changes: Vec<WeightChange>,
    /// Identities of the routes of the group, plan by plan.
    groups: Vec<Vec<String>>,
}

impl Outcome {
    /// Answers by a side that the acknowledged weight had not chosen.
    pub fn stale(&self) -> Staleness<'_> {
        judge::stale(&self.changes, &self.records)
    }

    /// Answers that show a group half moved.
    pub fn half_moved(&self) -> Vec<&Record> {
        let at = |micros: u64| self.records.partition_point(|record| record.sent_micros < micros);
        let mut found = Vec::new();
        for group in &self.groups {
            let routes: Vec<&str> = group.iter().map(String::as_str).collect();
            let Some(first) = routes.first() else { continue };
            for audience in AUDIENCES {
                let of = |c: &&WeightChange| c.route == *first && c.audience.as_deref() == audience;
                let changes: Vec<_> = self.changes.iter().filter(of).collect();
                let mut from = 0;
                for (index, change) in changes.iter().enumerate() {
                    let until = changes.get(index + 1).map_or(u64::MAX, |next| next.begun_micros);
                    let within = &self.records[at(change.begun_micros)..at(until)];
                    found.extend(judge::half_moved(&routes, audience, (from, change.permille), within));
                    from = change.permille;
                }
            }
        }
        found
    }
}

/// Clients of every audience and every habit.
pub fn clients(rate: u32) -> Mix {
    const TOKENS: [&str; 2] =
        ["x-stomaton-token=/var/run/e2e/internal/token", "x-stomaton-token=/var/run/e2e/suppliers/token"];
    let [internal, suppliers] = TOKENS.map(|token| ["--header-from-file", token]);
    let (looks_not, far) = (["--no-check-eof"], ["--delay", "15ms"]);
    Mix {
        pods: 6,
        paths: PATHS.into(),
        secrets: vec![(INTERNAL, "/var/run/e2e/internal"), (SUPPLIERS, "/var/run/e2e/suppliers")],
        variants: vec![
            vec![],
            [&internal[..], &looks_not].concat(),
            [&suppliers[..], &far].concat(),
            looks_not.into(),
            far.into(),
            internal.into(),
        ],
        ..Mix::of_all_habits(rate)
    }
}

/// Moves three routes to the service and back, so many times in so many steps for everybody, and on until so many requests
/// were sent. Steps are 28 at most: the history has a line for each step of each route.
pub async fn run(
    fleet: &Fleet<'_>,
    mix: Mix,
    plans: usize,
    steps: usize,
    requests: u64,
) -> Result<Outcome, Error> {
    let rate = u64::from(mix.rate.max(1));
    know_audiences(fleet).await?;
    let traffic = Traffic::start(fleet, mix).await?;
    let (mut changes, mut groups, mut revisions) = (Vec::new(), Vec::new(), BTreeSet::new());
    for number in 0..plans {
        if let Some(before) = number.checked_sub(1) {
            delete(fleet, &format!("steps-{before}"), &mut changes).await?;
        }
        let (name, log) = (format!("steps-{number}"), WeightLog::follow(fleet.namespace));
        let status = through(fleet, &name, steps).await?;
        for audience in AUDIENCES {
            changes.extend(log.changes(&status, audience)?);
        }
        revisions.extend(status.history.iter().map(|transition| transition.revision));
        groups.push(group(&status));
    }
    // The last plan stays: what is sent under it can be checked.
    traffic.reaches(requests, Duration::from_secs(60 + 2 * requests / rate)).await?;
    let mut records = traffic.finish().await?;
    records.sort_by_key(|record| record.sent_micros);
    Ok(Outcome { records, revisions: revisions.len(), changes, groups })
}

/// Deletes a plan. Its routes go back to the monolith, and nobody is left to say when that was acknowledged.
async fn delete(fleet: &Fleet<'_>, name: &str, changes: &mut Vec<WeightChange>) -> Result<(), Error> {
    let mut last: BTreeMap<(String, Option<String>), WeightChange> = BTreeMap::new();
    for change in changes.iter() {
        last.insert((change.route.clone(), change.audience.clone()), change.clone());
    }
    let begun_micros = now_micros();
    let plans = fleet.namespace.api::<MigrationPlan>();
    plans.delete(name, &DeleteParams::default()).await.doing(format!("delete the plan {name}"))?;
    let back = |change: WeightChange| WeightChange {
        permille: 0,
        begun_micros,
        acknowledged_micros: None,
        ..change
    };
    changes.extend(last.into_values().filter(|change| change.permille > 0).map(back));
    wait::object(&plans, name, "the plan to be gone", GONE_WITHIN, |plan| {
        Seen::when(plan.is_none(), || "it is there".to_owned())
    })
    .await
}

/// An edge with the three routes that tells the audiences apart.
async fn know_audiences(fleet: &Fleet<'_>) -> Result<(), Error> {
    let secret = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "stringData": {"token": format!("{name}-0123456789abcdef")},
        })
    };
    fleet.namespace.apply_object(&list([secret(INTERNAL), secret(SUPPLIERS)])).await?;
    let audiences = [INTERNAL, SUPPLIERS].map(|name| json!({"name": name, "tokenSecret": name}));
    let routes = ROUTES.map(|(name, path, _)| json!({"name": name, "match": {"pathPrefix": path}}));
    fleet.change_edge(json!({"routes": routes, "cohort": {"audiences": audiences}})).await
}

/// Applies a plan, and waits until all of its routes are done.
async fn through(fleet: &Fleet<'_>, name: &str, steps: usize) -> Result<MigrationPlanStatus, Error> {
    fleet.namespace.apply_object(&plan(name, steps)).await?;
    let limit = Duration::from_secs(80 + 5 * steps as u64);
    let done = |routes: &[RouteStatus]| {
        routes.len() == ROUTES.len() && routes.iter().all(|route| route.phase == Phase::Done)
    };
    fleet.routes_are(name, "the plan to finish", limit, done).await
}

/// Internal users first, then suppliers, then everybody.
fn plan(name: &str, steps: usize) -> Value {
    let mut plan = Plan { name, ramp: Vec::new(), min_requests: 1, cooldown: "1s", max_attempts: 1 }.object();
    let first = [(INTERNAL, 500), (INTERNAL, 1000), (SUPPLIERS, 500), (SUPPLIERS, 1000)];
    let first = first
        .map(|(audience, permille)| json!({"audience": audience, "permille": permille, "minHold": HOLD}));
    let then = (1..=steps).map(|step| json!({"permille": step * 1000 / steps, "minHold": HOLD}));
    plan["spec"]["profiles"][0]["ramp"] = first.into_iter().chain(then).collect();
    let of_plan = |(name, _, group): (&str, &str, Option<&str>)| {
        let mut route = json!({"name": name, "target": {"name": CONTENT}, "profile": "ramp"});
        if let Some(group) = group {
            route["group"] = json!(group);
        }
        route
    };
    plan["spec"]["routes"] = json!(ROUTES.map(of_plan));
    plan
}

/// Identities of the routes of the group.
fn group(status: &MigrationPlanStatus) -> Vec<String> {
    let is_in = |route: &&RouteStatus| {
        ROUTES.iter().any(|(name, _, group)| *name == route.name && *group == Some(GROUP))
    };
    status.routes.iter().filter(is_in).map(|route| route.id.clone()).collect()
}
