//! Limits, and who a client is.

use super::{config, moving, route, settings};
use crate::nginx::render;
use stomaton_crds::v1alpha1::{
    AddressFrom, EdgeConfigSpec, EdgeLimits, EdgeRate, EdgeRoute, LimitClass, TrustedProxies,
};

fn rate(per_minute: i32, burst: i32) -> EdgeRate {
    EdgeRate { per_minute, burst }
}

fn limited(routes: Vec<EdgeRoute>, dry_run: bool) -> EdgeConfigSpec {
    let limits = EdgeLimits { client: rate(6000, 200), client_auth: rate(600, 20), dry_run };
    EdgeConfigSpec { limits: Some(limits), ..config(routes) }
}

fn text(spec: &EdgeConfigSpec) -> String {
    let rendered = render(spec, &settings()).unwrap();
    assert_eq!(rendered.dropped, []);
    rendered.text
}

fn of_class(route: EdgeRoute, class: LimitClass) -> EdgeRoute {
    let mut route = route;
    route.handling.limit = class;
    route
}

#[test]
fn every_location_that_answers_has_the_limits_of_its_class() {
    let all = r#"limit_req "zone=client-10m" "burst=200" nodelay;"#;
    let auth = r#"limit_req "zone=client-auth-10m" "burst=20" nodelay;"#;
    let routes = vec![
        moving(1, "/a"),
        of_class(route(2, "/login"), LimitClass::Auth),
        of_class(route(3, "/free"), LimitClass::Unlimited),
    ];
    let text = text(&limited(routes, false));
    assert!(text.contains(r#"limit_req_zone "${binary_remote_addr}" "zone=client-10m:10m" "rate=6000r/m";"#));
    assert!(
        text.contains(r#"limit_req_zone "${binary_remote_addr}" "zone=client-auth-10m:10m" "rate=600r/m";"#)
    );
    assert!(text.contains("limit_req_status 429;") && !text.contains("limit_req_dry_run"));
    // Two locations for a path, and one for what no route matches.
    assert_eq!((text.matches(all).count(), text.matches(auth).count()), (5, 2));
}

#[test]
fn no_burst_is_said_by_saying_nothing() {
    let mut route = route(1, "/a");
    route.handling.total = Some(rate(60, 0));
    let text = text(&limited(vec![route], false));
    assert!(
        text.contains(r#"limit_req "zone=total-0000000000000001-32k" nodelay;"#) && !text.contains("burst=0")
    );
}

#[test]
fn without_limits_there_is_no_trace_of_them() {
    let mut totalled = route(1, "/a");
    totalled.handling.total = Some(rate(60, 0));
    let unlimited = text(&config(vec![totalled]));
    assert!(!unlimited.contains("limit_req_zone") && !unlimited.contains("limit_req \""));
    assert!(text(&limited(vec![], true)).contains("limit_req_dry_run on;"));
}

#[test]
fn a_total_is_counted_by_route() {
    let total = |number, methods| {
        let mut route = EdgeRoute { methods, ..route(number, "/a") };
        route.handling.total = Some(rate(90, 3));
        route
    };
    let routes = vec![total(1, vec![]), total(2, vec![stomaton_crds::v1alpha1::Method::POST])];
    let text = text(&limited(routes, false));
    for id in ["0000000000000001", "0000000000000002"] {
        let zone = format!(r#"limit_req_zone "${{stomaton_route}}" "zone=total-{id}-32k:32k" "rate=90r/m";"#);
        assert!(text.contains(&zone), "{text}");
        assert_eq!(
            text.matches(&format!(r#"limit_req "zone=total-{id}-32k" "burst=3" nodelay;"#)).count(),
            1
        );
    }
}

#[test]
fn a_rate_out_of_range_is_left_out() {
    let limits = EdgeLimits { client: rate(0, 0), client_auth: rate(1, 0), dry_run: false };
    let spec = EdgeConfigSpec { limits: Some(limits), ..config(vec![]) };
    let rendered = render(&spec, &settings()).unwrap();
    assert_eq!((rendered.dropped.len(), rendered.text.contains("limit_req_zone")), (1, false));
    let mut route = route(1, "/a");
    route.handling.total = Some(rate(-5, 0));
    assert_eq!(render(&config(vec![route]), &settings()).unwrap().dropped.len(), 1);
}

#[test]
fn only_trusted_hops_are_believed() {
    let networks = vec!["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()];
    let trusted_proxies = Some(TrustedProxies { networks, address_from: AddressFrom::XForwardedFor });
    let text = text(&EdgeConfigSpec { trusted_proxies, ..config(vec![]) });
    for line in [
        r#"set_real_ip_from "10.0.0.0/8";"#,
        r#"set_real_ip_from "fd00::/8";"#,
        "real_ip_header X-Forwarded-For;",
        "geo $realip_remote_addr $stomaton_trusted {",
        r#"proxy_set_header X-Real-IP "${remote_addr}";"#,
        r#"proxy_set_header X-Forwarded-For "${stomaton_forwarded_for}";"#,
        r#"proxy_set_header X-Forwarded-Proto "${stomaton_proto}";"#,
        r#"proxy_set_header X-Correlation-ID "${stomaton_correlation}";"#,
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}

#[test]
fn networks_that_may_ask_stand_before_the_rest_is_refused() {
    let mut inner = route(1, "/a");
    inner.handling.allow_from = vec!["10.0.0.0/8".into(), "fd00::/8".into()];
    let rules = "allow \"10.0.0.0/8\";\n      allow \"fd00::/8\";\n      deny all;\n";
    assert_eq!(text(&config(vec![inner])).matches(rules).count(), 2);
}
