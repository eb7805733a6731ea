//! Bad input is refused, or answered by a condition that says what to do; users notice nothing of it.

use e2e::harness::{
    Error,
    evidence::Evidence,
    fleet::{EDGE, Fleet},
    namespace::Namespace,
    scenario::{Turn, scenario},
    traffic::{Mix, Traffic},
    wait::{self, Seen},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::{Gateway, MigrationPlan, MigrationPlanStatus};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn bad_input_is_answered_and_the_edge_serves_on() {
    scenario("input", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(60)).await?;
        plans_are_refused(namespace).await?;
        gateways_are_refused(namespace).await?;
        a_missing_service_is_named(namespace).await?;
        a_route_that_cannot_be_served_costs_only_itself(&fleet).await?;

        // Some of it after the last bad input.
        traffic.reaches(traffic.totals().await?.sent + 200, LIMIT).await?;
        let records = traffic.finish().await?;
        let status = MigrationPlanStatus::default();
        let evidence = Evidence { records: &records, status: &status };
        evidence.nothing_lost()?;
        let failed = records.iter().filter(|r| r.status >= 400).count();
        assert_eq!(failed, 0, "answers with an error");
        Ok(())
    })
    .await;
}

async fn plans_are_refused(namespace: &Namespace<'_>) -> Result<(), Error> {
    let content = json!({"name": "content", "target": {"name": "content"}, "profile": "p"});
    let up = json!([{"permille": 500}, {"permille": 1000}]);
    let cases = [
        (
            plan(
                "descending",
                json!([content]),
                json!([{"permille": 500}, {"permille": 250}, {"permille": 1000}]),
            ),
            "weights must ascend",
        ),
        (
            plan("unfinished", json!([content]), json!([{"permille": 500}])),
            "the last step must be 1000 per mille",
        ),
        (plan("twice", json!([content, content]), up), "Duplicate value"),
    ];
    for (object, words) in cases {
        refused(namespace, &object, words).await?;
    }
    Ok(())
}

async fn gateways_are_refused(namespace: &Namespace<'_>) -> Result<(), Error> {
    for path in ["/api/$host", "/api\n} server {", "/api\"quoted", "/api;return 200", "/api{", "/a/../b"] {
        let object = gateway("odd", json!([{"name": "odd", "match": {"pathPrefix": path}}]));
        refused(namespace, &object, "spec.routes[0].match.pathPrefix").await?;
    }
    let twice = json!([
        {"name": "same", "match": {"pathPrefix": "/a"}},
        {"name": "same", "match": {"pathPrefix": "/b"}},
    ]);
    refused(namespace, &gateway("twice", twice), "Duplicate value").await
}

/// The API server does not take it, and its words name what is wrong.
async fn refused(namespace: &Namespace<'_>, object: &Value, words: &str) -> Result<(), Error> {
    match namespace.apply_object(object).await {
        Err(Error::Command(error)) if error.to_string().contains(words) => Ok(()),
        Err(Error::Command(error)) => Err(Error::Broken(format!("refused without {words:?}: {error}"))),
        Err(other) => Err(other),
        Ok(()) => Err(Error::Broken(format!("the API server took {object}"))),
    }
}

async fn a_missing_service_is_named(namespace: &Namespace<'_>) -> Result<(), Error> {
    let route = json!({"name": "content", "target": {"name": "no-such-service"}, "profile": "p"});
    namespace.apply_object(&plan("missing", json!([route]), json!([{"permille": 1000}]))).await?;
    let plans = namespace.api::<MigrationPlan>();
    wait::object(&plans, "missing", "the plan to name the missing service", LIMIT, |plan| {
        let conditions = plan.and_then(|p| p.status.as_ref()).map(|s| s.conditions.as_slice());
        says(conditions.unwrap_or_default(), "Stalled", "NotFound", &["Service no-such-service", "exist"])
    })
    .await?;
    namespace.harness.kubectl(&["-n", &namespace.name, "delete", "mplan", "missing"]).await?;
    Ok(())
}

/// Two routes want the same requests: a rule that the schema can't state. The earlier one is served, and the later
/// one is named with what to do.
async fn a_route_that_cannot_be_served_costs_only_itself(fleet: &Fleet<'_>) -> Result<(), Error> {
    let routes = json!([
        {"name": "content", "match": {"pathPrefix": "/api/v1/content"}},
        {"name": "rival", "match": {"pathPrefix": "/api/v1/content"}},
        {"name": "content-legacy", "match": {"pathPrefix": "/api/v1/stomaton/content"}},
    ]);
    let namespace = fleet.namespace;
    namespace.apply_object(&gateway(EDGE, routes)).await?;
    wait::object(&namespace.api::<Gateway>(), EDGE, "the Gateway to name the rival", LIMIT, |gateway| {
        let conditions = gateway.and_then(|g| g.status.as_ref()).map(|s| s.conditions.as_slice());
        says(conditions.unwrap_or_default(), "Stalled", "RoutesDropped", &["rival", "change the match"])
    })
    .await
}

fn says(conditions: &[Condition], kind: &str, reason: &str, words: &[&str]) -> Seen<()> {
    let found = conditions.iter().find(|c| c.type_ == kind && c.status == "True" && c.reason == reason);
    let holds = found.is_some_and(|c| words.iter().all(|word| c.message.contains(word)));
    let all = || conditions.iter().map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message));
    Seen::when(holds, || all().collect::<Vec<_>>().join("; "))
}

fn plan(name: &str, routes: Value, ramp: Value) -> Value {
    json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan", "metadata": {"name": name},
        "spec": {"gatewayRef": {"name": EDGE}, "routes": routes, "profiles": [{"name": "p", "ramp": ramp}]},
    })
}

fn gateway(name: &str, routes: Value) -> Value {
    json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway", "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "defaultBackend": {"name": "monolith"},
            "diagnostics": {"responseHeader": true},
            // The load comes from one address.
            "rateLimits": {"mode": "Disabled"},
            "routes": routes,
        },
    })
}
