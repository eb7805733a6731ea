//! Which certificates there are to serve with, for all that the newest structure names. Asks the supervisor, which
//! alone may see the files. Does I/O.

use super::source::{Newest, changed};
use crate::control::{Certificate, Supervisor};
use crate::state::State;
use std::net::IpAddr;
use std::time::Duration;
use stomaton_crds::edge_state::{CertificateFault, CertificateState};
use stomaton_crds::v1alpha1::{EdgeCertificate, EdgeConfigSpec};

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

/// The kubelet brings changes within a minute or so; this adds little to it.
const EVERY: Duration = Duration::from_secs(2);

/// Reports what is there, for ever.
pub(super) async fn follow(
    supervisor: &Supervisor,
    mut newest: watch::Receiver<Newest<EdgeConfigSpec>>,
    state: &State,
) {
    loop {
        let structure = match &*newest.borrow_and_update() {
            Newest::Object(spec) => Some(spec.clone()),
            Newest::Nothing | Newest::Unreadable(_) => None,
        };
        if let Some(spec) = structure {
            let found = match &spec.tls {
                None => Ok(Vec::new()),
                Some(_) => supervisor.certificates().await,
            };
            match found {
                Ok(found) => state.change(|s| s.certificates = report(&spec, &found)),
                Err(error) => debug!(%error, "the certificates are not known"),
            }
        }
        tokio::select! {
            () = changed(&mut newest) => {}
            () = sleep(EVERY) => {}
        }
    }
}

/// What there is of each certificate that `spec` names. Pure.
fn report(spec: &EdgeConfigSpec, found: &[Certificate]) -> Vec<CertificateState> {
    let wanted = spec.tls.as_ref().map_or(&[][..], |tls| &tls.certificates);
    let one = |wanted_one: &EdgeCertificate| {
        let id = wanted_one.id.clone();
        let Some(found) = found.iter().find(|found| found.id == id) else {
            return CertificateState {
                id,
                fault: Some(CertificateFault::Missing),
                ..CertificateState::default()
            };
        };
        let is_usable = found.fingerprint.is_some();
        let hosts = hosts(spec, wanted, wanted_one);
        let uncovered = hosts.filter(|host| is_usable && !found.names.iter().any(|name| covers(name, host)));
        CertificateState {
            id,
            fingerprint: found.fingerprint.clone(),
            not_before: found.not_before,
            not_after: found.not_after,
            fault: found.fault,
            uncovered: uncovered.cloned().collect(),
        }
    };
    wanted.iter().map(one).collect()
}

/// The hosts that a certificate is for: its own, or all that no other has. An address is none: a client that asks for
/// one says no name.
fn hosts<'a>(
    spec: &'a EdgeConfigSpec,
    all: &'a [EdgeCertificate],
    one: &'a EdgeCertificate,
) -> impl Iterator<Item = &'a String> {
    let is_default = one.hosts.is_empty();
    let has_own = move |host: &&String| all.iter().any(|certificate| certificate.hosts.contains(host));
    let others = spec.hosts.iter().filter(move |host| is_default && !has_own(host));
    one.hosts.iter().chain(others).filter(|host| host.parse::<IpAddr>().is_err())
}

/// Whether a certificate for `name` is one for `host`. A wildcard stands for one label.
fn covers(name: &str, host: &str) -> bool {
    name == host
        || name.strip_prefix("*.").is_some_and(|parent| {
            host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(hosts: &[&str], certificates: serde_json::Value) -> EdgeConfigSpec {
        let tls = json!({"minVersion": "1.2", "certificates": certificates});
        serde_json::from_value(json!({
            "revision": 1, "backends": {"a": "10.0.0.1:80"}, "defaultBackend": "a", "hosts": hosts, "tls": tls,
        }))
        .unwrap()
    }

    fn found(id: &str, names: &[&str]) -> Certificate {
        Certificate {
            id: id.into(),
            fingerprint: Some("f".into()),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Certificate::default()
        }
    }

    #[test]
    fn every_certificate_of_the_structure_is_reported_and_no_other() {
        let spec = spec(&[], json!([{"id": "here", "hosts": ["a.example"]}, {"id": "gone"}]));
        let report = report(&spec, &[found("stray", &[]), found("here", &["a.example"])]);
        let said: Vec<_> = report.iter().map(|c| (c.id.as_str(), c.fault, c.fingerprint.is_some())).collect();
        assert_eq!(said, [("here", None, true), ("gone", Some(CertificateFault::Missing), false)]);
    }

    #[test]
    fn a_host_that_a_certificate_is_not_for_is_named() {
        let hosts = ["a.example", "b.example", "deep.down.example", "10.0.0.1"];
        let spec = spec(&hosts, json!([{"id": "a", "hosts": ["a.example"]}, {"id": "rest"}]));
        let report = report(&spec, &[found("a", &["b.example"]), found("rest", &["*.example"])]);
        assert_eq!(report[0].uncovered, ["a.example"]);
        assert_eq!(report[1].uncovered, ["deep.down.example"], "a wildcard stands for one label");
    }

    #[test]
    fn without_https_nothing_is_reported() {
        let mut spec = spec(&["a.example"], json!([]));
        spec.tls = None;
        assert_eq!(report(&spec, &[found("a", &[])]), []);
    }
}
