//! The load's clients against servers that close, reset, hang or say goodbye at the worst moment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may stop at a surprise, as tests may"
)]

use e2e::load::Args;
use e2e::load::engine::Load;
use e2e::load::record::Record;
use e2e::load::summary::Summary;
use rustix::net::{SendFlags, send};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Runs a load with the options of the command line; gives its summary and records.
async fn load(target: SocketAddr, options: &str) -> (Summary, Vec<Record>) {
    let target = format!("http://{target}");
    let words = ["--target", &target].into_iter().chain(options.split_whitespace());
    let config = Args::of(words).unwrap().config().await.unwrap();
    let load = Load::start(config);
    timeout(Duration::from_secs(30), load.finished()).await.expect("the load ends by itself");
    let report = load.report();
    assert!(report.done);
    (report.summary, load.records(0, usize::MAX))
}

fn lost_by(report: &Summary) -> Vec<(&str, u64)> {
    report.lost_by.iter().map(|(kind, n)| (kind.as_str(), *n)).collect()
}

/// What a server saw: identifiers of requests, and the connection each came on.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(String, usize)>>>);

impl Seen {
    fn note(&self, head: &str, connection: usize) {
        let id = head.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap_or("none");
        self.0.lock().unwrap().push((id.to_owned(), connection));
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Takes what was seen, which must hold no identifier twice.
    fn take(&self) -> BTreeMap<String, usize> {
        let mut once = BTreeMap::new();
        for (id, connection) in std::mem::take(&mut *self.0.lock().unwrap()) {
            assert!(!once.contains_key(&id), "{id} was sent twice");
            once.insert(id, connection);
        }
        once
    }

    /// Takes the number of requests on each connection.
    fn per_connection(&self) -> Vec<usize> {
        let mut counts = BTreeMap::new();
        for connection in self.take().into_values() {
            *counts.entry(connection).or_default() += 1;
        }
        counts.into_values().collect()
    }
}

/// Serves each connection with `serve(socket, number of the connection)`.
async fn serve<F, S>(serve: S) -> SocketAddr
where
    S: Fn(TcpStream, usize) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            tokio::spawn(serve(socket, number));
        }
    });
    address
}

/// The head of the next request, or `None` at the end of the connection.
async fn next_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap().to_ascii_lowercase())
}

/// Sends the bytes and the FIN in one segment, so that whoever has the answer has its end too.
fn send_with_fin(socket: TcpStream, bytes: &str) {
    let socket = socket.into_std().unwrap();
    assert_eq!(send(&socket, bytes.as_bytes(), SendFlags::MORE).unwrap(), bytes.len());
    socket.shutdown(std::net::Shutdown::Both).unwrap();
}

/// Answers `answers` requests on each connection and closes with the last, without a word.
async fn closes_silently(answers: usize, seen: Seen) -> SocketAddr {
    serve(move |mut socket, number| {
        let seen = seen.clone();
        async move {
            for n in 1..=answers {
                let Some(head) = next_head(&mut socket).await else { return };
                seen.note(&head, number);
                if n < answers {
                    socket.write_all(OK.as_bytes()).await.unwrap();
                }
            }
            send_with_fin(socket, OK);
        }
    })
    .await
}

#[tokio::test]
async fn a_client_that_looks_survives_a_silent_close() {
    let seen = Seen::default();
    let target = closes_silently(4, seen.clone()).await;
    let (report, _) = load(target, "--clients 1 --requests 20 --check-eof").await;
    assert_eq!((report.sent, report.answered, report.lost), (20, 20, 0));
    assert_eq!(seen.per_connection(), [4; 5]);
}

#[tokio::test]
async fn a_client_that_does_not_look_loses_a_request_at_each_silent_close() {
    let seen = Seen::default();
    let target = closes_silently(4, seen.clone()).await;
    let (report, records) = load(target, "--clients 1 --requests 20 --no-check-eof").await;
    // Four answers, the fifth request into a closed connection, and again.
    assert_eq!((report.sent, report.answered, report.lost), (20, 16, 4), "{:?}", lost_by(&report));
    let lost: Vec<u32> = records.iter().filter(|r| r.loss.is_some()).map(|r| r.seq).collect();
    assert_eq!(lost, [4, 9, 14, 19]);
    assert!(lost_by(&report).iter().all(|(kind, _)| ["eof", "reset"].contains(kind)));
    assert_eq!(seen.per_connection(), [4; 4]);
}

#[tokio::test]
async fn kinds_of_loss_are_told_apart() {
    let reset = serve(async |mut socket, _| {
        next_head(&mut socket).await;
        socket.set_zero_linger().unwrap();
    });
    let eof = serve(async |mut socket, _| {
        next_head(&mut socket).await;
    });
    let half_an_answer = serve(async |mut socket, _| {
        next_head(&mut socket).await;
        send_with_fin(socket, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    });
    let half_a_chunk = serve(async |mut socket, _| {
        next_head(&mut socket).await;
        send_with_fin(socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf");
    });
    let no_http = serve(async |mut socket, _| {
        next_head(&mut socket).await;
        send_with_fin(socket, "I speak another language\r\n\r\n");
    });
    let silent = serve(async |mut socket, _| {
        next_head(&mut socket).await;
        std::future::pending::<()>().await;
    });
    let cases = [
        (reset.await, "reset"),
        (eof.await, "eof"),
        (half_an_answer.await, "eof"),
        (half_a_chunk.await, "eof"),
        (no_http.await, "protocol"),
        (silent.await, "timeout"),
        (closed_port().await, "connect"),
    ];
    for (target, kind) in cases {
        for mode in ["keepalive", "fresh"] {
            let options = format!("--mode {mode}=2 --requests 4 --timeout 300ms");
            let (report, records) = load(target, &options).await;
            assert_eq!((report.sent, report.answered), (4, 0), "{kind}");
            assert_eq!(lost_by(&report), [(kind, 4)], "{mode}");
            assert!(records.iter().all(|r| r.status == 0 && r.loss.is_some()));
        }
    }
}

/// A port of loopback on which nothing listens.
async fn closed_port() -> SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    // Bound but not listening: refused, and nobody else can take it while the test runs.
    std::mem::forget(socket);
    address
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_a_full_answer() {
    let target = serve(async |mut socket, _| {
        next_head(&mut socket).await;
        send_with_fin(socket, "HTTP/1.1 200 OK\r\n\r\nall until the end");
    })
    .await;
    let (report, _) = load(target, "--clients 1 --requests 3 --no-check-eof").await;
    assert_eq!((report.answered, report.lost), (3, 0));
}

#[tokio::test]
async fn connection_close_is_honoured() {
    let seen = Seen::default();
    let noted = seen.clone();
    // The server says close but does not: a client that goes on would be answered.
    let target = serve(move |mut socket, number| {
        let seen = noted.clone();
        async move {
            while let Some(head) = next_head(&mut socket).await {
                seen.note(&head, number);
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n";
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    for look in ["--check-eof", "--no-check-eof"] {
        let (report, _) = load(target, &format!("--clients 1 --requests 5 {look}")).await;
        assert_eq!((report.answered, report.lost), (5, 0));
        assert_eq!(seen.take().len(), 5);
    }
}

#[tokio::test]
async fn fresh_clients_use_each_connection_once() {
    let seen = Seen::default();
    let target = closes_silently(usize::MAX, seen.clone()).await;
    let (report, _) = load(target, "--mode fresh=2 --requests 10").await;
    assert_eq!((report.answered, report.lost), (10, 0));
    assert_eq!(seen.per_connection(), [1; 10]);
}

#[tokio::test]
async fn nothing_is_sent_twice_whatever_the_server_does() {
    let seen = Seen::default();
    let noted = seen.clone();
    // Some connections answer, then close, reset, or close in the middle of a later request.
    let target = serve(move |mut socket, number| {
        let seen = noted.clone();
        async move {
            for n in 0..=number % 5 {
                let Some(head) = next_head(&mut socket).await else { return };
                seen.note(&head, number);
                if n < number % 5 {
                    socket.write_all(OK.as_bytes()).await.unwrap();
                }
            }
            match number % 3 {
                0 => send_with_fin(socket, OK),
                1 => socket.set_zero_linger().unwrap(),
                _ => {}
            }
        }
    })
    .await;
    for look in ["--check-eof", "--no-check-eof"] {
        let modes = "--mode keepalive=6 --mode fresh=2";
        let (report, records) = load(target, &format!("{modes} --requests 400 {look}")).await;
        assert_eq!(report.sent, 400);
        assert_eq!(report.sent, report.answered + report.lost);
        assert!(report.lost > 0 && report.answered > 0, "{report:?}");
        let mut numbers: Vec<u32> = records.iter().map(|r| r.seq).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..400));
        let seen = seen.take();
        for record in records.iter().filter(|r| r.loss.is_none()) {
            let id = format!("{}-{}", record.client, record.seq);
            assert!(seen.contains_key(&id), "{id}");
        }
    }
}

#[tokio::test]
async fn a_header_from_a_file_is_read_anew_for_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first").unwrap();
    let shown = Arc::new(Mutex::new(Vec::new()));
    let (noted, changed) = (Arc::clone(&shown), file.clone());
    let target = serve(move |mut socket, _| {
        let (noted, changed) = (Arc::clone(&noted), changed.clone());
        async move {
            while let Some(head) = next_head(&mut socket).await {
                let token = head.lines().find_map(|l| l.strip_prefix("x-service-token: ")).unwrap_or("none");
                noted.lock().unwrap().push(token.to_owned());
                std::fs::write(&changed, "second").unwrap();
                socket.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let options = format!("--clients 1 --requests 2 --header-from-file X-Service-Token={}", file.display());
    let (report, _) = load(target, &options).await;
    assert_eq!((report.answered, report.lost), (2, 0));
    assert_eq!(*shown.lock().unwrap(), ["first", "second"]);
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate() {
    let target = closes_silently(usize::MAX, Seen::default()).await;
    let (report, records) = load(target, "--clients 20 --rate 500 --duration 2s").await;
    assert_eq!((report.sent, report.lost), (1000, 0));
    let first = records.iter().map(|r| r.sent_micros).min().unwrap();
    let last = records.iter().map(|r| r.sent_micros).max().unwrap();
    let rate = 999.0 / ((last - first) as f64 / 1e6);
    assert!((490.0..=510.0).contains(&rate), "{rate}");
    // Not in bursts either: each tenth of a second has its share, within what scheduling adds.
    let mut tenths = [0; 20];
    records.iter().for_each(|r| tenths[(((r.sent_micros - first) / 100_000) as usize).min(19)] += 1);
    assert!(tenths.iter().all(|n| (25..=75).contains(n)), "{tenths:?}");
}

#[tokio::test]
async fn answers_are_recorded_with_what_the_edge_said() {
    let target = serve(async |mut socket, _| {
        while let Some(head) = next_head(&mut socket).await {
            assert!(head.contains("\r\nhost: shop.example\r\n"), "{head}");
            let posted = head.starts_with("post /b?x=1 ");
            if posted {
                let mut body = [0; 7];
                socket.read_exact(&mut body).await.unwrap();
                assert_eq!(&body, br#"{"a":1}"#);
            }
            let status = if posted { "503 Unavailable" } else { "200 OK" };
            let key = head.split("stomaton_id=").nth(1).unwrap().split("\r\n").next().unwrap();
            let edge = "X-Stomaton-Edge: route=r1;side=service;bucket=42;pod=edge-0";
            let answer =
                format!("HTTP/1.1 {status}\r\n{edge}\r\nX-Served-By: {key}\r\nContent-Length: 0\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let words = [
        "--host",
        "shop.example",
        "--path",
        "/a",
        "--path",
        "POST /b?x=1",
        "--body",
        r#"{"a":1}"#,
        "--clients",
        "2",
        "--keys",
        "6",
        "--seed",
        "7",
        "--requests",
        "24",
        "--target",
    ];
    let target = format!("http://{target}");
    let words = words.into_iter().chain([target.as_str()]);
    let config = Args::of(words).unwrap().config().await.unwrap();
    let load = Load::start(config);
    load.finished().await;
    let report = load.report().summary;
    let path_names = load.report().path_names;
    assert_eq!(path_names, ["GET /a", "POST /b?x=1"]);
    assert_eq!((report.lost, report.status["2xx"], report.status["5xx"]), (0, 12, 12));
    assert_eq!((report.paths[0].failed, report.paths[1].failed), (0, 12));
    let records = load.records(0, usize::MAX);
    let mut keys = BTreeMap::new();
    for record in &records {
        assert_eq!((record.route(), record.pod(), record.bucket), (Some("r1"), Some("edge-0"), Some(42)));
        let key = record.origin.served_by.clone().unwrap();
        assert_eq!(key, e2e::load::workload::cohort_key(7, record.key));
        keys.insert(key, record.client);
        assert_eq!(record.key % 2, u32::from(record.client));
    }
    assert_eq!(keys.len(), 6);
}

#[tokio::test]
async fn stop_lets_requests_in_flight_end() {
    let seen = Seen::default();
    let noted = seen.clone();
    let target = serve(move |mut socket, number| {
        let seen = noted.clone();
        async move {
            while let Some(head) = next_head(&mut socket).await {
                seen.note(&head, number);
                sleep(Duration::from_millis(100)).await;
                socket.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let words = ["--clients", "5", "--duration", "1h", "--target"];
    let target = format!("http://{target}");
    let words = words.into_iter().chain([target.as_str()]);
    let load = Load::start(Args::of(words).unwrap().config().await.unwrap());
    while seen.len() < 5 {
        sleep(Duration::from_millis(1)).await;
    }
    load.stop();
    timeout(Duration::from_secs(5), load.finished()).await.expect("stop ends an hour's load");
    let report = load.report().summary;
    assert_eq!((report.sent, report.lost), (seen.len() as u64, 0));
}

#[tokio::test]
async fn a_delay_delays_both_ways() {
    let target = closes_silently(usize::MAX, Seen::default()).await;
    let (report, records) = load(target, "--clients 2 --requests 8 --delay 40ms").await;
    assert_eq!(report.lost, 0);
    let fastest = records.iter().map(Record::latency_micros).min().unwrap();
    assert!((80_000..120_000).contains(&fastest), "{fastest}");
}

#[tokio::test]
async fn a_delay_brings_out_the_race_of_closing_connections() {
    // The server closes 200 ms after its answer. With 300 ms each way, a client that sends right after
    // the answer is always too late, although it looks: the FIN is still under way.
    let target = serve(async |mut socket, _| {
        next_head(&mut socket).await;
        socket.write_all(OK.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(200)).await;
    })
    .await;
    let (report, _) = load(target, "--clients 1 --requests 2 --delay 300ms --check-eof").await;
    assert_eq!((report.answered, report.lost), (1, 1));
    assert!(lost_by(&report).iter().all(|(kind, _)| ["eof", "reset"].contains(kind)), "{report:?}");
}

#[tokio::test]
async fn a_delayed_close_is_seen_by_a_client_that_looks_later() {
    let target = closes_silently(1, Seen::default()).await;
    let waits = "--clients 1 --delay 20ms --think 100ms";
    let (report, _) = load(target, &format!("{waits} --requests 3 --check-eof")).await;
    assert_eq!((report.answered, report.lost), (3, 0));
    let (report, _) = load(target, &format!("{waits} --requests 4 --no-check-eof")).await;
    assert_eq!((report.answered, report.lost), (2, 2), "{:?}", lost_by(&report));
}
