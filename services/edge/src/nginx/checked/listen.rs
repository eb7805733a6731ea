//! What the edge listens for, checked. Pure.

use crate::names::{HostName, NameError, SecretId};
use std::collections::BTreeMap;
use stomaton_crds::v1alpha1::{EdgeTls, TlsVersion};

/// HTTPS.
#[derive(Clone, Debug)]
pub(in crate::nginx) struct CheckedTls {
    pub(in crate::nginx) min_version: TlsVersion,
    /// Port to which plain HTTP is redirected.
    pub(in crate::nginx) redirect_to: Option<u16>,
    /// By host.
    pub(in crate::nginx) certificates: BTreeMap<HostName, SecretId>,
    /// For all other hosts.
    pub(in crate::nginx) default: Option<SecretId>,
}

pub(super) fn hosts(given: &[String]) -> Result<Vec<HostName>, NameError> {
    given.iter().map(|host| HostName::parse(host)).collect()
}

pub(super) fn tls(given: &EdgeTls) -> Result<CheckedTls, NameError> {
    let redirect_to = given.redirect_to.map(|port| u16::try_from(port).unwrap_or(443));
    let min_version = given.min_version;
    let mut checked = CheckedTls { min_version, redirect_to, certificates: BTreeMap::new(), default: None };
    for certificate in &given.certificates {
        let id = SecretId::parse(&certificate.id)?;
        if certificate.hosts.is_empty() {
            checked.default.get_or_insert(id);
            continue;
        }
        for host in hosts(&certificate.hosts)? {
            checked.certificates.entry(host).or_insert_with(|| id.clone());
        }
    }
    Ok(checked)
}
