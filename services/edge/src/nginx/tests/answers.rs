//! What is added to answers, and what the edge answers itself.

use super::{config, moving, route, settings};
use crate::nginx::render;
use stomaton_crds::v1alpha1::{
    Cors, EdgeConfigSpec, EdgeRoute, FrameOptions, Method, ReferrerPolicy, SecurityHeaders,
};

fn text(spec: &EdgeConfigSpec) -> String {
    let rendered = render(spec, &settings()).unwrap();
    assert_eq!(rendered.dropped, []);
    rendered.text
}

fn shared(route: EdgeRoute, cors: Cors) -> EdgeRoute {
    let mut route = route;
    route.handling.cors = Some(cors);
    route
}

fn app() -> Cors {
    Cors {
        allow_origins: vec!["https://app.example".into(), "http://localhost:3000".into()],
        allow_methods: vec![Method::GET, Method::PUT],
        allow_headers: vec!["content-type".into(), "x-token".into()],
        allow_credentials: true,
        max_age_seconds: 600,
        ..Cors::default()
    }
}

#[test]
fn named_origins_may_call_and_are_told_so() {
    let text = text(&config(vec![shared(moving(1, "/a"), app())]));
    let table = r#"
  map "${http_origin}" $stomaton_origin_0_0 {
    "default" "";
    "https://app.example" "https://app.example";
    "http://localhost:3000" "http://localhost:3000";
  }
"#;
    assert!(text.contains(table), "{text}");
    let preflight = r#"
      if ($stomaton_preflight) {
        add_header X-Stomaton-Edge "route=${stomaton_route};side=${stomaton_side};bucket=${stomaton_bucket};pod=edge-0" always;
        add_header Set-Cookie "${stomaton_set_cookie}" always;
        add_header Access-Control-Allow-Origin "${stomaton_origin_0_0}" always;
        add_header Vary "Origin" always;
        add_header Access-Control-Allow-Credentials "true" always;
        add_header Access-Control-Allow-Methods "GET, PUT" always;
        add_header Access-Control-Allow-Headers "content-type, x-token" always;
        add_header Access-Control-Max-Age "600" always;
        return 204;
      }
"#;
    assert!(text.contains(preflight), "{text}");
    assert!(text.contains("proxy_hide_header Access-Control-Allow-Origin;"));
}

#[test]
fn routes_with_the_same_rules_share_a_table() {
    let all = Cors { allow_origins: vec!["*".into()], ..Cors::default() };
    let routes = vec![
        route(1, "/a"),
        shared(route(2, "/b"), app()),
        shared(route(3, "/c"), app()),
        shared(route(4, "/d"), all),
    ];
    let text = text(&config(routes));
    assert_eq!(text.matches("map \"${http_origin}\"").count(), 2);
    assert!(text.contains("$stomaton_origin_1_0 {") && text.contains("$stomaton_origin_3_0 {"));
    let allows = r#"add_header Access-Control-Allow-Origin "${stomaton_origin_1_0}" always;"#;
    assert_eq!(text.matches(allows).count(), 8, "two routes, two locations, with and without preflight");
}

#[test]
fn origins_and_headers_that_are_none_leave_a_route_out() {
    let bad = [
        Cors { allow_origins: vec!["*".into(), "https://a.b".into()], ..app() },
        Cors { allow_origins: vec!["*".into()], ..app() },
        Cors { allow_origins: vec!["https://a.b\"; return 200".into()], ..app() },
        Cors { allow_origins: vec!["~.*".into()], ..app() },
        Cors { allow_headers: vec!["a\nb".into()], ..app() },
        Cors { expose_headers: vec!["$host".into()], ..app() },
        Cors { max_age_seconds: -1, ..app() },
    ];
    let others = text(&config(vec![route(2, "/b")]));
    for cors in bad {
        let spec = config(vec![shared(moving(1, "/a"), cors.clone()), route(2, "/b")]);
        let rendered = render(&spec, &settings()).unwrap();
        assert!(rendered.text == others && rendered.dropped.len() == 1, "{cors:?}");
    }
}

#[test]
fn security_headers_are_added_where_the_backend_says_nothing() {
    let security_headers = Some(SecurityHeaders {
        no_sniff: true,
        frame_options: FrameOptions::Deny,
        referrer_policy: ReferrerPolicy::Unset,
        hsts_seconds: 31_536_000,
        content_security_policy: Some("default-src 'self'; img-src *".into()),
    });
    let text = text(&EdgeConfigSpec { security_headers, ..config(vec![shared(moving(1, "/a"), app())]) });
    for part in [
        "map \"${upstream_http_x_frame_options}\" $stomaton_frame {\n    \"default\" \"\";\n    \"\" \"DENY\";\n",
        "map \"${scheme}:${upstream_http_strict_transport_security}\" $stomaton_hsts {",
        "\"https:\" \"max-age=31536000\";",
        "\"\" \"default-src 'self'; img-src *\";",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let added = r#"add_header X-Content-Type-Options "${stomaton_no_sniff}" always;"#;
    assert_eq!(text.matches(added).count(), 5, "the server, and two locations with and without preflight");
    assert!(!text.contains("Referrer-Policy"));
}

#[test]
fn a_policy_that_is_none_is_left_out() {
    let security_headers = Some(SecurityHeaders {
        no_sniff: false,
        frame_options: FrameOptions::Unset,
        referrer_policy: ReferrerPolicy::Unset,
        hsts_seconds: 0,
        content_security_policy: Some("x\"; return 200".into()),
    });
    let rendered = render(&EdgeConfigSpec { security_headers, ..config(vec![]) }, &settings()).unwrap();
    assert_eq!(rendered.dropped.len(), 1);
    assert_eq!(rendered.text, text(&config(vec![])));
}

#[test]
fn under_maintenance_only_the_health_of_the_edge_is_answered() {
    let text = text(&EdgeConfigSpec { maintenance_seconds: Some(120), ..config(vec![moving(1, "/a")]) });
    assert!(text.contains(r#"add_header Retry-After "120" always;"#));
    assert!(text.contains(r#"return 503 "{\"error\":\"maintenance\"}";"#), "{text}");
    assert!(!text.contains("proxy_pass ") && text.contains("location = /health {"));
    // The log names both, and NGINX refuses a variable that nothing sets.
    assert!(text.contains("set $stomaton_route \"\";") && text.contains("set $stomaton_side monolith;"));
}

#[test]
fn a_list_of_headers_is_as_long_as_it_may_be_and_no_longer() {
    let spec = |many: usize| {
        let allow_headers = (0..many).map(|n| format!("x-{n:061}")).collect();
        config(vec![shared(moving(1, "/a"), Cors { allow_headers, ..app() })])
    };
    assert!(text(&spec(32)).contains("Access-Control-Allow-Headers"));
    assert_eq!(render(&spec(33), &settings()).unwrap().dropped.len(), 1);
}
