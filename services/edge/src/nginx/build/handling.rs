//! What a route wants otherwise than the rest, as directives of its location. Pure.

use super::{answers, auth, fallback, limits};
use crate::names::Network;
use crate::nginx::checked::Checked;
use crate::nginx::routing::Route;
use crate::nginx::tree::{Arg, DataError, Node, Text, line};
use stomaton_crds::v1alpha1::EdgeHandling;

/// Directives for `route`, or for what no route matches: none, when all is as usual. `common` are the headers of every
/// answer.
pub(super) fn nodes(
    config: &Checked,
    route: Option<&Route>,
    common: &[Node],
) -> Result<Vec<Node>, DataError> {
    let usual = EdgeHandling::default();
    let handling = route.map_or(&usual, |route| &route.handling);
    let mut nodes = limits::nodes(config.limits.as_ref(), route)?;
    nodes.extend(passing(handling, &usual)?);
    if let Some(route) = route {
        nodes.extend(allowed(route)?);
        if let Some(cors) = &route.cors {
            nodes.extend(answers::cors(config, cors, common)?);
        }
        // After the answer to preflights, which carry no token.
        nodes.extend(auth::nodes(config, route)?);
    }
    Ok(nodes)
}

/// Who may ask.
fn allowed(route: &Route) -> Result<Vec<Node>, DataError> {
    if route.allow_from.is_empty() {
        return Ok(Vec::new());
    }
    let allow = |network: &Network| Ok(line("allow", [Text::data(network.as_str())?.into()]));
    let mut nodes = route.allow_from.iter().map(allow).collect::<Result<Vec<_>, DataError>>()?;
    nodes.push(line("deny", ["all".into()]));
    Ok(nodes)
}

/// How a request and its answer are passed on.
fn passing(handling: &EdgeHandling, usual: &EdgeHandling) -> Result<Vec<Node>, DataError> {
    let millis = |millis: i32| -> Result<Arg, DataError> { Ok(Text::number(millis).and("ms")?.into()) };
    let mut nodes = Vec::new();
    if handling.connect_millis != usual.connect_millis {
        nodes.push(line("proxy_connect_timeout", [millis(handling.connect_millis)?]));
    }
    if handling.silent_millis != usual.silent_millis {
        nodes.push(line("proxy_read_timeout", [millis(handling.silent_millis)?]));
        nodes.push(line("proxy_send_timeout", [millis(handling.silent_millis)?]));
    }
    if handling.max_body_bytes != usual.max_body_bytes {
        nodes.push(max_body(handling.max_body_bytes));
    }
    if handling.unbuffered {
        nodes.push(line("proxy_buffering", ["off".into()]));
    }
    if handling.gzip {
        nodes.extend(gzip());
    }
    if let Some(given) = &handling.fallback {
        nodes.extend(fallback::nodes(given)?);
    }
    Ok(nodes)
}

/// The largest body that may come.
pub(super) fn max_body(bytes: i64) -> Node {
    line("client_max_body_size", [Text::number(bytes).into()])
}

/// `text/html` is always among the types; a stream of events never is.
fn gzip() -> [Node; 5] {
    [
        line("gzip", ["on".into()]),
        line("gzip_min_length", ["1024".into()]),
        line("gzip_proxied", ["any".into()]),
        line("gzip_vary", ["on".into()]),
        line(
            "gzip_types",
            [
                "text/plain".into(),
                "text/css".into(),
                "text/javascript".into(),
                "application/javascript".into(),
                "application/json".into(),
                "application/xml".into(),
                "image/svg+xml".into(),
            ],
        ),
    ]
}
