//! Certificates for tests of TLS: an authority that nobody else trusts, and what it issues. No I/O but randomness.

use super::Error;
use crate::{cluster::pki, load::tls::fingerprint};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use serde_json::{Value, json};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, in PEM.
    pub pem: String,
}

/// A certificate for one host, with its key.
pub struct Certificate {
    /// In PEM.
    pub pem: String,
    /// In PEM.
    pub key: String,
    /// As records of a load name it.
    pub fingerprint: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self, Error> {
        let (issuer, pem) = pki::authority("e2e authority")?;
        Ok(Self { issuer, pem })
    }

    /// A new certificate for `host`.
    pub fn issue(&self, host: &str) -> Result<Certificate, Error> {
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, host);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Certificate {
            pem: certificate.pem(),
            key: key.serialize_pem(),
            fingerprint: fingerprint(certificate.der()),
        })
    }

    /// The authority as a Secret that load pods can mount: `ca.crt`.
    pub fn secret(&self, name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "stringData": {"ca.crt": self.pem},
        })
    }
}

impl Certificate {
    /// The certificate as a Secret that a Gateway can name.
    pub fn secret(&self, name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name},
            "stringData": {"tls.crt": self.pem, "tls.key": self.key},
        })
    }
}
