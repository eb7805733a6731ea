//! What a route wants otherwise than the rest, as a real NGINX does it.

use crate::support::{Backend, Client, Pod, ROTATE_AT, backends, config, fixed, id, moving, weights};
use stomaton_crds::v1alpha1::{EdgeConfigSpec, EdgeRoute, HeaderMatch, Method};

async fn serving(routes: Vec<EdgeRoute>, m: &Backend, s: &Backend) -> Pod {
    let pod = Pod::start(ROTATE_AT).await;
    let hidden_paths = vec!["/internal".to_owned()];
    pod.give_config(EdgeConfigSpec { hidden_paths, ..config(1, &[("m", m), ("s", s)], routes) });
    pod.until(|state| state.applied.config == 1).await;
    pod
}

/// Who answered, and what it was asked for.
async fn asked(client: &mut Client, method: &str, path: &str, headers: &[(&str, &str)]) -> (String, String) {
    let text = client.send(method, path, headers).await.unwrap().text();
    let mut lines = text.lines();
    (lines.next().unwrap().to_owned(), lines.next().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_gets_its_own_path_and_switches_like_any_other() {
    let (m, s) = backends().await;
    let rag = EdgeRoute {
        safe_rewrite: Some("/api/v1/stomaton/rag".into()),
        target_rewrite: Some("/internal/rag".into()),
        ..moving(1, "/api/v1/rag")
    };
    let plain = EdgeRoute { target_rewrite: Some("/v2".into()), ..moving(2, "/plain") };
    let pod = serving(vec![rag, plain], &m, &s).await;
    let mut client = Client::connect(pod.address).await;
    for (revision, permille, rag, plain, side) in
        [(1, 0, "/api/v1/stomaton/rag", "/plain", "monolith"), (2, 1000, "/internal/rag", "/v2", "service")]
    {
        pod.give_weights(weights(revision, &[(1, permille), (2, permille)]));
        pod.until(|state| state.applied.weights == revision).await;
        for rest in ["", "/", "/query?q=a%20b&c", "/a%20b"] {
            let path = format!("/api/v1/rag{rest}");
            let expected = (side.to_owned(), format!("GET {rag}{rest}"));
            assert_eq!(asked(&mut client, "GET", &path, &[]).await, expected);
        }
        let expected = (side.to_owned(), format!("POST {plain}/x"));
        assert_eq!(asked(&mut client, "POST", "/plain/x", &[("content-length", "0")]).await, expected);
    }
    // Nothing but NGINX's own reading of the path decides where it goes.
    let (_, line) = asked(&mut client, "GET", "/api/v1/rag/x/..%2f..%2f..%2f..%2fplain/y", &[]).await;
    assert_eq!(line, "GET /v2/y");
    assert_eq!(
        client.send("GET", "/.stomaton/r0000000000000001/service/api/v1/rag", &[]).await.unwrap().status,
        404
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exact_paths_and_headers_choose_the_route() {
    let (m, s) = backends().await;
    let headers = vec![HeaderMatch { name: "x-version".into(), value: "V/2".into() }];
    let routes = vec![
        fixed(1, "/a"),
        EdgeRoute { exact: true, ..fixed(2, "/a") },
        EdgeRoute { headers, ..fixed(3, "/a") },
        EdgeRoute { methods: vec![Method::POST], ..fixed(4, "/a") },
    ];
    let pod = serving(routes, &m, &s).await;
    let mut client = Client::connect(pod.address).await;
    for (method, path, header, expected) in [
        ("GET", "/a", "1", 2),
        ("GET", "/a/", "1", 1),
        ("GET", "/a/x", "v/2", 3),
        ("GET", "/a", "v/2", 2),
        ("GET", "/a/x", "V/22", 1),
        ("POST", "/a/x", "V/2", 4),
    ] {
        let headers = [("x-version", header), ("content-length", "0")];
        let answer = client.send(method, path, &headers).await.unwrap();
        assert_eq!(answer.edge("route"), id(expected), "{method} {path} {header}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_paths_are_hidden_however_they_are_written() {
    let (m, s) = backends().await;
    let pod = serving(vec![fixed(1, "/a")], &m, &s).await;
    let mut client = Client::connect(pod.address).await;
    for path in [
        "/internal",
        "/internal/db",
        "//internal/db",
        "/a/../internal/db",
        "/%69nternal/db",
        "/a%2f..%2finternal",
    ] {
        assert_eq!(client.send("GET", path, &[]).await.unwrap().status, 404, "{path}");
    }
    assert_eq!(client.send("GET", "/internals", &[]).await.unwrap().backend(), "monolith");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_of_a_body_is_the_route_s() {
    let (m, s) = backends().await;
    let mut small = fixed(1, "/small");
    small.handling.max_body_bytes = 1024;
    let mut large = EdgeRoute { methods: vec![Method::POST], ..fixed(2, "/both") };
    large.handling.max_body_bytes = 64 << 20;
    let pod = serving(vec![small, large], &m, &s).await;
    let status = async |method: &str, path: &str, length: &str| {
        let headers = [("content-length", length), ("expect", "100-continue")];
        Client::connect(pod.address).await.send(method, path, &headers).await.unwrap().status
    };
    assert_eq!(status("POST", "/small", "1025").await, 413);
    assert_eq!(status("PUT", "/both", "20000000").await, 413);
    assert_eq!(status("POST", "/both", "20000000").await, 100);
}
