//! What others say of everything that is rendered: NGINX itself, crossplane and gixy. `make tools` fetches them.

use crate::fixtures::{self, Fixture};
use crate::support::{cache, nginx};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use stomaton_edge::control::Version;
use stomaton_edge::names::PodName;
use stomaton_edge::nginx::{Settings, render};

/// The oldest NGINX that is supported, and one that knows all that is rendered.
const VERSIONS: [Version; 2] = [Version(1, 22, 1), Version(1, 31, 3)];

/// What gixy looks for and we do on purpose.
const ON_PURPOSE: [(&str, &str); 6] = [
    (
        "if_is_evil",
        "an `if` only sets a variable, or answers with `return` and its headers; the gate refuses other forms",
    ),
    ("http_splitting", "`$uri` goes into `rewrite .. last` alone: to another location, never into a header"),
    (
        "proxy_pass_normalized",
        "a route with another path at its backend is documented to arrive as NGINX reads it",
    ),
    ("missing_resolver", "upstreams are addresses; names are never resolved"),
    (
        "return_bypasses_allow_deny",
        "preflights are answered to everybody: they say which pages may call, and nothing gets through",
    ),
    ("hsts_header", "browsers are told to insist on HTTPS where the Gateway says so"),
];

/// `fixtures` as `version` gets them, in files of `dir`.
fn write(fixtures: Vec<Fixture>, dir: &Path, version: Version) -> Vec<PathBuf> {
    fs::create_dir_all(dir).unwrap();
    let settings = Settings {
        pod: PodName::parse("edge-0").unwrap(),
        version,
        workers: 2,
        http_address: "127.0.0.1:18080".parse().unwrap(),
        https_address: "127.0.0.1:18443".parse().unwrap(),
        tls_dir: dir.join("tls"),
        token_tables_dir: dir.join("tokens"),
        probe_socket: dir.join("probe.sock"),
        weights_dir: dir.join("weights"),
        log_dir: dir.to_owned(),
    };
    let written = fixtures.into_iter().map(|(name, spec)| {
        let rendered = render(&spec, &settings).unwrap();
        assert_eq!(rendered.dropped, [], "{name}");
        let path = dir.join(format!("{name}.conf"));
        fs::write(&path, rendered.text).unwrap();
        path
    });
    written.collect()
}

/// All fixtures for all versions. The files stay, for whoever wants to look.
fn written(name: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let of = |version: &Version| write(fixtures::all(), &dir.join(format!("nginx-{version}")), *version);
    VERSIONS.iter().flat_map(of).collect()
}

/// Runs a module of Python that `make tools` has fetched.
fn python(module: &str, args: &[&str], files: &[PathBuf]) -> Output {
    let packages = cache().join("nginx-checkers");
    assert!(packages.exists(), "no {module} in {}: `make tools` puts it there", packages.display());
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages).args(["-m", module]).args(args).args(files).output().unwrap()
}

#[test]
fn nginx_takes_all_of_it() {
    let said = Command::new(nginx()).arg("-v").output().unwrap().stderr;
    let said = String::from_utf8(said).unwrap();
    let version = said.rsplit('/').next().unwrap().split_whitespace().next().unwrap().parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let most = ("most-routes", fixtures::most_routes());
    for path in write([fixtures::all(), vec![most]].concat(), dir.path(), version) {
        let mut test = Command::new(nginx());
        test.args(["-t", "-q", "-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(&path);
        let Output { status, stderr, .. } = test.output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    }
}

/// A directive, as crossplane reads it.
#[derive(Deserialize)]
struct Directive {
    directive: String,
    line: usize,
    args: Vec<String>,
    block: Option<Vec<Directive>>,
}

/// The words of a statement, which the encoder writes on a line of its own, bare or in double quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut quoted, mut chars) = (false, line.trim().trim_end_matches([';', '{']).trim_end().chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            '\\' => words.last_mut().unwrap().extend(chars.next()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// Every statement with its line, and whether it has a block.
fn flat(directives: &[Directive], found: &mut Vec<(usize, Vec<String>, bool)>) {
    for Directive { directive, line, args, block } in directives {
        // Crossplane leaves two backslashes in quotes as they are.
        let words = std::iter::once(directive).chain(args).map(|word| word.replace(r"\\", r"\")).collect();
        found.push((*line, words, block.is_some()));
        flat(block.as_deref().unwrap_or_default(), found);
    }
}

#[test]
fn crossplane_reads_what_was_meant() {
    #[derive(Deserialize)]
    struct Payload {
        errors: Vec<serde_json::Value>,
        config: Vec<File>,
    }
    #[derive(Deserialize)]
    struct File {
        parsed: Vec<Directive>,
    }
    for path in written("crossplane") {
        let output = python("crossplane", &["parse"], std::slice::from_ref(&path));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read: Payload = serde_json::from_slice(&output.stdout).unwrap();
        assert!(read.errors.is_empty(), "{}: {:?}", path.display(), read.errors);
        let mut found = Vec::new();
        flat(&read.config[0].parsed, &mut found);
        let text = fs::read_to_string(&path).unwrap();
        let statements = text.lines().enumerate().filter(|(_, line)| line.trim() != "}");
        let meant: Vec<_> = statements
            .map(|(at, line)| {
                let mut words = words(line);
                if words[0] == "if" {
                    // Crossplane takes the parentheses away.
                    words.retain(|word| word != ")");
                    words[1] = words[1].trim_matches(['(', ')']).to_owned();
                }
                (at + 1, words, line.ends_with('{'))
            })
            .collect();
        for (found, meant) in found.iter().zip(&meant) {
            assert_eq!(found, meant, "{}", path.display());
        }
        assert_eq!(found.len(), meant.len(), "{}", path.display());
    }
}

#[test]
fn gixy_finds_nothing_that_we_do_not_mean() {
    #[derive(Deserialize)]
    struct Issue {
        plugin: String,
        severity: String,
        path: PathBuf,
        line: usize,
        reason: String,
    }
    let output = python("gixy", &["-f", "json"], &written("gixy"));
    let issues: Vec<Issue> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let is_bad = |issue: &&Issue| ["HIGH", "MEDIUM"].contains(&issue.severity.as_str());
    let is_meant = |issue: &&Issue| ON_PURPOSE.iter().any(|(check, _)| *check == issue.plugin);
    let bad: Vec<_> = issues.iter().filter(is_bad).filter(|issue| !is_meant(issue)).collect();
    let said = bad.iter().map(|i| format!("{} {}:{}: {}\n", i.plugin, i.path.display(), i.line, i.reason));
    assert!(bad.is_empty(), "{}", said.collect::<String>());
    // Gixy did look, and a reason that no longer has a cause goes.
    for (check, _) in ON_PURPOSE {
        assert!(issues.iter().any(|issue| issue.plugin == check), "{check} is found nowhere any more");
    }
}
