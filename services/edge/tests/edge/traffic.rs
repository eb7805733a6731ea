//! Under load: nothing lost, nothing stale, every line counted.

use crate::support::{self, Client, Pod, ROTATE_AT, backends, config, fixed, id, moving, weights};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use stomaton_edge::control::Version;

/// What the clients of one test met.
#[derive(Default)]
struct Met {
    requests: AtomicU64,
    stop: AtomicBool,
}

impl Met {
    /// Waits until `more` requests were answered.
    async fn more(&self, more: u64) {
        let goal = self.requests.load(Ordering::SeqCst) + more;
        let begun = Instant::now();
        while self.requests.load(Ordering::SeqCst) < goal {
            assert!(begun.elapsed() < support::PATIENCE, "no traffic");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// One answer to a client that keeps its connection.
struct Seen {
    sent: Instant,
    answered: Instant,
    bucket: i32,
    service: bool,
}

/// `n` clients that ask for `path` until told to stop; each request must be answered, by the side it says.
fn clients(
    pod: &Pod,
    n: usize,
    path: &'static str,
    met: &Arc<Met>,
) -> Vec<tokio::task::JoinHandle<Vec<Seen>>> {
    let client = |number: usize| {
        let (address, met) = (pod.address, Arc::clone(met));
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut seen = Vec::new();
            for turn in 0.. {
                if met.stop.load(Ordering::SeqCst) {
                    break;
                }
                let cookie = format!("stomaton_id=user-{number}-{turn}");
                let sent = Instant::now();
                let answer =
                    client.send("GET", path, &[("cookie", &cookie)]).await.expect("a request was lost");
                assert_eq!(answer.status, 200, "{}", answer.text());
                let service = answer.edge("side") == "service";
                assert_eq!(answer.backend(), if service { "service" } else { "monolith" });
                let bucket = answer.edge("bucket").parse().unwrap();
                seen.push(Seen { sent, answered: Instant::now(), bucket, service });
                met.requests.fetch_add(1, Ordering::SeqCst);
            }
            seen
        })
    };
    (0..n).map(client).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_switch_without_a_lost_or_stale_request() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    pod.give_config(config(1, &[("m", &m), ("s", &s)], vec![moving(1, "/api")]));
    pod.until(|state| state.applied.config == 1).await;

    let met = Arc::<Met>::default();
    let running = clients(&pod, 8, "/api/stones", &met);
    let mut states = pod.states().await;
    // Weight, when it was acknowledged, and when the next one was given.
    let mut held: Vec<(i32, Instant, Instant)> = Vec::new();
    let mut took = Vec::new();
    for (revision, permille) in (1..).zip([0, 1000, 1, 999, 250].repeat(10)) {
        let given = Instant::now();
        if let Some(last) = held.last_mut() {
            last.2 = given;
        }
        pod.give_weights(weights(revision, &[(1, permille)]));
        states.until(|state| state.applied.weights == revision).await;
        let acknowledged = Instant::now();
        took.push(acknowledged - given);
        met.more(450).await;
        held.push((permille, acknowledged, Instant::now()));
    }
    met.stop.store(true, Ordering::SeqCst);
    let mut checked = 0;
    let mut requests = 0;
    for client in running {
        for seen in client.await.unwrap() {
            requests += 1;
            let settled = held.iter().find(|(_, from, to)| *from <= seen.sent && seen.answered <= *to);
            if let Some((permille, _, _)) = settled {
                assert_eq!(
                    seen.service,
                    seen.bucket < *permille,
                    "stale: bucket {} at {permille}",
                    seen.bucket
                );
                checked += 1;
            }
        }
    }
    took.sort();
    println!(
        "{requests} requests, {checked} checked, 50 switches, given to acknowledged: p50 {:?}, max {:?}",
        took[25], took[49]
    );
    assert!(requests >= 20_000, "only {requests} requests");
    assert!(checked >= 20_000, "only {checked} requests between switches");
    assert_eq!(pod.until(|_| true).await.reloads, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn structure_changes_without_a_lost_request() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    if pod.status().await.version < Version(1, 27, 4) {
        // Before, a worker that retires closes kept connections, whatever their client is about to send.
        return;
    }
    let with = |revision: i64| {
        let routes = (1..=1 + revision as u64).map(|n| moving(n, &format!("/api/v{n}"))).collect();
        config(revision, &[("m", &m), ("s", &s)], routes)
    };
    pod.give_config(with(1));
    pod.give_weights(weights(1, &[(1, 500)]));
    let mut states = pod.states().await;
    states.until(|state| state.applied.config == 1 && state.applied.weights == 1).await;

    let met = Arc::<Met>::default();
    let running = clients(&pod, 8, "/api/v1", &met);
    for revision in 2..=11 {
        pod.give_config(with(revision));
        let state = states.until(|state| state.applied.config == revision).await;
        assert_eq!(state.reloads, revision as u64 - 1);
        // What is new answers at once on a fresh connection, whichever worker takes it.
        for _ in 0..4 {
            let path = format!("/api/v{}", 1 + revision);
            let answer = Client::connect(pod.address).await.send("GET", &path, &[]).await.unwrap();
            assert_eq!(answer.edge("route"), id(1 + revision as u64));
        }
        met.more(100).await;
    }
    met.stop.store(true, Ordering::SeqCst);
    let mut requests = 0;
    for client in running {
        requests += client.await.unwrap().len();
    }
    println!("{requests} requests over 10 reloads, none lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_answer_is_reported_at_once() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    pod.give_config(config(1, &[("m", &m), ("s", &s)], vec![moving(1, "/api")]));
    pod.give_weights(weights(1, &[(1, 1000)]));
    let mut states = pod.states().await;
    states.until(|state| state.applied.config == 1 && state.applied.weights == 1).await;
    s.answer_with(503);
    let mut client = Client::connect(pod.address).await;
    let mut took = Vec::new();
    for bad in 1..=50 {
        let answer = client.send("GET", "/api", &[]).await.unwrap();
        let answered = Instant::now();
        assert_eq!((answer.status, answer.edge("side").as_str()), (503, "service"));
        let reported = |state: &stomaton_crds::edge_state::EdgeState| {
            state.counters.get(&id(1)).is_some_and(|c| c["public"].service.bad == bad)
        };
        states.until(reported).await;
        took.push(answered.elapsed());
    }
    took.sort();
    println!("answer to report: p50 {:?}, p90 {:?}, max {:?}", took[25], took[45], took[49]);
    assert!(took[49] < Duration::from_millis(500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_and_a_crash_of_the_agent_lose_no_line() {
    let (m, s) = backends().await;
    let mut pod = Pod::start(32 << 10).await;
    pod.give_config(config(1, &[("m", &m), ("s", &s)], vec![moving(1, "/api"), fixed(2, "/other")]));
    pod.give_weights(weights(1, &[(1, 500)]));
    let boot = pod.until(|state| state.applied.config == 1 && state.applied.weights == 1).await.boot;

    let met = Arc::<Met>::default();
    let running = clients(&pod, 4, "/api/stones", &met);
    let mut last = 0;
    for _ in 0..5 {
        met.more(1000).await;
        last = pod.until(|_| true).await.lines.max(last);
        pod.crash_agent().await;
        met.more(200).await;
        pod.start_agent().await;
        // What was said before the crash is in the first thing said after it.
        let state = pod.until(|_| true).await;
        assert!(state.lines >= last, "{} lines after {last}", state.lines);
        assert_eq!(state.boot, boot);
        // Nothing but the volume tells what is in force now.
        let state = pod.until(|state| state.applied.config == 1 && state.applied.weights == 1).await;
        assert_eq!((state.seen.config, state.seen.weights, state.reloads), (1, 1, 0));
    }
    met.stop.store(true, Ordering::SeqCst);
    let mut sides = [0_u64; 2];
    for client in running {
        client.await.unwrap().iter().for_each(|seen| sides[usize::from(seen.service)] += 1);
    }
    let all = sides[0] + sides[1];
    let state = pod.until(|state| state.lines >= all).await;
    assert_eq!((state.lines, state.gaps), (all, 0));
    let counted = state.counters[&id(1)]["public"];
    assert_eq!([counted.monolith.requests, counted.service.requests], sides);
    let in_files: u64 =
        std::fs::read_dir(&pod.options.log_dir).unwrap().flatten().map(|f| f.metadata().unwrap().len()).sum();
    println!("{all} lines counted; {in_files} bytes left in logs");
    assert!(in_files < all * 50, "logs were not rotated");
}
