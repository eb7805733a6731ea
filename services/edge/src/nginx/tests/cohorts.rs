//! By what users are told apart.

use super::{config, moving, settings};
use crate::nginx::{RenderError, render};
use stomaton_crds::v1alpha1::{
    AddressFrom, EdgeAudience, EdgeCohort, EdgeConfigSpec, HeaderMatch, TrustedProxies,
};

fn with(cohort: EdgeCohort) -> EdgeConfigSpec {
    EdgeConfigSpec { cohort, ..config(vec![moving(1, "/a")]) }
}

fn text(spec: &EdgeConfigSpec) -> String {
    let rendered = render(spec, &settings()).unwrap();
    assert_eq!(rendered.dropped, []);
    rendered.text
}

fn trusting(address_from: AddressFrom, spec: EdgeConfigSpec) -> EdgeConfigSpec {
    let trusted_proxies = Some(TrustedProxies { networks: vec!["10.0.0.0/8".into()], address_from });
    EdgeConfigSpec { trusted_proxies, ..spec }
}

#[test]
fn a_header_comes_before_the_cookie_if_a_trusted_hop_may_have_set_it() {
    let said = || EdgeCohort { header: Some("x-user-id".into()), ..EdgeCohort::default() };
    let believed = text(&trusting(AddressFrom::XForwardedFor, with(said())));
    for part in [
        "map \"${stomaton_trusted}\" $stomaton_user {\n    \"default\" \"\";\n    \"1\" \"${http_x_user_id}\";\n",
        "map \"${stomaton_user}\" $stomaton_cohort {\n    \"default\" \"${stomaton_user}\";\n    \"\" \"${stomaton_browser}\";\n",
        "map \"${cookie_stomaton_id}${stomaton_user}\" $stomaton_set_cookie {",
    ] {
        assert!(believed.contains(part), "no {part} in\n{believed}");
    }
    for spec in [with(said()), trusting(AddressFrom::ProxyProtocol, with(said()))] {
        assert!(!text(&spec).contains("http_x_user_id"), "anybody could say it");
    }
}

#[test]
fn another_cookie_is_told_apart_by_and_set_only_if_wanted() {
    let own = |set_cookie| with(EdgeCohort { cookie: "sid".into(), set_cookie, ..EdgeCohort::default() });
    let set = text(&own(true));
    assert!(
        set.contains("map \"${cookie_sid}\" $stomaton_cohort {") && set.contains("\"sid=${stomaton_hash_a}-")
    );
    assert!(set.contains("add_header Set-Cookie \"${stomaton_set_cookie}\" always;"));
    let left = text(&own(false));
    assert!(
        left.contains("${cookie_sid}") && !left.contains("Set-Cookie") && !left.contains("stomaton_secure")
    );
}

#[test]
fn what_cannot_be_a_name_is_refused() {
    let spec = with(EdgeCohort { cookie: "a}b".into(), ..EdgeCohort::default() });
    assert!(matches!(render(&spec, &settings()), Err(RenderError::Name(_))));
    let spec = with(EdgeCohort { header: Some("x;".into()), ..EdgeCohort::default() });
    let rendered = render(&spec, &settings()).unwrap();
    assert_eq!((rendered.dropped.len(), rendered.text), (1, text(&with(EdgeCohort::default()))));
}

const SECRET: &str = "0123456789abcdef";

fn network(name: &str, network: &str) -> EdgeAudience {
    EdgeAudience { name: name.into(), networks: vec![network.into()], ..EdgeAudience::default() }
}

fn token(name: &str) -> EdgeAudience {
    EdgeAudience { name: name.into(), token: Some(SECRET.into()), ..EdgeAudience::default() }
}

fn hop(name: &str) -> EdgeAudience {
    let header = Some(HeaderMatch { name: "x-group".into(), value: "Gold".into() });
    EdgeAudience { name: name.into(), header, ..EdgeAudience::default() }
}

fn heard(audiences: Vec<EdgeAudience>) -> EdgeConfigSpec {
    with(EdgeCohort { audiences, ..EdgeCohort::default() })
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[test]
fn a_request_is_of_the_first_audience_that_it_fits() {
    let both = EdgeAudience { token: Some(SECRET.into()), ..network("internal", "10.0.0.0/8") };
    let spec = heard(vec![both, hop("gold"), network("suppliers", "fd00::/8")]);
    let text = text(&trusting(AddressFrom::XForwardedFor, spec));
    assert_has(
        &text,
        &[
            "geo $stomaton_by_network_0_0 {\n    \"default\" \"\";\n    \"10.0.0.0/8\" \"1\";\n",
            "map \"${http_x_stomaton_token}\" $stomaton_by_token_0_0 {\n    \"default\" \"\";\n    \
             include \"/tmp/tokens/0123456789abcdef/token/*\";\n",
            "map \"${stomaton_by_network_0_0}${stomaton_by_token_0_0}\" $stomaton_audience {\n    \
             \"default\" \"internal\";\n    \"\" \"${stomaton_audience_1_0}\";\n",
            "map \"${stomaton_trusted}:${http_x_group}\" $stomaton_by_hop_1_0 {\n    \"default\" \"\";\n    \
             \"1:Gold\" \"1\";\n",
            "\"default\" \"gold\";\n    \"\" \"${stomaton_audience_2_0}\";\n",
            "\"default\" \"suppliers\";\n    \"\" \"public\";\n",
            r#"if (-f "/run/edge/weights/cur/${stomaton_moving}.public/${stomaton_bucket}" ) {"#,
            r#"if (-f "/run/edge/weights/cur/${stomaton_moving}.${stomaton_audience}/${stomaton_bucket}" ) {"#,
            r#"\"a\":\"${stomaton_audience}\""#,
            r#"proxy_set_header X-Stomaton-Token "";"#,
        ],
    );
}

#[test]
fn testers_choose_a_side_before_anything_else_is_asked() {
    let spec = with(EdgeCohort { testers: Some(SECRET.into()), ..EdgeCohort::default() });
    let text = text(&spec);
    assert_has(
        &text,
        &[
            "map \"${stomaton_asked}\" $stomaton_chosen {\n    \"default\" \"\";\n    \
             include \"/tmp/tokens/0123456789abcdef/monolith/*\";\n    \
             include \"/tmp/tokens/0123456789abcdef/service/*\";\n",
            "\"default\" \"testers\";\n    \"\" \"public\";\n",
            "\"default\" \"${stomaton_moving}\";\n    \"monolith\" \"\";\n",
            r#"if (-f "/run/edge/weights/cur/${stomaton_mover}.public/${stomaton_bucket}" ) {"#,
            r#"if (-f "/run/edge/weights/cur/${stomaton_mover}.${stomaton_audience}/${stomaton_bucket}" ) {"#,
            r#"proxy_set_header X-Stomaton-Side "";"#,
        ],
    );
}

#[test]
fn an_audience_that_cannot_be_is_left_out_and_the_others_stay() {
    let bad = [
        network("public", "10.0.0.0/8"),
        network("testers", "10.0.0.0/8"),
        network("good", "10.0.0.0/8"),
        network("a.b", "10.0.0.0/8"),
        network("../x", "10.0.0.0/8"),
        network("a", "10.0.0.0/8; } location /x {"),
        EdgeAudience { token: Some("../../etc".into()), ..token("b") },
        EdgeAudience { header: Some(HeaderMatch { name: "x a".into(), value: "1".into() }), ..hop("c") },
        EdgeAudience { header: Some(HeaderMatch { name: "x-a".into(), value: "$a".into() }), ..hop("d") },
    ];
    let good = text(&heard(vec![token("good")]));
    for bad in bad {
        let rendered = render(&heard(vec![token("good"), bad.clone()]), &settings()).unwrap();
        assert!(rendered.text == good, "{bad:?} left a trace");
        assert_eq!(rendered.dropped.len(), 1, "{bad:?}");
    }
}

#[test]
fn a_hop_that_is_not_trusted_makes_nobody_of_an_audience() {
    let text = text(&heard(vec![hop("gold"), network("internal", "10.0.0.0/8")]));
    assert!(!text.contains("http_x_group") && !text.contains("\"gold\""), "{text}");
    assert_has(&text, &["$stomaton_audience {\n    \"default\" \"${stomaton_audience_1_0}\";\n"]);
}
