//! Takes what the edge pods say of their certificates; gives what the status says of them. Pure: time comes in.
//!
//! Pods that end are left out: they may be of a structure without the certificate. A pod that has said nothing yet is
//! no reason to call one missing.

use crate::edges::EdgeView;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use stomaton_crds::{
    conditions::{Finding, Reason, State, Summary, Truth, Type},
    edge_state::{CertificateFault, CertificateState},
    ids,
    v1alpha1::{Certificate, CertificateStatus, Gateway},
};

/// What is known of the certificates.
#[derive(Debug, Default)]
pub struct Known {
    /// Each of them, in the order of the spec.
    pub all: Vec<CertificateStatus>,
    /// Whether all can be served; none without HTTPS.
    pub finding: Option<Finding>,
}

impl Known {
    /// Why not everything is served as written, if it is for a certificate.
    pub fn trouble(&self) -> Option<Summary> {
        let Finding { reason, message, .. } =
            self.finding.as_ref().filter(|finding| finding.truth == Truth::False)?;
        // A Secret may come by itself; whoever renews certificates did not renew this one.
        let state =
            if *reason == Reason::CertificateMissing { State::ReadyReconciling } else { State::Stalled };
        Some(Summary { state, reason: *reason, message: message.clone() })
    }
}

/// What is known of the certificates of `gateway`.
pub fn known(gateway: &Gateway, edges: &EdgeView, now: Timestamp) -> Known {
    let Some(tls) = &gateway.spec.tls else { return Known::default() };
    let (mut all, mut faults, mut unheard) = (Vec::new(), Vec::new(), false);
    for certificate in &tls.certificates {
        let said = said(certificate, edges);
        unheard |= said.is_empty();
        let fault = said.iter().find_map(|(pod, state)| {
            let (reason, words) = fault(state, now)?;
            Some((reason, format!("Secret {}: {words} (edge pod {pod})", certificate.secret)))
        });
        // What a pod that can serve says; the others are named in the message.
        let good = said.iter().find(|(_, state)| state.fault.is_none()).or(said.first());
        let known = good.map(|(_, state)| *state).filter(|state| state.fingerprint.is_some());
        all.push(CertificateStatus {
            secret: certificate.secret.clone(),
            fingerprint: known.and_then(|state| state.fingerprint.clone()),
            not_after: known.and_then(|state| Timestamp::from_second(state.not_after).ok()).map(Time),
            message: fault.as_ref().map(|(_, message)| message.clone()),
        });
        faults.extend(fault);
    }
    // What needs a person first.
    faults.sort_by_key(|(reason, _)| *reason == Reason::CertificateMissing);
    let (truth, reason, message) = match (faults.into_iter().next(), unheard) {
        (Some((reason, message)), _) => (Truth::False, reason, message),
        (None, true) => {
            let message = "not every edge pod has said which certificates it has".to_owned();
            (Truth::Unknown, Reason::WaitingForEdge, message)
        }
        (None, false) => (Truth::True, Reason::AsSpecified, format!("{} can be served", all.len())),
    };
    Known { all, finding: Some(Finding { kind: Type::CertificatesReady, truth, reason, message }) }
}

/// What each pod that can be believed says of `certificate`.
fn said<'a>(certificate: &Certificate, edges: &'a EdgeView) -> Vec<(&'a str, &'a CertificateState)> {
    let id = ids::secret_dir(&certificate.secret);
    let pods = edges.pods.iter().filter(|pod| !pod.terminating);
    let of_pod = |pod: &'a crate::edges::EdgePod| {
        let found = pod.fresh()?.certificates.iter().find(|state| state.id == id)?;
        Some((pod.name.as_str(), found))
    };
    pods.filter_map(of_pod).collect()
}

/// What is wrong with a certificate, and what to do.
fn fault(state: &CertificateState, now: Timestamp) -> Option<(Reason, String)> {
    let day = |second| Timestamp::from_second(second).unwrap_or_default().strftime("%F").to_string();
    let (second, hosts) = (now.as_second(), &state.uncovered);
    Some(match state.fault {
        Some(CertificateFault::Missing) => (
            Reason::CertificateMissing,
            "there is none, so its hosts are not answered over HTTPS: create it, with `tls.crt` and `tls.key`".into(),
        ),
        Some(CertificateFault::Unusable) => (
            Reason::CertificateUnusable,
            "`tls.crt` or `tls.key` is not there or not PEM: its hosts are not answered over HTTPS".into(),
        ),
        Some(CertificateFault::KeyMismatch) => (
            Reason::CertificateMismatch,
            "`tls.key` is the key of another certificate: its hosts are not answered over HTTPS".into(),
        ),
        None if state.not_after <= second => {
            (Reason::CertificateExpired, format!("it expired on {}: renew it", day(state.not_after)))
        }
        None if state.not_before > second => {
            (Reason::CertificateExpired, format!("it is not valid before {}", day(state.not_before)))
        }
        None if !hosts.is_empty() => (
            Reason::CertificateMismatch,
            format!("it is not for {}: clients refuse it there", hosts.join(", ")),
        ),
        None => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::EdgePod;
    use serde_json::json;
    use std::time::Duration;
    use stomaton_crds::edge_state::EdgeState;

    const NOW: i64 = 1_800_000_000;

    fn gateway(secrets: &[&str]) -> Gateway {
        let certificate = |secret: &&str| json!({"secret": secret, "hosts": [format!("{secret}.example")]});
        let certificates: Vec<_> = secrets.iter().map(certificate).collect();
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "fleet"},
            "spec": {"defaultBackend": {"name": "mono"}, "tls": {"certificates": certificates}},
        }))
        .unwrap()
    }

    fn good(secret: &str) -> CertificateState {
        CertificateState {
            id: ids::secret_dir(secret),
            fingerprint: Some(format!("of {secret}")),
            not_before: NOW - 100,
            not_after: NOW + 100,
            ..CertificateState::default()
        }
    }

    fn pod(name: &str, certificates: &[CertificateState]) -> EdgePod {
        EdgePod {
            name: name.into(),
            ready: true,
            terminating: false,
            state: Some(EdgeState { certificates: certificates.to_vec(), ..EdgeState::default() }),
            silent_for: Some(Duration::ZERO),
        }
    }

    fn found(secrets: &[&str], pods: Vec<EdgePod>) -> Known {
        known(&gateway(secrets), &EdgeView { pods }, Timestamp::from_second(NOW).unwrap())
    }

    #[test]
    fn what_every_pod_has_is_told_by_its_fingerprint() {
        let known = found(&["a"], vec![pod("p", &[good("a")]), pod("q", &[good("a")])]);
        assert_eq!(known.all[0].fingerprint.as_deref(), Some("of a"));
        assert_eq!(known.all[0].not_after, Some(Time(Timestamp::from_second(NOW + 100).unwrap())));
        assert_eq!((known.all[0].message.as_deref(), known.trouble()), (None, None));
        assert_eq!(known.finding.unwrap().truth, Truth::True);
    }

    #[test]
    fn each_fault_has_its_reason_and_a_missing_secret_may_come_by_itself() {
        type Change = fn(&mut CertificateState);
        let with = |change: Change| {
            let mut state = good("a");
            change(&mut state);
            let known = found(&["a"], vec![pod("p", &[good("a")]), pod("q", &[state])]);
            assert_eq!(known.all[0].fingerprint.as_deref(), Some("of a"), "the other pod has it");
            let trouble = known.trouble().unwrap();
            assert!(trouble.message.starts_with("Secret a: ") && trouble.message.ends_with("(edge pod q)"));
            (trouble.reason, trouble.state)
        };
        let missing = with(|state| state.fault = Some(CertificateFault::Missing));
        assert_eq!(missing, (Reason::CertificateMissing, State::ReadyReconciling));
        let cases: [(Change, Reason); 5] = [
            (|s| s.fault = Some(CertificateFault::Unusable), Reason::CertificateUnusable),
            (|s| s.fault = Some(CertificateFault::KeyMismatch), Reason::CertificateMismatch),
            (|s| s.uncovered = vec!["b.example".into()], Reason::CertificateMismatch),
            (|s| s.not_after = NOW, Reason::CertificateExpired),
            (|s| s.not_before = NOW + 1, Reason::CertificateExpired),
        ];
        for (change, reason) in cases {
            assert_eq!(with(change), (reason, State::Stalled));
        }
    }

    #[test]
    fn what_needs_a_person_comes_first_and_what_was_not_said_is_not_known() {
        let fault = |secret: &str, fault| CertificateState { fault: Some(fault), ..good(secret) };
        let states =
            [fault("a", CertificateFault::Missing), fault("b", CertificateFault::KeyMismatch), good("c")];
        let known = found(&["a", "b", "c"], vec![pod("p", &states)]);
        assert_eq!(known.trouble().unwrap().reason, Reason::CertificateMismatch);
        let said: Vec<_> = known.all.iter().map(|c| (c.secret.as_str(), c.message.is_some())).collect();
        assert_eq!(said, [("a", true), ("b", true), ("c", false)]);

        let mut ending = pod("p", &[fault("a", CertificateFault::Missing)]);
        ending.terminating = true;
        let mut silent = pod("q", &[good("a")]);
        silent.silent_for = None;
        let known = found(&["a"], vec![ending, silent, pod("r", &[])]);
        assert_eq!((known.trouble(), known.all[0].fingerprint.as_deref()), (None, None));
        assert_eq!(known.finding.unwrap().truth, Truth::Unknown);
    }

    #[test]
    fn without_https_there_is_nothing_to_say() {
        let mut gateway = gateway(&["a"]);
        gateway.spec.tls = None;
        let known = known(&gateway, &EdgeView::default(), Timestamp::UNIX_EPOCH);
        assert!(known.all.is_empty() && known.finding.is_none());
    }
}
