//! The safe side in place of a target that failed.

use super::{config, moving, route, settings};
use crate::control::Version;
use crate::nginx::{Settings, render};
use stomaton_crds::v1alpha1::{EdgeFallback, EdgeRoute, Method};

fn helped(mut route: EdgeRoute, also_for: Vec<Method>) -> EdgeRoute {
    route.handling.fallback = Some(EdgeFallback { also_for, within_millis: 2500 });
    route
}

fn text(routes: Vec<EdgeRoute>) -> String {
    let rendered = render(&config(routes), &settings()).unwrap();
    assert_eq!(rendered.dropped, []);
    rendered.text
}

#[test]
fn the_target_is_always_asked_first_and_the_method_says_whether_anybody_helps() {
    let text = text(vec![helped(moving(1, "/a"), vec![]), moving(2, "/b")]);
    for part in [
        r#"
  upstream "o-0000000000000001" {
    server "10.96.0.11:8080";
    keepalive 0;
  }
  upstream "f-0000000000000001" {
    server "10.96.0.11:8080" max_fails=0;
    server "10.96.0.10:80" max_fails=0 backup;
    keepalive 64;
"#,
        r#"
  map "${request_method}" $stomaton_fallback_0_0 {
    "default" "o-0000000000000001";
    "GET" "f-0000000000000001";
    "HEAD" "f-0000000000000001";
    "POST" "f-0000000000000001";
    "PATCH" "f-0000000000000001";
    "OPTIONS" "f-0000000000000001";
  }
"#,
        r#"
    "0000000000000001:monolith" "b-monolith";
    "0000000000000001:service" "${stomaton_fallback_0_0}";
"#,
        r#""0000000000000002:service" "b-content";"#,
        r#"
  map "${upstream_status}" $stomaton_worst {
    "default" "${stomaton_bad}";
    "" "${stomaton_bad}";
    "~^5" "1";
  }
"#,
        r#"stomaton "if=${stomaton_worst}";"#,
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let again = "proxy_next_upstream error timeout http_502 http_503 http_504;\n      \
                 proxy_next_upstream_tries 2;\n      proxy_next_upstream_timeout \"2500ms\";\n";
    assert_eq!(text.matches(again).count(), 2, "in the two locations of the one route");
}

#[test]
fn put_and_delete_are_sent_twice_only_if_that_is_said_and_nothing_else_can_be_added() {
    let also = vec![Method::PUT, Method::PUT, Method::POST];
    let text = text(vec![helped(moving(1, "/a"), also)]);
    let entry = |method: &str| text.matches(&format!("    \"{method}\" \"f-0000000000000001\";\n")).count();
    assert_eq!(["PUT", "DELETE", "POST"].map(entry), [1, 0, 1]);
}

#[test]
fn an_old_nginx_keeps_no_connections_unless_told_to() {
    let old = Settings { version: Version(1, 22, 1), ..settings() };
    let spec = config(vec![helped(moving(1, "/a"), vec![])]);
    assert!(!render(&spec, &old).unwrap().text.contains("keepalive 0;"));
}

#[test]
fn a_route_that_cannot_have_it_goes_without() {
    let plain = text(vec![moving(1, "/a")]);
    assert!(!plain.contains("stomaton_worst") && !plain.contains("~^5"));
    let mut long = helped(moving(1, "/a"), vec![]);
    long.handling.fallback = Some(EdgeFallback { also_for: vec![], within_millis: 60_001 });
    let rendered = render(&config(vec![long]), &settings()).unwrap();
    assert_eq!((rendered.dropped.len(), &rendered.text), (1, &plain));
    let elsewhere = EdgeRoute { target_rewrite: Some("/x".into()), ..moving(1, "/a") };
    let rendered = render(&config(vec![helped(elsewhere.clone(), vec![])]), &settings()).unwrap();
    assert_eq!((rendered.dropped.len(), rendered.text), (1, text(vec![elsewhere])));
    assert_eq!(text(vec![helped(route(1, "/a"), vec![])]), text(vec![route(1, "/a")]));
}
