//! What a route may want otherwise than the rest.

use super::{config, moving, route, settings};
use crate::nginx::{Rendered, render};
use stomaton_crds::v1alpha1::{EdgeConfigSpec, EdgeHandling, EdgeRoute, HeaderMatch, Method};

fn rendered(routes: Vec<EdgeRoute>) -> Rendered {
    let rendered = render(&config(routes), &settings()).unwrap();
    assert_eq!(rendered.dropped, []);
    rendered
}

/// The body of the location that begins so, without its indent.
fn location(rendered: &Rendered, head: &str) -> Vec<String> {
    let mut lines = rendered.text.lines().map(str::trim_start);
    let begins = format!("location {head} {{");
    assert!(lines.any(|line| line == begins), "no {begins:?} in\n{}", rendered.text);
    lines.take_while(|line| *line != "}").map(str::to_owned).collect()
}

fn has_location(rendered: &Rendered, head: &str) -> bool {
    rendered.text.contains(&format!("location {head} {{"))
}

fn handled(route: EdgeRoute, change: impl Fn(&mut EdgeHandling)) -> EdgeRoute {
    let mut handling = route.handling.clone();
    change(&mut handling);
    EdgeRoute { handling, ..route }
}

fn with_header(route: EdgeRoute, name: &str, value: &str) -> EdgeRoute {
    let mut headers = route.headers.clone();
    headers.push(HeaderMatch { name: name.into(), value: value.into() });
    EdgeRoute { headers, ..route }
}

#[test]
fn an_exact_path_is_one_location() {
    let exact = EdgeRoute { exact: true, ..moving(1, "/a") };
    let alone = rendered(vec![exact.clone()]);
    assert!(has_location(&alone, r#"= "/a""#) && !has_location(&alone, r#""/a/""#));
    let both = rendered(vec![route(2, "/a"), exact]);
    let sets = |head| location(&both, head)[0].clone();
    assert_eq!(sets(r#"= "/a""#), r#"set $stomaton_route "0000000000000001";"#);
    assert_eq!(sets(r#""/a/""#), r#"set $stomaton_route "0000000000000002";"#);
}

#[test]
fn an_exact_root_leaves_the_rest_to_the_default_backend() {
    let root = rendered(vec![EdgeRoute { exact: true, ..moving(1, "/") }]);
    assert_eq!(location(&root, r#"= "/""#)[0], r#"set $stomaton_route "0000000000000001";"#);
    assert_eq!(location(&root, "/")[0], r#"set $stomaton_route "";"#);
}

#[test]
fn headers_choose_through_a_chain_of_maps() {
    let both = with_header(with_header(route(2, "/a"), "x-version", "2"), "x-team", "default");
    let text = rendered(vec![route(1, "/a"), both]).text;
    let maps = r#"
  map "${http_x_version}" $stomaton_by_header_0_0 {
    "default" "0000000000000001";
    "\\2" "0000000000000002";
  }
  map "${http_x_team}" $stomaton_by_header_0_1 {
    "default" "0000000000000001";
    "\\default" "${stomaton_by_header_0_0}";
  }
"#;
    assert!(text.contains(maps), "{text}");
    assert!(text.contains(r#"set $stomaton_route "${stomaton_by_header_0_1}";"#), "{text}");
}

#[test]
fn a_route_with_its_own_limits_has_them_in_its_location() {
    let own = handled(route(1, "/a"), |h| {
        h.connect_millis = 250;
        h.silent_millis = 3_600_000;
        h.max_body_bytes = 65_536;
        h.unbuffered = true;
    });
    let expected = [
        r#"set $stomaton_route "0000000000000001";"#,
        "set $stomaton_side monolith;",
        r#"proxy_connect_timeout "250ms";"#,
        r#"proxy_read_timeout "3600000ms";"#,
        r#"proxy_send_timeout "3600000ms";"#,
        r#"client_max_body_size "65536";"#,
        "proxy_buffering off;",
        r#"proxy_pass "http://${stomaton_backend}";"#,
    ];
    assert_eq!(location(&rendered(vec![own]), r#""/a/""#), expected);
}

#[test]
fn gzip_is_where_it_was_asked_for() {
    let rendered = rendered(vec![handled(route(1, "/a"), |h| h.gzip = true), route(2, "/b")]);
    assert!(location(&rendered, r#""/a/""#).contains(&"gzip on;".to_owned()));
    assert_eq!(rendered.text.matches("gzip on;").count(), 2, "itself and below");
}

#[test]
fn only_a_web_socket_is_an_upgrade_and_only_where_it_was_asked_for() {
    let text = rendered(vec![handled(moving(1, "/a"), |h| h.web_socket = true), moving(2, "/b")]).text;
    let maps = r#"
  map "${stomaton_route}:${http_upgrade}" $stomaton_upgrade {
    "default" "";
    "0000000000000001:websocket" "websocket";
  }
  map "${stomaton_upgrade}" $stomaton_connection {
    "default" "";
    "websocket" "upgrade";
  }
"#;
    assert!(text.contains(maps), "{text}");
    assert!(text.contains(r#"proxy_set_header Upgrade "${stomaton_upgrade}";"#));
    assert!(text.contains(r#"proxy_set_header Connection "${stomaton_connection}";"#));
    assert!(!rendered(vec![moving(2, "/b")]).text.contains("Upgrade"));
}

#[test]
fn each_side_may_have_another_path() {
    let both = EdgeRoute {
        safe_rewrite: Some("/api/v1/stomaton/rag".into()),
        target_rewrite: Some("/internal/rag".into()),
        ..moving(1, "/api/v1/rag")
    };
    let rendered = rendered(vec![both]);
    let chooses = location(&rendered, r#"= "/api/v1/rag""#);
    let onwards = r#"rewrite ^ "/.stomaton/r${stomaton_route}/${stomaton_side}${uri}" last;"#;
    assert!(rendered.text.contains(onwards));
    assert_eq!(chooses[0], r#"set $stomaton_route "0000000000000001";"#);
    let inside = "/.stomaton/r0000000000000001";
    assert_eq!(
        location(&rendered, &format!(r#"= "{inside}/monolith/api/v1/rag""#)),
        ["internal;", "proxy_redirect off;", r#"proxy_pass "http://b-monolith/api/v1/stomaton/rag";"#]
    );
    assert_eq!(
        location(&rendered, &format!(r#""{inside}/service/api/v1/rag/""#)),
        [
            "internal;",
            r#"proxy_redirect "/internal/rag/" "/api/v1/rag/";"#,
            r#"proxy_pass "http://b-content/internal/rag/";"#
        ]
    );
}

#[test]
fn a_side_without_another_path_gets_the_one_that_was_sent() {
    let one = EdgeRoute { target_rewrite: Some("/".into()), ..moving(1, "/a") };
    let rendered = rendered(vec![one]);
    let inside = "/.stomaton/r0000000000000001";
    assert_eq!(
        location(&rendered, &format!(r#""{inside}/monolith/""#)),
        ["internal;", r#"proxy_pass "http://${stomaton_backend}${request_uri}";"#]
    );
    assert_eq!(
        location(&rendered, &format!(r#""{inside}/service/a/""#)),
        ["internal;", r#"proxy_redirect "/" "/a/";"#, r#"proxy_pass "http://b-content/";"#]
    );
}

#[test]
fn a_root_and_an_exact_path_are_replaced_too() {
    let root = EdgeRoute { safe_rewrite: Some("/v2".into()), ..route(1, "/") };
    let exact = EdgeRoute { safe_rewrite: Some("/v2/a".into()), exact: true, ..route(2, "/a") };
    let rendered = rendered(vec![root, exact]);
    let last = |head: &str| location(&rendered, head).pop().unwrap();
    let at = |rest: &str| format!("\"/.stomaton/r000000000000000{rest}\"");
    assert_eq!(last(&at("1/monolith/")), r#"proxy_pass "http://b-monolith/v2/";"#);
    assert_eq!(last(&format!("= {}", at("2/monolith/a"))), r#"proxy_pass "http://b-monolith/v2/a";"#);
    assert!(!has_location(&rendered, &at("2/monolith/a/")));
}

#[test]
fn routes_of_one_path_that_are_handled_differently_have_a_location_each() {
    let upload = EdgeRoute { methods: vec![Method::POST], ..moving(2, "/a") };
    let upload = handled(upload, |h| h.max_body_bytes = 1 << 30);
    let rendered = rendered(vec![EdgeRoute { hosts: vec!["h".into()], ..route(1, "/a") }, upload]);
    let chooses = location(&rendered, r#""/a/""#);
    assert!(chooses.iter().all(|line| !line.starts_with("proxy_pass")), "{chooses:?}");
    assert!(rendered.text.contains(r#"client_max_body_size "1073741824";"#));
    let inside = |id: &str, side: &str| format!("\"/.stomaton/r{id}/{side}/\"");
    for (id, side) in [("", "monolith"), ("0000000000000001", "monolith"), ("0000000000000002", "service")] {
        let body = location(&rendered, &inside(id, side));
        assert_eq!(body.contains(&r#"client_max_body_size "1073741824";"#.to_owned()), id.ends_with('2'));
    }
    assert!(!has_location(&rendered, &inside("0000000000000001", "service")));
}

#[test]
fn hidden_paths_are_answered_with_404_and_hold_no_routes() {
    let spec = EdgeConfigSpec {
        hidden_paths: ["/internal", "/a b", "/"].map(Into::into).into(),
        ..config(vec![route(1, "/internal/rag"), route(2, "/internals")])
    };
    let rendered = render(&spec, &settings()).unwrap();
    let subjects: Vec<_> = rendered.dropped.iter().map(|d| d.subject.as_str()).collect();
    assert_eq!(subjects, ["/a b", "/", "0000000000000001"]);
    for head in [r#"= "/internal""#, r#""/internal/""#] {
        assert_eq!(location(&rendered, head), ["return 404;"]);
    }
    assert!(has_location(&rendered, r#""/internals/""#));
}

#[test]
fn what_is_out_of_range_or_no_path_leaves_a_route_out() {
    let bad = [
        handled(moving(1, "/a"), |h| h.connect_millis = 0),
        handled(moving(1, "/a"), |h| h.silent_millis = -1),
        handled(moving(1, "/a"), |h| h.max_body_bytes = i64::MAX),
        EdgeRoute { safe_rewrite: Some("/a/../b".into()), ..moving(1, "/a") },
        EdgeRoute { safe_rewrite: Some("/$1".into()), ..moving(1, "/a") },
        with_header(moving(1, "/a"), "X-A", "1"),
        with_header(moving(1, "/a"), "x-a", "a b"),
    ];
    for route in bad {
        let rendered = render(&config(vec![route.clone()]), &settings()).unwrap();
        assert_eq!(rendered.dropped.len(), 1, "{route:?}");
        assert!(!has_location(&rendered, r#""/a/""#));
    }
    let target = EdgeRoute { target_rewrite: Some("x".into()), ..moving(1, "/a") };
    let given = render(&config(vec![target]), &settings()).unwrap();
    assert_eq!(given.dropped.len(), 1);
    assert_eq!(given.text, rendered(vec![route(1, "/a")]).text, "the safe side stays");
}
