//! The agent as a process, with a scripted API server: watches, errors of one kind, memory, TERM.

use crate::support::{Pod, backends, config, ended, moving, reserve, terminate, until, weights};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use stomaton_crds::edge_state::EdgeState;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The two objects, as an API server gives them; the first requests for EdgeWeights fail.
#[derive(Clone, Default)]
struct Api {
    objects: Arc<BTreeMap<&'static str, watch::Sender<Value>>>,
    failures_left: Arc<AtomicU32>,
}

impl Api {
    fn give(&self, plural: &str, kind: &str, spec: Value) {
        let version = spec["revision"].to_string();
        let object = json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1",
            "kind": kind,
            "metadata": {"name": "shop", "namespace": "demo", "resourceVersion": version, "uid": "u"},
            "spec": spec,
        });
        self.objects[plural].send_replace(object);
    }
}

async fn serve(
    State(api): State<Api>,
    Path(plural): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    assert_eq!(query.get("fieldSelector").map(String::as_str), Some("metadata.name=shop"));
    let fails = plural == "edgeweights"
        && api.failures_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
    if fails {
        return (StatusCode::INTERNAL_SERVER_ERROR, "not now").into_response();
    }
    let mut objects = api.objects[plural.as_str()].subscribe();
    if query.get("watch").is_none_or(|watch| watch != "true") {
        let object = objects.borrow().clone();
        let version = object["metadata"]["resourceVersion"].clone();
        let items: Vec<Value> = Some(object).filter(|o| !o.is_null()).into_iter().collect();
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version.as_str().unwrap_or("0")}, "items": items});
        return axum::Json(list).into_response();
    }
    // What changed between the list and the watch comes first.
    let since = query.get("resourceVersion").cloned().unwrap_or_default();
    if objects.borrow()["metadata"]["resourceVersion"].as_str().unwrap_or("0") != since {
        objects.mark_changed();
    }
    let events = async_stream::stream! {
        while objects.changed().await.is_ok() {
            let event = json!({"type": "MODIFIED", "object": *objects.borrow_and_update()});
            yield Ok::<_, Infallible>(format!("{event}\n"));
        }
    };
    Body::from_stream(events).into_response()
}

struct Agent {
    process: Child,
    address: std::net::SocketAddr,
    _port: tokio::net::TcpSocket,
}

impl Agent {
    async fn start(pod: &Pod, kubeconfig: &std::path::Path) -> Self {
        let port = reserve();
        let address = port.local_addr().unwrap();
        let o = &pod.options;
        let process = Command::new(env!("CARGO_BIN_EXE_edge"))
            .args(["agent", "--namespace", "demo", "--gateway", "shop", "--pod", "edge-0"])
            .args(["--root".as_ref(), o.root.as_os_str()])
            .args(["--control-socket".as_ref(), o.control_socket.as_os_str()])
            .args(["--probe-socket".as_ref(), o.probe_socket.as_os_str()])
            .args(["--log-dir".as_ref(), o.log_dir.as_os_str()])
            .args(["--state-address", &address.to_string(), "--http-address", &pod.address.to_string()])
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "error")
            .spawn()
            .unwrap();
        until(|| std::net::TcpStream::connect(address).ok()).await;
        Self { process, address, _port: port }
    }

    async fn until(&self, wanted: impl Fn(&EdgeState) -> bool) -> EdgeState {
        crate::support::States::connect(self.address).await.until(wanted).await
    }

    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_follows_two_objects_of_an_api_server() {
    let (m, s) = backends().await;
    let objects = ["edgeconfigs", "edgeweights"].map(|plural| (plural, watch::Sender::new(Value::Null)));
    let api = Api { objects: Arc::new(objects.into()), failures_left: Arc::new(3.into()) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new()
        .route("/apis/fleet.stomaton.com/v1alpha1/namespaces/demo/{plural}", get(serve))
        .with_state(api.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let mut pod = Pod::without_agent().await;
    let kubeconfig = pod.options.root.join("kubeconfig");
    let content = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    fs::write(&kubeconfig, content.to_string()).unwrap();
    let routes = (1..=100).map(|n| moving(n, &format!("/api/v{n}"))).collect();
    let structure = config(3, &[("m", &m), ("s", &s)], routes);
    api.give("edgeconfigs", "EdgeConfig", serde_json::to_value(&structure).unwrap());

    let mut agent = Agent::start(&pod, &kubeconfig).await;
    // EdgeWeights cannot be read yet; structure does not wait for it.
    agent.until(|state| state.applied.config == 3).await;
    api.give("edgeweights", "EdgeWeights", serde_json::to_value(weights(8, &[(1, 1000)])).unwrap());
    agent.until(|state| state.applied.weights == 8).await;
    assert_eq!(pod.get("/api/v1", &[]).await.backend(), "service");
    assert_eq!(api.failures_left.load(Ordering::SeqCst), 0);

    // An object that cannot be read is named, and what was in force stays.
    api.give("edgeweights", "EdgeWeights", json!({"revision": 9, "routes": "all"}));
    let state = agent.until(|state| state.refused.is_some()).await;
    assert_eq!(state.applied.weights, 8);
    api.give("edgeweights", "EdgeWeights", serde_json::to_value(weights(10, &[(1, 0)])).unwrap());
    agent.until(|state| state.applied.weights == 10 && state.refused.is_none()).await;
    assert_eq!(pod.get("/api/v1", &[]).await.backend(), "monolith");

    let resident = agent.resident_kib();
    println!("agent with 100 routes: {resident} KiB resident");
    assert!(resident < 32 << 10, "{resident} KiB");

    // The agent outlives NGINX, and the API server.
    serving.abort();
    terminate(&agent.process);
    assert_eq!(pod.get("/api/v1", &[]).await.backend(), "monolith");
    agent.until(|state| state.applied.config == 3).await;
    pod.terminate();
    assert_eq!(pod.ended().await, Some(0));
    assert_eq!(ended(&mut agent.process).await, Some(0));
}
