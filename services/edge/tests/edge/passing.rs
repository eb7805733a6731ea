//! How requests and answers are passed on, as a real NGINX passes them.

use crate::support::{Backend, Client, PATIENCE, Pod, config, fixed};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use futures::stream::{iter, pending};
use hyper_util::rt::TokioIo;
use std::time::Instant;
use stomaton_crds::v1alpha1::EdgeRoute;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection to the edge on which this was sent.
async fn asking(pod: &Pod, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(pod.address).await.unwrap();
    stream.write_all(head.replace('\n', "\r\n").as_bytes()).await.unwrap();
    stream
}

/// All that comes until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(end.as_bytes()) {
            match stream.read_u8().await {
                Ok(byte) => read.push(byte),
                Err(_) => break,
            }
        }
    };
    let in_time = timeout(PATIENCE, reading).await.is_ok();
    let read = String::from_utf8_lossy(&read).into_owned();
    assert!(in_time && read.ends_with(end), "no {end:?} at the end of {read:?}");
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_arrives_while_the_stream_goes_on() {
    let events = async || {
        let first = iter([Ok::<_, std::io::Error>(Bytes::from_static(b"data: 1\n\n"))]);
        ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(first.chain(pending())))
    };
    let m = Backend::of(Router::new().fallback(events)).await;
    let mut route = fixed(1, "/events");
    route.handling.unbuffered = true;
    route.handling.gzip = true;
    let pod = Pod::serving(config(1, &[("m", &m)], vec![route])).await;
    let mut stream = asking(&pod, "GET /events HTTP/1.1\nhost: a\naccept-encoding: gzip\n\n").await;
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("gzip"), "{head}");
    read_until(&mut stream, "data: 1\n\n").await;
}

/// Switches to whatever it is asked for, and says what it hears; or else what it was asked for.
async fn switch(request: Request) -> Response {
    let Some(to) = request.headers().get(UPGRADE).cloned() else {
        return format!("{:?}", request.headers().get(CONNECTION)).into_response();
    };
    tokio::spawn(async move {
        let mut both = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        let mut heard = [0; 5];
        both.read_exact(&mut heard).await.unwrap();
        both.write_all(&heard).await.unwrap();
    });
    (StatusCode::SWITCHING_PROTOCOLS, [(CONNECTION, "upgrade".parse().unwrap()), (UPGRADE, to)])
        .into_response()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_becomes_a_web_socket_where_it_may_and_nothing_else() {
    let m = Backend::of(Router::new().fallback(switch)).await;
    let mut socket = fixed(1, "/socket");
    socket.handling.web_socket = true;
    let pod = Pod::serving(config(1, &[("m", &m)], vec![socket, fixed(2, "/a")])).await;
    let head = |path, to| format!("GET {path} HTTP/1.1\nhost: a\nconnection: Upgrade\nupgrade: {to}\n\n");
    let mut stream = asking(&pod, &head("/socket", "WebSocket")).await;
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    stream.write_all(b"hello").await.unwrap();
    read_until(&mut stream, "hello").await;
    for (path, to) in
        [("/a", "websocket"), ("/socket", "h2c"), ("/socket/x", "h2c, websocket"), ("/", "websocket")]
    {
        let mut stream = asking(&pod, &head(path, to)).await;
        assert!(read_until(&mut stream, "None").await.starts_with("HTTP/1.1 200"), "{path} {to}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_is_compressed_where_the_route_says_so() {
    let page = || async { ([(CONTENT_TYPE, "application/json")], "[1]".repeat(1000)) };
    let m = Backend::of(Router::new().fallback(get(page))).await;
    let mut small = fixed(1, "/small");
    small.handling.gzip = true;
    let pod = Pod::serving(config(1, &[("m", &m)], vec![small, fixed(2, "/large")])).await;
    let ask = [("accept-encoding", "gzip")];
    let answer = pod.get("/small", &ask).await;
    assert_eq!(
        (answer.header("content-encoding"), answer.header("vary")),
        (Some("gzip"), Some("Accept-Encoding"))
    );
    assert!(answer.body.starts_with(&[0x1f, 0x8b]) && answer.body.len() < 1000);
    for answer in [pod.get("/small", &[]).await, pod.get("/large", &ask).await] {
        assert_eq!((answer.header("content-encoding"), answer.body.len()), (None, 3000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_backend_is_given_up_when_the_route_says_so() {
    let m = Backend::of(Router::new().fallback(std::future::pending::<()>)).await;
    let silent = |number, path, millis| {
        let mut route: EdgeRoute = fixed(number, path);
        route.handling.silent_millis = millis;
        route
    };
    let pod = Pod::serving(config(1, &[("m", &m)], vec![silent(1, "/a", 200), silent(2, "/b", 700)])).await;
    for (path, millis) in [("/a", 200), ("/b", 700)] {
        let begun = Instant::now();
        assert_eq!(pod.get(path, &[]).await.status, 504);
        let took = begun.elapsed().as_millis();
        assert!((millis..millis + 5000).contains(&took), "{path} took {took} ms");
    }
    let mut kept = Client::connect(pod.address).await;
    assert_eq!(kept.send("GET", "/a", &[]).await.unwrap().status, 504);
}
