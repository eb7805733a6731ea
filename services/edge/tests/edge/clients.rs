//! Who the client is, and what backends are told of it, as a real NGINX tells them.

use crate::support::{Answer, Backend, Client, Pod, config, fixed};
use std::collections::BTreeSet;
use stomaton_crds::v1alpha1::{AddressFrom, EdgeConfigSpec, EdgeRoute, TrustedProxies};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a client says of itself when it may.
const SAID: [(&str, &str); 5] = [
    ("x-forwarded-for", "198.51.100.7, 203.0.113.9"),
    ("x-real-ip", "203.0.113.10"),
    ("x-forwarded-proto", "https"),
    ("forwarded", "for=198.51.100.7"),
    ("x-correlation-id", "order-7"),
];

/// Believes hops of `network`; `/inner` is for 203.0.113.0/24, and 2001:db8::/32.
fn trusting(network: &str, address_from: AddressFrom, m: &Backend) -> EdgeConfigSpec {
    let mut inner = fixed(1, "/inner");
    inner.handling.allow_from = vec!["203.0.113.0/24".into(), "2001:db8::/32".into()];
    let networks = vec![network.to_owned()];
    EdgeConfigSpec {
        trusted_proxies: Some(TrustedProxies { networks, address_from }),
        ..config(1, &[("m", m)], vec![inner])
    }
}

fn assert_told(answer: &Answer, expected: &[(&str, &str)]) {
    for (header, value) in expected {
        assert_eq!(answer.told(header).as_deref(), Some(*value), "{header} in:\n{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_hop_says_who_the_client_is() {
    let m = Backend::start("monolith").await;
    let pod = Pod::serving(trusting("127.0.0.0/8", AddressFrom::XForwardedFor, &m)).await;
    let answer = pod.get("/inner", &SAID).await;
    let expected = [
        ("x-real-ip", "203.0.113.9"),
        ("x-forwarded-for", "198.51.100.7, 203.0.113.9, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=\"203.0.113.9\";proto=https"),
        ("x-correlation-id", "order-7"),
    ];
    assert_told(&answer, &expected);
    assert_eq!(pod.get("/inner", &[("x-forwarded-for", "198.51.100.7")]).await.status, 403);
    // The last that is no hop: what stands before it anybody may have written.
    let spoofed = [("x-forwarded-for", "203.0.113.9, 198.51.100.7, 127.0.0.2")];
    assert_eq!(pod.get("/inner", &spoofed).await.status, 403);
    let six = pod.get("/inner", &[("x-forwarded-for", "2001:db8::7"), ("x-forwarded-proto", "gopher")]).await;
    assert_told(&six, &[("x-real-ip", "2001:db8::7"), ("forwarded", "for=\"[2001:db8::7]\";proto=http")]);
    // What a hop says goes into the log, and whatever it is, the line can be read.
    assert_eq!(pod.get("/", &[("x-correlation-id", r#"a"},{"b\"#)]).await.status, 200);
    let state = pod.until(|state| state.lines + state.gaps == 5).await;
    assert_eq!(state.gaps, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_hop_may_say_it_in_a_header_of_its_own() {
    let m = Backend::start("monolith").await;
    let pod = Pod::serving(trusting("127.0.0.0/8", AddressFrom::XRealIp, &m)).await;
    let answer = pod.get("/inner", &SAID).await;
    assert_told(&answer, &[("x-real-ip", "203.0.113.10"), ("forwarded", "for=\"203.0.113.10\";proto=https")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_does() {
    let m = Backend::start("monolith").await;
    for address_from in [AddressFrom::XForwardedFor, AddressFrom::XRealIp] {
        let pod = Pod::serving(trusting("10.0.0.0/8", address_from, &m)).await;
        let answer = pod.get("/", &SAID).await;
        let expected = [
            ("x-real-ip", "127.0.0.1"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("forwarded", "for=\"127.0.0.1\";proto=http"),
        ];
        assert_told(&answer, &expected);
        assert_ne!(answer.told("x-correlation-id").as_deref(), Some("order-7"));
        let refused = pod.get("/inner", &SAID).await;
        assert_eq!((refused.status, refused.told("host")), (403, None));
    }
}

/// A connection that begins with this line.
async fn beginning(pod: &Pod, line: &str) -> Client {
    let mut stream = TcpStream::connect(pod.address).await.unwrap();
    stream.write_all(line.as_bytes()).await.unwrap();
    Client::over(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_says_who_the_client_is_and_nothing_else() {
    let m = Backend::start("monolith").await;
    let pod = Pod::serving(trusting("127.0.0.0/8", AddressFrom::ProxyProtocol, &m)).await;
    for (line, address, node) in [
        ("PROXY TCP4 203.0.113.9 127.0.0.1 5555 80\r\n", "203.0.113.9", "203.0.113.9"),
        ("PROXY TCP6 2001:db8::7 ::1 5555 80\r\n", "2001:db8::7", "[2001:db8::7]"),
    ] {
        let answer = beginning(&pod, line).await.send("GET", "/inner", &SAID).await.unwrap();
        assert_eq!(answer.status, 200);
        let forwarded = format!("for=\"{node}\";proto=http");
        // Whatever else is said comes from the client.
        assert_told(
            &answer,
            &[("x-real-ip", address), ("x-forwarded-for", address), ("forwarded", &forwarded)],
        );
        assert_told(&answer, &[("x-forwarded-proto", "http")]);
        assert_ne!(answer.told("x-correlation-id").as_deref(), Some("order-7"));
    }
    let mut other = beginning(&pod, "PROXY TCP4 198.51.100.7 127.0.0.1 5555 80\r\n").await;
    assert_eq!(other.send("GET", "/inner", &SAID).await.unwrap().status, 403);
    // Without it there is no HTTP.
    let mut plain = TcpStream::connect(pod.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    // Closed or reset: either is no answer.
    let _ = plain.read_to_end(&mut said).await;
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_of_anybody_else_is_not_believed() {
    let m = Backend::start("monolith").await;
    let pod = Pod::serving(trusting("10.0.0.0/8", AddressFrom::ProxyProtocol, &m)).await;
    let mut client = beginning(&pod, "PROXY TCP4 203.0.113.9 127.0.0.1 5555 80\r\n").await;
    assert_told(&client.send("GET", "/", &[]).await.unwrap(), &[("x-real-ip", "127.0.0.1")]);
    assert_eq!(client.send("GET", "/inner", &[]).await.unwrap().status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_may_ask_is_the_client_s_own() {
    let m = Backend::start("monolith").await;
    let open_to = |number, path, network: &str| {
        let mut route: EdgeRoute = fixed(number, path);
        route.handling.allow_from = vec![network.to_owned()];
        route
    };
    let routes = vec![open_to(1, "/local", "127.0.0.0/8"), open_to(2, "/far", "10.0.0.0/8")];
    let pod = Pod::serving(config(1, &[("m", &m)], routes)).await;
    for (path, status) in [("/local", 200), ("/local/x", 200), ("/far", 403), ("/far/x", 403), ("/", 200)] {
        assert_eq!(pod.get(path, &[("x-forwarded-for", "10.0.0.1")]).await.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_has_a_correlation_id() {
    let m = Backend::start("monolith").await;
    let pod = Pod::serving(config(1, &[("m", &m)], vec![])).await;
    let mut client = Client::connect(pod.address).await;
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        let answer = client.send("GET", "/", &[("x-correlation-id", "order-7")]).await.unwrap();
        let id = answer.told("x-correlation-id").unwrap();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 20);
    // A trusted hop that says none gets one made.
    let pod = Pod::serving(trusting("127.0.0.0/8", AddressFrom::XForwardedFor, &m)).await;
    assert_eq!(pod.get("/", &[]).await.told("x-correlation-id").unwrap().len(), 32);
}
