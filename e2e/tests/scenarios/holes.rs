//! Holes that must stay closed: a route that is edited under a weight, weights that somebody deletes, a service that
//! hangs instead of failing.

use e2e::{
    harness::{
        Doing as _, Error,
        evidence::Evidence,
        fleet::{CONTENT, EDGE, Fleet, Plan, ROUTE},
        namespace::Namespace,
        scenario::{Turn, scenario},
        traffic::{Mix, Traffic},
        wait::{self, Seen},
    },
    load::record::{Record, Side},
};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;
use stomaton_crds::v1alpha1::{EdgeWeights, MigrationPlan, MigrationPlanStatus, Phase};

const LIMIT: Duration = Duration::from_secs(60);
const PLAN: &str = "half";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_route_that_is_edited_at_a_half_begins_at_nothing() {
    scenario("edited", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let first = at_half(&fleet, "").await?;
        // Fresh connections meet a new structure at once; there is a fraction of a second to see it in.
        let modes = vec!["keepalive=2", "fresh=12", "http2=2"];
        let traffic = Traffic::start(&fleet, Mix { modes, ..Mix::of_all_kinds(300) }).await?;

        let matches = json!({"pathPrefix": "/api/v1/content", "methods": ["GET"]});
        fleet.change_edge(json!({"routes": [{"name": ROUTE, "match": matches}]})).await?;
        let second = at_half(&fleet, id(&first)).await?;
        traffic.goes_on(300).await?;

        // The next target answers nothing: whoever was sent there would be lost.
        let nowhere = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "nowhere"},
            "spec": {"ports": [{"port": 8001}]},
        });
        namespace.apply_object(&nowhere).await?;
        let route = json!({"name": ROUTE, "target": {"name": "nowhere"}, "profile": "ramp"});
        let patch = Patch::Merge(json!({"spec": {"routes": [route]}}));
        let plans = namespace.api::<MigrationPlan>();
        plans.patch(PLAN, &PatchParams::default(), &patch).await.doing("change the target")?;
        let what = "the route to wait at nothing for its new target";
        let third =
            fleet.route_is(PLAN, what, LIMIT, |r| r.id != id(&second) && r.phase == Phase::Pending).await?;
        fleet.edge_is_ready().await?;
        traffic.goes_on(600).await?;

        let records = traffic.finish().await?;
        Evidence { records: &records, status: &third }.nothing_lost()?;
        edited_match(&records, &second);
        let sides = sides(&records, id(&third), u64::MAX);
        println!("{} requests, with the third identity {sides:?}", records.len());
        assert_eq!(sides[0], 0, "answers by a service without pods");
        assert!(sides[1] > 100, "only {} answers prove anything", sides[1]);
        Ok(())
    })
    .await;
}

/// With the new match nobody met the service before the plan began anew.
fn edited_match(records: &[Record], status: &MigrationPlanStatus) {
    let begun = status.history.iter().rfind(|t| t.phase == Phase::Ramp).map(|t| t.at.0.as_microsecond());
    let begun = begun.and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
    let (before, all) = (sides(records, id(status), begun), sides(records, id(status), u64::MAX));
    println!("with the second identity {all:?}, {before:?} of them before its attempt");
    assert_eq!(before[0], 0, "the weight of the old match reached the new one");
    assert!(before[1] > 0, "no answer before the attempt: nothing is proved");
    assert!(all[0] > 0, "the new match never reached its weight");
}

/// Answers of service and monolith for a route, complete before this moment.
fn sides(records: &[Record], route: &str, before: u64) -> [usize; 2] {
    let count = |side: Side| {
        let of =
            |r: &&Record| r.route() == Some(route) && r.side() == Some(side) && r.received_micros < before;
        records.iter().filter(of).count()
    };
    [count(Side::Service), count(Side::Monolith)]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn weights_that_are_deleted_come_back_as_they_were_and_nobody_notices() {
    scenario("deleted", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let status = at_half(&fleet, "").await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(150)).await?;
        traffic.goes_on(150).await?;
        for _ in 0..3 {
            delete_weights(namespace, &fleet).await?;
            traffic.goes_on(150).await?;
        }
        let records = traffic.finish().await?;
        let evidence = Evidence { records: &records, status: &status };
        evidence.nothing_lost()?;
        let stale = evidence.stale();
        println!("{} requests, {} checked", records.len(), stale.checked);
        assert!(stale.checked > 300, "only {} answers prove anything", stale.checked);
        assert_eq!(stale.stale, Vec::<&Record>::new());
        Ok(())
    })
    .await;
}

/// Deletes the weights, and waits until every edge pod serves newer ones that say the same.
async fn delete_weights(namespace: &Namespace<'_>, fleet: &Fleet<'_>) -> Result<(), Error> {
    let weights = namespace.api::<EdgeWeights>();
    let before = weights.get(EDGE).await.doing("read the weights")?;
    match weights.delete(EDGE, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        answer => return Err(Error::Broken(format!("a person may delete weights: {answer:?}"))),
    }
    // The one way that is left: whoever tidies up after a Gateway.
    let collector = "--as=system:serviceaccount:kube-system:generic-garbage-collector";
    let delete = ["delete", "edgeweights", EDGE, "--namespace", &namespace.name, collector];
    namespace.harness.kubectl(&delete).await?;
    let revision =
        wait::object(&weights, EDGE, "the weights to be there again", LIMIT, |found| match found {
            Some(new) if new.metadata.uid != before.metadata.uid => Seen::Yes(new.spec.clone()),
            Some(_) => Seen::NotYet("they are still the old ones".into()),
            None => Seen::NotYet("there are none".into()),
        })
        .await
        .map(|spec| {
            assert_eq!(spec.routes, before.spec.routes);
            spec.revision
        })?;
    assert!(revision > before.spec.revision, "edges do not take revision {revision} again");
    wait::until("every edge pod to serve the new weights", LIMIT, async || {
        let states = fleet.edge_states().await?;
        let behind = states.values().find(|state| state.applied.weights != revision);
        Ok(Seen::when(behind.is_none() && !states.is_empty(), || format!("{behind:?}")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_service_that_hangs_is_taken_back_like_one_that_fails() {
    scenario("hanging", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let matches = json!({"pathPrefix": "/api/v1/content"});
        let route = json!({"name": ROUTE, "match": matches, "timeouts": {"response": "1s"}});
        fleet.change_edge(json!({"routes": [route]})).await?;
        at_half(&fleet, "").await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(100)).await?;
        traffic.goes_on(100).await?;
        fleet.hang_content().await?;
        let back = |r: &stomaton_crds::v1alpha1::RouteStatus| r.phase == Phase::RolledBack;
        let status = fleet.route_is(PLAN, "the rollback", Duration::from_secs(30), back).await?;
        traffic.goes_on(300).await?;
        fleet.mend_content().await?;

        let records = traffic.finish().await?;
        let evidence = Evidence { records: &records, status: &status };
        let lost: Vec<_> = evidence.lost().into_iter().filter(|r| r.status != 504).collect();
        assert_eq!(lost, Vec::<&Record>::new(), "lost otherwise than by waiting for the service");
        let found = evidence.rollbacks(&Plan::GUARD);
        let Some(Some(rollback)) = found.first() else {
            return Err(Error::Broken("no client saw the breach".into()));
        };
        println!("last decision for the service {:?} us after the breach", rollback.last_decision);
        for (edge, after) in &rollback.last_decision {
            assert!(*after < 1_000_000, "{edge} chose the service {after} us after the breach");
        }
        assert_eq!(rollback.last_decision.len(), fleet.edge_pods().await?.len());
        Ok(())
    })
    .await;
}

/// Applies the plan if it is not there, and waits until the content route is at a half with another identity than `old`.
async fn at_half(fleet: &Fleet<'_>, old: &str) -> Result<MigrationPlanStatus, Error> {
    if old.is_empty() {
        let ramp = vec![(500, "1h"), (1000, "1h")];
        let plan = Plan { name: PLAN, ramp, min_requests: 20, cooldown: "1s", max_attempts: 1 };
        fleet.apply_plan(&plan).await?;
    }
    let what = format!("half of the route to be on {CONTENT}");
    fleet.route_is(PLAN, &what, LIMIT, |r| r.id != old && r.weights.applied == 500).await
}

/// Identity of the plan's only route.
fn id(status: &MigrationPlanStatus) -> &str {
    status.routes.first().map_or("", |route| &route.id)
}
