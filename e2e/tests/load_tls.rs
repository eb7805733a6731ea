//! The load's clients over TLS: which certificate answered is recorded, and a wrong one is a loss.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may stop at a surprise, as tests may"
)]

use e2e::harness::certificates::{Authority, Certificate};
use e2e::load::Args;
use e2e::load::engine::Load;
use e2e::load::record::{Loss, Record};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Thirty requests for `shop.example` at a server with this certificate, by clients that trust `authority`.
async fn load(authority: &Authority, certificate: &Certificate) -> Vec<Record> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(authority.pem.as_bytes()).unwrap();
    let (target, ca) = (format!("https://{}", serve(certificate).await), file.path().display().to_string());
    let words = ["--target", &target, "--ca", &ca, "--host", "shop.example", "--requests", "30"];
    // Paced, so that every client has its turn.
    let modes = ["--rate", "300", "--mode", "keepalive=1", "--mode", "fresh=1", "--mode", "http2=1"];
    let config = Args::of(words.into_iter().chain(modes)).unwrap().config().await.unwrap();
    let load = Load::start(config);
    timeout(Duration::from_secs(30), load.finished()).await.expect("the load ends by itself");
    load.records(0, usize::MAX)
}

async fn serve(certificate: &Certificate) -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_slice(certificate.pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not like the certificate goes away.
                let Ok(stream) = acceptor.accept(socket).await else { return };
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let answer = hyper::service::service_fn(async |_: Request<Incoming>| {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
                });
                let io = TokioIo::new(stream);
                if is_http2 {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(io, answer).await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn every_kind_of_client_records_the_certificate_that_answered() {
    let authority = Authority::new().unwrap();
    let certificate = authority.issue("shop.example").unwrap();
    let records = load(&authority, &certificate).await;
    assert_eq!(records.len(), 30);
    for record in &records {
        assert_eq!((record.status, record.loss), (200, None));
        assert_eq!(record.certificate(), Some(certificate.fingerprint.as_str()));
    }
    let modes: std::collections::BTreeSet<_> = records.iter().map(|r| r.mode).collect();
    assert_eq!(modes.len(), 3);
}

#[tokio::test]
async fn the_certificate_of_another_host_or_authority_is_a_loss() {
    let authority = Authority::new().unwrap();
    let strangers = Authority::new().unwrap().issue("shop.example").unwrap();
    for wrong in [authority.issue("blog.example").unwrap(), strangers] {
        let records = load(&authority, &wrong).await;
        assert_eq!(records.len(), 30);
        assert!(records.iter().all(|r| r.loss == Some(Loss::Tls)), "{}", records[0].to_line());
    }
}
