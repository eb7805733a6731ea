//! A stop under load, on real sockets: clients that keep connections alive and never retry lose nothing.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{Blueprint, Config, Service, Settings, Stop, serve};

const DRAIN: Duration = Duration::from_secs(1);
/// Longer than the drain: an answer that is under way when the listener closes.
const SLOW: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(20);

const BLUEPRINT: Blueprint = Blueprint { name: "old", port: 0, about: "", build: |_, _| Ok(service()) };

fn service() -> Service {
    let routes = Router::new().route("/work", get(|| async { "done" })).route(
        "/slow",
        get(|| async {
            sleep(SLOW).await;
            "done"
        }),
    );
    Service { routes, stand_ins: Vec::new() }
}

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<Stop>,
    running: JoinHandle<()>,
}

async fn start(name: &'static str) -> Server {
    let settings = Settings::fixed([("SERVICE_NAME", name)]);
    let config = Config { drain: DRAIN, ..Config::read(&BLUEPRINT, &settings).unwrap() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(async move {
        serve(listener, service(), &config, async { stopped.await.unwrap() }).await.unwrap();
    });
    Server { address, stop, running }
}

struct Answer {
    status: u16,
    served_by: String,
    close: bool,
}

/// One request on an open connection. An error of any kind is a lost request.
async fn ask(stream: &mut BufStream<TcpStream>, path: &str) -> std::io::Result<Answer> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Answer { status: 0, served_by: String::new(), close: false };
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(": ") {
            Some(("x-served-by", name)) => answer.served_by = name.to_owned(),
            Some(("connection", value)) => answer.close = value == "close",
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
            None if line.starts_with("HTTP/1.1 ") => answer.status = line[9..12].parse().unwrap(),
            None => break,
        }
    }
    stream.read_exact(&mut vec![0; length]).await?;
    Ok(answer)
}

async fn connect(address: SocketAddr) -> std::io::Result<BufStream<TcpStream>> {
    TcpStream::connect(address).await.map(BufStream::new)
}

/// What the clients share: where new connections go, and what came back.
struct Traffic {
    endpoint: Mutex<SocketAddr>,
    from_old: AtomicU64,
    lost: AtomicU64,
    over: AtomicBool,
}

/// Asks until the traffic is over; opens a connection only when it was told that the last one closes.
async fn client(traffic: Arc<Traffic>, pause: Duration, from_new: oneshot::Sender<()>) {
    let mut from_new = Some(from_new);
    let mut connection = None;
    while !traffic.over.load(Ordering::SeqCst) {
        let answer = async {
            if connection.is_none() {
                let endpoint = *traffic.endpoint.lock().unwrap();
                connection = Some(connect(endpoint).await?);
            }
            ask(connection.as_mut().unwrap(), "/work").await
        };
        match answer.await {
            Ok(Answer { status: 200, served_by, close }) => {
                connection = connection.filter(|_| !close);
                match served_by.as_str() {
                    "old" => drop(traffic.from_old.fetch_add(1, Ordering::SeqCst)),
                    _ => drop(from_new.take().map(|sender| sender.send(()))),
                }
            }
            _ => {
                traffic.lost.fetch_add(1, Ordering::SeqCst);
                connection = None;
            }
        }
        sleep(pause).await;
    }
}

/// Does what the endpoints controller does: takes the old server out when it says that it is not ready.
async fn follow_readiness(traffic: Arc<Traffic>, old: SocketAddr, new: SocketAddr) {
    while ask(&mut connect(old).await.unwrap(), "/health/ready").await.unwrap().status == 200 {
        sleep(Duration::from_millis(5)).await;
    }
    *traffic.endpoint.lock().unwrap() = new;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_nothing() {
    let (old, new) = (start("old").await, start("new").await);
    let traffic = Arc::new(Traffic {
        endpoint: Mutex::new(old.address),
        from_old: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let mut moved = Vec::new();
    let mut clients = Vec::new();
    for pause in [0, 0, 1, 1, 5, 20, 50, 100].map(Duration::from_millis) {
        let (sender, receiver) = oneshot::channel();
        moved.push(receiver);
        clients.push(tokio::spawn(client(traffic.clone(), pause, sender)));
    }
    let following = tokio::spawn(follow_readiness(traffic.clone(), old.address, new.address));
    while traffic.from_old.load(Ordering::SeqCst) < 1000 {
        sleep(Duration::from_millis(1)).await;
    }

    let mut slow = connect(old.address).await.unwrap();
    let slow = tokio::spawn(async move { ask(&mut slow, "/slow").await.unwrap().status });
    old.stop.send(Stop::Drain).unwrap();
    timeout(PATIENCE, following).await.unwrap().unwrap();
    for receiver in moved {
        timeout(PATIENCE, receiver).await.unwrap().unwrap();
    }
    timeout(PATIENCE, old.running).await.unwrap().unwrap();
    assert_eq!(slow.await.unwrap(), 200, "an answer under way is finished");
    assert!(connect(old.address).await.is_err(), "the stopped server does not listen any more");

    traffic.over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(traffic.lost.load(Ordering::SeqCst), 0);
    new.stop.send(Stop::Now).unwrap();
    timeout(PATIENCE, new.running).await.unwrap().unwrap();
}
