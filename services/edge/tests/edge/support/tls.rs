//! Certificates of a test's own authority, mounted as the kubelet does, and clients that trust them.

use super::{Client, Pod, id};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
}

/// A connection that stands, and what the edge showed of itself.
pub struct Secured {
    pub client: Client,
    pub certificate: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(params.self_signed(&key).unwrap().der().clone()).unwrap();
        Self { issuer: Issuer::new(params, key), roots: Arc::new(roots) }
    }

    /// Mounts a new certificate for `names` in the directory of this number, in one step: files are links into a
    /// directory that a link names, and that link is replaced.
    pub fn mount(&self, pod: &Pod, number: u64, names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let dir = pod.options.tls_dir.join(id(number));
        fs::create_dir_all(&dir).unwrap();
        let fresh = tempfile::tempdir_in(&dir).unwrap().keep();
        fs::write(fresh.join("tls.crt"), certificate.pem()).unwrap();
        fs::write(fresh.join("tls.key"), key.serialize_pem()).unwrap();
        symlink(&fresh, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        for file in ["tls.crt", "tls.key"] {
            match symlink(format!("..data/{file}"), dir.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => panic!("{error}"),
                _ => {}
            }
        }
        certificate.der().clone()
    }

    /// A connection to the edge by somebody who asks for `name` (an address is not asked for) and speaks `versions`.
    pub async fn connect(
        &self,
        pod: &Pod,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<Secured> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        let stream = TcpStream::connect(pod.options.https_address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        Ok(Secured { client: Client::over(stream), certificate })
    }
}
