//! Strings and configurations that nobody thought of: those of the corpus in `fuzz/`, as they are and mutated.
//!
//! What fails once goes into the corpus as a file of its own. `PROPTEST_CASES` says how many strings are tried.

use super::{config, moving, settings};
use crate::names::{
    BackendKey, HeaderName, HeaderValue, HostName, NameError, Network, Origin, PathPrefix, PodName, Policy,
    RouteId, Salt, SecretId,
};
use crate::nginx::encode::encode;
use crate::nginx::gate::statements;
use crate::nginx::lex::{Statement, lex};
use crate::nginx::tree::{Arg, DataError, Head, Node, Text, Variable, block, line};
use crate::nginx::{RenderError, Settings, render};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::path::Path;
use stomaton_crds::v1alpha1::{
    AddressFrom, Cors, EdgeAuth, EdgeCertificate, EdgeConfigSpec, EdgeRoute, EdgeTls, FrameOptions,
    HeaderMatch, OnOutage, ReferrerPolicy, SecurityHeaders, TlsVersion, TrustedProxies,
};

/// Every file of `fuzz/`.
fn corpus() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let corpus: Vec<_> = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(corpus.len() > 20, "only {} files", corpus.len());
    corpus
}

/// A change to a string: `insert` takes the place of up to `length` characters.
#[derive(Clone, Debug)]
struct Edit {
    at: Index,
    length: usize,
    insert: String,
}

fn edit() -> impl Strategy<Value = Edit> {
    let tokens = [
        "", "\"", "\\", "'", "$", "${", "{", "}", ";", "#", " ", "\n", "\r", "\0", "\t", "~", "*", "/", "..",
        "é",
    ];
    let insert = prop_oneof![3 => select(tokens.map(str::to_owned).to_vec()), 1 => ".{0,3}"];
    (any::<Index>(), 0..4_usize, insert).prop_map(|(at, length, insert)| Edit { at, length, insert })
}

fn edited(mut text: String, edits: &[Edit]) -> String {
    for Edit { at, length, insert } in edits {
        let bounds: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let from = at.index(bounds.len());
        let to = (from + length).min(bounds.len() - 1);
        text.replace_range(bounds[from]..bounds[to], insert);
    }
    text
}

/// Something of the corpus, mutated a little or not at all; sometimes anything.
fn text() -> impl Strategy<Value = String> {
    let near = (select(corpus()), prop::collection::vec(edit(), 0..6))
        .prop_map(|(text, edits)| edited(text, &edits));
    prop_oneof![7 => near, 1 => any::<Vec<u8>>().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())]
}

/// A configuration with the given string in one place, where it passes the check of that place.
fn with(s: &str) -> Vec<EdgeConfigSpec> {
    let owned = || s.to_owned();
    let route = |route: EdgeRoute| config(vec![route]);
    let named = |name: &str, value: &str| HeaderMatch { name: name.into(), value: value.into() };
    let shared = |cors: Cors| {
        let mut shared = moving(1, "/a");
        shared.handling.cors = Some(cors);
        config(vec![shared])
    };
    let app = || Cors { allow_origins: vec!["https://app.example".into()], ..Cors::default() };
    let open_to = |network: String| {
        let mut open = moving(1, "/a");
        open.handling.allow_from = vec![network];
        config(vec![open])
    };
    let tls = |id: String, hosts: Vec<String>| {
        let certificates = vec![EdgeCertificate { id, hosts }];
        let tls = EdgeTls { min_version: TlsVersion::Tls12, redirect_to: Some(443), certificates };
        EdgeConfigSpec { tls: Some(tls), ..config(vec![]) }
    };
    let auth = |path: String, identity_headers: Vec<String>| {
        let auth = EdgeAuth { backend: Some("content".into()), path, identity_headers, timeout_millis: 1000 };
        let mut known = moving(1, "/a");
        known.handling.auth = Some(OnOutage::FailOpen);
        EdgeConfigSpec { auth: Some(auth), ..config(vec![known]) }
    };
    let backend = || {
        let mut spec = route(EdgeRoute { safe: owned(), ..moving(1, "/a") });
        spec.backends.insert(owned(), "10.0.0.1:80".into());
        spec
    };
    let mut specs = Vec::new();
    let mut add = |checked: Result<(), NameError>, all: Vec<EdgeConfigSpec>| {
        if checked.is_ok() {
            specs.extend(all);
        }
    };
    add(RouteId::parse(s).map(drop), vec![route(EdgeRoute { id: owned(), ..moving(1, "/a") })]);
    add(Salt::parse(s).map(drop), vec![route(EdgeRoute { salt: Some(owned()), ..moving(1, "/a") })]);
    add(SecretId::parse(s).map(drop), vec![tls(owned(), vec![])]);
    add(BackendKey::parse(s).map(drop), vec![backend()]);
    add(
        HostName::parse(s).map(drop),
        vec![
            route(EdgeRoute { hosts: vec![owned()], ..moving(1, "/a") }),
            EdgeConfigSpec { hosts: vec![owned()], ..config(vec![]) },
            tls("0".repeat(16), vec![owned()]),
        ],
    );
    add(
        PathPrefix::parse(s).map(drop),
        vec![
            route(EdgeRoute { path_prefix: owned(), ..moving(1, "/a") }),
            route(EdgeRoute { safe_rewrite: Some(owned()), ..moving(1, "/a") }),
            route(EdgeRoute { target_rewrite: Some(owned()), exact: true, ..moving(1, "/a") }),
            EdgeConfigSpec { hidden_paths: vec![owned()], ..config(vec![]) },
            auth(owned(), vec![]),
        ],
    );
    add(
        HeaderName::parse(s).map(drop),
        vec![
            route(EdgeRoute { headers: vec![named(s, "1")], ..moving(1, "/a") }),
            shared(Cors { allow_headers: vec![owned()], expose_headers: vec![owned()], ..app() }),
            auth("/verify".into(), vec![owned()]),
        ],
    );
    add(
        HeaderValue::parse(s).map(drop),
        vec![route(EdgeRoute { headers: vec![named("x", s)], ..moving(1, "/a") })],
    );
    add(
        Network::parse(s).map(drop),
        vec![
            open_to(owned()),
            EdgeConfigSpec {
                trusted_proxies: Some(TrustedProxies {
                    networks: vec![owned()],
                    address_from: AddressFrom::XForwardedFor,
                }),
                ..config(vec![])
            },
        ],
    );
    add(Origin::parse(s).map(drop), vec![shared(Cors { allow_origins: vec![owned()], ..Cors::default() })]);
    let policy = SecurityHeaders {
        no_sniff: true,
        frame_options: FrameOptions::Deny,
        referrer_policy: ReferrerPolicy::NoReferrer,
        hsts_seconds: 1,
        content_security_policy: Some(owned()),
    };
    add(
        Policy::parse(s).map(drop),
        vec![EdgeConfigSpec { security_headers: Some(policy), ..config(vec![]) }],
    );
    specs
}

/// What a check lets through is rendered whole, and passes the gate; what no check does leaves no configuration broken.
fn assert_checks_hold(s: &str) {
    for spec in with(s) {
        let rendered = render(&spec, &settings());
        let whole = rendered.as_ref().is_ok_and(|rendered| {
            // `/` can be no hidden path, which is no question of form.
            rendered.dropped.is_empty() || spec.hidden_paths == ["/"]
        });
        assert!(whole, "{s:?} in {spec:?}: {:?}", rendered.map(|rendered| rendered.dropped));
    }
    if let Ok(pod) = PodName::parse(s) {
        assert!(render(&config(vec![]), &Settings { pod, ..settings() }).is_ok(), "{s:?} as a pod");
    }
    let path = render(&config(vec![]), &Settings { log_dir: s.into(), ..settings() });
    assert!(matches!(path, Ok(_) | Err(RenderError::Path(_))), "{s:?} as a directory: {path:?}");
}

/// Data that is let in comes out of its encoding as it went in, in every place where data stands.
fn assert_data_survives(s: &str) {
    let Ok(data) = Text::data(s) else { return };
    let mixed = || -> Result<Text, DataError> { Text::data(s)?.var(Variable::named("host")).and(s) };
    let nodes = vec![
        line("set", [Arg::Definition(Variable::named("a")), data.clone().into()]),
        Node { head: Head::Key(data.clone()), args: vec![data.clone().into(), "word".into()], block: None },
        block("location", [data.clone().into()], vec![block("if", [data.into()], vec![])]),
        line("set", [mixed().unwrap_or_default().into()]),
    ];
    assert_eq!(lex(&encode(&nodes)).as_ref(), Ok(&statements(&nodes)), "{s:?}");
}

/// The tree that these statements are made of, if all of it is data that is let in.
fn tree(statements: &[Statement]) -> Result<Vec<Node>, DataError> {
    let node = |statement: &Statement| {
        let mut words = statement.words.iter().map(|word| Text::data(word));
        let head = Head::Key(words.next().transpose()?.unwrap_or_default());
        let args = words.map(|word| Ok(word?.into())).collect::<Result<_, DataError>>()?;
        Ok(Node { head, args, block: statement.block.as_deref().map(tree).transpose()? })
    };
    statements.iter().map(node).collect()
}

/// Any text is read or refused; what is read, and can be written, reads the same again.
fn assert_reading_is_stable(text: &str) {
    let Ok(read) = lex(text) else { return };
    let Ok(tree) = tree(&read) else { return };
    assert_eq!(lex(&encode(&tree)).as_ref(), Ok(&read), "{text:?}");
}

#[test]
fn the_corpus_itself() {
    for text in corpus() {
        // Files end with a line break, and most strings do not.
        for text in [text.trim_end_matches('\n'), &text] {
            assert_checks_hold(text);
            assert_data_survives(text);
            assert_reading_is_stable(text);
        }
    }
}

#[test]
fn some_of_the_corpus_passes_each_check_and_some_none() {
    let passing = corpus().iter().filter(|text| !with(text.trim_end_matches('\n')).is_empty()).count();
    assert!(passing >= 10 && passing <= corpus().len() - 10, "{passing} of {}", corpus().len());
}

/// As many as take a second or two, unless somebody says otherwise.
fn cases() -> ProptestConfig {
    let said = std::env::var_os("PROPTEST_CASES").is_some();
    if said { ProptestConfig::default() } else { ProptestConfig::with_cases(10_000) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_a_check_lets_through_is_rendered(s in text()) {
        assert_checks_hold(&s);
    }

    #[test]
    fn data_survives_its_encoding(s in text()) {
        assert_data_survives(&s);
    }

    #[test]
    fn what_is_read_and_written_reads_the_same(s in text()) {
        assert_reading_is_stable(&s);
    }
}
