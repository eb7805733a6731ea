//! Which route answers what, and what reaches the backend, as a real NGINX does it.

use crate::support::{Backend, Client, Pod, ROTATE_AT, backends, config, fixed, id, moving, weights};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use stomaton_crds::{
    edge_state::EdgeState,
    v1alpha1::{EdgeRoute, Method},
};
use stomaton_edge::control::Version;

/// A pod that serves `routes`.
async fn serving(routes: Vec<EdgeRoute>, m: &Backend, s: &Backend) -> Pod {
    let pod = Pod::start(ROTATE_AT).await;
    pod.give_config(config(1, &[("m", m), ("s", s)], routes));
    pod.until(|state| state.applied.config == 1).await;
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_path_and_method_choose_the_route() {
    let (m, s) = backends().await;
    let routes = vec![
        fixed(1, "/a"),
        fixed(2, "/a/b"),
        EdgeRoute { methods: vec![Method::POST], ..fixed(3, "/a") },
        EdgeRoute { hosts: vec!["shop.test".into()], ..fixed(4, "/a") },
        EdgeRoute { hosts: vec!["shop.test".into()], methods: vec![Method::GET], ..fixed(5, "/a/b/c") },
        moving(6, "/health"),
    ];
    let pod = serving(routes, &m, &s).await;
    let mut client = Client::connect(pod.address).await;
    for (method, host, path, expected) in [
        ("GET", "x.test", "/a", 1),
        ("GET", "x.test", "/a/", 1),
        ("GET", "x.test", "/a?b=/a/b", 1),
        ("GET", "x.test", "/ab", 0),
        ("GET", "x.test", "/", 0),
        ("POST", "x.test", "/a/x", 3),
        ("POST", "x.test", "/a/b/x", 2),
        ("GET", "shop.test", "/a", 4),
        ("GET", "SHOP.test:8080", "/a", 4),
        ("POST", "shop.test", "/a", 4),
        ("GET", "shop.test", "/a/b", 2),
        ("GET", "shop.test", "/a/b/c/d", 5),
        ("PUT", "shop.test", "/a/b/c/d", 2),
        ("GET", "x.test", "/a/../a/b", 2),
        ("GET", "x.test", "/a%2Fb", 2),
        ("GET", "x.test", "/health/x", 6),
    ] {
        let answer = client.send(method, path, &[("host", host)]).await.unwrap();
        let expected = if expected == 0 { String::new() } else { id(expected) };
        assert_eq!(answer.edge("route"), expected, "{method} {host} {path}");
        assert_eq!((answer.backend().as_str(), answer.edge("side").as_str()), ("monolith", "monolith"));
    }
    let health = client.send("GET", "/health", &[]).await.unwrap();
    assert_eq!((health.status, health.header("content-type")), (200, Some("application/json")));
    assert_eq!(health.text(), r#"{"status":"ok"}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_gets_the_request_as_it_was_sent() {
    let (m, s) = backends().await;
    let pod = serving(vec![moving(1, "/a")], &m, &s).await;
    let sent = "/a/x%2Fy//z/%7euser?q=%20a&b";
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [
        ("host", "Shop.test:8080"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("traceparent", traceparent),
        ("connection", "keep-alive"),
    ];
    let text = pod.get(sent, &headers).await.text();
    let line = |line: &str| assert!(text.lines().any(|l| l == line), "no {line:?} in:\n{text}");
    line(&format!("GET {sent}"));
    line("host: Shop.test:8080");
    line("x-forwarded-for: 127.0.0.1");
    line("x-real-ip: 127.0.0.1");
    line("x-forwarded-proto: http");
    line(&format!("traceparent: {traceparent}"));
    assert!(!text.contains("203.0.113.9") && !text.contains("connection:"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_keeps_the_bucket_of_a_salt() {
    let (m, s) = backends().await;
    let together = |number, path| EdgeRoute { salt: Some(id(99)), ..moving(number, path) };
    let pod = serving(vec![together(1, "/a"), together(2, "/b"), moving(3, "/c")], &m, &s).await;
    let mut same = 0;
    for user in 0..50 {
        let cookie = format!("theme=dark; stomaton_id=user-{user}");
        let bucket = async |path| pod.get(path, &[("cookie", cookie.as_str())]).await.edge("bucket");
        let (a, b, c) = (bucket("/a").await, bucket("/b").await, bucket("/c").await);
        assert_eq!(a, b);
        same += usize::from(a == c);
    }
    assert!(same < 5, "another salt must give other buckets; {same} of 50 were the same");
    let address = pod.get("/a", &[]).await.edge("bucket");
    assert_eq!(pod.get("/b", &[]).await.edge("bucket"), address);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weight_of_a_route_without_a_target_means_nothing() {
    let (m, s) = backends().await;
    // In one location with a route that does move.
    let routes = vec![fixed(1, "/a"), EdgeRoute { methods: vec![Method::POST], ..moving(2, "/a") }];
    let pod = serving(routes, &m, &s).await;
    pod.give_weights(weights(1, &[(1, 1000), (2, 1000), (3, 1000)]));
    pod.until(|state| state.applied.weights == 1).await;
    let mut client = Client::connect(pod.address).await;
    assert_eq!(client.send("GET", "/a", &[]).await.unwrap().backend(), "monolith");
    assert_eq!(client.send("POST", "/a", &[("content-length", "0")]).await.unwrap().backend(), "service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_latch_moves_no_route_whose_point_of_no_return_is_behind_it() {
    let (m, s) = backends().await;
    // In one location with a route that does move.
    let crossed = EdgeRoute { safe: "s".into(), crossed: true, ..fixed(1, "/a") };
    let pod =
        serving(vec![crossed, EdgeRoute { methods: vec![Method::POST], ..moving(2, "/a") }], &m, &s).await;
    let mut client = Client::connect(pod.address).await;
    for (revision, latched) in [(1, false), (2, true)] {
        let mut given = weights(revision, &[(1, 1000), (2, 1000)]);
        given.routes.values_mut().for_each(|route| route.latched = latched);
        pod.give_weights(given);
        pod.until(|state| state.applied.weights == revision).await;
        let answer = client.send("GET", "/a", &[]).await.unwrap();
        assert_eq!((answer.backend().as_str(), answer.edge("side").as_str()), ("service", "service"));
        let other = client.send("POST", "/a", &[("content-length", "0")]).await.unwrap();
        assert_eq!(other.backend(), if latched { "monolith" } else { "service" });
    }
    let all = |state: &EdgeState| state.counters.get(&id(1)).and_then(|by| by.get("public")).copied();
    let counted = |state: &EdgeState| all(state).is_some_and(|sides| sides.service.requests == 2);
    let state = pod.until(counted).await;
    assert_eq!(all(&state).unwrap().monolith.requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_spoken_on_the_same_port() {
    let (m, s) = backends().await;
    let pod = serving(vec![moving(1, "/a")], &m, &s).await;
    if pod.status().await.version < Version(1, 25, 1) {
        // Before, a plain port spoke either HTTP/1.1 or HTTP/2.
        return;
    }
    let stream = tokio::net::TcpStream::connect(pod.address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}/a", pod.address);
    let answer = sender.send_request(Request::get(uri).body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains(&format!("host: {}", pod.address)), "{text}");
}
