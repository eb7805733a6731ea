//! What the edge adds to answers. Pure.
//!
//! A location with any `add_header` has none of its server's, so one with CORS repeats them all.

use super::{BUCKET, DIAGNOSTICS, METHOD, ROUTE, SIDE, audiences, clients, cohorts, default, name};
use crate::nginx::Settings;
use crate::nginx::checked::{Checked, CheckedCors};
use crate::nginx::tree::{Arg, DataError, Node, Text, Variable, block, entry, line};

const NO_SNIFF: Variable = Variable::named("stomaton_no_sniff");
const FRAME: Variable = Variable::named("stomaton_frame");
const REFERRER: Variable = Variable::named("stomaton_referrer");
const HSTS: Variable = Variable::named("stomaton_hsts");
const POLICY: Variable = Variable::named("stomaton_policy");
/// Whether a browser asks what it may send.
const PREFLIGHT: Variable = Variable::named("stomaton_preflight");
const ASKS: Variable = Variable::named("stomaton_asks");

const HTTP_ORIGIN: Variable = Variable::named("http_origin");
const HTTP_ASKS: Variable = Variable::named("http_access_control_request_method");

const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";
const ALLOW_CREDENTIALS: &str = "Access-Control-Allow-Credentials";
const ALLOW_METHODS: &str = "Access-Control-Allow-Methods";
const ALLOW_HEADERS: &str = "Access-Control-Allow-Headers";
const EXPOSE_HEADERS: &str = "Access-Control-Expose-Headers";
const MAX_AGE: &str = "Access-Control-Max-Age";

/// The tables behind what is added.
pub(super) fn tables(config: &Checked) -> Result<Vec<Node>, DataError> {
    let mut nodes: Vec<Node> = security(config)?.into_iter().map(|(_, _, table)| table).collect();
    for (number, route) in config.routes.iter().enumerate() {
        let Some(cors) = &route.cors else { continue };
        if number_of(config, cors) == number {
            nodes.push(origins(number, cors)?);
        }
    }
    if config.routes.iter().any(|route| route.cors.is_some()) {
        let asks = vec![default("1"), entry(Text::default(), Text::default())];
        let preflight = vec![default(""), entry(Text::fixed("OPTIONS:1"), Text::fixed("1"))];
        let asked = Text::from(METHOD).and(":")?.var(ASKS);
        nodes.push(block("map", [HTTP_ASKS.into(), name(ASKS)], asks));
        nodes.push(block("map", [asked.into(), name(PREFLIGHT)], preflight));
    }
    Ok(nodes)
}

/// The headers of every answer.
pub(super) fn headers(config: &Checked, settings: &Settings) -> Result<Vec<Node>, DataError> {
    let mut nodes = Vec::new();
    if config.diagnostics {
        let value = Text::fixed("route=").var(ROUTE).and(";side=")?.var(SIDE);
        let mut value = value.and(";bucket=")?.var(BUCKET).and(";pod=")?.and(settings.pod.as_str())?;
        if !config.cohort.is_public() {
            value = value.and(";audience=")?.join(audiences::of(config)?);
        }
        nodes.push(add(DIAGNOSTICS, value));
    }
    if config.cohort.set_cookie {
        // A header without a value is not sent.
        nodes.push(add("Set-Cookie", cohorts::SET_COOKIE.into()));
    }
    nodes.extend(security(config)?.into_iter().map(|(header, value, _)| add(header, value.into())));
    Ok(nodes)
}

/// Each header that protects users: what it is called, what it says, and the table that says it only where the backend
/// says nothing.
fn security(config: &Checked) -> Result<Vec<(&'static str, Variable, Node)>, DataError> {
    let security = &config.security;
    let unless = |said: &'static str, variable: Variable, value: Text| {
        let table = vec![default(""), entry(Text::default(), value)];
        block("map", [Variable::named(said).into(), name(variable)], table)
    };
    let mut all = Vec::new();
    if security.no_sniff {
        let table = unless("upstream_http_x_content_type_options", NO_SNIFF, Text::fixed("nosniff"));
        all.push(("X-Content-Type-Options", NO_SNIFF, table));
    }
    if let Some(value) = security.frame {
        let table = unless("upstream_http_x_frame_options", FRAME, Text::fixed(value));
        all.push(("X-Frame-Options", FRAME, table));
    }
    if let Some(value) = security.referrer {
        let table = unless("upstream_http_referrer_policy", REFERRER, Text::fixed(value));
        all.push(("Referrer-Policy", REFERRER, table));
    }
    if let Some(policy) = &security.policy {
        let value = Text::data(policy.as_str())?;
        let table = unless("upstream_http_content_security_policy", POLICY, value);
        all.push(("Content-Security-Policy", POLICY, table));
    }
    if security.hsts > 0 {
        let said = Variable::named("upstream_http_strict_transport_security");
        let key = Text::from(clients::proto(&config.trusted)).and(":")?.var(said);
        let value = Text::fixed("max-age=").join(Text::number(security.hsts));
        let table = vec![default(""), entry(Text::fixed("https:"), value)];
        all.push(("Strict-Transport-Security", HSTS, block("map", [key.into(), name(HSTS)], table)));
    }
    Ok(all)
}

/// Routes with the same rules share a table: that of the first.
fn number_of(config: &Checked, cors: &CheckedCors) -> usize {
    config.routes.iter().position(|route| route.cors.as_ref() == Some(cors)).unwrap_or_default()
}

fn origin(number: usize) -> Variable {
    Variable::numbered("stomaton_origin", number, 0)
}

/// What a page of an origin is told of itself: nothing, if it may not call.
fn origins(number: usize, cors: &CheckedCors) -> Result<Node, DataError> {
    let entries = match &cors.origins {
        None => vec![default("*"), entry(Text::default(), Text::default())],
        Some(origins) => {
            let mut entries = vec![default("")];
            for origin in origins {
                entries.push(entry(Text::data(origin.as_str())?, Text::data(origin.as_str())?));
            }
            entries
        }
    };
    Ok(block("map", [HTTP_ORIGIN.into(), name(origin(number))], entries))
}

/// The directives of a location with CORS; `common` are the headers of every answer.
pub(super) fn cors(config: &Checked, cors: &CheckedCors, common: &[Node]) -> Result<Vec<Node>, DataError> {
    let mut answer = common.to_vec();
    answer.push(add(ALLOW_ORIGIN, origin(number_of(config, cors)).into()));
    answer.push(add("Vary", Text::fixed("Origin")));
    if cors.credentials {
        answer.push(add(ALLOW_CREDENTIALS, Text::fixed("true")));
    }
    let mut preflight = answer.clone();
    preflight.push(add(ALLOW_METHODS, list(cors.methods.iter().map(|m| m.as_str()))?));
    if !cors.headers.is_empty() {
        preflight.push(add(ALLOW_HEADERS, list(cors.headers.iter().map(|h| h.as_str()))?));
    }
    if cors.max_age > 0 {
        preflight.push(add(MAX_AGE, Text::number(cors.max_age)));
    }
    preflight.push(line("return", ["204".into()]));
    if !cors.expose.is_empty() {
        answer.push(add(EXPOSE_HEADERS, list(cors.expose.iter().map(|h| h.as_str()))?));
    }
    // Like the headers that are added, those that are hidden are no longer the server's.
    let hidden =
        [DIAGNOSTICS, ALLOW_ORIGIN, ALLOW_CREDENTIALS, ALLOW_METHODS, ALLOW_HEADERS, EXPOSE_HEADERS, MAX_AGE];
    answer.extend(hidden.map(|header| line("proxy_hide_header", [header.into()])));
    answer.push(block("if", ["($stomaton_preflight)".into()], preflight));
    Ok(answer)
}

/// Word by word: all that is allowed in a list is longer than one string of anybody's may be.
fn list<'a>(words: impl Iterator<Item = &'a str>) -> Result<Text, DataError> {
    let mut text = Text::default();
    for (number, word) in words.enumerate() {
        text = text.and(if number == 0 { "" } else { ", " })?.and(word)?;
    }
    Ok(text)
}

pub(super) fn add(header: &'static str, value: Text) -> Node {
    let value: Arg = value.into();
    line("add_header", [header.into(), value, "always".into()])
}
