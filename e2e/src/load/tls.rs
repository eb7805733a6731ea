//! TLS to the target: whom to trust, whom to ask for, and which certificate answered. Reads one file at the start;
//! else the I/O of the stream it is given.

use super::Error;
use super::record::Mode;
use super::wire::Wire;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;
use stomaton_crds::hex::hex;
use tokio_rustls::{TlsConnector, rustls};

/// How clients speak TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts the certificates in `authority`, a PEM file, and asks for `host`.
    pub(super) fn new(authority: &Path, host: &str) -> Result<Self, Error> {
        let refuse = |what: &dyn Display| {
            let file = authority.display();
            Error::Options(format!("--ca {file}: {what}; it must hold certificates in PEM"))
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(authority).map_err(|e| refuse(&e))?;
        for certificate in certificates {
            roots.add(certificate.map_err(|e| refuse(&e))?).map_err(|e| refuse(&e))?;
        }
        if roots.is_empty() {
            return Err(refuse(&"no certificate"));
        }
        let speaking = |protocol: &[u8]| {
            let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|e| refuse(&e))?;
            let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            // A session that is resumed shows no certificate, and which one serves is what is asked here.
            config.resumption = Resumption::disabled();
            Ok(Arc::new(config))
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|e| {
            Error::Options(format!("--host {host}: {e}; TLS needs a name of DNS or an address"))
        })?;
        Ok(Self { http1: speaking(b"http/1.1")?, http2: speaking(b"h2")?, name })
    }

    /// Shakes hands; gives the stream and the fingerprint of the certificate that answered.
    pub(super) async fn over(&self, mode: Mode, wire: Wire) -> io::Result<(Wire, Arc<str>)> {
        let config = if mode == Mode::Http2 { &self.http2 } else { &self.http1 };
        let stream = TlsConnector::from(Arc::clone(config)).connect(self.name.clone(), wire).await?;
        let (_, session) = stream.get_ref();
        if mode == Mode::Http2 && session.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("no HTTP/2 over TLS"));
        }
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(|der| fingerprint(der)).unwrap_or_default();
        Ok((Wire::Tls(Box::new(stream)), certificate.into()))
    }
}

/// Tells certificates apart: the beginning of the SHA-256 of one in DER.
pub fn fingerprint(der: &[u8]) -> String {
    hex(&Sha256::digest(der)[..8])
}
