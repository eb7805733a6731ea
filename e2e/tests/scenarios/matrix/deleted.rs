//! A plan that is deleted, in every phase: traffic ends where its policy says, and nobody notices on the way.

use e2e::harness::{
    Doing as _, Error,
    evidence::all_well,
    fleet::{Fleet, now_micros},
    namespace::Namespace,
    scenario::{Turn, scenario},
    service::list,
    site::{self, CATALOGUE, MONOLITH},
    traffic::Traffic,
    wait::{self, Seen},
};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::{MigrationPlan, Phase};

const LIMIT: Duration = Duration::from_secs(90);
/// The route that stays with its service.
const KEPT: &str = "emerald";
/// The route that is on its way back when its plan is deleted.
const BACK: &str = "search";

/// Each plan has one route and its name. The phase in which it is deleted, by which policy, and who answers in the end.
const CASES: [(&str, Phase, &str, &str); 8] = [
    ("recent", Phase::Pending, "KeepDone", MONOLITH),
    ("stats", Phase::Cohort, "Monolith", MONOLITH),
    ("generate", Phase::Ramp, "Monolith", MONOLITH),
    ("stones", Phase::Ramp, "KeepDone", MONOLITH),
    ("ruby", Phase::Soak, "KeepDone", MONOLITH),
    (KEPT, Phase::Done, "KeepDone", CATALOGUE),
    (BACK, Phase::Ramp, "KeepDone", MONOLITH),
    ("old-stats", Phase::Done, "Monolith", MONOLITH),
];

fn plan((route, phase, policy, _): &(&str, Phase, &str, &str)) -> Value {
    let routes = [site::moves(route, &phase.as_str().to_lowercase())];
    let mut plan = site::plan(route, &routes, &site::profiles_of_phases());
    plan["spec"]["deletionPolicy"] = json!(policy);
    plan
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_plan_deleted_in_any_phase_leaves_traffic_where_its_policy_says() {
    scenario("deleted-at", Turn::Alone, async |namespace| {
        let fleet = site::deploy(namespace).await?;
        let traffic = Traffic::start(&fleet, site::mix(200)).await?;
        namespace.apply_object(&list(CASES.iter().map(plan))).await?;
        for (route, phase, ..) in &CASES {
            is_in(&fleet, route, *phase).await?;
        }
        traffic.goes_on(400).await?;
        namespace.stomaton(&["rollback", BACK, "--plan", BACK]).await?;
        let before = now_micros();

        let plans = namespace.api::<MigrationPlan>();
        for (route, ..) in &CASES {
            plans.delete(route, &DeleteParams::default()).await.doing(format!("delete the plan {route}"))?;
        }
        for (route, ..) in CASES.iter().filter(|(route, ..)| *route != KEPT) {
            is_gone(namespace, route).await?;
        }
        is_in(&fleet, KEPT, Phase::Done).await?;
        say_so_in_the_gateway(&fleet).await?;
        is_gone(namespace, KEPT).await?;
        fleet.edge_is_ready().await?;
        let since = now_micros();
        traffic.goes_on(800).await?;

        let records = traffic.finish().await?;
        all_well(&records)?;
        for (route, phase, policy, ends) in CASES {
            println!("{route}, {phase:?}, {policy}: {:?}", site::servers(&records, route, since));
            site::only(&records, route, ends, since)?;
        }
        // It was there all the while.
        site::only(&records, KEPT, CATALOGUE, before)
    })
    .await;
}

/// Waits until the plan's route is in this phase, and every edge pod knows.
async fn is_in(fleet: &Fleet<'_>, plan: &str, phase: Phase) -> Result<(), Error> {
    let what = format!("plan {plan} to be at {}", phase.as_str());
    let there = fleet.route_is(plan, &what, LIMIT, |route| {
        route.phase == phase && (route.since.is_some() || !phase.has_weight())
    });
    there.await.map(drop)
}

async fn is_gone(namespace: &Namespace<'_>, plan: &str) -> Result<(), Error> {
    let what = format!("plan {plan} to be gone");
    wait::object(&namespace.api::<MigrationPlan>(), plan, &what, LIMIT, |plan| {
        let status = plan.and_then(|plan| plan.status.clone()).unwrap_or_default();
        Seen::when(plan.is_none(), || format!("{:?}", status.conditions))
    })
    .await
}

/// Gives the route that is to stay to its service for good.
async fn say_so_in_the_gateway(fleet: &Fleet<'_>) -> Result<(), Error> {
    let mut routes = site::routes();
    for route in routes.iter_mut().filter(|route| route["name"] == KEPT) {
        route["backend"] = json!({"name": CATALOGUE});
    }
    fleet.change_edge(json!({"routes": routes})).await
}
