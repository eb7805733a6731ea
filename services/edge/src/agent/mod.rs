//! The agent beside NGINX. Takes two objects, gives a configured NGINX and a stream of what it really serves. Does
//! I/O.
//!
//! - [`source`]: where the objects come from
//! - `fence`, `kept`: a lower revision never wins, also across restarts
//! - `structure`: EdgeConfig, by reload
//! - `latches`: routes held on their safe side against their weights (pure)
//! - `force`: EdgeWeights with latches over them, by one rename
//! - `weighing`: EdgeWeights as they come, and what NGINX sees of them; never waits for structure
//! - `probe`: what NGINX itself says
//! - `certificates`: what there is to serve with
//! - `printing`: whether the access log is printed
//! - `http`, `metrics`: the state stream and the rest of the endpoints
//! - `guards`: whether this pod has to take a route back by itself (pure)
//! - `guarding`: does so
//! - `kill`: takes a route back when it is told to, with a signature
//! - `peers`: what other pods hold on its safe side, asked before users come
//!
//! Nothing here can stop NGINX: when the agent dies, NGINX serves on with what it has.

mod certificates;
mod fence;
mod force;
mod guarding;
mod guards;
mod http;
mod kept;
mod kill;
mod latches;
mod metrics;
mod peers;
mod printing;
mod probe;
pub mod source;
mod structure;
mod weighing;

use crate::control::{Supervisor, Verb, Version};
use crate::files::{FileError, fail};
use crate::logs::{Printer, Stdout, Tail, follow};
use crate::names::PodName;
use crate::nginx::Settings;
use crate::state::State;
use force::Force;
use guarding::Guarding;
use probe::Probe;
use source::Objects;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stomaton_crds::edge_state::EdgeState;
use structure::Structure;
use weighing::Weighing;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::info;

/// No more lines than this can be published between two checkpoints, so a sequence never goes back.
const SEQUENCE_LEAP: u64 = 1_000_000;

/// What the agent is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of this pod.
    pub pod: PodName,
    /// The Gateway, `NAMESPACE/NAME`: kills for others are refused.
    pub gateway: String,
    /// File with the key of kills; without one there are none.
    pub kill_key: Option<PathBuf>,
    /// Host name and port at which all agents of this Gateway answer; none: there are no others.
    pub peers: Option<String>,
    /// Directory of everything the agent writes; NGINX only reads it.
    pub root: PathBuf,
    /// Where the supervisor answers.
    pub control_socket: PathBuf,
    /// Where NGINX answers the private probe.
    pub probe_socket: PathBuf,
    /// Directory of the access logs, made by the supervisor.
    pub log_dir: PathBuf,
    /// Where NGINX answers users.
    pub http_address: SocketAddr,
    /// Where NGINX answers users over TLS.
    pub https_address: SocketAddr,
    /// Directory with a directory for each certificate, mounted into NGINX' container.
    pub tls_dir: PathBuf,
    /// Directory in which the supervisor writes tables of tokens, in NGINX' container.
    pub token_tables_dir: PathBuf,
    /// Worker processes of NGINX.
    pub workers: u16,
    /// Size in bytes at which a log is rotated.
    pub rotate_at: u64,
}

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A volume does not work.
    #[error("{0}; is the volume mounted, writable, and of the pod's fsGroup?")]
    Volume(#[from] FileError),
    /// The endpoints ended.
    #[error("the agent's endpoints ended: {0}")]
    Http(io::Error),
}

/// Runs until `stop` is done and NGINX has ended: a pod that terminates follows a rollback too.
pub async fn run(
    options: Options,
    listener: TcpListener,
    objects: Objects,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let supervisor = Supervisor::at(&options.control_socket);
    tokio::select! {
        ended = work(options, listener, objects, &supervisor) => ended,
        () = last(stop, &supervisor) => Ok(()),
    }
}

/// Everything the agent does; ends only with an error.
async fn work(
    options: Options,
    listener: TcpListener,
    objects: Objects,
    supervisor: &Supervisor,
) -> Result<(), AgentError> {
    let kept = options.root.join("state");
    fs::create_dir_all(&kept).map_err(fail("make", &kept))?;
    wait_for(&options.log_dir).await;
    let (tail, before) = Tail::open(&options.log_dir, &kept.join("counted.json"))?;
    let (printer, switch) = Printer::to(Stdout);
    let mut tail = tail.rotating_at(options.rotate_at).printing(printer);
    let mut beginning = beginning(&options.pod, before);
    tail.resume(&mut beginning)?;
    let state = State::new(beginning);

    let (root, probe) = (&options.root, Probe::at(options.probe_socket.clone()));
    let (in_force, served) = watch::channel(None);
    let structure = Structure::open(
        root,
        settings(&options),
        supervisor.clone(),
        probe.clone(),
        Arc::clone(&state),
        in_force,
    )?;
    let force = Arc::new(Force::open(root, Arc::clone(&state))?);
    let weighing = Weighing { force: Arc::clone(&force), probe, state: Arc::clone(&state) };
    let guarding = Guarding { force: Arc::clone(&force), state: Arc::clone(&state), structure: served };
    let kills = kill::router(options.gateway.clone(), options.kill_key.clone(), Arc::clone(&force));
    let endpoints = http::router(Arc::clone(&state)).merge(kills);
    let certificates = certificates::follow(supervisor, objects.config.clone(), &state);
    let printing = printing::follow(objects.config.clone(), switch);
    tokio::select! {
        () = greet(options.peers.as_deref(), &force, &state) => Ok(()),
        () = structure.run(objects.config) => Ok(()),
        () = printing => Ok(()),
        () = certificates => Ok(()),
        () = weighing.run(objects.weights) => Ok(()),
        () = guarding.run() => Ok(()),
        () = state.publish() => Ok(()),
        counted = follow(tail, &options.log_dir, supervisor, &state) => Ok(counted?),
        served = axum::serve(listener, endpoints) => served.map_err(AgentError::Http),
    }
}

/// Asks peers for their latches and then says so; there is nothing more to do.
async fn greet(peers: Option<&str>, force: &Force, state: &State) {
    if let Some(peers) = peers {
        peers::ask(peers, |route, latch| {
            force.latch(route, latch);
        })
        .await;
    }
    state.greeted();
    std::future::pending().await
}

/// The state to begin with: the one of the run before, or that of a new boot.
fn beginning(pod: &PodName, before: Option<EdgeState>) -> EdgeState {
    let mut state = before.unwrap_or_else(|| {
        let boot = format!("{:016x}", RandomState::new().hash_one(pod.as_str()));
        info!(boot, "a new boot");
        EdgeState { pod: pod.to_string(), boot, ..EdgeState::default() }
    });
    if state.sequence > 0 {
        info!(boot = state.boot, lines = state.lines, "going on where the run before stopped");
        state.sequence += SEQUENCE_LEAP;
    }
    // What is in force is known only when NGINX has said it.
    state.applied = stomaton_crds::edge_state::Applied::default();
    state.refused = None;
    state.certificates = Vec::new();
    state
}

fn settings(options: &Options) -> Settings {
    Settings {
        pod: options.pod.clone(),
        // Asked of the supervisor before each rendering.
        version: Version::default(),
        workers: options.workers,
        http_address: options.http_address,
        https_address: options.https_address,
        tls_dir: options.tls_dir.clone(),
        token_tables_dir: options.token_tables_dir.clone(),
        probe_socket: options.probe_socket.clone(),
        weights_dir: options.root.join("weights"),
        log_dir: options.log_dir.clone(),
    }
}

/// The supervisor makes the directory; the two containers start in any order.
async fn wait_for(dir: &Path) {
    while !dir.is_dir() {
        sleep(Duration::from_millis(20)).await;
    }
}

/// After `stop`: as long as the supervisor answers, NGINX may run, and weights must still apply.
async fn last(stop: impl Future<Output = ()>, supervisor: &Supervisor) {
    stop.await;
    info!("TERM: going on until NGINX has ended");
    while supervisor.ask(Verb::Status).await.is_ok() {
        sleep(Duration::from_millis(100)).await;
    }
    // A moment for the last lines to be counted and read.
    sleep(Duration::from_millis(500)).await;
    info!("NGINX has ended");
}
