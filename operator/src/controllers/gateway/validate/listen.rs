//! What is wrong with what the edge shall listen for. Pure.
//!
//! Such a fault stops the whole Gateway: without a host that it names, an edge would answer for others.

use super::route::{fault_of_path, is_header, is_host};
use std::collections::BTreeSet;
use stomaton_crds::v1alpha1::{GatewaySpec, Jwt};

/// What is wrong with hosts, certificates, and who knows the users.
pub fn fault(spec: &GatewaySpec) -> Option<String> {
    fault_of_hosts(spec).or_else(|| fault_of_auth(&spec.auth.as_ref()?.jwt))
}

fn fault_of_auth(jwt: &Jwt) -> Option<String> {
    const OWN: [&str; 7] = [
        "x-real-ip",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-correlation-id",
        "x-stomaton-edge",
        "x-stomaton-token",
        "x-stomaton-side",
    ];
    if let Some(message) = fault_of_path("auth.jwt.path", &jwt.path) {
        return Some(message);
    }
    let is_good =
        |header: &&String| is_header(header) && header.starts_with("x-") && !OWN.contains(&header.as_str());
    let header = jwt.identity_headers.iter().find(|header| !is_good(header))?;
    Some(format!("`auth.jwt.identityHeaders` has {header:?}: begin with `x-`, and leave out the edge's own"))
}

fn fault_of_hosts(spec: &GatewaySpec) -> Option<String> {
    let certificates = spec.tls.as_ref().map_or(&[][..], |tls| &tls.certificates);
    let mut hosts = spec.hosts.iter().chain(certificates.iter().flat_map(|c| &c.hosts));
    if let Some(host) = hosts.find(|host| !is_host(host)) {
        return Some(format!("host {host:?}: write a name in lower case, without port or wildcard"));
    }
    if let Some(bad) = certificates.iter().find(|c| !is_object(&c.secret)) {
        return Some(format!(
            "`tls.certificates` has the secret {:?}, which is no name of an object",
            bad.secret
        ));
    }
    let mut seen = BTreeSet::new();
    let named_twice = certificates.iter().flat_map(|c| &c.hosts).find(|host| !seen.insert(host.as_str()));
    if let Some(host) = named_twice {
        return Some(format!("`tls.certificates`: two are for {host}: take it out of one"));
    }
    if certificates.iter().filter(|c| c.hosts.is_empty()).count() > 1 {
        return Some("`tls.certificates`: only one can be for all hosts that the others do not name".into());
    }
    let tls = spec.tls.as_ref()?;
    let words = "HTTP and HTTPS need a port each: `service.port` and `tls.port`";
    (tls.port == spec.service.port).then(|| words.to_owned())
}

/// Whether an object can have this name.
pub fn is_object(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    name.len() <= 253
        && bytes.first().is_some_and(|b| plain(*b))
        && bytes.last().is_some_and(|b| plain(*b))
        && bytes.iter().all(|b| plain(*b) || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(more: &Value) -> String {
        let mut spec = json!({"defaultBackend": {"name": "mono"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fault(&serde_json::from_value(spec).unwrap()).unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_is_said() {
        let tls = |certificates: Value| json!({"tls": {"certificates": certificates}});
        let cases = [
            (json!({"auth": {"jwt": {"backend": {"name": "a"}, "path": "/a$b"}}}), "`auth.jwt.path` has '$'"),
            (
                json!({"auth": {"jwt": {"backend": {"name": "a"}, "identityHeaders": ["cookie"]}}}),
                "has \"cookie\"",
            ),
            (json!({"hosts": ["A.b"]}), "host \"A.b\""),
            (json!({"hosts": ["a.b; }"]}), "host \"a.b; }\""),
            (tls(json!([{"secret": "a", "hosts": ["*.b"]}])), "host \"*.b\""),
            (tls(json!([{"secret": "../x"}])), "no name of an object"),
            (
                tls(json!([{"secret": "a", "hosts": ["a.b"]}, {"secret": "b", "hosts": ["a.b"]}])),
                "two are for a.b",
            ),
            (tls(json!([{"secret": "a"}, {"secret": "b"}])), "only one can be for all"),
            (json!({"tls": {"certificates": [{"secret": "a"}], "port": 80}}), "a port each"),
        ];
        for (more, says) in cases {
            assert!(said(&more).contains(says), "{more}: {}", said(&more));
        }
        let good = tls(json!([{"secret": "a.b-c"}, {"secret": "b", "hosts": ["a.b"]}]));
        assert_eq!(said(&good), "");
    }
}
