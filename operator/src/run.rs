//! The process: makes what all parts share, starts them, and stops them. It ends when it is told to, or when any
//! part dies: a process that runs in part is worse than one that Kubernetes starts anew. I/O.

use crate::{
    args::Settings,
    backoff::Backoff,
    context::Context,
    controllers::{Stop, gateway, migration_plan, stomaton_service},
    edges::{self, Edges},
    http,
};
use futures::{FutureExt, future::BoxFuture};
use kube::{
    Client, Config,
    runtime::events::{Recorder, Reporter},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::timeout,
};

/// Longest that passes under way may take to end. Less than a pod's grace of 30 s.
const GRACE: Duration = Duration::from_secs(20);

/// Why the operator stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Threads cannot be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(#[source] std::io::Error),
    /// There is no way to a cluster.
    #[error("no cluster: {0}; set KUBECONFIG, or run in a pod with a service account")]
    NoCluster(#[from] kube::config::InferConfigError),
    /// The way to the cluster cannot be used.
    #[error("cannot use the cluster's credentials: {0}")]
    Client(#[from] kube::Error),
    /// The port is taken.
    #[error("cannot listen on {address}: {source}; choose another with --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(#[source] std::io::Error),
    /// A part ended by itself.
    #[error("{0} ended, which it never should")]
    Died(&'static str),
}

/// Runs the operator until SIGTERM or SIGINT.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let mut config = Config::infer().await?;
    // Its retries can sleep for minutes inside a call; here a pass fails and comes back instead.
    config.default_retry = false;
    let clients = Clients { client: Client::try_from(config.clone())?, urgent: Client::try_from(config)? };
    let address = settings.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let stop = stop_signal()?;
    tracing::info!(%address, edge_image = settings.edge_image, namespace = settings.namespace, "starting");
    serve(clients, settings, Some(listener), stop).await
}

/// Two ways to the API server that do not wait for each other.
pub struct Clients {
    /// For everything, see [`Context::client`].
    pub client: Client,
    /// For taking routes back, see [`Context::urgent`].
    pub urgent: Client,
}

/// Runs every part of the operator until `stop`. Tests start it here, without a listener.
pub async fn serve(
    clients: Clients,
    settings: Settings,
    listener: Option<TcpListener>,
    stop: Stop,
) -> Result<(), Error> {
    let (edges, alarms) = Edges::new();
    let ctx = Arc::new(context(clients, settings, edges));
    let mut parts = Parts { stop: stop.clone(), running: JoinSet::new() };
    if let Some(listener) = listener {
        let http = http::serve(listener, ctx.metrics.clone(), ctx.watches.clone(), stop.clone());
        parts.start("the HTTP server", http.map(|_| ()).boxed());
    }
    let follow = edges::follow::run(ctx.client.clone(), ctx.settings.namespace.clone(), ctx.edges.clone());
    parts.start("the watch of edge pods", until(stop.clone(), follow).boxed());
    parts.start("the StomatonService controller", stomaton_service::run(ctx.clone(), stop.clone()).boxed());
    parts.start("the Gateway controller", gateway::run(ctx.clone(), stop.clone()).boxed());
    parts.start("the MigrationPlan controller", migration_plan::run(ctx, alarms, stop).boxed());
    parts.finish().await
}

/// What all parts share, before any of them runs.
pub(crate) fn context(Clients { client, urgent }: Clients, settings: Settings, edges: Arc<Edges>) -> Context {
    let reporter =
        Reporter { controller: "stomaton-operator".into(), instance: std::env::var("POD_NAME").ok() };
    Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        urgent,
        metrics: Arc::default(),
        watches: Arc::default(),
        backoff: Backoff::default(),
        settings,
        edges,
    }
}

/// What runs, by name.
struct Parts {
    stop: Stop,
    running: JoinSet<&'static str>,
}

impl Parts {
    fn start(&mut self, name: &'static str, part: BoxFuture<'static, ()>) {
        self.running.spawn(part.map(move |()| name));
    }

    /// Waits for the stop, or for the first part that ends before it.
    async fn finish(mut self) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.stop.clone() => {}
            ended = self.running.join_next() => {
                return Err(Error::Died(ended.and_then(Result::ok).unwrap_or("a part of the operator")));
            }
        }
        tracing::info!("stopping");
        let rest = async { while self.running.join_next().await.is_some() {} };
        if timeout(GRACE, rest).await.is_err() {
            tracing::warn!(
                "passes under way did not end within {} s; the next start takes over",
                GRACE.as_secs()
            );
        }
        Ok(())
    }
}

/// `part`, which never ends by itself, until `stop`.
async fn until(stop: Stop, part: impl Future<Output = ()> + Send) {
    tokio::select! {
        () = stop => {}
        () = part => {}
    }
}

/// Resolves at SIGTERM or SIGINT. Installed once: each part waits for the same one.
fn stop_signal() -> Result<Stop, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(stop.boxed().shared())
}
