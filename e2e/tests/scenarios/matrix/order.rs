//! Ten routes in one plan: each waits for those it depends on, groups move as one, and nobody has to help.

use e2e::{
    harness::{
        Error,
        evidence::{Evidence, all_well},
        fleet::now_micros,
        scenario::{Turn, scenario},
        site::{self, PAGES},
        traffic::Traffic,
    },
    load::record::Record,
};
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::{Phase, RouteStatus, Transition};

const PLAN: &str = "order";
/// The profile is one of three minutes.
const LIMIT: Duration = Duration::from_secs(180);

/// Each route, what it waits for, and its group. Four deep.
const ORDER: [(&str, &[&str], Option<&str>); 10] = [
    ("recent", &[], Some("pages")),
    ("stats", &[], Some("pages")),
    ("generate", &["recent", "stats"], None),
    ("stones", &[], None),
    ("ruby", &["stones"], None),
    ("emerald", &["stones"], None),
    ("search", &["ruby", "emerald"], None),
    ("old-recent", &["generate"], Some("old")),
    ("old-stats", &[], Some("old")),
    ("old-generate", &["search"], Some("old")),
];

fn plan() -> Value {
    let route = |(name, needs, group): &(&str, &[&str], Option<&str>)| {
        let mut route = site::moves(name, "ramp");
        route["dependsOn"] = json!(needs);
        if let Some(group) = group {
            route["group"] = json!(group);
        }
        route
    };
    let routes: Vec<_> = ORDER.iter().map(route).collect();
    let ramp = json!([{"permille": 500, "minHold": "2s"}, {"permille": 1000, "minHold": "2s"}]);
    site::plan(PLAN, &routes, &json!([{"name": "ramp", "ramp": ramp}]))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn ten_routes_go_to_their_services_in_order_and_nobody_helps() {
    scenario("order", Turn::Alone, async |namespace| {
        let fleet = site::deploy(namespace).await?;
        let traffic = Traffic::start(&fleet, site::mix(300)).await?;
        namespace.apply_object(&plan()).await?;
        let done = |routes: &[RouteStatus]| {
            routes.len() == ORDER.len() && routes.iter().all(|route| route.phase == Phase::Done)
        };
        let status = fleet.routes_are(PLAN, "all routes to be done", LIMIT, done).await?;
        let since = now_micros();
        traffic.goes_on(600).await?;

        let records = traffic.finish().await?;
        all_well(&records)?;
        let stale = Evidence { records: &records, status: &status }.stale();
        println!("{} requests, {} checked", records.len(), stale.checked);
        assert!(stale.checked > 1000, "only {} answers prove anything", stale.checked);
        assert_eq!(stale.stale, Vec::<&Record>::new());
        for page in &PAGES {
            site::only(&records, page.route, page.target, since)?;
        }
        one_after_the_other(&status.history)?;
        as_one(&status.history);
        Ok(())
    })
    .await;
}

/// No route had weight before all that it waits for was done.
fn one_after_the_other(history: &[Transition]) -> Result<(), Error> {
    let first = |route: &str, phase: Option<Phase>| {
        history.iter().position(|t| t.route == route && t.permille > 0 && phase.is_none_or(|p| p == t.phase))
    };
    for (route, needs, _) in ORDER {
        let began = first(route, None);
        for need in needs {
            let done = first(need, Some(Phase::Done));
            if done.is_none() || done >= began {
                let why = format!("{route} began at entry {began:?}, {need} was done at {done:?}");
                return Err(Error::Broken(why));
            }
        }
    }
    Ok(())
}

/// Each revision of the weights that moved a route of a group moved all of it, by as much.
fn as_one(history: &[Transition]) {
    let moves = |route: &str| -> Vec<(i32, i64)> {
        history.iter().filter(|t| t.route == route).map(|t| (t.permille, t.revision)).collect()
    };
    for (route, _, group) in ORDER.iter().filter(|(_, _, group)| group.is_some()) {
        for (other, ..) in ORDER.iter().filter(|(_, _, of)| of == group) {
            assert_eq!(moves(route), moves(other), "{route} and {other} are of group {group:?}");
        }
    }
}
