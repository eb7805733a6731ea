//! An edge pod on loopback: the real supervisor and NGINX as processes, the agent's inner loop in this one, objects
//! given directly instead of by an API server.

mod backend;
mod client;
mod tls;

pub use backend::Backend;
pub use client::{Answer, Client};
pub use tls::Authority;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;
use stomaton_crds::edge_state::EdgeState;
use stomaton_crds::v1alpha1::{EdgeConfigSpec, EdgeRoute, EdgeWeightsSpec, RouteWeights};
use stomaton_edge::agent::source::{Newest, Objects};
use stomaton_edge::agent::{self, Options};
use stomaton_edge::control::{Status, Supervisor, Verb};
use stomaton_edge::names::PodName;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything should take, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where `make tools` puts what tests need.
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("stomaton")
}

/// The NGINX that is tested against.
pub fn nginx() -> PathBuf {
    let path =
        std::env::var_os("STOMATON_NGINX").map_or_else(|| cache().join("nginx-1.31.3/nginx"), PathBuf::from);
    assert!(
        path.exists(),
        "no NGINX at {}: `make tools` puts one there, or set STOMATON_NGINX to a binary of 1.22 or newer",
        path.display()
    );
    path
}

/// Size at which logs rotate in production.
pub const ROTATE_AT: u64 = 8 << 20;

/// The monolith, which is `m` in configurations, and the service, `s`.
pub async fn backends() -> (Backend, Backend) {
    (Backend::start("monolith").await, Backend::start("service").await)
}

pub struct Pod {
    pub options: Options,
    pub address: SocketAddr,
    pub supervisor: Supervisor,
    process: Child,
    config: watch::Sender<Newest<EdgeConfigSpec>>,
    weights: watch::Sender<Newest<EdgeWeightsSpec>>,
    agent: Option<(JoinHandle<()>, SocketAddr)>,
    _ports: [TcpSocket; 2],
    _dir: TempDir,
}

impl Pod {
    /// A pod whose logs rotate at `rotate_at` bytes.
    pub async fn start(rotate_at: u64) -> Self {
        // In a pod all of this is on tmpfs.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let at = |name: &str| dir.path().join(name);
        for made in ["ctl", "run", "tmp"] {
            std::fs::create_dir(at(made)).unwrap();
        }
        let port = reserve();
        let address = port.local_addr().unwrap();
        let https_port = reserve();
        let options = Options {
            pod: PodName::parse("edge-0").unwrap(),
            gateway: "demo/shop".into(),
            kill_key: Some(at("kill-key")),
            peers: None,
            root: at("run"),
            control_socket: at("ctl/edge.sock"),
            probe_socket: at("ctl/probe.sock"),
            log_dir: at("log/edge"),
            http_address: address,
            https_address: https_port.local_addr().unwrap(),
            tls_dir: at("tls"),
            token_tables_dir: at("tmp/tokens"),
            workers: 2,
            rotate_at,
        };
        let process = supervise(&options, dir.path());
        let supervisor = Supervisor::at(&options.control_socket);
        let begun = std::time::Instant::now();
        while let Err(error) = supervisor.ask(Verb::Status).await {
            assert!(begun.elapsed() < PATIENCE, "{error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (config, weights) = (watch::Sender::default(), watch::Sender::default());
        let mut pod = Self {
            options,
            address,
            supervisor,
            process,
            config,
            weights,
            agent: None,
            _ports: [port, https_port],
            _dir: dir,
        };
        pod.start_agent().await;
        pod
    }

    /// The pod without the agent's loop in this process.
    pub async fn without_agent() -> Self {
        let mut pod = Self::start(ROTATE_AT).await;
        pod.crash_agent().await;
        pod
    }

    /// Starts the agent, as after a crash. It sees objects given from now on only.
    pub async fn start_agent(&mut self) {
        self.config = watch::Sender::default();
        self.weights = watch::Sender::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let objects = Objects { config: self.config.subscribe(), weights: self.weights.subscribe() };
        let options = self.options.clone();
        let running = tokio::spawn(async move {
            agent::run(options, listener, objects, std::future::pending()).await.expect("the agent ended");
        });
        self.agent = Some((running, address));
    }

    /// Ends the agent as a crash would: between any two steps.
    pub async fn crash_agent(&mut self) {
        let (running, _) = self.agent.take().unwrap();
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled(), "the agent had ended by itself");
    }

    /// A pod that serves `spec`.
    pub async fn serving(spec: EdgeConfigSpec) -> Self {
        let pod = Self::start(ROTATE_AT).await;
        pod.serve(spec).await;
        pod
    }

    /// Serves `spec` from now on.
    pub async fn serve(&self, spec: EdgeConfigSpec) {
        let revision = spec.revision;
        self.give_config(spec);
        self.until(|state| state.applied.config == revision).await;
    }

    pub fn give_config(&self, spec: EdgeConfigSpec) {
        self.config.send_replace(Newest::Object(Arc::new(spec)));
    }

    pub fn give_weights(&self, spec: EdgeWeightsSpec) {
        self.weights.send_replace(Newest::Object(Arc::new(spec)));
    }

    /// Where the agent answers.
    pub fn agent(&self) -> SocketAddr {
        self.agent.as_ref().unwrap().1
    }

    pub async fn states(&self) -> States {
        States::connect(self.agent()).await
    }

    /// The first state that satisfies `wanted`.
    pub async fn until(&self, wanted: impl Fn(&EdgeState) -> bool) -> EdgeState {
        self.states().await.until(wanted).await
    }

    /// An answer of the agent's own endpoints.
    pub async fn ask(&self, path: &str) -> Answer {
        Client::connect(self.agent()).await.send("GET", path, &[]).await.unwrap()
    }

    /// An answer on a fresh connection.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        Client::connect(self.address).await.send("GET", path, headers).await.unwrap()
    }

    pub async fn status(&self) -> Status {
        self.supervisor.ask(Verb::Status).await.unwrap()
    }

    /// Both workers, once there are two: NGINX answers when the first one does, and the other may have just been forked.
    pub async fn workers(&self) -> Vec<i32> {
        let begun = std::time::Instant::now();
        loop {
            let workers = self.status().await.workers;
            if workers.len() == 2 {
                return workers;
            }
            assert!(begun.elapsed() < PATIENCE, "{workers:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// As the kubelet does.
    pub fn terminate(&self) {
        terminate(&self.process);
    }

    /// Exit code of the supervisor, once it has ended.
    pub async fn ended(&mut self) -> Option<i32> {
        ended(&mut self.process).await
    }
}

/// A port for another process: bound here and never listening, so that nobody else is given it meanwhile.
pub fn reserve() -> TcpSocket {
    let port = TcpSocket::new_v4().unwrap();
    port.set_reuseaddr(true).unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    port
}

pub fn terminate(process: &Child) {
    let pid = rustix::process::Pid::from_child(process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// Exit code of `process`, once it has ended.
pub async fn ended(process: &mut Child) -> Option<i32> {
    until(|| process.try_wait().unwrap()).await.code()
}

/// What `look` finds, once it finds something.
pub async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the agent says that users may come.
pub async fn until_ready(pod: &Pod) {
    let begun = std::time::Instant::now();
    while pod.ask("/readyz").await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "not ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The real supervisor with the real NGINX.
fn supervise(options: &Options, dir: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_edge"))
        .args(["supervise", "--drain", "300ms", "--control-socket"])
        .arg(&options.control_socket)
        .arg("--log-dir")
        .arg(&options.log_dir)
        .arg("--config")
        .arg(options.root.join("nginx/current/nginx.conf"))
        .arg("--tokens-dir")
        .arg(dir.join("tokens"))
        .arg("--token-tables-dir")
        .arg(&options.token_tables_dir)
        .arg("--nginx")
        .arg(nginx())
        .args(["--", "-e", "stderr", "-p"])
        .arg(dir.join("tmp"))
        .env("RUST_LOG", "warn")
        .spawn()
        .unwrap()
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some((running, _)) = &self.agent {
            running.abort();
        }
        // A test that failed must not leave an NGINX behind; TERM lets the supervisor end it.
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.terminate();
            let _ = self.process.wait();
        }
    }
}

/// The state stream of a pod.
pub struct States(tokio::io::Lines<BufReader<TcpStream>>);

impl States {
    pub async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /v1/state HTTP/1.1\r\nhost: edge\r\n\r\n").await.unwrap();
        Self(BufReader::new(stream).lines())
    }

    pub async fn next(&mut self) -> EdgeState {
        loop {
            // Lines of the head and of the chunked encoding are no JSON objects.
            let line = self.0.next_line().await.unwrap().expect("the stream ended");
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }

    pub async fn until(&mut self, wanted: impl Fn(&EdgeState) -> bool) -> EdgeState {
        let mut last = EdgeState::default();
        let search = async {
            loop {
                last = self.next().await;
                if wanted(&last) {
                    return;
                }
            }
        };
        let found = timeout(PATIENCE, search).await;
        assert!(found.is_ok(), "no such state in {PATIENCE:?}; the last one was {last:?}");
        last
    }
}

pub fn id(number: u64) -> String {
    format!("{number:016x}")
}

/// A route from backend `m` to backend `s`.
pub fn moving(number: u64, path: &str) -> EdgeRoute {
    EdgeRoute { target: Some("s".into()), salt: Some(id(number + 1000)), ..fixed(number, path) }
}

/// A route that stays at backend `m`.
pub fn fixed(number: u64, path: &str) -> EdgeRoute {
    EdgeRoute {
        id: id(number),
        name: format!("route-{number}"),
        path_prefix: path.into(),
        safe: "m".into(),
        ..EdgeRoute::default()
    }
}

pub fn config(revision: i64, backends: &[(&str, &Backend)], routes: Vec<EdgeRoute>) -> EdgeConfigSpec {
    EdgeConfigSpec {
        revision,
        backends: backends.iter().map(|(key, b)| ((*key).to_owned(), b.address.to_string())).collect(),
        default_backend: "m".into(),
        routes,
        diagnostics: true,
        ..EdgeConfigSpec::default()
    }
}

pub fn weights(revision: i64, permille: &[(u64, i32)]) -> EdgeWeightsSpec {
    let weight = |&(number, permille): &(u64, i32)| {
        let permille = BTreeMap::from([("public".to_owned(), permille)]);
        (id(number), RouteWeights { permille, ..RouteWeights::default() })
    };
    EdgeWeightsSpec { revision, routes: permille.iter().map(weight).collect() }
}
