//! Who the client is, and what backends are told of it. Pure.
//!
//! Only hops of the trusted networks are believed. What anybody else says of itself is overwritten, never added to.

use super::{REMOTE_ADDR, SCHEME, default, name};
use crate::nginx::checked::{Checked, Trusted};
use crate::nginx::tree::{Arg, DataError, Node, Text, Variable, block, entry, line};
use stomaton_crds::v1alpha1::AddressFrom;

/// Who really is at the other end of the connection.
const PEER: Variable = Variable::named("realip_remote_addr");
/// Whether that is a trusted hop; only where headers of such are believed.
pub(super) const TRUSTED: Variable = Variable::named("stomaton_trusted");
const IS_SIX: Variable = Variable::named("stomaton_is_six");
/// The client's address, as it stands in `Forwarded`.
const FOR: Variable = Variable::named("stomaton_for");
const HOPS: Variable = Variable::named("stomaton_hops");
const FORWARDED_FOR: Variable = Variable::named("stomaton_forwarded_for");
const PROTO: Variable = Variable::named("stomaton_proto");
const GIVEN: Variable = Variable::named("stomaton_given");
const CORRELATION: Variable = Variable::named("stomaton_correlation");

const REQUEST_ID: Variable = Variable::named("request_id");
const HTTP_FORWARDED_FOR: Variable = Variable::named("http_x_forwarded_for");
const HTTP_FORWARDED_PROTO: Variable = Variable::named("http_x_forwarded_proto");
const HTTP_CORRELATION: Variable = Variable::named("http_x_correlation_id");

/// Ties what the edge and the services log of one request together.
pub(super) fn correlation(trusted: &Trusted) -> Variable {
    if believes_headers(trusted) { CORRELATION } else { REQUEST_ID }
}

/// How the client came, as the edge or a trusted hop saw it.
pub(super) fn proto(trusted: &Trusted) -> Variable {
    if believes_headers(trusted) { PROTO } else { SCHEME }
}

/// A hop with the PROXY protocol knows nothing of HTTP: the headers that come through it are the client's own.
pub(super) fn believes_headers(trusted: &Trusted) -> bool {
    !trusted.networks.is_empty() && trusted.address_from != AddressFrom::ProxyProtocol
}

/// The tables behind [`headers`].
pub(super) fn tables(config: &Checked) -> Result<Vec<Node>, DataError> {
    // In two halves: the whole would be the default, said twice.
    let halves = ["::/1", "8000::/1"].map(|half| entry(Text::fixed(half), Text::fixed("1")));
    let six = std::iter::once(default("")).chain(halves).collect();
    let bracketed = Text::fixed("[").var(REMOTE_ADDR).and("]")?;
    let written = vec![usually(REMOTE_ADDR.into()), entry(Text::fixed("1"), bracketed)];
    let mut nodes =
        vec![block("geo", [name(IS_SIX)], six), block("map", [IS_SIX.into(), name(FOR)], written)];
    if !config.trusted.networks.is_empty() {
        nodes.extend(believed(&config.trusted)?);
    }
    Ok(nodes)
}

fn believed(trusted: &Trusted) -> Result<Vec<Node>, DataError> {
    let mut nodes = Vec::new();
    let mut networks = vec![default("0")];
    for network in &trusted.networks {
        nodes.push(line("set_real_ip_from", [Text::data(network.as_str())?.into()]));
        networks.push(entry(Text::data(network.as_str())?, Text::fixed("1")));
    }
    let header: Arg = match trusted.address_from {
        AddressFrom::XForwardedFor => "X-Forwarded-For".into(),
        AddressFrom::XRealIp => "X-Real-IP".into(),
        AddressFrom::ProxyProtocol => "proxy_protocol".into(),
    };
    nodes.push(line("real_ip_header", [header]));
    nodes.push(line("real_ip_recursive", ["on".into()]));
    if !believes_headers(trusted) {
        return Ok(nodes);
    }
    let hops = Text::from(HTTP_FORWARDED_FOR).and(", ")?.var(PEER);
    let proto = Text::from(TRUSTED).and(":")?.var(HTTP_FORWARDED_PROTO);
    let is_trusted = |then: Variable| entry(Text::fixed("1"), then.into());
    let table = |from: Arg, to: Variable, entries: Vec<Node>| block("map", [from, name(to)], entries);
    nodes.extend([
        block("geo", [name(PEER), name(TRUSTED)], networks),
        table(HTTP_FORWARDED_FOR.into(), HOPS, vec![usually(hops), entry(Text::default(), PEER.into())]),
        table(TRUSTED.into(), FORWARDED_FOR, vec![usually(REMOTE_ADDR.into()), is_trusted(HOPS)]),
        table(
            proto.into(),
            PROTO,
            vec![
                usually(SCHEME.into()),
                entry(Text::fixed("1:http"), Text::fixed("http")),
                entry(Text::fixed("1:https"), Text::fixed("https")),
            ],
        ),
        table(
            HTTP_CORRELATION.into(),
            GIVEN,
            vec![usually(HTTP_CORRELATION.into()), entry(Text::default(), REQUEST_ID.into())],
        ),
        table(TRUSTED.into(), CORRELATION, vec![usually(REQUEST_ID.into()), is_trusted(GIVEN)]),
    ]);
    Ok(nodes)
}

/// What backends are told of the client. W3C `traceparent` and `tracestate` go through as they come.
pub(super) fn headers(trusted: &Trusted) -> Result<Vec<Node>, DataError> {
    let forwarded_for = if believes_headers(trusted) { FORWARDED_FOR } else { REMOTE_ADDR };
    let proto = proto(trusted);
    let forwarded = Text::fixed("for=\"").var(FOR).and("\";proto=")?.var(proto);
    let header = |name: &'static str, value: Text| line("proxy_set_header", [name.into(), value.into()]);
    Ok(vec![
        header("X-Real-IP", REMOTE_ADDR.into()),
        header("X-Forwarded-For", forwarded_for.into()),
        header("X-Forwarded-Proto", proto.into()),
        header("Forwarded", forwarded),
        header("X-Correlation-ID", correlation(trusted).into()),
    ])
}

fn usually(value: Text) -> Node {
    entry(Text::fixed("default"), value)
}
