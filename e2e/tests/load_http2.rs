//! The load's HTTP/2 clients: what a GOAWAY leaves unprocessed is counted apart from what is lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may stop at a surprise, as tests may"
)]

use e2e::load::Args;
use e2e::load::engine::Load;
use e2e::load::record::{Loss, Mode, Record};
use e2e::load::summary::Summary;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

async fn load(target: SocketAddr, options: &str) -> (Summary, Vec<Record>) {
    let target = format!("http://{target}");
    let words = ["--target", &target].into_iter().chain(options.split_whitespace());
    let config = Args::of(words).unwrap().config().await.unwrap();
    let load = Load::start(config);
    timeout(Duration::from_secs(30), load.finished()).await.expect("the load ends by itself");
    (load.report().summary, load.records(0, usize::MAX))
}

/// A server that shuts each connection down gracefully once it has answered `answers` requests on it.
async fn graceful(answers: usize, ids: Arc<Mutex<Vec<String>>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve_gracefully(socket, answers, Arc::clone(&ids)));
        }
    });
    (address, connections)
}

async fn serve_gracefully(socket: TcpStream, answers: usize, ids: Arc<Mutex<Vec<String>>>) {
    let enough = Arc::new(Notify::new());
    let served = AtomicUsize::new(0);
    let tell = Arc::clone(&enough);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        assert_eq!(request.uri().authority().map(|a| a.as_str()), Some("shop.example"));
        ids.lock().unwrap().push(request.headers()["x-request-id"].to_str().unwrap().to_owned());
        if served.fetch_add(1, Ordering::SeqCst) + 1 == answers {
            tell.notify_one();
        }
        async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok")))) }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(socket), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = enough.notified() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A client that has finished just goes.
    let _ = served;
}

#[tokio::test]
async fn a_graceful_shutdown_loses_nothing() {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let (target, connections) = graceful(5, Arc::clone(&ids)).await;
    let (summary, records) = load(target, "--mode http2=3 --requests 300 --host shop.example --keys 3").await;
    // Whether a stream meets the GOAWAY on its way is up to the scheduler; that it is never lost is not.
    assert_eq!((summary.sent, summary.lost), (300, 0), "{:?}", summary.lost_by);
    assert_eq!(summary.answered + summary.h2_unprocessed, 300);
    assert!(summary.answered >= 240, "{summary:?}");
    assert!(records.iter().all(|r| r.mode == Mode::Http2));
    assert!(connections.load(Ordering::SeqCst) >= 40, "connections are closed after five requests or so");
    let ids = ids.lock().unwrap();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "sent twice");
    assert_eq!(ids.len() as u64, summary.answered);
}

/// Plays frames by hand: after the first request, says GOAWAY with this last stream, then closes.
async fn says_goaway(last_stream: u32, requests: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut preface = [0; 24];
            socket.read_exact(&mut preface).await.unwrap();
            // SETTINGS, empty.
            socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            while next_frame(&mut socket).await != 1 {}
            requests.fetch_add(1, Ordering::SeqCst);
            // GOAWAY: 8 bytes on stream 0, the last stream, then NO_ERROR.
            let mut goaway = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
            goaway.extend(last_stream.to_be_bytes());
            goaway.extend([0; 4]);
            socket.write_all(&goaway).await.unwrap();
            socket.shutdown().await.unwrap();
            // Read on, so that the close is no reset.
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    });
    address
}

/// Skips a frame and gives its type.
async fn next_frame(socket: &mut TcpStream) -> u8 {
    let mut head = [0; 9];
    socket.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    socket.read_exact(&mut vec![0; length as usize]).await.unwrap();
    head[3]
}

#[tokio::test]
async fn streams_above_the_goaway_are_unprocessed_and_not_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let target = says_goaway(0, Arc::clone(&requests)).await;
    let (summary, records) = load(target, "--mode http2=1 --requests 5").await;
    assert_eq!((summary.sent, summary.h2_unprocessed, summary.lost), (5, 5, 0), "{:?}", summary.lost_by);
    assert!(records.iter().all(|r| r.loss == Some(Loss::H2Unprocessed)));
    assert_eq!(requests.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn streams_that_the_goaway_accepts_are_lost_when_the_connection_ends() {
    let requests = Arc::new(AtomicUsize::new(0));
    let target = says_goaway(1, Arc::clone(&requests)).await;
    let (summary, _) = load(target, "--mode http2=1 --requests 5").await;
    assert_eq!((summary.sent, summary.h2_unprocessed, summary.lost), (5, 0, 5));
    assert_eq!(summary.lost_by.get("eof"), Some(&5), "{:?}", summary.lost_by);
    assert_eq!(requests.load(Ordering::SeqCst), 5);
}
