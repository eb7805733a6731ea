//! By what users are told apart.

use super::{config, moving, settings};
use crate::nginx::{RenderError, render};
use stomaton_crds::v1alpha1::{AddressFrom, EdgeCohort, EdgeConfigSpec, TrustedProxies};

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
        "map \"${stomaton_trusted}\" $stomaton_said {\n    \"default\" \"\";\n    \"1\" \"${http_x_user_id}\";\n",
        "map \"${stomaton_said}\" $stomaton_cohort {\n    \"default\" \"${stomaton_said}\";\n    \"\" \"${stomaton_browser}\";\n",
        "map \"${cookie_stomaton_id}${stomaton_said}\" $stomaton_set_cookie {",
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
