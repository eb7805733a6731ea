//! The server that users meet: one or two locations for each path. Pure.
//!
//! A location knows a request's path and nothing else of it. Where all routes of a path are handled alike, it passes
//! the request on itself. Where they are not, or one has another path at its backend, it only chooses, and an internal
//! location for this route and side does the rest: `/.stomaton/r<route>/<side>/<path as it came>`. There NGINX itself
//! puts one fixed prefix in place of another; no expression ever cuts a path.

use super::{
    BACKEND, BUCKET, DIAGNOSTICS, HOST, MONOLITH, RESTING, ROUTE, SERVICE, SIDE, answers, audiences, auth,
    clients, default, handling, listen, name, path, upstream_name,
};
use crate::names::{BackendKey, PathPrefix};
use crate::nginx::Settings;
use crate::nginx::checked::Checked;
use crate::nginx::routing::{Route, Scope, Table};
use crate::nginx::tree::{Arg, DataError, Node, Text, Variable, block, entry, line};
use std::collections::BTreeMap;
use stomaton_crds::keys::AUDIENCE_PUBLIC;
use stomaton_crds::v1alpha1::EdgeHandling;

/// Where internal locations begin.
const INSIDE: &str = "/.stomaton/r";
/// The edge's own answer; no route can have exactly this path.
const HEALTH: &str = "/health";

const UPGRADE: Variable = Variable::named("stomaton_upgrade");
const CONNECTION: Variable = Variable::named("stomaton_connection");
const HTTP_UPGRADE: Variable = Variable::named("http_upgrade");
const REQUEST_URI: Variable = Variable::named("request_uri");
const URI: Variable = Variable::named("uri");

/// A table, and what names the route that it chooses.
type Chosen<'a> = (&'a Table<'a>, Text);

/// The server.
pub(super) fn users(config: &Checked, tables: &[Chosen<'_>], settings: &Settings) -> Result<Node, DataError> {
    let mut nodes = listen::users(config, settings)?;
    nodes.extend(proxying(config)?);
    let common = answers::headers(config, settings)?;
    nodes.extend(common.clone());
    nodes.push(health());
    if let Some(seconds) = config.maintenance {
        nodes.push(closed(seconds, &common)?);
        return Ok(block("server", [], nodes));
    }
    for path in &config.hidden {
        nodes.extend(at(path, Scope::Whole, &[line("return", ["404".into()])])?);
    }
    // By id, so that each is there once.
    let mut elsewhere = BTreeMap::new();
    for (table, route) in tables {
        let moving = table.choices().flatten().any(|route| route.target.is_some());
        let mut body = sides(route.clone(), resting(config));
        if moving {
            body.extend(weighed(config, settings)?);
        }
        match alike(table) {
            Some(route) => {
                body.extend(handling::nodes(config, route, &common)?);
                body.push(line("proxy_pass", [Text::fixed("http://").var(BACKEND).into()]));
            }
            None => {
                body.extend(onwards(table)?);
                elsewhere.extend(table.choices().map(|route| (route.map(|r| &r.id), route)));
            }
        }
        nodes.extend(at(table.path, table.scope, &body)?);
    }
    if !tables.iter().any(|(table, _)| table.path.as_str() == "/" && table.scope != Scope::Exact) {
        let mut body = sides(Text::default(), MONOLITH.into());
        body.extend(handling::nodes(config, None, &common)?);
        body.push(line("proxy_pass", [Text::fixed("http://").var(BACKEND).into()]));
        nodes.push(block("location", ["/".into()], body));
    }
    nodes.extend(auth::locations(config)?);
    for route in elsewhere.into_values() {
        nodes.extend(inside(route, handling::nodes(config, route, &common)?)?);
    }
    Ok(block("server", [], nodes))
}

/// That NGINX answers, whatever is behind it.
pub(super) fn health() -> Node {
    block(
        "location",
        ["=".into(), HEALTH.into()],
        vec![
            line("access_log", ["off".into()]),
            line("default_type", ["application/json".into()]),
            line("return", ["200".into(), Text::fixed(r#"{"status":"ok"}"#).into()]),
        ],
    )
}

/// The answer to everything while there is maintenance. No route answers, so nothing is counted against one.
fn closed(seconds: i32, common: &[Node]) -> Result<Node, DataError> {
    // What the log and the headers say of routes must be set somewhere, or NGINX does not know it.
    let mut body = sides(Text::default(), MONOLITH.into());
    body.extend_from_slice(common);
    body.extend([
        answers::add("Retry-After", Text::number(seconds)),
        line("default_type", ["application/json".into()]),
        line("return", ["503".into(), Text::fixed(r#"{"error":"maintenance"}"#).into()]),
    ]);
    Ok(block("location", ["/".into()], body))
}

/// How a request goes to a backend, whichever it is.
fn proxying(config: &Checked) -> Result<Vec<Node>, DataError> {
    let upgrades = config.routes.iter().any(|route| route.handling.web_socket);
    let header = |name: &'static str, value: Text| line("proxy_set_header", [name.into(), value.into()]);
    let mut nodes = vec![
        line("proxy_http_version", ["1.1".into()]),
        line("proxy_connect_timeout", ["1s".into()]),
        line("proxy_read_timeout", ["30s".into()]),
        line("proxy_send_timeout", ["30s".into()]),
        line("proxy_next_upstream", ["off".into()]),
        line("proxy_max_temp_file_size", ["0".into()]),
        // Heads of answers with large cookies are larger than the 4 KiB that are set by default.
        line("proxy_buffer_size", ["16k".into()]),
        line("proxy_buffers", ["4".into(), "16k".into()]),
        line("proxy_busy_buffers_size", ["32k".into()]),
        line("proxy_hide_header", [DIAGNOSTICS.into()]),
        header("Connection", if upgrades { CONNECTION.into() } else { Text::default() }),
        header("Host", HOST.into()),
    ];
    if upgrades {
        nodes.push(header("Upgrade", UPGRADE.into()));
    }
    nodes.extend(clients::headers(&config.trusted)?);
    nodes.extend(auth::headers(config)?);
    nodes.extend(audiences::headers(config));
    Ok(nodes)
}

/// What a request may be upgraded to: to a WebSocket, where its route says so. Anything else, HTTP/2 in clear text
/// above all, would go past every rule of the edge.
pub(super) fn upgrades(routes: &[Route]) -> Result<Vec<Node>, DataError> {
    let mut may = vec![default("")];
    for route in routes.iter().filter(|route| route.handling.web_socket) {
        may.push(entry(Text::data(route.id.as_str())?.and(":websocket")?, Text::fixed("websocket")));
    }
    if may.len() == 1 {
        return Ok(Vec::new());
    }
    let asked = Text::from(ROUTE).and(":")?.var(HTTP_UPGRADE);
    let connection = vec![default(""), entry(Text::fixed("websocket"), Text::fixed("upgrade"))];
    Ok(vec![
        block("map", [asked.into(), name(UPGRADE)], may),
        block("map", [UPGRADE.into(), name(CONNECTION)], connection),
    ])
}

/// The locations of a path. A prefix by whole segments is two: itself, and everything below it.
fn at(path: &PathPrefix, scope: Scope, body: &[Node]) -> Result<Vec<Node>, DataError> {
    let mut nodes = Vec::with_capacity(2);
    let is_root = path.as_str() == "/";
    let itself = scope == Scope::Exact || (scope == Scope::Whole && !is_root);
    if itself && path.as_str() != HEALTH {
        nodes.push(block("location", ["=".into(), Text::data(path.as_str())?.into()], body.to_vec()));
    }
    if scope != Scope::Exact {
        let below: Arg = if is_root { "/".into() } else { Text::data(path.as_str())?.and("/")?.into() };
        nodes.push(block("location", [below], body.to_vec()));
    }
    Ok(nodes)
}

/// Sets the route, and the side that it has without weights.
fn sides(route: Text, resting: Arg) -> Vec<Node> {
    vec![line("set", [name(ROUTE), route.into()]), line("set", [name(SIDE), resting])]
}

/// The side that the chosen route has without weights.
fn resting(config: &Checked) -> Arg {
    if config.routes.iter().any(|route| route.crossed) { RESTING.into() } else { MONOLITH.into() }
}

/// Sets the other side for whom the weights give it to: those of everybody, or those of the request's audience. So an
/// audience has never less than everybody, whether or not the weights name it.
fn weighed(config: &Checked, settings: &Settings) -> Result<Vec<Node>, DataError> {
    let everybody = Text::data(AUDIENCE_PUBLIC)?;
    let own = (!config.cohort.is_public()).then(|| audiences::of(config)).transpose()?;
    let test = |audience: Text| {
        let flag =
            path(&settings.weights_dir.join("cur"))?.and("/")?.var(audiences::mover(config)).and(".")?;
        let flag = flag.join(audience).and("/")?.var(BUCKET);
        let then = vec![line("set", [name(SIDE), SERVICE.into()])];
        Ok(block("if", ["(-f".into(), flag.into(), ")".into()], then))
    };
    std::iter::once(everybody).chain(own).map(test).collect()
}

/// One of what `table` can choose, if all of it is handled like that and none has another path at its backend.
fn alike<'a>(table: &Table<'a>) -> Option<Option<&'a Route>> {
    let keeps = |route: &Route| {
        route.rewrite.is_none() && route.target.as_ref().is_none_or(|target| target.rewrite.is_none())
    };
    let first = table.choices().next()?;
    let like_first = |route: Option<&Route>| {
        // A limit of all clients together is counted by route.
        let same = handled(route) == handled(first) && handled(route).total.is_none();
        same || route.map(|r| &r.id) == first.map(|r| &r.id)
    };
    let alike = table.choices().flatten().all(keeps) && table.choices().all(like_first);
    alike.then_some(first)
}

fn handled(route: Option<&Route>) -> EdgeHandling {
    route.map_or_else(EdgeHandling::default, |route| route.handling.clone())
}

/// To the location of the route and side that were chosen.
fn onwards(table: &Table<'_>) -> Result<[Node; 2], DataError> {
    // The length of a body is compared here already.
    let largest = table.choices().map(|route| handled(route).max_body_bytes).max().unwrap_or_default();
    let to = Text::fixed(INSIDE).var(ROUTE).and("/")?.var(SIDE).var(URI);
    Ok([handling::max_body(largest), line("rewrite", ["^".into(), to.into(), "last".into()])])
}

/// The internal locations of a route.
fn inside(route: Option<&Route>, handling: Vec<Node>) -> Result<Vec<Node>, DataError> {
    let Some(route) = route else { return Ok(vec![unchanged(Text::fixed(INSIDE), MONOLITH, handling)?]) };
    let base = Text::fixed(INSIDE).and(route.id.as_str())?;
    let mut nodes = Vec::new();
    let service = route.target.as_ref().map(|t| (SERVICE, &t.backend, t.rewrite.as_ref()));
    for (side, backend, rewrite) in
        [(route.resting_side(), &route.safe, route.rewrite.as_ref())].into_iter().chain(service)
    {
        match rewrite {
            None => nodes.push(unchanged(base.clone(), side, handling.clone())?),
            Some(to) => {
                nodes.extend(replaced(base.clone().and("/")?.and(side)?, (route, backend, to), &handling)?)
            }
        }
    }
    Ok(nodes)
}

/// A side that gets the path as the client sent it.
fn unchanged(base: Text, side: &'static str, handling: Vec<Node>) -> Result<Node, DataError> {
    let mut body = vec![line("internal", [])];
    body.extend(handling);
    body.push(line("proxy_pass", [Text::fixed("http://").var(BACKEND).var(REQUEST_URI).into()]));
    Ok(block("location", [base.and("/")?.and(side)?.and("/")?.into()], body))
}

/// A side that has the path `to` in place of the route's.
fn replaced(
    base: Text,
    (route, backend, to): (&Route, &BackendKey, &PathPrefix),
    handling: &[Node],
) -> Result<Vec<Node>, DataError> {
    let from = route.path.as_str();
    let below = |path: &str| if path == "/" { path.to_owned() } else { format!("{path}/") };
    let body = |to: &str, redirect: Node| -> Result<Vec<Node>, DataError> {
        let mut body = vec![line("internal", [])];
        body.extend_from_slice(handling);
        body.push(redirect);
        let upstream = Text::fixed("http://").join(upstream_name(backend)?);
        body.push(line("proxy_pass", [upstream.and(to)?.into()]));
        Ok(body)
    };
    let mut nodes = Vec::with_capacity(2);
    if route.exact || from != "/" {
        let body = body(to.as_str(), line("proxy_redirect", ["off".into()]))?;
        nodes.push(block("location", ["=".into(), base.clone().and(from)?.into()], body));
    }
    if !route.exact {
        // Where the backend sends a client on to, it means its own paths.
        let (from, to) = (below(from), below(to.as_str()));
        let back = line("proxy_redirect", [Text::data(&to)?.into(), Text::data(&from)?.into()]);
        nodes.push(block("location", [base.and(&from)?.into()], body(&to, back)?));
    }
    Ok(nodes)
}
