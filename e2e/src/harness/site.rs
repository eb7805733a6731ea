//! Ten routes of the monolith, each with a page to ask for, two services that know them, and an audience: for plans of
//! many routes. I/O: kubectl, the API server.

use super::{
    Error,
    fleet::{CONTENT, Fleet, Plan},
    namespace::Namespace,
    service::{Service, list, manifest},
    traffic::Mix,
};
use crate::load::record::Record;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A service that knows all that the monolith does.
pub const CATALOGUE: &str = "catalogue";
/// The name by which the monolith answers.
pub const MONOLITH: &str = "monolith";
/// Those who show a token; also the name of its Secret.
pub const SUPPLIERS: &str = "suppliers";
/// Where load pods have that Secret.
pub const TOKEN_DIR: &str = "/var/run/e2e/suppliers";
/// Options of load pods that are suppliers.
pub const AS_SUPPLIER: [&str; 2] = ["--header-from-file", "x-stomaton-token=/var/run/e2e/suppliers/token"];

/// A route, and what is asked for by it.
pub struct Page {
    /// Its name.
    pub route: &'static str,
    /// What it matches.
    pub prefix: &'static str,
    /// A request that both sides answer with 200.
    pub ask: &'static str,
    /// The service that takes it over.
    pub target: &'static str,
}

const fn page(route: &'static str, prefix: &'static str, ask: &'static str, target: &'static str) -> Page {
    Page { route, prefix, ask, target }
}

/// All of them. No two have the same prefix.
#[rustfmt::skip]
pub const PAGES: [Page; 10] = [
    page("recent", "/api/v1/content/recent", "/api/v1/content/recent?limit=5", CONTENT),
    page("stats", "/api/v1/content/stats", "/api/v1/content/stats", CONTENT),
    page("generate", "/api/v1/content/generate", "POST /api/v1/content/generate", CONTENT),
    page("stones", "/api/v1/stomaton/stones", "/api/v1/stomaton/stones?limit=5", CATALOGUE),
    page("ruby", "/api/v1/stomaton/stones/ruby-mogok", "/api/v1/stomaton/stones/ruby-mogok", CATALOGUE),
    page("emerald", "/api/v1/stomaton/stones/emerald-muzo", "/api/v1/stomaton/stones/emerald-muzo", CATALOGUE),
    page("search", "/api/v1/stomaton/search", "/api/v1/stomaton/search?q=ruby&limit=5", CATALOGUE),
    page("old-recent", "/api/v1/stomaton/content/recent", "/api/v1/stomaton/content/recent?limit=5", CATALOGUE),
    page("old-stats", "/api/v1/stomaton/content/stats", "/api/v1/stomaton/content/stats", CATALOGUE),
    page("old-generate", "/api/v1/stomaton/content/generate", "POST /api/v1/stomaton/content/generate", CATALOGUE),
];

/// Deploys the fleet with the second service, and an edge that has all these routes and knows suppliers.
pub async fn deploy<'a>(namespace: &'a Namespace<'a>) -> Result<Fleet<'a>, Error> {
    let catalogue = manifest(CATALOGUE, &json!({"args": ["serve", "monolith"]}));
    namespace.apply_object(&list([token(), catalogue])).await?;
    let fleet = Fleet::deploy(namespace).await?;
    Service::named(namespace, CATALOGUE).is_ready().await?;
    fleet.change_edge(json!({"routes": routes(), "cohort": cohort()})).await?;
    Ok(fleet)
}

/// The Secret with the token of suppliers.
pub fn token() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SUPPLIERS},
        "stringData": {"token": "suppliers-0123456789abcdef"},
    })
}

/// What a Gateway says to know suppliers.
pub fn cohort() -> Value {
    json!({"audiences": [{"name": SUPPLIERS, "tokenSecret": SUPPLIERS}]})
}

/// The routes as a Gateway has them.
pub fn routes() -> Vec<Value> {
    PAGES.iter().map(|page| json!({"name": page.route, "match": {"pathPrefix": page.prefix}})).collect()
}

/// All pages in turn, by everybody and, every second load pod, by suppliers.
pub fn mix(rate: u32) -> Mix {
    Mix {
        pods: 4,
        paths: PAGES.iter().map(|page| page.ask).collect(),
        variants: vec![vec![], AS_SUPPLIER.to_vec()],
        secrets: vec![(SUPPLIERS, TOKEN_DIR)],
        ..Mix::of_all_kinds(rate)
    }
}

/// A route as a plan has it.
pub fn moves(route: &str, profile: &str) -> Value {
    let target = PAGES.iter().find(|page| page.route == route).map_or(CATALOGUE, |page| page.target);
    json!({"name": route, "target": {"name": target}, "profile": profile})
}

/// A plan of these routes, without judges and with one attempt.
pub fn plan(name: &str, routes: &[Value], profiles: &Value) -> Value {
    let ramp = vec![(1000, "1s")];
    let mut plan = Plan { name, ramp, min_requests: 20, cooldown: "1h", max_attempts: 1 }.object();
    plan["spec"]["routes"] = json!(routes);
    plan["spec"]["profiles"] = profiles.clone();
    plan
}

/// Profiles named as phases: with it a route comes to that phase and stays there.
pub fn profiles_of_phases() -> Value {
    json!([
        {"name": "pending", "ramp": [{"permille": 1000, "minHold": "1s", "approval": true}]},
        {"name": "cohort", "ramp": [
            {"audience": SUPPLIERS, "permille": 1000, "minHold": "1h"}, {"permille": 1000, "minHold": "1h"},
        ]},
        {"name": "ramp", "ramp": [{"permille": 500, "minHold": "1h"}, {"permille": 1000, "minHold": "1h"}]},
        {"name": "soak", "ramp": [{"permille": 1000, "minHold": "1s"}], "soak": "1h"},
        {"name": "done", "ramp": [{"permille": 1000, "minHold": "1s"}]},
    ])
}

/// Who answered the page of this route since then, as they call themselves, and how often.
pub fn servers(records: &[Record], route: &str, since_micros: u64) -> BTreeMap<String, usize> {
    let index = PAGES.iter().position(|page| page.route == route);
    let mut servers = BTreeMap::<_, usize>::new();
    for record in records.iter().filter(|r| r.sent_micros >= since_micros) {
        if index == Some(usize::from(record.path)) {
            *servers.entry(record.origin.served_by.clone().unwrap_or_default()).or_default() += 1;
        }
    }
    servers
}

/// An error unless this server alone has answered the page since then, and not just by chance.
pub fn only(records: &[Record], route: &str, server: &str, since_micros: u64) -> Result<(), Error> {
    let found = servers(records, route, since_micros);
    match found.get(server) {
        Some(answers) if found.len() == 1 && *answers >= 20 => Ok(()),
        _ => {
            Err(Error::Broken(format!("route {route} should be answered by {server}, and was by {found:?}")))
        }
    }
}
