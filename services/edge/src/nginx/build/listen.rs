//! What the edge listens for: hosts and TLS. Pure.
//!
//! One server answers all hosts, and the certificate is looked up by the name that a client asks for, when it asks: a
//! file that is renewed is read anew without a reload, and one that is missing fails its own host only.

use super::{name, path_str, server::health};
use crate::control::Version;
use crate::names::HostName;
use crate::nginx::Settings;
use crate::nginx::checked::{Checked, CheckedTls};
use crate::nginx::tree::{Arg, DataError, Head, Node, Text, Variable, block, entry, line};
use std::net::SocketAddr;
use stomaton_crds::v1alpha1::{AddressFrom, TlsVersion};

const CERTIFICATE: Variable = Variable::named("stomaton_certificate");
const ASKED: Variable = Variable::named("ssl_server_name");
const HOST: Variable = Variable::named("host");
const REQUEST_URI: Variable = Variable::named("request_uri");

/// Forward secrecy and authenticated encryption only; TLS 1.3 has its own list.
const CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
                       ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
                       ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

/// What holds for all servers.
pub(super) fn basics(config: &Checked, settings: &Settings) -> Result<Vec<Node>, DataError> {
    let mut nodes = Vec::new();
    if !config.hosts.is_empty() {
        nodes.push(line("server_names_hash_bucket_size", ["512".into()]));
        nodes.push(line("server_names_hash_max_size", ["4096".into()]));
    }
    if let Some(tls) = &config.tls {
        nodes.extend(encryption(tls, settings)?);
    }
    Ok(nodes)
}

fn encryption(tls: &CheckedTls, settings: &Settings) -> Result<Vec<Node>, DataError> {
    // There is no directory of this name.
    let none = Text::fixed("none");
    let otherwise = tls.default.as_ref().map_or(Ok(none), |id| Text::data(id.as_str()))?;
    let mut table = vec![entry(Text::fixed("default"), otherwise)];
    for (host, id) in &tls.certificates {
        table.push(entry(Text::data(host.as_str())?, Text::data(id.as_str())?));
    }
    let file = |file: &str| -> Result<Arg, DataError> {
        Ok(Text::data(path_str(&settings.tls_dir))?.and("/")?.var(CERTIFICATE).and(file)?.into())
    };
    let protocols = match tls.min_version {
        TlsVersion::Tls12 => line("ssl_protocols", ["TLSv1.2".into(), "TLSv1.3".into()]),
        TlsVersion::Tls13 => line("ssl_protocols", ["TLSv1.3".into()]),
    };
    let mut nodes = vec![
        block("map", [ASKED.into(), name(CERTIFICATE)], table),
        line("ssl_certificate", [file("/tls.crt")?]),
        line("ssl_certificate_key", [file("/tls.key")?]),
        protocols,
        line("ssl_ciphers", [CIPHERS.into()]),
        line("ssl_session_cache", ["shared:tls:10m".into()]),
        line("ssl_session_timeout", ["1d".into()]),
    ];
    // Without it, each handshake reads the files.
    if settings.version >= Version(1, 27, 4) {
        let args = ["max=256".into(), "valid=10s".into(), "inactive=1h".into()];
        nodes.push(line("ssl_certificate_cache", args));
    }
    Ok(nodes)
}

/// Where the server that users meet listens, and for which hosts.
pub(super) fn users(config: &Checked, settings: &Settings) -> Result<Vec<Node>, DataError> {
    let is_redirected = config.tls.as_ref().is_some_and(|tls| tls.redirect_to.is_some());
    let mut nodes = Vec::new();
    if !is_redirected {
        nodes.push(at(config, settings.http_address, &[])?);
    }
    if config.tls.is_some() {
        nodes.push(at(config, settings.https_address, &["ssl"])?);
    }
    nodes.extend(http2(settings));
    nodes.extend(names(config)?);
    Ok(nodes)
}

/// The servers beside it: what redirects, and what refuses other hosts.
pub(super) fn others(config: &Checked, settings: &Settings) -> Result<Vec<Node>, DataError> {
    let mut servers = Vec::new();
    if let Some(port) = config.tls.as_ref().and_then(|tls| tls.redirect_to) {
        let mut nodes = vec![at(config, settings.http_address, &[])?];
        nodes.extend(http2(settings));
        nodes.extend(names(config)?);
        nodes.push(health());
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let to = Text::fixed("https://").var(HOST).and(&port)?.var(REQUEST_URI);
        nodes.push(block("location", ["/".into()], vec![line("return", ["308".into(), to.into()])]));
        servers.push(block("server", [], nodes));
    }
    if !config.hosts.is_empty() {
        let mut nodes = vec![at(config, settings.http_address, &["default_server"])?];
        if config.tls.is_some() {
            nodes.push(at(config, settings.https_address, &["ssl", "default_server"])?);
        }
        nodes.extend(http2(settings));
        nodes.push(health());
        nodes.push(block("location", ["/".into()], vec![line("return", ["421".into()])]));
        servers.push(block("server", [], nodes));
    }
    Ok(servers)
}

fn at(config: &Checked, address: SocketAddr, more: &[&'static str]) -> Result<Node, DataError> {
    let mut args: Vec<Arg> = vec![Text::data(&address.to_string())?.into()];
    args.extend(more.iter().copied().map(Arg::Word));
    let is_prefixed = config.trusted.address_from == AddressFrom::ProxyProtocol;
    if is_prefixed && !config.trusted.networks.is_empty() {
        args.push("proxy_protocol".into());
    }
    Ok(Node { head: Head::Name("listen"), args, block: None })
}

/// From 1.25.1 on, one plain port speaks both HTTP/1.1 and HTTP/2; before, HTTP/2 would replace HTTP/1.1.
fn http2(settings: &Settings) -> Option<Node> {
    (settings.version >= Version(1, 25, 1)).then(|| line("http2", ["on".into()]))
}

fn names(config: &Checked) -> Result<Option<Node>, DataError> {
    if config.hosts.is_empty() {
        return Ok(None);
    }
    let word = |host: &HostName| -> Result<Arg, DataError> { Ok(Text::data(host.as_str())?.into()) };
    let args = config.hosts.iter().map(word).collect::<Result<Vec<Arg>, DataError>>()?;
    Ok(Some(Node { head: Head::Name("server_name"), args, block: None }))
}
