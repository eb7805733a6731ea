//! The tree of directives for a checked EdgeConfig. Pure.
//!
//! - `audiences`: which part of all users a request is of
//! - `choices`: the maps that choose a route
//! - `cohorts`: who is on which side
//! - `server`: what users meet
//! - `fallback`: the safe side in place of a target that failed
//! - `handling`: what a route wants otherwise than the rest
//! - `listen`: hosts and TLS
//! - `limits`: how many requests are answered
//! - `clients`: who the client is, and what backends are told of it
//! - `answers`: what is added to answers
//! - `auth`: users who are known
//!
//! Rules that keep it right, each from a measured failure:
//! - `set` only inside locations and no map on `$uri`: both are evaluated again in subrequests;
//! - `if` only as `if (-f PATH)`, where a missing file, directory or mount means the safe side, and around a `return`;
//! - no regular expression but `^` and `^5`, no capture; without a rewrite the path goes to the backend as the client sent it;
//! - no `open_file_cache`: it would hide a switch of weights.

mod answers;
mod audiences;
mod auth;
mod choices;
mod clients;
mod cohorts;
mod fallback;
mod handling;
mod limits;
mod listen;
mod server;

use super::checked::Checked;
use super::routing::compile;
use super::tree::{Arg, DataError, Node, Text, Variable, block, entry, line};
use super::{RenderError, Settings};
use crate::control::Version;
use crate::logs::{BAD_LOG, GOOD_LOG};
use crate::names::BackendKey;
use std::net::SocketAddr;
use std::path::Path;

/// Id of the route that answers; empty: none, the default backend does.
const ROUTE: Variable = Variable::named("stomaton_route");
/// The same if the route has a target; else empty, which no directory of weights has.
const MOVING: Variable = Variable::named("stomaton_moving");
/// `monolith` (the safe side) or `service`.
const SIDE: Variable = Variable::named("stomaton_side");
/// The side that the route has without weights.
const RESTING: Variable = Variable::named("stomaton_resting");
const BUCKET: Variable = Variable::named("stomaton_bucket");
const BACKEND: Variable = Variable::named("stomaton_backend");
const HOST: Variable = Variable::named("stomaton_host");
const BAD: Variable = Variable::named("stomaton_bad");
const GOOD: Variable = Variable::named("stomaton_good");

const REQUEST_HOST: Variable = Variable::named("host");
const HTTP_HOST: Variable = Variable::named("http_host");
const REMOTE_ADDR: Variable = Variable::named("remote_addr");
const SCHEME: Variable = Variable::named("scheme");
const STATUS: Variable = Variable::named("status");
const UPSTREAM_STATUS: Variable = Variable::named("upstream_status");
const REQUEST_TIME: Variable = Variable::named("request_time");
const HEADER_TIME: Variable = Variable::named("upstream_header_time");
const METHOD: Variable = Variable::named("request_method");
const LIMITED: Variable = Variable::named("limit_req_status");
const BYTES_SENT: Variable = Variable::named("bytes_sent");

/// Header that says how an answer came about; only the edge's own is passed on.
const DIAGNOSTICS: &str = "X-Stomaton-Edge";
const LOG_FORMAT: &str = "stomaton";

/// Value of [`SIDE`] for the safe side, as counters name it, unless that is the service.
pub(super) const MONOLITH: &str = "monolith";
/// Value of [`SIDE`] for the target, and for the only side of a route without a way back.
pub(super) const SERVICE: &str = "service";

pub(super) fn build(config: &Checked, settings: &Settings) -> Result<Vec<Node>, RenderError> {
    let tables = compile(&config.routes);
    let mut http = http_basics(settings)?;
    http.extend(listen::basics(config, settings)?);
    http.extend(logs(config, &settings.log_dir)?);
    http.extend(clients::tables(config)?);
    http.extend(limits::zones(config.limits.as_ref(), &config.routes)?);
    http.push(host_map());
    http.extend(cohorts::tables(config)?);
    http.extend(audiences::tables(config, settings)?);
    http.extend(fallback::tables(config, settings)?);
    http.push(backend_map(config)?);
    http.extend(resting_map(config)?);
    http.extend(upstreams(config)?);
    http.extend(answers::tables(config)?);
    http.extend(auth::tables(config));
    http.extend(server::upgrades(&config.routes)?);
    let mut chosen = Vec::with_capacity(tables.len());
    for (number, table) in tables.iter().enumerate() {
        let (maps, route) = choices::choose(number, table)?;
        http.extend(maps);
        chosen.push(route);
    }
    let tables: Vec<_> = tables.iter().zip(chosen).collect();
    http.push(server::users(config, &tables, settings)?);
    http.extend(listen::others(config, settings)?);
    http.push(probe_server(config.revision, settings)?);
    Ok(vec![
        line("worker_processes", [Text::number(settings.workers).into()]),
        line("pid", ["nginx.pid".into()]),
        // Errors below `crit` quote the request line, with whatever secrets its query has; failures of backends
        // are in the access log.
        line("error_log", ["stderr".into(), "crit".into()]),
        line("worker_shutdown_timeout", ["30s".into()]),
        // A connection needs a file, and so does a body that is buffered; containers often begin with 1,024.
        line("worker_rlimit_nofile", ["16384".into()]),
        block("events", [], vec![line("worker_connections", ["8192".into()])]),
        block("http", [], http),
    ])
}

fn http_basics(settings: &Settings) -> Result<Vec<Node>, DataError> {
    let mut nodes = vec![
        line("server_tokens", ["off".into()]),
        line("default_type", ["application/octet-stream".into()]),
        line("keepalive_timeout", ["75s".into()]),
        // A limit closes connections under clients that do not look before they send.
        line("keepalive_requests", ["1000000".into()]),
        line("client_max_body_size", ["10m".into()]),
        line("client_body_temp_path", ["client_body".into()]),
        line("proxy_temp_path", ["proxy".into()]),
        // Never used, but made at the start: at a fixed place, in the builds of distributions.
        line("fastcgi_temp_path", ["fastcgi".into()]),
        line("scgi_temp_path", ["scgi".into()]),
        line("uwsgi_temp_path", ["uwsgi".into()]),
        line("map_hash_bucket_size", ["512".into()]),
        line("map_hash_max_size", ["65536".into()]),
        line("variables_hash_bucket_size", ["128".into()]),
        line("variables_hash_max_size", ["16384".into()]),
        // A header of identity has up to 63 characters.
        line("proxy_headers_hash_bucket_size", ["128".into()]),
        line("proxy_headers_hash_max_size", ["1024".into()]),
        line("uninitialized_variable_warn", ["off".into()]),
    ];
    // An old worker answers one more request on a kept-alive connection instead of closing it under the client.
    if settings.version >= Version(1, 27, 4) {
        nodes.push(line("keepalive_min_timeout", ["3s".into()]));
    }
    Ok(nodes)
}

/// Good answers go through a buffer, bad ones at once: a guard's count is then milliseconds old.
fn logs(config: &Checked, dir: &Path) -> Result<Vec<Node>, DataError> {
    let correlation = clients::correlation(&config.trusted);
    let format = Text::fixed(r#"{"r":""#).var(ROUTE);
    let format = format.and(r#"","d":""#)?.var(SIDE).and(r#"","a":""#)?.join(audiences::of(config)?);
    let format = format.and(r#"","s":""#)?.var(STATUS).and(r#"","u":""#)?.var(UPSTREAM_STATUS);
    let format = format.and(r#"","t":""#)?.var(REQUEST_TIME).and(r#"","b":""#)?.var(BYTES_SENT);
    let format = format.and(r#"","h":""#)?.var(HEADER_TIME);
    // Nothing of a path, a query or a cookie: they hold secrets.
    let format = format.and(r#"","m":""#)?.var(METHOD).and(r#"","l":""#)?.var(LIMITED);
    let format = format.and(r#"","c":""#)?.var(correlation).and(r#""}"#)?;
    let is_5xx = (500..600).map(|status: i32| entry(Text::number(status), Text::fixed("1")));
    let bad = std::iter::once(default("0")).chain(is_5xx).collect();
    let mut tables = vec![block("map", [STATUS.into(), name(BAD)], bad)];
    let worst = fallback::bad(config, &mut tables);
    let good = vec![default("1"), entry(Text::fixed("1"), Text::fixed("0"))];
    let file = |name| path(&dir.join(name));
    let when = |variable| Arg::from(Text::fixed("if=").var(variable));
    tables.extend([
        block("map", [worst.into(), name(GOOD)], good),
        line("log_format", [LOG_FORMAT.into(), "escape=json".into(), format.into()]),
        line(
            "access_log",
            [
                file(GOOD_LOG)?.into(),
                LOG_FORMAT.into(),
                "buffer=64k".into(),
                "flush=200ms".into(),
                when(GOOD),
            ],
        ),
        line("access_log", [file(BAD_LOG)?.into(), LOG_FORMAT.into(), when(worst)]),
    ]);
    Ok(tables)
}

/// The host as the client wrote it.
fn host_map() -> Node {
    let written = entry(Text::fixed("default"), HTTP_HOST.into());
    let missing = entry(Text::default(), REQUEST_HOST.into());
    block("map", [HTTP_HOST.into(), name(HOST)], vec![written, missing])
}

fn backend_map(config: &Checked) -> Result<Node, DataError> {
    let upstream = |key| upstream_name(key);
    let mut entries = vec![entry(Text::fixed("default"), upstream(&config.default_backend)?)];
    for route in &config.routes {
        let side = |side| Text::data(route.id.as_str())?.and(":")?.and(side);
        entries.push(entry(side(route.resting_side())?, upstream(&route.safe)?));
        if let Some(target) = &route.target {
            let helped = fallback::upstream(config, route);
            entries.push(entry(side(SERVICE)?, helped.map_or_else(|| upstream(&target.backend), Ok)?));
        }
    }
    let key = Text::from(ROUTE).and(":")?.var(SIDE);
    Ok(block("map", [key.into(), name(BACKEND)], entries))
}

/// Past its point of no return a route has no test of weights, so what is latched or lowered there moves nobody.
fn resting_map(config: &Checked) -> Result<Option<Node>, DataError> {
    let mut entries = vec![default(MONOLITH)];
    for route in config.routes.iter().filter(|route| route.crossed) {
        entries.push(entry(Text::data(route.id.as_str())?, Text::fixed(SERVICE)));
    }
    Ok((entries.len() > 1).then(|| block("map", [ROUTE.into(), name(RESTING)], entries)))
}

fn upstream_name(key: &BackendKey) -> Result<Text, DataError> {
    Text::fixed("b-").and(key.as_str())
}

fn upstreams(config: &Checked) -> Result<Vec<Node>, DataError> {
    let upstream = |(key, address): (&BackendKey, &SocketAddr)| {
        let server = line("server", [Text::data(&address.to_string())?.into()]);
        Ok(pool(upstream_name(key)?, vec![server]))
    };
    config.backends.iter().map(upstream).collect()
}

/// Connections to `servers`, kept.
fn pool(named: Text, servers: Vec<Node>) -> Node {
    let mut nodes = servers;
    nodes.extend([
        line("keepalive", ["64".into()]),
        // Below the 5 s after which common servers close an idle connection: the side that closes must not be the one
        // that gets the next request.
        line("keepalive_timeout", ["4s".into()]),
        line("keepalive_requests", ["1000000".into()]),
    ]);
    block("upstream", [named.into()], nodes)
}

/// Answers what this configuration is and which weights its workers see. Reachable from inside the pod only.
fn probe_server(revision: i64, settings: &Settings) -> Result<Node, DataError> {
    let listen = Text::fixed("unix:").and(path_str(&settings.probe_socket))?;
    Ok(block(
        "server",
        [],
        vec![
            line("listen", [listen.into()]),
            line("access_log", ["off".into()]),
            line("default_type", ["text/plain".into()]),
            block(
                "location",
                ["=".into(), "/config".into()],
                vec![line(
                    "return",
                    ["200".into(), Text::fixed("config=").and(&revision.to_string())?.into()],
                )],
            ),
            block(
                "location",
                ["=".into(), "/revision".into()],
                vec![line("root", [path(&settings.weights_dir.join("cur"))?.into()])],
            ),
            block("location", ["/".into()], vec![line("return", ["404".into()])]),
        ],
    ))
}

fn default(value: &'static str) -> Node {
    entry(Text::fixed("default"), if value.is_empty() { Text::default() } else { Text::fixed(value) })
}

/// The variable that a directive defines, as `$name`.
fn name(variable: Variable) -> Arg {
    Arg::Definition(variable)
}

fn path(path: &Path) -> Result<Text, DataError> {
    Text::data(path_str(path))
}

/// A path that is not UTF-8 becomes one with a replacement character, which is then refused as data.
fn path_str(path: &Path) -> &str {
    path.to_str().unwrap_or("\u{fffd}")
}
