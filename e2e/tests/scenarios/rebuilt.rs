//! A namespace that is lost and made anew from what `kubectl stomaton export` printed: every route stands where it stood,
//! for status and for users.

use e2e::{
    harness::{
        Error,
        evidence::Evidence,
        fleet::{CONTENT, Fleet, Plan},
        scenario::{Turn, scenario},
        traffic::{Mix, Traffic},
    },
    load::record::{Record, Side},
};
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::{MigrationPlanStatus, Phase, RouteStatus};

const PLAN: &str = "shop";
const SCENARIO: &str = "rebuilt";
const LIMIT: Duration = Duration::from_secs(90);
/// Routes by name, each with its path and with where it stands, in per mille of its users.
const ROUTES: [(&str, &str, i32); 3] = [
    ("recent", "/api/v1/content/recent", 1000),
    ("stats", "/api/v1/content/stats", 300),
    ("legacy", "/api/v1/stomaton/content/stats", 0),
];

/// One is done, one stays in the middle of its ramp, one waits for that one.
fn plan() -> Value {
    let mut plan = Plan {
        name: PLAN,
        ramp: vec![(500, "1s"), (1000, "1s")],
        min_requests: 20,
        cooldown: "1h",
        max_attempts: 2,
    }
    .object();
    let slow = json!([
        {"permille": 100, "minHold": "1s"}, {"permille": 300, "minHold": "1h"}, {"permille": 1000, "minHold": "1h"},
    ]);
    let profiles = plan["spec"]["profiles"].as_array_mut();
    profiles.into_iter().for_each(|all| all.push(json!({"name": "slow", "ramp": slow, "minRequests": 20})));
    let route = |name: &str, profile: &str, after: &[&str]| json!({"name": name, "target": {"name": CONTENT}, "profile": profile, "dependsOn": after});
    plan["spec"]["routes"] = json!([
        route("recent", "ramp", &[]),
        route("stats", "slow", &[]),
        route("legacy", "ramp", &["stats"])
    ]);
    plan
}

/// Whether every route stands where it should.
fn in_place(routes: &[RouteStatus]) -> bool {
    let stands = |(name, _, permille): &(&str, &str, i32)| {
        let phase = match permille {
            1000 => Phase::Done,
            0 => Phase::Pending,
            _ => Phase::Ramp,
        };
        let here = |r: &RouteStatus| (r.phase, r.weights.applied) == (phase, *permille);
        routes.iter().any(|route| route.name == *name && here(route))
    };
    routes.len() == ROUTES.len() && ROUTES.iter().all(stands)
}

/// Whether users are answered by the side that the weights say.
fn is_served_so(records: &[Record]) -> Result<(), Error> {
    for (at, (name, _, permille)) in ROUTES.iter().enumerate() {
        let of_it = || records.iter().filter(|record| usize::from(record.path) == at && record.status != 0);
        let (all, service) = (of_it().count(), of_it().filter(|r| r.side() == Some(Side::Service)).count());
        println!("{name}: {service} of {all} answers are the service's");
        // Users are few, and a weight is a share of users.
        let expected = match permille {
            1000 => all..=all,
            0 => 0..=0,
            _ => all / 10..=all * 6 / 10,
        };
        if all < 100 || !expected.contains(&service) {
            return Err(Error::Broken(format!("{name}: {service} of {all} answers are the service's")));
        }
    }
    Ok(())
}

async fn is_served(fleet: &Fleet<'_>) -> Result<(), Error> {
    let traffic = Traffic::start(fleet, mix()).await?;
    traffic.goes_on(900).await?;
    let records = traffic.finish().await?;
    Evidence { records: &records, status: &MigrationPlanStatus::default() }.nothing_lost()?;
    is_served_so(&records)
}

fn mix() -> Mix {
    Mix { paths: ROUTES.map(|(_, path, _)| path).to_vec(), ..Mix::of_all_kinds(150) }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_namespace_that_is_made_anew_from_export_has_every_route_where_it_stood() {
    scenario(SCENARIO, Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let routes = ROUTES.map(|(name, path, _)| json!({"name": name, "match": {"pathPrefix": path}}));
        fleet.change_edge(json!({"routes": routes})).await?;
        let traffic = Traffic::start(&fleet, mix()).await?;
        namespace.apply_object(&plan()).await?;
        fleet.routes_are(PLAN, "every route to be in its place", LIMIT, in_place).await?;
        traffic.finish().await?;
        is_served(&fleet).await?;
        let exported = namespace.stomaton(&["export", PLAN]).await?;
        println!("{exported}");

        namespace.lose(SCENARIO).await?;
        let fleet = Fleet::deploy(namespace).await?;
        namespace.apply(&exported).await?;
        let status = fleet.routes_are(PLAN, "every route to be back in its place", LIMIT, in_place).await?;
        is_served(&fleet).await?;
        let moves: Vec<_> = status.history.iter().map(|t| (t.route.as_str(), t.permille)).collect();
        println!("moves: {moves:?}");
        if moves.len() != 2 {
            return Err(Error::Broken(format!("routes went through steps again: {moves:?}")));
        }
        // Applied once more, it is what is there.
        namespace.apply(&exported).await?;
        let again = fleet.plan_status(PLAN).await?;
        if in_place(&again.routes) { Ok(()) } else { Err(Error::Broken(format!("{:?}", again.routes))) }
    })
    .await;
}
