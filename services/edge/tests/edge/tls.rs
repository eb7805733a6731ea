//! Hosts and TLS, as a real NGINX does them.

use crate::support::{Authority, Backend, Client, PATIENCE, Pod, ROTATE_AT, config, fixed, id};
use std::time::{Duration, Instant};
use stomaton_crds::v1alpha1::{EdgeCertificate, EdgeConfigSpec, EdgeTls, TlsVersion};
use tokio_rustls::rustls::ALL_VERSIONS;
use tokio_rustls::rustls::version::{TLS12, TLS13};

fn certificate(number: u64, hosts: &[&str]) -> EdgeCertificate {
    EdgeCertificate { id: id(number), hosts: hosts.iter().map(|host| (*host).to_owned()).collect() }
}

/// HTTPS with certificate 2 for b.example, and certificate 1 for all others.
fn tls() -> EdgeTls {
    let certificates = vec![certificate(1, &[]), certificate(2, &["b.example"])];
    EdgeTls { min_version: TlsVersion::Tls12, redirect_to: None, certificates }
}

fn secured(revision: i64, tls: EdgeTls, m: &Backend) -> EdgeConfigSpec {
    EdgeConfigSpec { tls: Some(tls), ..config(revision, &[("m", m)], vec![fixed(1, "/a")]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_name_is_shown_its_certificate() {
    let (m, authority, pod) =
        (Backend::start("monolith").await, Authority::new(), Pod::start(ROTATE_AT).await);
    let other = authority.mount(&pod, 1, &["a.example", "127.0.0.1"]);
    let own = authority.mount(&pod, 2, &["b.example"]);
    pod.serve(secured(1, tls(), &m)).await;
    // An address is a client that names nobody.
    for (name, expected) in [("b.example", &own), ("a.example", &other), ("127.0.0.1", &other)] {
        let mut secured = authority.connect(&pod, name, ALL_VERSIONS).await.unwrap();
        assert!(secured.certificate == *expected, "{name} was shown another certificate");
        let answer = secured.client.send("GET", "/a", &[]).await.unwrap();
        assert_eq!((answer.status, answer.edge("route")), (200, id(1)));
        assert_eq!(answer.told("x-forwarded-proto").as_deref(), Some("https"));
        assert_eq!(answer.told("forwarded").as_deref(), Some("for=\"127.0.0.1\";proto=https"));
    }
    let plain = pod.get("/a", &[]).await;
    assert_eq!((plain.status, plain.told("x-forwarded-proto").as_deref()), (200, Some("http")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_certificate_fails_its_own_names_only() {
    let (m, authority, pod) =
        (Backend::start("monolith").await, Authority::new(), Pod::start(ROTATE_AT).await);
    authority.mount(&pod, 2, &["b.example"]);
    let only_named = EdgeTls { certificates: vec![certificate(2, &["b.example"])], ..tls() };
    for (revision, tls) in [(1, tls()), (2, only_named)] {
        pod.serve(secured(revision, tls, &m)).await;
        assert!(authority.connect(&pod, "a.example", ALL_VERSIONS).await.is_err(), "revision {revision}");
        let mut known = authority.connect(&pod, "b.example", ALL_VERSIONS).await.unwrap();
        assert_eq!(known.client.send("GET", "/a", &[]).await.unwrap().status, 200, "revision {revision}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_older_than_the_oldest_version_is_spoken() {
    let (m, authority, pod) =
        (Backend::start("monolith").await, Authority::new(), Pod::start(ROTATE_AT).await);
    authority.mount(&pod, 1, &["a.example"]);
    for (revision, min_version, twelve) in [(1, TlsVersion::Tls12, true), (2, TlsVersion::Tls13, false)] {
        pod.serve(secured(revision, EdgeTls { min_version, ..tls() }, &m)).await;
        assert_eq!(authority.connect(&pod, "a.example", &[&TLS12]).await.is_ok(), twelve, "{min_version:?}");
        assert!(authority.connect(&pod, "a.example", &[&TLS13]).await.is_ok(), "{min_version:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_is_redirected_but_for_the_health_of_the_edge() {
    let (m, authority, pod) =
        (Backend::start("monolith").await, Authority::new(), Pod::start(ROTATE_AT).await);
    authority.mount(&pod, 1, &["a.example"]);
    for (revision, port, expected) in
        [(1, 443, "https://a.example/x?y=%20"), (2, 8443, "https://a.example:8443/x?y=%20")]
    {
        pod.serve(secured(revision, EdgeTls { redirect_to: Some(port), ..tls() }, &m)).await;
        let answer = pod.get("/x?y=%20", &[("host", "a.example:8080")]).await;
        assert_eq!((answer.status, answer.header("location")), (308, Some(expected)));
        assert_eq!(pod.get("/health", &[]).await.status, 200);
    }
    let mut secured = authority.connect(&pod, "a.example", ALL_VERSIONS).await.unwrap();
    assert_eq!(secured.client.send("GET", "/x", &[]).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_hosts_are_refused() {
    let (m, authority, pod) =
        (Backend::start("monolith").await, Authority::new(), Pod::start(ROTATE_AT).await);
    authority.mount(&pod, 1, &["a.example", "c.example"]);
    let hosts = vec!["a.example".to_owned(), "b.example".to_owned()];
    pod.serve(EdgeConfigSpec { hosts, ..secured(1, tls(), &m) }).await;
    let mut plain = Client::connect(pod.address).await;
    let mut known = authority.connect(&pod, "a.example", ALL_VERSIONS).await.unwrap().client;
    let mut stranger = authority.connect(&pod, "c.example", ALL_VERSIONS).await.unwrap().client;
    let status = async |client: &mut Client, host: &str| {
        client.send("GET", "/a", &[("host", host)]).await.unwrap().status
    };
    for (host, expected) in
        [("a.example:8080", 200), ("B.EXAMPLE", 200), ("c.example", 421), ("127.0.0.1", 421)]
    {
        assert_eq!(status(&mut plain, host).await, expected, "{host}");
    }
    assert_eq!(status(&mut known, "a.example").await, 200);
    assert_eq!(status(&mut known, "c.example").await, 421);
    assert_eq!(status(&mut stranger, "c.example").await, 421);
    // Whoever looks after the edge need not know its hosts.
    assert_eq!(plain.send("GET", "/health", &[]).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_shown_with_a_reload_and_without() {
    let (m, authority, pod) =
        (Backend::start("monolith").await, Authority::new(), Pod::start(ROTATE_AT).await);
    let shown = async || authority.connect(&pod, "a.example", ALL_VERSIONS).await.unwrap().certificate;
    let first = authority.mount(&pod, 1, &["a.example"]);
    pod.serve(secured(1, tls(), &m)).await;
    assert!(shown().await == first);

    let second = authority.mount(&pod, 1, &["a.example"]);
    pod.serve(secured(2, tls(), &m)).await;
    assert!(shown().await == second, "a reload shows the old certificate");

    let third = authority.mount(&pod, 1, &["a.example"]);
    let begun = Instant::now();
    while shown().await != third {
        assert!(begun.elapsed() < PATIENCE, "without a reload the old certificate stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("a renewed certificate was shown after {:?}", begun.elapsed());
    assert_eq!(pod.until(|_| true).await.reloads, 1);
}
