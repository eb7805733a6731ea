//! Identities that must never come to mean something else. Pure.

use crate::{
    hex::hex,
    v1alpha1::{BackendRef, RouteMatch},
};
use sha2::{Digest, Sha256};

/// Identity of a route as the edge knows it: a hash of its name, match, plan and target, 16 hex digits.
///
/// A route that is edited in flight, or whose plan is made anew, thereby becomes a new route that starts at
/// weight 0: a weight that was earned by one backend under one plan can never reach another. No user data
/// survives into it, so it may stand in file names and NGINX variables. `moves` is the UID of the plan and the
/// target, for a route that is in a plan.
pub fn route_id(name: &str, matches: &RouteMatch, moves: Option<(&str, &BackendRef)>) -> String {
    let port = |t: &BackendRef| t.port.map_or_else(String::new, |p| p.to_string());
    // A prefix begins with `/`, so no exact path looks like one.
    let exact = matches.path.as_ref().map(|path| format!("={path}"));
    let path = exact.or_else(|| matches.path_prefix.clone()).unwrap_or_default();
    let mut parts = vec![name.to_owned(), path];
    parts.push(sorted(&matches.hosts));
    parts.push(sorted(&matches.methods.iter().map(ToString::to_string).collect::<Vec<_>>()));
    let rewrite = |t: &BackendRef| t.rewrite.as_ref().map_or_else(String::new, |path| format!(":{path}"));
    parts.push(
        moves.map_or_else(String::new, |(plan, t)| format!("{plan}:{}:{}{}", t.name, port(t), rewrite(t))),
    );
    if !matches.headers.is_empty() {
        let headers = matches.headers.iter().map(|h| format!("{}={}", h.name, h.value));
        parts.push(sorted(&headers.collect::<Vec<_>>()));
    }
    digest(&parts)
}

/// Salt of a group of routes: decides, with the cohort key, which side a user is on. A new `epoch` gives a new
/// salt, so that after a rollback other users go first.
pub fn salt(plan_uid: &str, group: &str, epoch: i64) -> String {
    digest(&[plan_uid.to_owned(), group.to_owned(), epoch.to_string()])
}

/// Directory in an edge pod in which a Secret is mounted: no name of a user's stands in NGINX' configuration.
pub fn secret_dir(secret: &str) -> String {
    digest(&["secret".to_owned(), secret.to_owned()])
}

/// Order of hosts and methods means nothing, so it must not change the identity.
fn sorted(items: &[String]) -> String {
    let mut items = items.to_vec();
    items.sort();
    items.join(",")
}

/// Hash of the parts, each with its length, so that no two different lists run together.
fn digest(parts: &[String]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1alpha1::{HeaderMatch, Method};

    fn route(methods: Vec<Method>) -> RouteMatch {
        RouteMatch { path_prefix: Some("/api".into()), methods, ..RouteMatch::default() }
    }

    #[test]
    fn an_edited_match_or_target_or_plan_is_another_route() {
        let backend = |name: &str| BackendRef { name: name.into(), port: None, rewrite: None };
        let id = route_id("r", &route(vec![]), Some(("plan", &backend("content"))));
        assert_eq!(id.len(), 16);
        assert_ne!(id, route_id("r", &route(vec![Method::GET]), Some(("plan", &backend("content")))));
        assert_ne!(id, route_id("r", &route(vec![]), Some(("plan", &backend("content-v2")))));
        assert_ne!(id, route_id("r", &route(vec![]), Some(("plan made anew", &backend("content")))));
        assert_ne!(id, route_id("r", &route(vec![]), None));
        let elsewhere = BackendRef { rewrite: Some("/v2".into()), ..backend("content") };
        assert_ne!(id, route_id("r", &route(vec![]), Some(("plan", &elsewhere))));
    }

    #[test]
    fn every_part_of_a_match_counts() {
        let exact = RouteMatch { path: Some("/api".into()), ..RouteMatch::default() };
        let header = |value: &str| HeaderMatch { name: "x-version".into(), value: value.into() };
        let with = |value| RouteMatch { headers: vec![header(value)], ..route(vec![]) };
        let ids = [route(vec![]), exact, with("1"), with("2")].map(|matches| route_id("r", &matches, None));
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn order_of_methods_means_nothing() {
        let one = route_id("r", &route(vec![Method::GET, Method::POST]), None);
        assert_eq!(one, route_id("r", &route(vec![Method::POST, Method::GET]), None));
    }

    #[test]
    fn an_epoch_changes_the_salt() {
        assert_ne!(salt("u", "g", 0), salt("u", "g", 1));
        assert_ne!(salt("u", "g1", 1), salt("u", "g", 11));
    }
}
