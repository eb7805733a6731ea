//! Services that are sick in different ways at the same time: each is found by who should find it, and no other route
//! is touched. And a route that has nowhere to go back to.

use e2e::{
    harness::{
        Doing as _, Error,
        evidence::Evidence,
        fleet::{CONTENT, Fleet, Plan},
        namespace::Namespace,
        scenario::{Turn, scenario},
        service::{Service, can_fail, list},
        site::{self, AS_SUPPLIER, MONOLITH, SUPPLIERS, TOKEN_DIR},
        traffic::{Mix, Traffic},
        wait::{self, Seen},
    },
    load::record::{Record, Side},
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::{MigrationPlanStatus, Phase, RouteStatus};

const LIMIT: Duration = Duration::from_secs(90);
/// The plan of all routes but one.
const PLAN: &str = "faults";
/// A service that is twice as bad as what it takes over from, and the route and the plan of it.
const CREEP: &str = "creep";
/// What it takes over from.
const OLD: &str = "old";
/// Services that become sick, with their pods.
const SICK: [(&str, i32); 6] = [("slow", 1), ("third", 3), ("hangs", 1), ("gone", 1), (CREEP, 1), (OLD, 1)];
/// Load pods wait 10 s for an answer; that of the service that hangs waits 30 s.
const PATIENCE_MICROS: u64 = 29_000_000;

/// A route, the paths below which it is, its target, and what has to be in the reason why it is taken back; nothing: it
/// is not. Either the operator or an edge pod is first to find what a guard finds.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

const ROUTES: [Case; 8] = [
    ("steady", "/api/v1/content", CONTENT, &[]),
    ("slow", "/api/v1/content", "slow", &["judge slow"]),
    // The service does not know the paths below /api/v1/stomaton: the monolith does.
    ("posts", "/api/v1", CONTENT, &["judge client-errors"]),
    ("trade", "/api/v1", CONTENT, &["judge client-errors"]),
    ("third", "/api/v1/content", "third", &["guard bad-answers", "BadShare"]),
    // Edge pods ask a service that seems to hang by this path.
    ("hangs", "/api/v1/content/stats", "hangs", &["MissingAnswers"]),
    ("gone", "/api/v1/content", "gone", &["the target has no ready endpoint", "NoEndpoints"]),
    (CREEP, "/api/v1/content", CREEP, &["judge errors"]),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn each_fault_is_found_by_who_should_find_it_and_no_other_route_is_touched() {
    // Alone: a host belongs to the oldest Gateway that names it.
    scenario("faults", Turn::Alone, async |namespace| {
        let fleet = deploy(namespace).await?;
        namespace.apply_object(&list([plan(), creeping_plan()])).await?;
        let begun = |routes: &[RouteStatus]| !routes.is_empty() && routes.iter().all(|r| r.since.is_some());
        for plan in [PLAN, CREEP] {
            fleet.routes_are(plan, "all routes to have a weight", LIMIT, begun).await?;
        }
        let traffic = Traffic::start(&fleet, clients()).await?;
        // What is missing is told by what came in the five seconds before.
        traffic.goes_on(2000).await?;
        become_sick(namespace).await?;

        let back = |r: &RouteStatus| r.phase == Phase::RolledBack || r.name == "steady";
        let what = "every sick route to be back";
        let status = fleet.routes_are(PLAN, what, LIMIT, |routes| routes.iter().all(back)).await?;
        let crept = fleet.route_is(CREEP, "the creep to be found", LIMIT, back).await?;
        traffic.goes_on(400).await?;
        found_by_whom(&status, &crept)?;

        let records = traffic.finish().await?;
        let evidence = Evidence { records: &records, status: &status };
        let lost: Vec<_> =
            evidence.lost().into_iter().filter(|r| r.latency_micros() < PATIENCE_MICROS).collect();
        assert_eq!(lost, Vec::<&Record>::new(), "lost otherwise than by a service that hangs");
        let trade = status.routes.iter().find(|r| r.name == "trade").map(|r| r.id.as_str());
        let met = |audience: Option<&str>| {
            let of = |r: &&Record| {
                r.route() == trade && r.side() == Some(Side::Service) && r.audience() == audience
            };
            records.iter().filter(of).count()
        };
        assert!(met(Some(SUPPLIERS)) > 0, "no supplier met the service");
        assert_eq!(met(None), 0, "others than suppliers met it");
        Ok(())
    })
    .await;
}

/// The fleet, the services that are to be sick, and an edge that tells the routes apart by host.
async fn deploy<'a>(namespace: &'a Namespace<'a>) -> Result<Fleet<'a>, Error> {
    let services = SICK.map(|(name, pods)| can_fail(name, pods));
    namespace.apply_object(&list(services.into_iter().chain([site::token()]))).await?;
    let fleet = Fleet::deploy(namespace).await?;
    for (name, _) in SICK {
        Service::named(namespace, name).is_ready().await?;
    }
    let route = |(name, path, ..): Case| {
        let matches = json!({"hosts": [format!("{name}.faults.test")], "pathPrefix": path});
        let backend = if name == CREEP { OLD } else { MONOLITH };
        json!({"name": name, "match": matches, "backend": {"name": backend}})
    };
    fleet.change_edge(json!({"routes": ROUTES.map(route), "cohort": site::cohort()})).await?;
    Ok(fleet)
}

/// A plan with these judges, of the route that creeps or of all others.
fn base(name: &str, judges: Value) -> Value {
    let ramp = vec![(500, "1h"), (1000, "1h")];
    let mut plan = Plan { name, ramp, min_requests: 20, cooldown: "1h", max_attempts: 1 }.object();
    plan["spec"]["judges"] = judges;
    let route = |(route, _, target, _): Case| {
        let profile = if route == "trade" { "trade" } else { "ramp" };
        json!({"name": route, "target": {"name": target}, "profile": profile})
    };
    let of_plan = |case: &Case| (case.0 == CREEP) == (name == CREEP);
    plan["spec"]["routes"] = ROUTES.into_iter().filter(of_plan).map(route).collect();
    plan
}

/// Half of everybody's requests; of one route those of suppliers first.
fn plan() -> Value {
    let judges = json!([
        {"name": "slow", "of": "Slow", "slowerThan": "1s"}, {"name": "client-errors", "of": "ClientErrors"},
    ]);
    let mut plan = base(PLAN, judges);
    let mut trade = plan["spec"]["profiles"][0].clone();
    trade["name"] = json!("trade");
    trade["ramp"][0]["audience"] = json!(SUPPLIERS);
    plan["spec"]["profiles"] = json!([plan["spec"]["profiles"][0], trade]);
    plan
}

/// A guard that asks for more than this service does wrong.
fn creeping_plan() -> Value {
    let mut plan = base(CREEP, json!([{"name": "errors", "of": "Errors"}]));
    plan["spec"]["guards"] = json!([{"name": "half", "minBad": 20, "badPermille": 500, "window": "10s"}]);
    plan
}

/// One load pod for each route, and one more for suppliers.
fn clients() -> Mix {
    const STATS: [&str; 2] = ["--path", "/api/v1/content/stats"];
    const UNKNOWN: [&str; 2] = ["--path", "/api/v1/stomaton/content/stats"];
    const POST: [&str; 2] = ["--path", "POST /api/v1/stomaton/content/generate"];
    let of = |host: &'static str, more: &[&[&'static str]]| {
        let mut options = vec!["--host", host];
        options.extend(more.concat());
        options
    };
    let variants = vec![
        of("steady.faults.test", &[&STATS]),
        of("slow.faults.test", &[&STATS]),
        of("posts.faults.test", &[&STATS, &POST]),
        of("trade.faults.test", &[&STATS]),
        of("trade.faults.test", &[&UNKNOWN, &AS_SUPPLIER]),
        of("third.faults.test", &[&STATS]),
        of("hangs.faults.test", &[&STATS, &["--timeout", "30s"]]),
        of("gone.faults.test", &[&STATS]),
        of("creep.faults.test", &[&STATS]),
    ];
    Mix { pods: 9, paths: vec![], variants, secrets: vec![(SUPPLIERS, TOKEN_DIR)], ..Mix::of_all_kinds(270) }
}

async fn become_sick(namespace: &Namespace<'_>) -> Result<(), Error> {
    let faults = [
        ("slow", json!({"latency_ms": 1500, "latency_permille": 1000})),
        ("third", json!({"errors_permille": 1000})),
        ("hangs", json!({"latency_ms": 60_000, "latency_permille": 1000})),
        (OLD, json!({"errors_permille": 150})),
        (CREEP, json!({"errors_permille": 300})),
    ];
    for (name, fault) in faults {
        let service = Service::named(namespace, name);
        let mut pods = service.ready_pods().await?;
        // One bad pod of three.
        pods.truncate(1);
        service.fail(&pods, &fault).await?;
    }
    Service::named(namespace, "gone").change(json!({"replicas": 0})).await
}

/// Each route was taken back once, for its own reason; the one that is well, never.
fn found_by_whom(status: &MigrationPlanStatus, crept: &MigrationPlanStatus) -> Result<(), Error> {
    for (route, _, _, reasons) in ROUTES {
        let history = status.history.iter().chain(&crept.history).filter(|t| t.route == route);
        let back = history.filter(|t| t.phase == Phase::RollingBack);
        let why: Vec<_> = back.map(|t| t.message.as_str()).collect();
        println!("{route}: {why:?}");
        let right = match (&why[..], reasons) {
            ([], []) => true,
            ([why], reasons) => reasons.iter().any(|reason| why.contains(reason)),
            _ => false,
        };
        if !right {
            return Err(Error::Broken(format!("{route} should be taken back by {reasons:?}: {why:?}")));
        }
    }
    let steady = status.routes.iter().find(|r| r.name == "steady");
    assert_eq!(steady.map(|r| (r.phase, r.attempt, r.weights.applied)), Some((Phase::Ramp, 1, 500)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_route_whose_monolith_is_gone_stays_with_a_bad_service_until_it_is_back() {
    scenario("stranded", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let ramp = vec![(500, "1h"), (1000, "1h")];
        let plan = Plan { name: PLAN, ramp, min_requests: 20, cooldown: "1h", max_attempts: 1 };
        fleet.apply_plan(&plan).await?;
        fleet.route_is(PLAN, "half of it to be there", LIMIT, |r| r.weights.applied == 500).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(150)).await?;
        traffic.goes_on(150).await?;

        scale_monolith(namespace, 0).await?;
        monolith_is_gone(namespace).await?;
        fleet.break_content(500).await?;
        let stuck = |r: &RouteStatus| r.waits_for.contains("the monolith has no ready endpoint");
        let stays = fleet.route_is(PLAN, "the plan to have no way back", LIMIT, stuck).await?;
        assert_eq!((stays.routes[0].phase, stays.routes[0].weights.applied), (Phase::Ramp, 500));
        let ready = stays.conditions.iter().find(|c| c.type_ == "Ready");
        assert_eq!(ready.map(|c| c.reason.as_str()), Some("MonolithDown"));
        traffic.goes_on(300).await?;
        where_the_weight_says(&traffic.records().await?, &stays);

        scale_monolith(namespace, 2).await?;
        let back = |r: &RouteStatus| r.phase == Phase::RolledBack;
        let status = fleet.route_is(PLAN, "the rollback, once there is a way", LIMIT, back).await?;
        traffic.goes_on(300).await?;
        where_the_weight_says(&traffic.finish().await?, &status);
        Ok(())
    })
    .await;
}

fn where_the_weight_says(records: &[Record], status: &MigrationPlanStatus) {
    let stale = Evidence { records, status }.stale();
    println!("{} requests, {} checked", records.len(), stale.checked);
    assert!(stale.checked > 300, "only {} answers prove anything", stale.checked);
    assert_eq!(stale.stale, Vec::<&Record>::new(), "on another side than the plan says");
}

async fn scale_monolith(namespace: &Namespace<'_>, replicas: i32) -> Result<(), Error> {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let scaled = namespace.api::<Deployment>().patch(MONOLITH, &PatchParams::default(), &patch).await;
    scaled.map(drop).doing("scale the monolith")
}

/// Waits until none of its pods is left: those on their way out still answer.
async fn monolith_is_gone(namespace: &Namespace<'_>) -> Result<(), Error> {
    let of_monolith = ListParams::default().labels("app.kubernetes.io/name=monolith");
    let pods = namespace.api::<Pod>();
    wait::until("the monolith to be gone", LIMIT, async || {
        let left = pods.list(&of_monolith).await.doing("list pods of the monolith")?.items.len();
        Ok(Seen::when(left == 0, || format!("{left} pods are left")))
    })
    .await
}
