//! Nothing of anybody's data is ever syntax: every payload that worked against ingress-nginx, in every string that a
//! tenant can reach.

use super::{config, moving, route, settings};
use crate::names::PodName;
use crate::nginx::{RenderError, render};
use proptest::prelude::*;
use stomaton_crds::v1alpha1::{
    AddressFrom, EdgeConfigSpec, EdgeHandling, EdgeRoute, HeaderMatch, TrustedProxies,
};

fn header(name: &str, value: &str) -> HeaderMatch {
    HeaderMatch { name: name.into(), value: value.into() }
}

fn open_to(network: &str) -> EdgeHandling {
    EdgeHandling { allow_from: vec![network.into()], ..EdgeHandling::default() }
}

/// `payload`, in every string that a tenant can reach, changes nothing but that its route is left out.
fn assert_harmless(payload: &str) {
    let good = || moving(1, "/a");
    let own = payload.to_owned();
    let whole_route = [
        EdgeRoute { id: own.clone(), ..good() },
        EdgeRoute { hosts: vec!["a.example".into(), own.clone()], ..good() },
        EdgeRoute { path_prefix: own.clone(), ..good() },
        EdgeRoute { path_prefix: format!("/a{own}"), ..good() },
        EdgeRoute { safe: own.clone(), ..good() },
        EdgeRoute { safe_rewrite: Some(own.clone()), ..good() },
        EdgeRoute { safe_rewrite: Some(format!("/a{own}")), ..good() },
        EdgeRoute { headers: vec![header(&own, "1")], ..good() },
        EdgeRoute { headers: vec![header("x-a", &own)], ..good() },
        EdgeRoute { handling: open_to(&own), ..good() },
    ];
    let text = |spec: &EdgeConfigSpec| render(spec, &settings()).unwrap();
    let others = text(&config(vec![route(2, "/b")])).text;
    for bad in whole_route {
        let rendered = text(&config(vec![bad.clone(), route(2, "/b")]));
        assert!(rendered.text == others, "{bad:?} left a trace");
        assert_eq!(rendered.dropped.len(), 1, "{bad:?} was not reported");
    }
    let hidden = EdgeConfigSpec { hidden_paths: vec![format!("/a{own}")], ..config(vec![route(2, "/b")]) };
    assert!(text(&hidden).text == others, "a hidden path left a trace");
    let networks = vec![own.clone()];
    let trusting = TrustedProxies { networks, address_from: AddressFrom::XForwardedFor };
    let trusting = EdgeConfigSpec { trusted_proxies: Some(trusting), ..config(vec![route(2, "/b")]) };
    assert!(text(&trusting).text == others, "a network left a trace");
    let safe_side = text(&config(vec![route(1, "/a")])).text;
    for bad in [
        EdgeRoute { target: Some(own.clone()), ..good() },
        EdgeRoute { target_rewrite: Some(format!("/a{own}")), ..good() },
        EdgeRoute { salt: Some(own.clone()), ..good() },
    ] {
        let rendered = text(&config(vec![bad.clone()]));
        assert!(rendered.text == safe_side, "{bad:?} left a trace");
        assert_eq!(rendered.dropped.len(), 1, "{bad:?} was not reported");
    }
    // Names are for people and never rendered.
    let named = text(&config(vec![EdgeRoute { name: own.clone(), ..good() }]));
    assert_eq!(named.text, text(&config(vec![good()])).text);
    for (key, address) in [(own.as_str(), "10.0.0.1:80"), ("other", own.as_str())] {
        let mut spec = config(vec![route(2, "/b")]);
        spec.backends.insert(key.to_owned(), address.to_owned());
        assert!(text(&spec).text == others, "backend {key:?} at {address:?} left a trace");
    }
    let spec = EdgeConfigSpec { default_backend: own.clone(), ..config(vec![]) };
    assert!(matches!(render(&spec, &settings()), Err(RenderError::DefaultBackend(_))));
    assert!(PodName::parse(payload).is_err());
}

/// One named test for each payload that worked against ingress-nginx.
macro_rules! payloads {
    ($($name:ident: $payload:expr;)*) => {
        $(#[test]
        fn $name() {
            assert_harmless($payload);
        })*
    };
}

payloads! {
    cve_2021_25742_snippet: "/a { content_by_lua_block { ngx.say(1) } }";
    cve_2021_25745_service_account_path: "/var/run/secrets/kubernetes.io/serviceaccount/token;alias /var/run/secrets/;";
    cve_2021_25746_annotation: "x;\nload_module /tmp/evil.so;";
    cve_2021_25748_newline_in_path: "/a\n{ alias /etc/; }";
    cve_2022_4886_log_format: "/a/{ log_format evil '$request_body';";
    cve_2023_5043_configuration_snippet: "more_set_headers \"a: b\"; }";
    cve_2023_5044_permanent_redirect: "http://x$request_uri;} location /evil { return 200";
    cve_2024_7646_carriage_return: "/a\r{ return 200 ok; }";
    cve_2025_1097_match_cn: "CN=x #(\n);}}}\nssl_engine /tmp/evil";
    cve_2025_1098_mirror_uid: "x#;\n}\n}\n}\nssl_engine ../../../proc/1/fd/3;\n#";
    cve_2025_1974_ssl_engine: "}}}ssl_engine /proc/12/fd/9;#";
    cve_2025_24514_auth_url: "http://a/#;load_module x;\n";
    cve_2025_15566_headers: "X-A: \"; return 200; #";
    cve_2026_1580_unanchored: "GET|POST\"; return 200 \"x";
    cve_2026_3288_rewrite_target: "/x\" break; } location /y { proxy_pass http://169.254.169.254";
    cve_2026_4342_comment: "/path\n}} load_module /x; #";
    cve_2026_24512_quote_in_path: "/a\" { return 200; } location \"/b";
    cve_2026_24512_backslash_in_path: "/a\\";
    cve_2026_24513_error_page: "/a;error_page 404 =200 /x";
    cve_2026_42945_rewrite: "/a(.*)?$1";
    variable: "${host}";
    regular_expression: "~^/a";
    wildcard: "*.example.com";
    nul: "/a\0b";
    line_separator: "/a\u{2028}b";
    comment: "#";
}

#[test]
fn a_host_is_never_a_word_of_a_map() {
    for word in ["default", "hostnames", "include", "volatile"] {
        let bad = EdgeRoute { hosts: vec![word.into()], ..moving(1, "/a") };
        assert_eq!(render(&config(vec![bad]), &settings()).unwrap().dropped.len(), 1, "{word}");
    }
}

#[test]
fn cve_2026_24514_a_string_of_a_megabyte() {
    assert_harmless(&"a".repeat(1 << 20));
    assert_harmless(&"/a\"".repeat(1 << 18));
}

#[test]
fn a_reason_quotes_little_and_escaped() {
    let bad = EdgeRoute { path_prefix: format!("/\n{}", "x".repeat(5000)), ..moving(1, "/a") };
    let dropped = render(&config(vec![bad]), &settings()).unwrap().dropped;
    assert!(dropped[0].reason.len() < 300 && !dropped[0].reason.contains('\n'), "{dropped:?}");
}

/// NGINX takes two equal locations as a fault of the whole configuration.
#[test]
fn routes_of_one_path_are_one_location() {
    let routes =
        vec![moving(1, "/a"), route(2, "/a"), EdgeRoute { hosts: vec!["h".into()], ..route(3, "/a") }];
    let text = render(&config(routes), &settings()).unwrap().text;
    assert_eq!(text.matches(r#"location = "/a" {"#).count(), 1);
    assert_eq!(text.matches(r#"location "/a/" {"#).count(), 1);
}

#[test]
fn there_are_no_comments_and_no_names_of_users() {
    let named = EdgeRoute { name: "checkout".into(), ..moving(1, "/a") };
    let text = render(&config(vec![named]), &settings()).unwrap().text;
    assert!(!text.contains('#') && !text.contains("checkout"));
}

proptest! {
    #[test]
    fn any_string_in_any_field_renders_what_is_allowed(s in ".{0,40}", at in 0..10) {
        let mut route = moving(1, "/a");
        match at {
            0 => route.id = s,
            1 => route.hosts = vec![s],
            2 => route.path_prefix = s,
            3 => route.safe = s,
            4 => route.target = Some(s),
            5 => route.salt = Some(s),
            6 => route.headers = vec![header(&s, "1")],
            7 => route.headers = vec![header("x", &s)],
            8 => route.safe_rewrite = Some(s),
            _ => route.target_rewrite = Some(s),
        }
        // What does not pass the gate is no Ok.
        let rendered = render(&config(vec![route]), &settings());
        prop_assert!(rendered.is_ok(), "{rendered:?}");
    }
}
