//! Takes a Gateway; gives what can be served of it, and which routes cannot. Pure.
//!
//! The schema states the rules for a single route too. They run again here, because what stands in a route becomes
//! part of the edge's configuration, and an object may be older than its schema.

use crate::controllers::meta::Family;
use kube::{Resource, ResourceExt};
use std::collections::HashMap;
use stomaton_crds::{
    conditions::{Reason, State, Summary},
    keys,
    v1alpha1::{DroppedRoute, Gateway, Route, RouteMatch},
};

/// A Gateway with the routes that can be served.
#[derive(Debug)]
pub struct Valid<'a> {
    /// The object.
    pub gateway: &'a Gateway,
    /// What its children have in common.
    pub family: Family,
    /// Routes without fault, in the order of the spec.
    pub routes: Vec<&'a Route>,
    /// The others, with why and what to do.
    pub dropped: Vec<DroppedRoute>,
}

/// Checks `gateway`. One bad route costs nothing but itself.
pub fn validate(gateway: &Gateway) -> Result<Valid<'_>, Summary> {
    let Some(owner) = gateway.controller_owner_ref(&()) else {
        return Err(Summary {
            state: State::Stalled,
            reason: Reason::Invalid,
            message: "the object has no UID: it must come from an API server".into(),
        });
    };
    let family = Family::new(gateway.namespace().unwrap_or_default(), owner, keys::GATEWAY, "edge");
    let (mut routes, mut dropped) = (Vec::new(), Vec::new());
    let mut by_prefix: HashMap<&str, Vec<&Route>> = HashMap::new();
    for route in &gateway.spec.routes {
        let same = by_prefix.entry(&route.matches.path_prefix).or_default();
        match fault(&route.matches).or_else(|| taken(route, same)) {
            Some(message) => dropped.push(DroppedRoute { name: route.name.clone(), message }),
            None => {
                same.push(route);
                routes.push(route);
            }
        }
    }
    Ok(Valid { gateway, family, routes, dropped })
}

/// What is wrong with a match by itself.
fn fault(matches: &RouteMatch) -> Option<String> {
    let path = &matches.path_prefix;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._~/-".contains(c);
    if !path.starts_with('/') || path.len() > 256 {
        return Some("`pathPrefix` must begin with '/' and have at most 256 characters".into());
    }
    if let Some(odd) = path.chars().find(|c| !plain(*c)) {
        return Some(format!("`pathPrefix` has {odd:?}: letters, digits and . _ ~ - / are allowed"));
    }
    if path != "/" && path[1..].split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Some(
            "`pathPrefix` has an empty, '.' or '..' segment, or a '/' at its end: take it out".into(),
        );
    }
    let host = matches.hosts.iter().find(|host| !is_host(host))?;
    Some(format!("`hosts` has {host:?}: write a name in lower case, without port or wildcard"))
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = label.as_bytes();
        bytes.first().is_some_and(|b| plain(*b))
            && bytes.last().is_some_and(|b| plain(*b))
            && bytes.iter().all(|b| plain(*b) || *b == b'-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// Which earlier route has requests that `route` would match with equal right.
fn taken(route: &Route, same_prefix: &[&Route]) -> Option<String> {
    fn meet<T: PartialEq>(a: &[T], b: &[T]) -> bool {
        (a.is_empty() && b.is_empty()) || a.iter().any(|x| b.contains(x))
    }
    let (hosts, methods) = (&route.matches.hosts, &route.matches.methods);
    let earlier = same_prefix
        .iter()
        .find(|other| meet(hosts, &other.matches.hosts) && meet(methods, &other.matches.methods))?;
    Some(format!("route {} already has such requests: change the match of one of the two", earlier.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dropped(routes: serde_json::Value) -> Vec<(String, String)> {
        let gateway: Gateway = serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "fleet", "uid": "u"},
            "spec": {"defaultBackend": {"name": "mono"}, "routes": routes},
        }))
        .unwrap();
        let valid = validate(&gateway).unwrap();
        assert_eq!(valid.routes.len() + valid.dropped.len(), gateway.spec.routes.len());
        valid.dropped.into_iter().map(|d| (d.name, d.message)).collect()
    }

    #[test]
    fn a_path_or_host_that_could_mean_something_else_is_dropped() {
        let bad_paths = [
            "", "api", "/a$b", "/a\nb", "/a\"b", "/a'b", "/a;b", "/a{b", "/a b", "/a\\b", "/ä", "/a//b",
            "/a/./b", "/a/../b", "/..", "/.", "/a/", "//",
        ];
        for path in bad_paths {
            let routes = json!([{"name": "bad", "match": {"pathPrefix": path}}, {"name": "good", "match": {"pathPrefix": "/g"}}]);
            assert_eq!(dropped(routes).iter().map(|d| &d.0).collect::<Vec<_>>(), ["bad"], "{path:?}");
        }
        for host in ["", "A.b", "a:80", "*.a", "a..b", "-a", "a-", "a b", "a$"] {
            let routes = json!([{"name": "bad", "match": {"pathPrefix": "/", "hosts": [host]}}]);
            assert_eq!(dropped(routes).len(), 1, "{host:?}");
        }
        for path in ["/", "/api", "/a.b/c~d_e-f/..g", "/.well-known"] {
            let routes = json!([{"name": "good", "match": {"pathPrefix": path, "hosts": ["a.b-c.d", "x1"]}}]);
            assert_eq!(dropped(routes), [], "{path:?}");
        }
    }

    #[test]
    fn of_two_routes_with_equal_right_the_earlier_stays() {
        let route = |name: &str, hosts: &[&str], methods: &[&str]| json!({"name": name, "match": {"pathPrefix": "/a", "hosts": hosts, "methods": methods}});
        let cases = [
            (route("a", &[], &[]), route("b", &[], &[]), true),
            (route("a", &["x", "y"], &[]), route("b", &["y", "z"], &[]), true),
            (route("a", &["x"], &["GET"]), route("b", &["x"], &["HEAD", "GET"]), true),
            (route("a", &["x"], &[]), route("b", &[], &[]), false),
            (route("a", &["x"], &[]), route("b", &["y"], &[]), false),
            (route("a", &[], &["GET"]), route("b", &[], &["POST"]), false),
            (route("a", &[], &["GET"]), route("b", &[], &[]), false),
        ];
        for (a, b, conflict) in cases {
            let expected = "route a already has such requests: change the match of one of the two";
            let expected = conflict.then(|| ("b".to_owned(), expected.to_owned()));
            assert_eq!(dropped(json!([a, b])), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
