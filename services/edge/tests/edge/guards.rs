//! Routes that a pod takes back by itself, on a kill, or because a peer did; and what lifts that.

use crate::support::{Client, PATIENCE, Pod, ROTATE_AT, backends, config, id, moving, weights};
use axum::Router;
use axum::routing::get;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use stomaton_crds::edge_state::{EdgeState, Latch, Why};
use stomaton_crds::kill::{Key, Kill, Killed, Outcome, PATH, SIGNATURE};
use stomaton_crds::v1alpha1::{EdgeConfigSpec, EdgeGuard, EdgeRoute, EdgeWeightsSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

fn key() -> Key {
    Key::new([0x5a; 32])
}

/// Route 1 is all on the service, in this attempt.
fn attempt(revision: i64, attempt: i32, latched: bool) -> EdgeWeightsSpec {
    let mut spec = weights(revision, &[(1, 1000)]);
    let entry = spec.routes.get_mut(&id(1)).unwrap();
    (entry.attempt, entry.latched) = (attempt, latched);
    spec
}

fn kill(attempt: i32, revision: i64) -> Kill {
    Kill { gateway: "demo/shop".into(), route: id(1), attempt, revision }
}

/// Sends a body with a signature; gives status and body of the answer.
async fn post(agent: SocketAddr, body: &str, signature: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(agent).await.unwrap();
    let signature = signature.map_or_else(String::new, |s| format!("{SIGNATURE}: {s}\r\n"));
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n{signature}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A body that is too large is refused before all of it was read.
    let _ = stream.write_all(body.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

async fn send(pod: &Pod, kill: &Kill) -> Killed {
    let body = serde_json::to_string(kill).unwrap();
    let (status, answer) = post(pod.agent(), &body, Some(&key().sign(body.as_bytes()))).await;
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

/// A pod with route 1, all of it on the service in attempt 1, which EdgeWeights of revision 3 say.
async fn serving() -> (Pod, [crate::support::Backend; 2]) {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    fs::write(pod.options.kill_key.as_ref().unwrap(), key().expose()).unwrap();
    pod.give_config(config(1, &[("m", &m), ("s", &s)], vec![moving(1, "/a")]));
    pod.give_weights(attempt(3, 1, false));
    pod.until(|state| state.applied.config == 1 && state.applied.weights == 3).await;
    assert_eq!(pod.get("/a", &[]).await.backend(), "service");
    (pod, [m, s])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_holds_until_weights_say_the_same_or_a_further_attempt_begins() {
    let (mut pod, _backends) = serving().await;
    let answer = send(&pod, &kill(1, 3)).await;
    assert_eq!(answer, Killed { outcome: Outcome::Latched, revision: 3 });
    // The answer came after the switch.
    assert_eq!(pod.get("/a", &[]).await.backend(), "monolith");
    let state = pod.until(|state| !state.latches.is_empty()).await;
    let latch = &state.latches[&id(1)];
    assert_eq!((latch.attempt, latch.revision, latch.why), (1, 3, Why::Kill));
    let metrics = pod.ask("/metrics").await.text();
    let line = format!(r#"stomaton_edge_latched{{route="{}",why="Kill"}} 1"#, id(1));
    assert!(metrics.contains(&line), "{metrics}");
    assert_eq!(send(&pod, &kill(1, 3)).await.outcome, Outcome::Held);

    // Weights of the same attempt, by somebody who did not know, now and after a crash.
    pod.give_weights(attempt(4, 1, false));
    pod.until(|state| state.applied.weights == 4).await;
    assert_eq!(pod.get("/a", &[]).await.backend(), "monolith");
    pod.crash_agent().await;
    assert_eq!(pod.get("/a", &[]).await.backend(), "monolith");
    pod.start_agent().await;
    pod.give_weights(attempt(5, 1, false));
    let state = pod.until(|state| state.applied.weights == 5).await;
    assert_eq!(state.latches[&id(1)].why, Why::Kill);
    assert_eq!(pod.get("/a", &[]).await.backend(), "monolith");

    pod.give_weights(attempt(6, 1, true));
    pod.until(|state| state.applied.weights == 6 && state.latches.is_empty()).await;
    assert_eq!(pod.get("/a", &[]).await.backend(), "monolith");
    pod.give_weights(attempt(7, 2, false));
    pod.until(|state| state.applied.weights == 7).await;
    assert_eq!(pod.get("/a", &[]).await.backend(), "service");

    // The same message, sent again by whoever heard it.
    assert_eq!(send(&pod, &kill(1, 3)).await, Killed { outcome: Outcome::Superseded, revision: 7 });
    assert_eq!(pod.get("/a", &[]).await.backend(), "service");
    assert_eq!(send(&pod, &kill(2, 7)).await.outcome, Outcome::Latched);
    pod.give_weights(attempt(8, 3, false));
    pod.until(|state| state.applied.weights == 8 && state.latches.is_empty()).await;
    assert_eq!(pod.get("/a", &[]).await.backend(), "service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_sign_takes_nothing_back() {
    let (pod, _backends) = serving().await;
    let good = serde_json::to_string(&kill(1, 3)).unwrap();
    let sign = |body: &str| key().sign(body.as_bytes());
    let elsewhere = serde_json::to_string(&Kill { gateway: "demo/other".into(), ..kill(1, 3) }).unwrap();
    let no_route = serde_json::to_string(&Kill { route: "../../w/1000".into(), ..kill(1, 3) }).unwrap();
    let large = good.clone() + &" ".repeat(4100);
    let cases = [
        (good.as_str(), None, 401, "HMAC-SHA256"),
        (&good, Some(Key::new([1; 32]).sign(good.as_bytes())), 401, "HMAC-SHA256"),
        (&good, Some(sign(&elsewhere)), 401, "HMAC-SHA256"),
        (&elsewhere, Some(sign(&elsewhere)), 421, "demo/shop"),
        (&no_route, Some(sign(&no_route)), 400, "route id"),
        ("{}", Some(sign("{}")), 400, "missing field"),
        (&large, Some(sign(&large)), 413, ""),
    ];
    for (body, signature, status, words) in cases {
        let (answered, text) = post(pod.agent(), body, signature.as_deref()).await;
        assert_eq!(answered, status, "{text}");
        assert!(text.contains(words), "{text}");
    }
    fs::remove_file(pod.options.kill_key.as_ref().unwrap()).unwrap();
    let (answered, text) = post(pod.agent(), &good, Some(&sign(&good))).await;
    assert_eq!((answered, text.contains("Secret")), (503, true), "{text}");
    assert_eq!(pod.until(|_| true).await.latches.len(), 0);
    assert_eq!(pod.get("/a", &[]).await.backend(), "service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starting_agent_holds_what_its_peers_hold_before_it_is_ready() {
    let (mut pod, _backends) = serving().await;
    let latch = Latch { attempt: 1, revision: 3, why: Why::BadShare, at_micros: 7, counted: None };
    let latches = [(id(1), latch.clone()), ("no route".to_owned(), latch.clone())].into();
    let line = serde_json::to_string(&EdgeState { latches, ..EdgeState::default() }).unwrap() + "\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/state", get(async move || line));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    pod.crash_agent().await;
    pod.options.peers = Some(peer.to_string());
    pod.start_agent().await;
    let state = pod.until(|state| !state.latches.is_empty()).await;
    assert_eq!(state.latches, [(id(1), latch)].into());
    assert_eq!(pod.get("/a", &[]).await.backend(), "monolith");
    crate::support::until_ready(&pod).await;

    // No peers, or none that answers: a pod that could not start would help nobody.
    serving.abort();
    pod.crash_agent().await;
    pod.start_agent().await;
    crate::support::until_ready(&pod).await;
    assert_eq!(pod.get("/a", &[]).await.backend(), "monolith", "its own memory holds on");
}

/// Route 1 with a guard that trips at so many bad answers, if half of all are.
fn guarded(min_bad: i64) -> EdgeRoute {
    let guards = vec![EdgeGuard { min_bad, bad_permille: 500, window_millis: 10_000 }];
    EdgeRoute { guards, ..moving(1, "/a") }
}

/// Puts a structure and so much weight on the service in force, in attempt 1.
async fn serve(pod: &Pod, structure: EdgeConfigSpec, permille: i32) {
    let mut spec = weights(1, &[(1, permille)]);
    spec.routes.get_mut(&id(1)).unwrap().attempt = 1;
    let revision = structure.revision;
    pod.give_config(structure);
    pod.give_weights(spec);
    pod.until(|state| state.applied.config == revision && state.applied.weights == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_takes_a_route_back_by_what_it_has_counted_itself() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    serve(&pod, config(1, &[("m", &m), ("s", &s)], vec![guarded(5)]), 1000).await;
    let mut client = Client::connect(pod.address).await;
    for _ in 0..20 {
        assert_eq!(client.send("GET", "/a", &[]).await.unwrap().backend(), "service");
    }
    pod.until(|state| state.counters.get(&id(1)).is_some_and(|c| c["public"].service.requests == 20)).await;
    s.answer_with(503);
    let mut bad = 0;
    let broken = Instant::now();
    while client.send("GET", "/a", &[]).await.unwrap().status == 503 {
        bad += 1;
        assert!(broken.elapsed() < PATIENCE, "{bad} bad answers");
    }
    println!("taken back after {bad} bad answers, {:?}", broken.elapsed());
    let state = pod.until(|state| !state.latches.is_empty()).await;
    let latch = &state.latches[&id(1)];
    assert_eq!((latch.why, latch.attempt, latch.revision), (Why::BadShare, 1, 1));
    assert!(latch.counted.is_some_and(|counted| counted.bad >= 5), "{latch:?}");
    assert_eq!(client.send("GET", "/a", &[]).await.unwrap().backend(), "monolith");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_without_guards_stays_whatever_is_counted() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    serve(&pod, config(1, &[("m", &m), ("s", &s)], vec![moving(1, "/a")]), 1000).await;
    s.answer_with(503);
    let mut client = Client::connect(pod.address).await;
    for _ in 0..50 {
        assert_eq!(client.send("GET", "/a", &[]).await.unwrap().status, 503);
    }
    let counted =
        |state: &EdgeState| state.counters.get(&id(1)).is_some_and(|c| c["public"].service.bad == 50);
    assert_eq!(pod.until(counted).await.latches.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_takes_no_connections_is_left_after_two_answers() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    serve(&pod, config(1, &[("m", &m), ("s", &s)], vec![guarded(1000)]), 1000).await;
    assert_eq!(pod.get("/a", &[]).await.backend(), "service");
    let nobody = s.address;
    drop(s);
    while TcpStream::connect(nobody).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Counted after the bad ones, the good answer would speak for the service.
    pod.until(|state| state.counters.contains_key(&id(1))).await;
    for _ in 0..2 {
        pod.get("/a", &[]).await;
    }
    let state = pod.until(|state| !state.latches.is_empty()).await;
    assert_eq!(state.latches[&id(1)].why, Why::NoEndpoints);
    assert_eq!(pod.get("/a", &[]).await.backend(), "monolith");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_stays_where_it_is_while_the_monolith_takes_no_connections() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    serve(&pod, config(1, &[("m", &m), ("s", &s)], vec![guarded(5)]), 1000).await;
    let nobody = m.address;
    drop(m);
    while TcpStream::connect(nobody).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    s.answer_with(503);
    for _ in 0..20 {
        assert_eq!(pod.get("/a", &[]).await.status, 503);
    }
    let counted =
        |state: &EdgeState| state.counters.get(&id(1)).is_some_and(|c| c["public"].service.bad == 20);
    assert_eq!(pod.until(counted).await.latches.len(), 0);
    assert_eq!(pod.get("/a", &[]).await.edge("side"), "service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_hangs_is_left_although_nothing_bad_is_logged() {
    let (m, s) = backends().await;
    // It takes every connection and says nothing.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut structure = config(1, &[("m", &m), ("s", &s)], vec![guarded(5)]);
    structure.backends.insert("s".into(), hanging.local_addr().unwrap().to_string());
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = hanging.accept().await {
            held.push(stream);
        }
    });
    let pod = Pod::start(ROTATE_AT).await;
    serve(&pod, structure, 500).await;
    let (begun, mut users) = (Instant::now(), JoinSet::new());
    for user in 0.. {
        let address = pod.address;
        users.spawn(async move {
            let cookie = format!("stomaton_id=user-{user}");
            Client::connect(address).await.send("GET", "/a", &[("cookie", &cookie)]).await.map(|a| a.status)
        });
        if user % 10 == 9 && !pod.until(|_| true).await.latches.is_empty() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "not noticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("a hanging service is left after {:?}", begun.elapsed());
    let state = pod.until(|_| true).await;
    assert_eq!(state.latches[&id(1)].why, Why::MissingAnswers);
    assert_eq!(state.counters[&id(1)]["public"].service.bad, 0);
    assert_eq!(pod.get("/a", &[("cookie", "stomaton_id=another")]).await.backend(), "monolith");
    held.abort();
}
