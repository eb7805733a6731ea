//! `e2e load` as a process: its control endpoint, its last line, its signals, its refusals.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may stop at a surprise, as tests may"
)]

use e2e::load::engine::Report;
use e2e::load::record::Record;
use rustix::process::{Pid, Signal, kill_process};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Answers everything with 200, forever.
async fn target() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut socket = BufReader::new(socket);
                let mut line = String::new();
                while matches!(socket.read_line(&mut line).await, Ok(n) if n > 0) {
                    if line == "\r\n" {
                        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

fn e2e_load(options: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2e"));
    command.arg("load").args(options.split_whitespace());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts a load with a control endpoint and gives the endpoint's address.
async fn start(options: &str) -> (Child, SocketAddr) {
    let mut child = e2e_load(&format!("--listen 127.0.0.1:0 {options}")).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).await.unwrap();
    let address = line.trim().rsplit_once("http://").unwrap().1.parse().unwrap();
    (child, address)
}

/// Waits for the process; gives the only line that it printed.
async fn last_line(child: Child) -> Report {
    let output = timeout(Duration::from_secs(20), child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success());
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(&stdout).unwrap()
}

async fn call(address: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn results_can_be_followed_fetched_and_released() {
    let target = target().await;
    let (child, control) = start(&format!(
        "--target http://{target} --path /a --path /b --clients 4 --rate 400 --duration 2s --linger 1h"
    ))
    .await;

    // One line each second, and a last one when the load has ended. Lines may be split by chunk sizes.
    let (_, stream) = call(control, "GET", "/stream").await;
    let lines: Vec<Report> =
        stream.lines().filter(|l| l.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.len() >= 2, "{stream}");
    assert!(lines.windows(2).all(|pair| pair[0].summary.sent <= pair[1].summary.sent && !pair[0].done));
    assert!(lines.last().unwrap().done);

    let (_, summary) = call(control, "GET", "/summary").await;
    let summary: Report = serde_json::from_str(&summary).unwrap();
    assert!(summary.done);
    assert_eq!((summary.summary.sent, summary.summary.lost), (800, 0));
    assert_eq!(summary.path_names, ["GET /a", "GET /b"]);

    let (head, records) = call(control, "GET", "/records?from=790").await;
    assert!(head.contains("x-next: 800"), "{head}");
    let records: Vec<Record> = records.lines().map(|l| Record::from_line(l).unwrap()).collect();
    assert_eq!(records.len(), 10);
    let (head, nothing) = call(control, "GET", "/records?from=800").await;
    assert!(head.contains("x-next: 800") && nothing.is_empty());

    call(control, "POST", "/exit").await;
    assert_eq!(last_line(child).await.summary, summary.summary);
}

#[tokio::test]
async fn stop_ends_the_load_and_exit_the_process() {
    let target = target().await;
    let (child, control) =
        start(&format!("--target http://{target} --clients 2 --duration 1h --rate 50")).await;
    call(control, "POST", "/stop").await;
    // The stream ends with the load.
    let (_, stream) = call(control, "GET", "/stream").await;
    assert!(stream.contains(r#""done":true"#), "{stream}");
    call(control, "POST", "/exit").await;
    assert!(last_line(child).await.done);
}

#[tokio::test]
async fn sigterm_ends_load_and_linger_with_a_summary() {
    let target = target().await;
    let options = format!("--target http://{target} --clients 2 --rate 50 --duration 1h --linger 1h");
    let (child, control) = start(&options).await;
    let first = loop {
        let (_, summary) = call(control, "GET", "/summary").await;
        let report: Report = serde_json::from_str(&summary).unwrap();
        if report.summary.answered > 0 {
            break report;
        }
    };
    let pid = Pid::from_raw(child.id().unwrap() as i32).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let last = last_line(child).await;
    assert!(last.done && last.summary.sent >= first.summary.sent);
    assert_eq!(last.summary.lost, 0);
}

#[tokio::test]
async fn wrong_options_are_refused_with_advice() {
    let cases = [
        ("--target ftp://edge", "only http and https"),
        ("--target https://edge", "needs --ca"),
        ("--target http://edge --ca /x", "no meaning without https"),
        ("--target http://edge/path", "--path"),
        ("--target http://127.0.0.1:1 --path nowhere", "must begin with `/`"),
        ("--target http://127.0.0.1:1 --mode http3", "keepalive, fresh, http2"),
        ("--target http://127.0.0.1:1 --header-from-file token", "NAME=PATH"),
        ("--target http://127.0.0.1:1 --duration 7h", "at most 6h"),
        ("--target http://127.0.0.1:1 --requests 5000001", "--requests must be 1 to 5000000"),
        ("--target http://127.0.0.1:1 --rate 10000 --duration 1h", "shorten it"),
        ("--target http://127.0.0.1:1 --rate 10 --think 1s", "leave one of them out"),
        ("--target http://127.0.0.1:1 --clients 0", "1 to 10000"),
        ("--target http://127.0.0.1:1 --keys 0", "--keys must be 1 to"),
        ("--target http://127.0.0.1:1 --think soon", "write it as 250ms"),
        ("--target http://no-such-host.invalid", "cannot resolve"),
    ];
    for (options, advice) in cases {
        let output = e2e_load(options).output().await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{options}");
        assert!(stderr.contains(advice), "{options}: {stderr}");
    }
}
