//! What is rendered, that it means what it was made from, and that nothing of anybody's data is ever syntax.

mod answers;
mod auth;
mod cohorts;
mod crossed;
mod fallback;
mod fuzz;
mod handling;
mod injection;
mod limits;
mod listen;

use super::lex::{Statement, lex};
use super::tree::{Arg, Node, Text, Variable, block, entry, line};
use super::{RenderError, Rendered, Settings, build, checked, encode, gate, render};
use crate::control::Version;
use crate::names::PodName;
use proptest::prelude::*;
use std::collections::BTreeMap;
use stomaton_crds::v1alpha1::{EdgeConfigSpec, EdgeRoute, Method};

fn settings() -> Settings {
    Settings {
        pod: PodName::parse("edge-0").unwrap(),
        version: Version(1, 31, 3),
        workers: 2,
        http_address: "0.0.0.0:8080".parse().unwrap(),
        https_address: "0.0.0.0:8443".parse().unwrap(),
        tls_dir: "/run/tls".into(),
        token_tables_dir: "/tmp/tokens".into(),
        probe_socket: "/run/ctl/probe.sock".into(),
        weights_dir: "/run/edge/weights".into(),
        log_dir: "/run/log/edge".into(),
    }
}

fn route(number: u64, path: &str) -> EdgeRoute {
    EdgeRoute {
        id: format!("{number:016x}"),
        name: format!("route-{number}"),
        path_prefix: path.into(),
        safe: "monolith".into(),
        ..EdgeRoute::default()
    }
}

fn moving(number: u64, path: &str) -> EdgeRoute {
    EdgeRoute {
        target: Some("content".into()),
        salt: Some(format!("{:016x}", number + 16)),
        ..route(number, path)
    }
}

fn config(routes: Vec<EdgeRoute>) -> EdgeConfigSpec {
    EdgeConfigSpec {
        revision: 7,
        backends: BTreeMap::from([
            ("monolith".to_owned(), "10.96.0.10:80".to_owned()),
            ("content".to_owned(), "10.96.0.11:8080".to_owned()),
        ]),
        default_backend: "monolith".into(),
        routes,
        diagnostics: true,
        ..EdgeConfigSpec::default()
    }
}

/// The text without the middle of its long tables.
fn abridged(rendered: &Rendered) -> String {
    let middle = |line: &&str| {
        let key = line.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let Some((key, value)) = key else { return false };
        (matches!(key, "0.1%" | "1%") && value != r#" "0";"#) || matches!(key.parse(), Ok(501..599))
    };
    rendered.text.lines().filter(|line| !middle(line)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_moving_and_a_fixed_route() {
    let rendered =
        render(&config(vec![moving(1, "/api/v1/content"), route(2, "/about")]), &settings()).unwrap();
    assert_eq!(rendered.dropped, []);
    insta::assert_snapshot!(abridged(&rendered));
}

#[test]
fn hosts_and_methods_choose_within_a_path() {
    let routes = vec![
        EdgeRoute { methods: vec![Method::GET, Method::HEAD], ..moving(1, "/api") },
        EdgeRoute { hosts: vec!["a.example".into(), "b.example".into()], ..route(2, "/api") },
        EdgeRoute { hosts: vec!["a.example".into()], methods: vec![Method::POST], ..moving(3, "/api") },
        route(4, "/"),
    ];
    let rendered = render(&EdgeConfigSpec { diagnostics: false, ..config(routes) }, &settings()).unwrap();
    insta::assert_snapshot!(abridged(&rendered));
}

#[test]
fn an_old_nginx_gets_only_what_it_knows() {
    let old = Settings { version: Version(1, 22, 1), ..settings() };
    let text = render(&config(vec![]), &old).unwrap().text;
    assert!(!text.contains("http2") && !text.contains("keepalive_min_timeout"));
    let new = render(&config(vec![]), &settings()).unwrap().text;
    assert!(new.contains("http2 on;") && new.contains("keepalive_min_timeout 3s;"));
}

#[test]
fn one_bad_route_is_left_out_and_the_others_stay() {
    let bad = EdgeRoute { path_prefix: "/a b".into(), ..moving(1, "/") };
    let given = render(&config(vec![bad, moving(2, "/b")]), &settings()).unwrap();
    let without = render(&config(vec![moving(2, "/b")]), &settings()).unwrap();
    assert!(given.text == without.text);
    assert_eq!(given.dropped.len(), 1);
    assert!(given.dropped[0].reason.contains("path prefix"), "{:?}", given.dropped);
}

#[test]
fn a_route_whose_target_cannot_be_used_stays_on_its_safe_side() {
    for target in [Some("gone".to_owned()), Some("content; }".to_owned())] {
        let given = render(&config(vec![EdgeRoute { target, ..moving(1, "/a") }]), &settings()).unwrap();
        assert_eq!(given.text, render(&config(vec![route(1, "/a")]), &settings()).unwrap().text);
        assert_eq!(given.dropped.len(), 1);
    }
    let unsalted = EdgeRoute { salt: None, ..moving(1, "/a") };
    let given = render(&config(vec![unsalted]), &settings()).unwrap();
    assert_eq!(given.text, render(&config(vec![route(1, "/a")]), &settings()).unwrap().text);
}

#[test]
fn an_id_serves_one_route_only() {
    let given = render(&config(vec![moving(1, "/a"), moving(1, "/b")]), &settings()).unwrap();
    assert_eq!(given.dropped.len(), 1);
    assert!(!given.text.contains(r#"location "/b/""#));
}

#[test]
fn without_a_default_backend_there_is_no_configuration() {
    let spec = EdgeConfigSpec { default_backend: "gone".into(), ..config(vec![]) };
    assert!(matches!(render(&spec, &settings()), Err(RenderError::DefaultBackend(_))));
}

#[test]
fn every_bucket_has_the_same_share_and_the_last_one_takes_the_rest() {
    let text = render(&config(vec![moving(1, "/a")]), &settings()).unwrap().text;
    let all = lex(&text).unwrap();
    let http = all.iter().find(|s| s.words == ["http"]).and_then(|s| s.block.as_ref()).unwrap();
    let buckets = |s: &&Statement| s.words[0] == "split_clients" && s.words[2] == "$stomaton_bucket";
    let split = http.iter().find(buckets).and_then(|s| s.block.as_ref()).unwrap();
    let expected = |n: usize| [if n < 999 { "0.1%" } else { "*" }.to_owned(), n.to_string()];
    assert_eq!(split.len(), 1000);
    assert!(split.iter().enumerate().all(|(n, s)| s.words == expected(n)));
}

// --- The text means the tree ------------------------------------------------------------------------------------

#[test]
fn the_rendered_text_lexes_to_its_tree() {
    let spec = config(vec![moving(1, "/a"), EdgeRoute { hosts: vec!["h".into()], ..moving(2, "/a/b") }]);
    let (checked, _) = checked::check(&spec).unwrap();
    let tree = build::build(&checked, &settings()).unwrap();
    let text = encode::encode(&tree);
    assert_eq!(lex(&text).unwrap(), gate::statements(&tree));
    assert_eq!(gate::pass(&tree, &text), Ok(()));
}

/// Data as hostile as an encoder can be given: all that `Text` admits, syntax included.
fn data() -> impl Strategy<Value = Text> {
    let plain = "[ -#%-~]{0,40}".prop_map(|data| Text::data(&data).unwrap());
    let mixed = ("[ -#%-~]{0,9}", "[ -#%-~]{0,9}")
        .prop_map(|(a, b)| Text::data(&a).unwrap().var(Variable::named("host")).and(&b).unwrap());
    prop_oneof![plain, mixed]
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let simple = prop_oneof![
        (data(), data()).prop_map(|(key, value)| entry(key, value)),
        data().prop_map(|arg| line("set", [Arg::Definition(Variable::numbered("v", 1, 2)), arg.into()])),
    ];
    let node = simple.prop_recursive(4, 24, 4, |inner| {
        (data(), prop::collection::vec(inner, 0..4))
            .prop_map(|(arg, nodes)| block("location", [arg.into()], nodes))
    });
    prop::collection::vec(node, 0..6)
}

proptest! {
    #[test]
    fn whatever_is_encoded_lexes_to_its_tree(nodes in nodes()) {
        prop_assert_eq!(lex(&encode::encode(&nodes)).unwrap(), gate::statements(&nodes));
    }

    #[test]
    fn what_cannot_be_escaped_is_refused(before in "[ -#%-~]{0,9}", bad in "[\u{0}-\u{1f}\u{7f}-\u{2fff}$]", after in ".{0,9}") {
        let text = format!("{before}{bad}{after}");
        prop_assert!(Text::data(&text).is_err());
    }
}
