//! Starting, refusing, draining, dying.

use crate::support::{Client, PATIENCE, Pod, ROTATE_AT, backends, config, fixed, moving, until, weights};
use std::fs;
use std::path::Path;
use std::time::Instant;
use stomaton_crds::edge_state::EdgeState;
use stomaton_crds::v1alpha1::EdgeConfigSpec;
use stomaton_edge::control::{ControlError, Verb};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_ready_when_a_configuration_is_in_force() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    let state = pod.until(|_| true).await;
    assert_eq!((state.applied.config, state.pod.as_str()), (0, "edge-0"));
    assert!(!pod.status().await.running);
    assert_eq!((pod.ask("/readyz").await.status, pod.ask("/livez").await.status), (503, 200));

    pod.give_config(config(4, &[("m", &m), ("s", &s)], vec![moving(1, "/a")]));
    pod.until(|state| state.applied.config == 4).await;
    assert_eq!(pod.ask("/readyz").await.status, 200);
    pod.workers().await;
    assert_eq!(pod.get("/a", &[]).await.status, 200);
    pod.until(|state| state.lines == 1).await;
    let once = pod.ask("/v1/state?once=true").await;
    assert_eq!(once.text().lines().count(), 1);
    let metrics = pod.ask("/metrics").await.text();
    for line in [
        "stomaton_edge_applied_revision{object=\"EdgeConfig\"} 4",
        "stomaton_edge_log_lines_total 1",
        "stomaton_edge_requests_total{route=\"0000000000000001\",audience=\"public\",side=\"monolith\"} 1",
    ] {
        assert!(metrics.contains(line), "no {line} in:\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_never_longer_than_a_heartbeat() {
    let pod = Pod::start(ROTATE_AT).await;
    let mut states = pod.states().await;
    let mut last = states.next().await;
    for _ in 0..3 {
        let next = states.next().await;
        assert!(next.sequence > last.sequence && next.boot == last.boot);
        let silent = next.at_micros - last.at_micros;
        assert!((0..3_000_000).contains(&silent), "{silent} us of silence");
        last = next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_routes_are_one_reload() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    pod.give_config(config(1, &[("m", &m), ("s", &s)], vec![]));
    pod.until(|state| state.applied.config == 1).await;
    let routes = (1..=1000).map(|n| moving(n, &format!("/api/v{n}"))).collect();
    let given = Instant::now();
    pod.give_config(config(2, &[("m", &m), ("s", &s)], routes));
    let state = pod.until(|state| state.applied.config == 2).await;
    println!("1,000 routes acknowledged after {:?}", given.elapsed());
    assert_eq!(state.reloads, 1);
    let all: Vec<(u64, i32)> = (1..=1000).map(|n| (n, 500)).collect();
    let given = Instant::now();
    pod.give_weights(weights(1, &all));
    pod.until(|state| state.applied.weights == 1).await;
    println!("1,000 weights acknowledged after {:?}", given.elapsed());
    assert_eq!(pod.get("/api/v1000/x", &[]).await.edge("route"), "00000000000003e8");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lower_revision_or_another_content_is_refused() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    let structure = |revision, path| config(revision, &[("m", &m), ("s", &s)], vec![moving(1, path)]);
    pod.give_config(structure(5, "/a"));
    pod.give_weights(weights(5, &[(1, 1000)]));
    let mut states = pod.states().await;
    states.until(|state| state.applied.config == 5 && state.applied.weights == 5).await;

    pod.give_weights(weights(4, &[(1, 0)]));
    let refused = states.until(|state| state.refused.is_some()).await;
    assert_eq!((refused.applied.weights, refused.seen.weights), (5, 5));
    let reason = refused.refused.unwrap();
    assert!(reason.contains("EdgeWeights") && reason.contains("lower than 5"), "{reason}");
    pod.give_weights(weights(5, &[(1, 0)]));
    let clashes = |state: &EdgeState| state.refused.as_ref().is_some_and(|r| r.contains("another content"));
    let refused = states.until(clashes).await;
    assert_eq!(refused.seen.weights, 6, "what is minted next has to be above");
    assert_eq!(pod.get("/a", &[]).await.backend(), "service");

    pod.give_config(structure(4, "/b"));
    states.until(|state| state.refused.as_ref().is_some_and(|r| r.contains("EdgeConfig"))).await;
    assert_eq!(pod.get("/a", &[]).await.edge("route"), "0000000000000001");

    pod.give_config(structure(6, "/b"));
    pod.give_weights(weights(6, &[(1, 0)]));
    let state = states.until(|state| state.applied.config == 6 && state.applied.weights == 6).await;
    assert_eq!(state.refused, None);
    assert_eq!(pod.get("/b", &[]).await.backend(), "monolith");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_cannot_be_is_refused_and_the_last_good_one_serves() {
    let (m, s) = backends().await;
    let mut pod = Pod::start(ROTATE_AT).await;
    pod.give_config(config(1, &[("m", &m), ("s", &s)], vec![fixed(1, "/a")]));
    pod.until(|state| state.applied.config == 1).await;
    let broken = EdgeConfigSpec { default_backend: "gone".into(), ..config(2, &[("m", &m)], vec![]) };
    pod.give_config(broken);
    let state = pod.until(|state| state.refused.is_some()).await;
    assert_eq!((state.applied.config, state.seen.config), (1, 2));
    assert!(state.refused.unwrap().contains("default backend"));
    pod.crash_agent().await;
    pod.start_agent().await;
    let state = pod.until(|state| state.applied.config == 1).await;
    assert_eq!((state.seen.config, state.reloads), (2, 0));
    assert_eq!(pod.get("/a", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_says_why_it_cannot() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    let refusal = async |verb| match pod.supervisor.ask(verb).await {
        Err(ControlError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert!(refusal(Verb::Reload).await.contains("waits for a first configuration"));
    for outside in ["/etc/passwd", "nginx.conf"] {
        assert!(refusal(Verb::Test(outside.into())).await.contains("beside the current one"));
    }
    pod.give_config(config(1, &[("m", &m), ("s", &s)], vec![fixed(1, "/a")]));
    pod.until(|state| state.applied.config == 1).await;

    let file = pod.options.root.join("nginx/current/nginx.conf");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("server_tokens", "no_such_directive")).unwrap();
    assert!(refusal(Verb::Test(file.clone())).await.contains("no_such_directive"));
    let begun = Instant::now();
    assert!(refusal(Verb::Reload).await.contains("no_such_directive"));
    println!("a refused reload was noticed after {:?}", begun.elapsed());
    fs::write(&file, good).unwrap();
    let before = pod.workers().await;
    let after = pod.supervisor.ask(Verb::Reload).await.unwrap();
    println!("reload took {} us", after.took_micros);
    assert!(after.workers.iter().all(|pid| !before.contains(pid)));
    assert!(pod.workers().await.iter().all(|pid| !before.contains(pid)));
    assert_eq!(pod.get("/a", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_in_the_first_moment_does_not_end_nginx() {
    let (m, s) = backends().await;
    let pod = Pod::start(ROTATE_AT).await;
    pod.give_config(config(1, &[("m", &m), ("s", &s)], vec![fixed(1, "/a")]));
    let begun = Instant::now();
    let reloaded = loop {
        match pod.supervisor.ask(Verb::Reload).await {
            Err(ControlError::Refused(why)) if why.contains("waits for") => {
                assert!(begun.elapsed() < PATIENCE)
            }
            done => break done,
        }
    };
    reloaded.unwrap();
    pod.until(|state| state.applied.config == 1).await;
    assert_eq!(pod.get("/a", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminating_pod_serves_follows_weights_and_finishes() {
    let (m, s) = backends().await;
    let mut pod = Pod::start(ROTATE_AT).await;
    pod.give_config(config(1, &[("m", &m), ("s", &s)], vec![moving(1, "/a")]));
    pod.give_weights(weights(1, &[(1, 1000)]));
    pod.until(|state| state.applied.config == 1 && state.applied.weights == 1).await;
    let mut kept = Client::connect(pod.address).await;
    assert_eq!(kept.send("GET", "/a", &[]).await.unwrap().backend(), "service");

    pod.terminate();
    pod.give_weights(weights(2, &[(1, 0)]));
    pod.until(|state| state.applied.weights == 2).await;
    assert_eq!(kept.send("GET", "/a", &[]).await.unwrap().backend(), "monolith");
    // Longer than the drain: NGINX is told to quit while this one is open.
    let slow = kept.send("GET", "/a?slow", &[]).await.unwrap();
    assert_eq!((slow.status, slow.backend().as_str()), (200, "monolith"));
    assert_eq!(pod.ended().await, Some(0));
    assert!(!pod.options.control_socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_ends_with_nginx_and_leaves_no_worker() {
    let (m, s) = backends().await;
    let mut pod = Pod::start(ROTATE_AT).await;
    pod.give_config(config(1, &[("m", &m), ("s", &s)], vec![moving(1, "/a")]));
    pod.until(|state| state.applied.config == 1).await;
    let workers = pod.workers().await;
    let stat = fs::read_to_string(format!("/proc/{}/stat", workers[0])).unwrap();
    let master: i32 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(master).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(pod.ended().await, Some(128 + 9));
    for worker in workers {
        let stat = format!("/proc/{worker}/stat");
        // An orphan outside of a container is reaped by init, some time: gone or a zombie.
        until(|| match fs::read_to_string(Path::new(&stat)) {
            Err(_) => Some(()),
            Ok(stat) => stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z').then_some(()),
        })
        .await;
    }
}
