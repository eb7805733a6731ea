//! What is rendered, that it means what it was made from, and that nothing of anybody's data is ever syntax.

use super::lex::{Statement, lex};
use super::tree::{Arg, Head, Node, Part, Text, Variable, block, entry, line};
use super::{RenderError, Rendered, Settings, build, checked, encode, render};
use crate::control::Version;
use crate::names::PodName;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::v1alpha1::{EdgeConfigSpec, EdgeRoute, Method};

fn settings() -> Settings {
    Settings {
        pod: PodName::parse("edge-0").unwrap(),
        version: Version(1, 31, 3),
        workers: 2,
        http_address: "0.0.0.0:8080".parse().unwrap(),
        probe_socket: "/run/ctl/probe.sock".into(),
        weights_dir: "/run/edge/weights".into(),
        log_dir: "/run/log/edge".into(),
    }
}

fn route(number: u64, path: &str) -> EdgeRoute {
    EdgeRoute {
        id: format!("{number:016x}"),
        name: format!("route-{number}"),
        hosts: vec![],
        path_prefix: path.into(),
        methods: vec![],
        safe: "monolith".into(),
        target: None,
        salt: None,
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
    }
}

/// The text without the middle of its two long tables.
fn abridged(rendered: &Rendered) -> String {
    let middle = |line: &&str| {
        let key = line.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let Some((key, value)) = key else { return false };
        (key == "0.1%" && value != r#" "0";"#) || matches!(key.parse(), Ok(501..599))
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
    let split = http.iter().find(|s| s.words[0] == "split_clients").and_then(|s| s.block.as_ref()).unwrap();
    let expected = |n: usize| [if n < 999 { "0.1%" } else { "*" }.to_owned(), n.to_string()];
    assert_eq!(split.len(), 1000);
    assert!(split.iter().enumerate().all(|(n, s)| s.words == expected(n)));
}

// --- Injection ------------------------------------------------------------------------------------------------

/// Every directive and context that may ever be rendered. No `include`, `load_module`, `alias`, `rewrite`, `perl*`,
/// `lua*`, `js_*`, `ssl_engine`, `env`, `user`, `working_directory`, `proxy_store`, `autoindex`, `internal`.
const ALLOWED: &[&str] = &[
    "access_log",
    "add_header",
    "client_body_temp_path",
    "client_max_body_size",
    "default_type",
    "error_log",
    "events",
    "fastcgi_temp_path",
    "scgi_temp_path",
    "uwsgi_temp_path",
    "http",
    "http2",
    "if",
    "keepalive",
    "keepalive_min_timeout",
    "keepalive_requests",
    "keepalive_timeout",
    "listen",
    "location",
    "log_format",
    "map",
    "map_hash_bucket_size",
    "map_hash_max_size",
    "pid",
    "proxy_buffer_size",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_connect_timeout",
    "proxy_hide_header",
    "proxy_http_version",
    "proxy_max_temp_file_size",
    "proxy_next_upstream",
    "proxy_pass",
    "proxy_read_timeout",
    "proxy_send_timeout",
    "proxy_set_header",
    "proxy_temp_path",
    "return",
    "root",
    "server",
    "server_tokens",
    "set",
    "split_clients",
    "uninitialized_variable_warn",
    "upstream",
    "variables_hash_bucket_size",
    "variables_hash_max_size",
    "worker_connections",
    "worker_processes",
    "worker_shutdown_timeout",
];

/// Names of all directives; what stands in `map` and `split_clients` is no directive.
fn directives(statements: &[Statement], found: &mut BTreeSet<String>) {
    for statement in statements {
        found.insert(statement.words[0].clone());
        if !matches!(statement.words[0].as_str(), "map" | "split_clients") {
            directives(statement.block.as_deref().unwrap_or_default(), found);
        }
    }
}

fn assert_allowed(text: &str) {
    let mut found = BTreeSet::new();
    directives(&lex(text).unwrap(), &mut found);
    let strange: Vec<_> = found.iter().filter(|name| !ALLOWED.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
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
    ];
    let text = |spec: &EdgeConfigSpec| render(spec, &settings()).unwrap();
    let others = text(&config(vec![route(2, "/b")])).text;
    for bad in whole_route {
        let rendered = text(&config(vec![bad.clone(), route(2, "/b")]));
        assert!(rendered.text == others, "{bad:?} left a trace");
        assert_eq!(rendered.dropped.len(), 1, "{bad:?} was not reported");
    }
    let safe_side = text(&config(vec![route(1, "/a")])).text;
    for bad in
        [EdgeRoute { target: Some(own.clone()), ..good() }, EdgeRoute { salt: Some(own.clone()), ..good() }]
    {
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

// --- The text means the tree ------------------------------------------------------------------------------------

fn words(nodes: &[Node]) -> Vec<Statement> {
    let text = |text: &Text| {
        text.0.iter().fold(String::new(), |out, part| match part {
            Part::Data(data) => out + data,
            Part::Variable(variable) => format!("{out}${{{variable}}}"),
        })
    };
    let statement = |node: &Node| {
        let head = match &node.head {
            Head::Name(name) => (*name).to_owned(),
            Head::Key(key) => text(key),
        };
        let args = node.args.iter().map(|arg| match arg {
            Arg::Word(word) => (*word).to_owned(),
            Arg::Text(data) => text(data),
            Arg::Definition(variable) => format!("${variable}"),
        });
        Statement {
            words: std::iter::once(head).chain(args).collect(),
            block: node.block.as_deref().map(words),
        }
    };
    nodes.iter().map(statement).collect()
}

#[test]
fn the_rendered_text_lexes_to_its_tree() {
    let spec = config(vec![moving(1, "/a"), EdgeRoute { hosts: vec!["h".into()], ..moving(2, "/a/b") }]);
    let (checked, _) = checked::check(&spec).unwrap();
    let tree = build::build(&checked, &settings()).unwrap();
    let text = encode::encode(&tree);
    assert_eq!(lex(&text).unwrap(), words(&tree));
    assert_allowed(&text);
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
        prop_assert_eq!(lex(&encode::encode(&nodes)).unwrap(), words(&nodes));
    }

    #[test]
    fn what_cannot_be_escaped_is_refused(before in "[ -#%-~]{0,9}", bad in "[\u{0}-\u{1f}\u{7f}-\u{2fff}$]", after in ".{0,9}") {
        let text = format!("{before}{bad}{after}");
        prop_assert!(Text::data(&text).is_err());
    }

    #[test]
    fn any_string_in_any_field_renders_what_is_allowed(s in ".{0,40}", at in 0..6) {
        let mut route = moving(1, "/a");
        match at {
            0 => route.id = s,
            1 => route.hosts = vec![s],
            2 => route.path_prefix = s,
            3 => route.safe = s,
            4 => route.target = Some(s),
            _ => route.salt = Some(s),
        }
        assert_allowed(&render(&config(vec![route]), &settings()).unwrap().text);
    }
}
