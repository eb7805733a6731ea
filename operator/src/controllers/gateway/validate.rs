//! Takes a Gateway; gives what can be served of it, and which routes cannot. Pure.
//!
//! The schema states the rules for a single route too. They run again here, because what stands in a route becomes
//! part of the edge's configuration, and an object may be older than its schema.

pub(super) mod cohort;
mod listen;
pub(super) mod route;
mod workload;

use crate::controllers::meta::Family;
use kube::{Resource, ResourceExt};
use std::collections::HashMap;
use stomaton_crds::{
    conditions::{Reason, State, Summary},
    keys,
    v1alpha1::{DroppedRoute, EdgeCohort, Gateway, Route, TrustedProxies},
};

/// A Gateway with the routes that can be served.
#[derive(Debug)]
pub struct Valid<'a> {
    /// The object.
    pub gateway: &'a Gateway,
    /// What its children have in common.
    pub family: Family,
    /// Paths that are answered with 404.
    pub hidden: Vec<&'a str>,
    /// By what users are told apart.
    pub cohort: EdgeCohort,
    /// Secrets of tokens, with their keys.
    pub token_secrets: cohort::Secrets,
    /// Hops that are believed.
    pub trusted_proxies: Option<TrustedProxies>,
    /// Routes without fault, in the order of the spec.
    pub routes: Vec<&'a Route>,
    /// The others, with why and what to do.
    pub dropped: Vec<DroppedRoute>,
    /// Whether an older Gateway has one of them.
    pub conflicted: bool,
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
    if let Some(message) = listen::fault(&gateway.spec).or_else(|| workload::fault(&gateway.spec)) {
        return Err(Summary { state: State::Stalled, reason: Reason::Invalid, message });
    }
    let hidden = &gateway.spec.hidden_paths;
    let mut by_place: HashMap<Option<(&str, bool)>, Vec<&Route>> = HashMap::new();
    for route in &gateway.spec.routes {
        let same = by_place.entry(route.matches.place()).or_default();
        let fault = route::fault(route).or_else(|| route::hidden(route, hidden));
        let fault = fault.or_else(|| route::elsewhere(route, &gateway.spec.hosts));
        let fault = fault.or_else(|| route::unknown(route, gateway.spec.auth.as_ref()));
        match fault.or_else(|| route::taken(route, same)) {
            Some(message) => dropped.push(DroppedRoute { name: route.name.clone(), message }),
            None => {
                same.push(route);
                routes.push(route);
            }
        }
    }
    let hidden = hidden.iter().map(String::as_str).filter(|path| route::fault_of_path("", path).is_none());
    let hidden = hidden.collect();
    let trusted_proxies = believable(gateway.spec.trusted_proxies.as_ref());
    let (cohort, token_secrets) =
        cohort::usable(&gateway.spec.cohort, trusted_proxies.as_ref(), &mut dropped);
    Ok(Valid {
        gateway,
        family,
        hidden,
        cohort,
        token_secrets,
        trusted_proxies,
        routes,
        dropped,
        conflicted: false,
    })
}

/// Without the networks that are none: nobody is believed by mistake.
fn believable(given: Option<&TrustedProxies>) -> Option<TrustedProxies> {
    let given = given?;
    let networks = given.networks.iter().filter(|network| route::is_network(network)).cloned();
    let believable = TrustedProxies { networks: networks.collect(), ..given.clone() };
    (!believable.networks.is_empty()).then_some(believable)
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
    fn whatever_else_the_schema_would_refuse_is_dropped_with_why() {
        let route = |more: serde_json::Value| {
            let mut route = json!({"name": "r", "match": {"pathPrefix": "/a"}});
            route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!([route])
        };
        let headers = |name: &str, value: &str| json!({"match": {"pathPrefix": "/a", "headers": [{"name": name, "value": value}]}});
        let cases = [
            (json!({"match": {}}), "name a `pathPrefix` or a `path`, one of the two"),
            (json!({"match": {"pathPrefix": "/a", "path": "/a"}}), "name a `pathPrefix` or a `path`"),
            (json!({"match": {"path": "/a b"}}), "`path` has ' '"),
            (headers("X-A", "1"), "`headers` has the name \"X-A\""),
            (headers("x-a", "$host"), "`headers` has the value \"$host\""),
            (headers("x-a", "a\"b"), "`headers` has the value"),
            (json!({"backend": {"name": "b", "rewrite": "/a/$1"}}), "`backend.rewrite` has '$'"),
            (json!({"maxBody": "10m;"}), "`maxBody` must be"),
            (json!({"maxBody": "0Mi"}), "`maxBody` must be"),
            (json!({"timeouts": {"connect": "0s"}}), "`timeouts.connect` must be between 10ms and 1m"),
            (json!({"cors": {"allowOrigins": ["https://a.b", "*"]}}), "`*` stands alone"),
            (json!({"cors": {"allowOrigins": ["https://a.b/x"]}}), "write an origin"),
            (json!({"cors": {"allowOrigins": ["https://a.b:+80"]}}), "write an origin"),
            (json!({"cors": {"allowOrigins": ["*"], "allowHeaders": ["X Y"]}}), "`cors` has the header"),
            (json!({"auth": {}}), "say there who knows the users"),
            (json!({"allowFrom": ["10.0.0.1"]}), "`allowFrom` has \"10.0.0.1\""),
            (json!({"rateLimit": {"total": {"requestsPerSecond": 0}}}), "`rateLimit.total` must be"),
            (json!({"timeouts": {"idle": "-5s"}}), "`timeouts.idle` must be between 1s and 24h"),
        ];
        for (more, says) in cases {
            let dropped = dropped(route(more.clone()));
            assert!(dropped.len() == 1 && dropped[0].1.contains(says), "{more}: {dropped:?}");
        }
    }

    #[test]
    fn a_network_that_is_none_is_not_believed() {
        let given = |networks: &[&str]| TrustedProxies {
            networks: networks.iter().map(|n| (*n).to_owned()).collect(),
            address_from: stomaton_crds::v1alpha1::AddressFrom::XForwardedFor,
        };
        let kept = believable(Some(&given(&["10.0.0.0/8", "10.0.0.0/33", "all", "fd00::/8"]))).unwrap();
        assert_eq!(kept.networks, ["10.0.0.0/8", "fd00::/8"]);
        assert_eq!(believable(Some(&given(&["0.0.0.0"]))), None);
    }

    #[test]
    fn a_route_for_hosts_of_others_is_dropped() {
        let gateway: Gateway = serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "fleet", "uid": "u"},
            "spec": {"defaultBackend": {"name": "mono"}, "hosts": ["a.example"], "routes": [
                {"name": "own", "match": {"pathPrefix": "/a", "hosts": ["a.example"]}},
                {"name": "any", "match": {"pathPrefix": "/b"}},
                {"name": "other", "match": {"pathPrefix": "/c", "hosts": ["a.example", "b.example"]}},
            ]},
        }))
        .unwrap();
        let valid = validate(&gateway).unwrap();
        assert_eq!(valid.routes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["own", "any"]);
        assert!(valid.dropped[0].message.contains("b.example"), "{:?}", valid.dropped);
    }

    #[test]
    fn a_route_in_a_hidden_path_is_dropped() {
        let gateway: Gateway = serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "fleet", "uid": "u"},
            "spec": {"defaultBackend": {"name": "mono"}, "hiddenPaths": ["/internal", "/a b", "/health"], "routes": [
                {"name": "in", "match": {"pathPrefix": "/internal/rag"}},
                {"name": "at", "match": {"path": "/internal"}},
                {"name": "beside", "match": {"pathPrefix": "/internals"}},
                {"name": "around", "match": {"pathPrefix": "/"}},
            ]},
        }))
        .unwrap();
        let valid = validate(&gateway).unwrap();
        let names: Vec<_> = valid.routes.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["beside", "around"]);
        assert_eq!(valid.hidden, ["/internal", "/health"], "what cannot be a path is not passed on");
    }

    #[test]
    fn of_two_routes_with_equal_right_the_earlier_stays() {
        let route = |name: &str, hosts: &[&str], methods: &[&str]| json!({"name": name, "match": {"pathPrefix": "/a", "hosts": hosts, "methods": methods}});
        let with_header = |name: &str, value: &str| json!({"name": name, "match": {"pathPrefix": "/a", "headers": [{"name": "x-version", "value": value}]}});
        let cases = [
            (route("a", &[], &[]), route("b", &[], &[]), true),
            (route("a", &["x", "y"], &[]), route("b", &["y", "z"], &[]), true),
            (route("a", &["x"], &["GET"]), route("b", &["x"], &["HEAD", "GET"]), true),
            (route("a", &["x"], &[]), route("b", &[], &[]), false),
            (route("a", &["x"], &[]), route("b", &["y"], &[]), false),
            (route("a", &[], &["GET"]), route("b", &[], &["POST"]), false),
            (route("a", &[], &["GET"]), route("b", &[], &[]), false),
            (route("a", &[], &[]), json!({"name": "b", "match": {"path": "/a"}}), false),
            (
                json!({"name": "a", "match": {"path": "/a"}}),
                json!({"name": "b", "match": {"path": "/a"}}),
                true,
            ),
            (with_header("a", "1"), with_header("b", "2"), false),
            (with_header("a", "1"), with_header("b", "1"), true),
        ];
        for (a, b, conflict) in cases {
            let expected = "route a already has such requests: change the match of one of the two";
            let expected = conflict.then(|| ("b".to_owned(), expected.to_owned()));
            assert_eq!(dropped(json!([a, b])), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
