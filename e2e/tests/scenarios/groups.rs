//! A rollback is of those routes that share its fate: the users of others stay where they were.

use e2e::{
    harness::{
        Error,
        evidence::Evidence,
        fleet::{CONTENT, Fleet, Plan},
        scenario::{Turn, scenario},
        service::Service,
        traffic::{Mix, Traffic},
    },
    load::record::Record,
};
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::Phase;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn the_rollback_of_one_route_leaves_the_users_of_another_where_they_were() {
    scenario("groups", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        // The same service under another name: it goes on when the first one breaks.
        Service::deploy(namespace, "other", json!({"replicas": 2})).await?;
        let route = |name: &str, path: &str| json!({"name": name, "match": {"pathPrefix": path}});
        let routes = [route("recent", "/api/v1/content/recent"), route("stats", "/api/v1/content/stats")];
        fleet.change_edge(json!({"routes": routes})).await?;
        for (route, target) in [("recent", CONTENT), ("stats", "other")] {
            namespace.apply_object(&plan(route, target)).await?;
            fleet.route_is(route, "half of it to be there", LIMIT, |r| r.weights.applied == 500).await?;
        }

        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(200)).await?;
        traffic.goes_on(200).await?;
        fleet.break_content(500).await?;
        let back = fleet.route_is("recent", "the rollback", LIMIT, |r| r.phase == Phase::RolledBack).await?;
        traffic.goes_on(600).await?;
        let stays = fleet.plan_status("stats").await?;

        let records = traffic.finish().await?;
        for status in [&back, &stays] {
            let evidence = Evidence { records: &records, status };
            evidence.nothing_lost()?;
            let stale = evidence.stale();
            assert!(stale.checked > 200, "only {} answers prove anything", stale.checked);
            assert_eq!(stale.stale, Vec::<&Record>::new());
        }
        let phase = stays.routes.first().map(|route| (route.phase, route.weights.applied));
        match phase {
            Some((Phase::Ramp, 500)) => Ok(()),
            other => Err(Error::Broken(format!("the other route is at {other:?}"))),
        }
    })
    .await;
}

/// A plan that brings one route to a half.
fn plan(route: &str, target: &str) -> Value {
    let ramp = vec![(500, "1h"), (1000, "1h")];
    let mut plan = Plan { name: route, ramp, min_requests: 20, cooldown: "1h", max_attempts: 2 }.object();
    plan["spec"]["routes"] = json!([{"name": route, "target": {"name": target}, "profile": "ramp"}]);
    plan
}
