//! Users who are known: NGINX asks a service before it asks a backend. Pure.
//!
//! What the service says of a user goes to the backend in headers of identity. These are set for every request of every
//! route, to nothing where nobody was asked, so that no client can say who it is.

use super::{HOST, METHOD, UPSTREAM_STATUS, audiences, clients, default, name, upstream_name};
use crate::names::{BackendKey, HeaderName};
use crate::nginx::checked::{Checked, CheckedAuth};
use crate::nginx::routing::Route;
use crate::nginx::tree::{Arg, DataError, Node, Text, Variable, block, entry, line};
use stomaton_crds::v1alpha1::OnOutage;

/// Where it is asked, with 503 for an outage.
const CLOSED: &str = "/.stomaton/auth";
/// Where it is asked, with consent for an outage.
const OPEN: &str = "/.stomaton/auth-open";
const UNAVAILABLE: &str = "@stomaton_unavailable";
const ALLOWED: &str = "@stomaton_allowed";

const REQUEST_URI: Variable = Variable::named("request_uri");

/// What a backend is told.
fn identity(number: usize) -> Variable {
    Variable::numbered("stomaton_identity", number, 0)
}

/// What the service said; only for [`identity`] to take while the answer of the service is at hand.
fn said(number: usize) -> Variable {
    Variable::numbered("stomaton_said", number, 0)
}

fn is_asked(config: &Checked) -> bool {
    config.auth.ask.is_some() && config.routes.iter().any(|route| route.handling.auth.is_some())
}

/// The tables behind [`headers`]: only who says yes says who a user is. A service that fails may say anything, and a
/// route that is open in an outage would pass it on.
pub(super) fn tables(config: &Checked) -> Vec<Node> {
    if !is_asked(config) {
        return Vec::new();
    }
    let table = |(number, header): (usize, &HeaderName)| {
        let yes = |status| entry(Text::fixed(status), Text::answer(header));
        block("map", [UPSTREAM_STATUS.into(), name(said(number))], vec![default(""), yes("200"), yes("204")])
    };
    config.auth.identity.iter().enumerate().map(table).collect()
}

/// The headers of identity for backends, of the server. What they say comes from the answer to `auth_request`, in
/// whichever location that is; a variable that is read and that nothing sets is one that NGINX refuses.
pub(super) fn headers(config: &Checked) -> Result<Vec<Node>, DataError> {
    let is_asked = is_asked(config);
    let mut nodes = Vec::new();
    for (number, header) in config.auth.identity.iter().enumerate() {
        let mut value = Text::default();
        if is_asked {
            value = identity(number).into();
            nodes.push(line("auth_request_set", [name(identity(number)), said(number).into()]));
        }
        nodes.push(line("proxy_set_header", [Text::data(header.as_str())?.into(), value.into()]));
    }
    Ok(nodes)
}

/// The directives of a route's location.
pub(super) fn nodes(config: &Checked, route: &Route) -> Result<Vec<Node>, DataError> {
    let (at, on_outage) = match route.handling.auth {
        None => return Ok(Vec::new()),
        Some(OnOutage::FailClosed) => (CLOSED, OnOutage::FailClosed),
        Some(OnOutage::FailOpen) => (OPEN, OnOutage::FailOpen),
    };
    if config.auth.ask.is_none() {
        return Ok(match on_outage {
            OnOutage::FailClosed => unavailable(),
            OnOutage::FailOpen => Vec::new(),
        });
    }
    Ok(vec![
        line("auth_request", [at.into()]),
        // NGINX makes 500 of whatever is not a yes or a no; what backends answer is not touched.
        line("error_page", ["500".into(), "=".into(), UNAVAILABLE.into()]),
    ])
}

fn unavailable() -> Vec<Node> {
    let text = Text::fixed(r#"{"error":"nobody can say who you are, try again"}"#);
    vec![line("default_type", ["application/json".into()]), line("return", ["503".into(), text.into()])]
}

/// The locations behind [`nodes`].
pub(super) fn locations(config: &Checked) -> Result<Vec<Node>, DataError> {
    let CheckedAuth { ask: Some((backend, path)), timeout_millis, .. } = &config.auth else {
        return Ok(Vec::new());
    };
    if !is_asked(config) {
        return Ok(Vec::new());
    }
    let asking = asking(config, backend, path.as_str(), *timeout_millis)?;
    let mut open = asking.clone();
    open.push(line("proxy_intercept_errors", ["on".into()]));
    let failures: [Arg; 6] =
        ["500".into(), "502".into(), "503".into(), "504".into(), "=".into(), ALLOWED.into()];
    open.push(line("error_page", failures));
    Ok(vec![
        block("location", ["=".into(), CLOSED.into()], asking),
        block("location", ["=".into(), OPEN.into()], open),
        block("location", [UNAVAILABLE.into()], unavailable()),
        block("location", [ALLOWED.into()], vec![line("return", ["204".into()])]),
    ])
}

/// How the service is asked: as the request is, without its body, and without what it says of its user.
fn asking(
    config: &Checked,
    backend: &BackendKey,
    path: &str,
    timeout_millis: i32,
) -> Result<Vec<Node>, DataError> {
    let header = |name: &'static str, value: Text| line("proxy_set_header", [name.into(), value.into()]);
    let timeout = || -> Result<Arg, DataError> { Ok(Text::number(timeout_millis).and("ms")?.into()) };
    let mut nodes = vec![
        line("internal", []),
        line("proxy_pass_request_body", ["off".into()]),
        line("proxy_connect_timeout", [timeout()?]),
        line("proxy_send_timeout", [timeout()?]),
        line("proxy_read_timeout", [timeout()?]),
        header("Connection", Text::default()),
        header("Content-Length", Text::default()),
        header("Host", HOST.into()),
        header("X-Original-Method", METHOD.into()),
        header("X-Original-URI", REQUEST_URI.into()),
    ];
    nodes.extend(clients::headers(&config.trusted)?);
    for name in &config.auth.identity {
        nodes.push(line("proxy_set_header", [Text::data(name.as_str())?.into(), Text::default().into()]));
    }
    nodes.extend(audiences::headers(config));
    let to = Text::fixed("http://").join(upstream_name(backend)?).and(path)?;
    nodes.push(line("proxy_pass", [to.into()]));
    Ok(nodes)
}
