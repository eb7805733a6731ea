//! Routes whose point of no return is behind them.

use super::*;

/// A route without a way back: its safe side is the service.
fn crossed(number: u64, path: &str) -> EdgeRoute {
    EdgeRoute { safe: "content".into(), crossed: true, ..route(number, path) }
}

#[test]
fn a_route_without_a_way_back_tests_no_weights_and_is_the_services() {
    let rendered = render(&config(vec![crossed(1, "/a")]), &settings()).unwrap();
    assert_eq!(rendered.dropped, []);
    let text = rendered.text;
    assert!(!text.contains("if (-f"), "a latch would move it: {text}");
    assert!(text.contains(r#"set $stomaton_side "${stomaton_resting}";"#), "{text}");
    assert!(text.contains(r#""0000000000000001" "service";"#), "{text}");
    assert!(text.contains(r#""0000000000000001:service" "b-content";"#), "{text}");
    assert!(!text.contains("0000000000000001:monolith"), "{text}");
}

#[test]
fn a_target_beside_it_is_not_another_side() {
    let two = EdgeRoute { target: Some("monolith".into()), salt: Some("0".repeat(16)), ..crossed(1, "/a") };
    let one = render(&config(vec![crossed(1, "/a")]), &settings()).unwrap();
    assert!(render(&config(vec![two]), &settings()).unwrap().text == one.text);
}

#[test]
fn its_path_is_that_of_the_service() {
    let rewritten = EdgeRoute { safe_rewrite: Some("/internal".into()), ..crossed(1, "/a") };
    let text = render(&config(vec![rewritten]), &settings()).unwrap().text;
    assert!(text.contains("/.stomaton/r0000000000000001/service/a/"), "{text}");
    assert!(!text.contains("/.stomaton/r0000000000000001/monolith"), "{text}");
}

#[test]
fn others_beside_it_rest_at_the_monolith() {
    let text = render(&config(vec![crossed(1, "/a"), moving(2, "/b")]), &settings()).unwrap().text;
    assert!(text.contains(r#""0000000000000002:monolith" "b-monolith";"#), "{text}");
    assert!(!text.contains(r#""0000000000000002" "service";"#), "{text}");
}
