//! What a plan heeds beside its guards: judges, people, windows; and how it ends.

use e2e::harness::{
    Doing as _, Error,
    evidence::Evidence,
    fleet::{EDGE, Fleet, Plan, ROUTE},
    namespace::Namespace,
    scenario::{Turn, scenario},
    traffic::{Mix, Traffic},
    wait::{self, Seen},
};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::{Gateway, MigrationPlan, Phase, Verdict};

const PLAN: &str = "heeds";
const LIMIT: Duration = Duration::from_secs(90);
const RATE: u32 = 200;

fn plan(ramp: Vec<(i32, &str)>, changes: Value) -> Value {
    let mut object = Plan { name: PLAN, ramp, min_requests: 20, cooldown: "10s", max_attempts: 3 }.object();
    for (field, value) in changes.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

/// Judges as a plan has them that says nothing of them.
fn judged(ramp: Vec<(i32, &str)>) -> Value {
    let mut object = plan(ramp, json!({}));
    object["spec"].as_object_mut().map(|spec| spec.remove("judges"));
    object
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn judges_take_back_what_no_guard_sees_and_let_pass_what_is_good() {
    scenario("judges", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(RATE)).await?;
        traffic.goes_on(200).await?;
        // 404s are nothing to a guard; 4 % of 500 are too few for it.
        fleet.fail_content(100, 404).await?;
        namespace.apply_object(&judged(vec![(300, "1s"), (1000, "1s")])).await?;
        for (attempt, judge, next) in [(1, "judge client-errors", (40, 500)), (2, "judge errors", (0, 500))] {
            let what = format!("attempt {attempt} to be taken back");
            let back = |r: &_| is_back(r, attempt);
            let status = fleet.route_is(PLAN, &what, LIMIT, back).await?;
            fleet.fail_content(next.0, next.1).await?;
            let why =
                status.history.iter().rfind(|t| t.phase == Phase::RollingBack).map(|t| t.message.clone());
            println!("attempt {attempt}: {why:?}");
            if !why.as_ref().is_some_and(|why| why.contains(judge)) {
                return Err(Error::Broken(format!("attempt {attempt} was taken back because of {why:?}")));
            }
        }
        let status = fleet.route_is(PLAN, "the plan to finish", LIMIT, |r| r.phase == Phase::Done).await?;
        let verdicts: Vec<_> = status.routes[0].judges.iter().map(|judge| judge.verdict).collect();
        assert_eq!(verdicts, [Verdict::Safe; 3]);
        let records = traffic.finish().await?;
        Evidence { records: &records, status: &status }.nothing_lost()
    })
    .await;
}

fn is_back(route: &stomaton_crds::v1alpha1::RouteStatus, attempt: i32) -> bool {
    route.attempt == attempt && route.phase == Phase::RolledBack
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn people_stop_a_plan_and_let_it_go_on_and_git_changes_nothing_of_it() {
    scenario("people", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(RATE)).await?;
        let mut object = plan(vec![(100, "1s"), (500, "1s"), (1000, "1s")], json!({}));
        object["spec"]["profiles"][0]["ramp"][1]["approval"] = json!(true);
        let git = tokio::spawn(from_git(namespace.api(), object.clone()));
        fleet.route_is(PLAN, "the need of an approval", LIMIT, |r| r.waits_for.contains("approve")).await?;
        let of = |verb: &'static str| [verb, ROUTE, "--reason", "as planned"];
        says(namespace, &of("hold"), "does not rise").await?;
        says(namespace, &of("approve"), "may enter step 2").await?;
        fleet.route_is(PLAN, "the hold", LIMIT, |r| r.waits_for.contains("Resume: held by")).await?;
        says(namespace, &["halt"], "until Resume").await?;
        says(namespace, &["resume"], "may go on").await?;
        // The approval is for what comes next still.
        fleet.route_is(PLAN, "the approved step", LIMIT, |r| r.weights.applied >= 500).await?;
        says(namespace, &of("rollback"), "goes back").await?;
        let back = fleet.route_is(PLAN, "the rollback", LIMIT, |r| r.phase == Phase::RolledBack).await?;
        assert!(back.routes[0].recalled.is_some());
        says(namespace, &["explain", ROUTE], "Resume").await?;
        let generation = |plan: MigrationPlan| plan.metadata.generation;
        let plans = namespace.api::<MigrationPlan>();
        let seen = plans.get(PLAN).await.doing("read the plan")?;
        git.abort();
        assert_eq!(generation(seen), Some(1), "a writer of the same spec made a difference");
        let records = traffic.finish().await?;
        Evidence { records: &records, status: &back }.nothing_lost()
    })
    .await;
}

/// Runs the plugin, and expects it to say so.
async fn says(namespace: &Namespace<'_>, args: &[&str], word: &str) -> Result<(), Error> {
    let said = namespace.stomaton(args).await?;
    println!("kubectl stomaton {}: {}", args.join(" "), said.trim());
    if said.contains(word) { Ok(()) } else { Err(Error::Broken(format!("{args:?} said {said}"))) }
}

/// Applies the same plan ten times a second for ever, as a tool would that knows nothing but what is in Git.
async fn from_git(plans: kube::Api<MigrationPlan>, object: Value) {
    loop {
        let params = PatchParams::apply("git").force();
        let _ = plans.patch(PLAN, &params, &Patch::Apply(&object)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_plan_that_is_deleted_leaves_traffic_where_its_policy_says() {
    scenario("end", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(RATE)).await?;
        traffic.goes_on(200).await?;
        // Half way: it goes back before the plan does.
        namespace.apply_object(&plan(vec![(500, "1h"), (1000, "1h")], json!({}))).await?;
        fleet.route_is(PLAN, "half of it to be there", LIMIT, |r| r.weights.applied == 500).await?;
        delete(namespace).await?;
        is_gone(namespace).await?;

        // At the end: it stays, if the Gateway says so too.
        let keeps = json!({"deletionPolicy": "KeepDone"});
        namespace.apply_object(&plan(vec![(500, "1s"), (1000, "1s")], keeps)).await?;
        fleet.route_is(PLAN, "the end", LIMIT, |r| r.phase == Phase::Done).await?;
        delete(namespace).await?;
        traffic.goes_on(400).await?;
        let plan = namespace.api::<MigrationPlan>().get(PLAN).await.doing("read the plan that waits")?;
        let status = plan.status.unwrap_or_default();
        assert_eq!(status.routes[0].phase, Phase::Done);
        let gateway = namespace.api::<Gateway>().get(EDGE).await.doing("read the Gateway")?;
        let mut routes = json!(gateway.spec.routes);
        for route in routes.as_array_mut().into_iter().flatten().filter(|route| route["name"] == ROUTE) {
            route["backend"] = json!({"name": "content"});
        }
        fleet.change_edge(json!({"routes": routes})).await?;
        is_gone(namespace).await?;
        fleet.edge_is_ready().await?;

        let records = traffic.finish().await?;
        Evidence { records: &records, status: &status }.nothing_lost()
    })
    .await;
}

async fn delete(namespace: &Namespace<'_>) -> Result<(), Error> {
    let deleted = namespace.api::<MigrationPlan>().delete(PLAN, &DeleteParams::default()).await;
    deleted.map(drop).doing("delete the plan")
}

async fn is_gone(namespace: &Namespace<'_>) -> Result<(), Error> {
    wait::object(&namespace.api::<MigrationPlan>(), PLAN, "the plan to be gone", LIMIT, |plan| {
        let status = plan.and_then(|plan| plan.status.clone()).unwrap_or_default();
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
        Seen::when(plan.is_none(), || format!("{:?}", ready.map(|c| (&c.reason, &c.message))))
    })
    .await
}
