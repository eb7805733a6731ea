//! The process: makes what all parts share, starts them, and stops them. It ends when it is told to, or when any
//! part dies: a process that runs in part is worse than one that Kubernetes starts anew. I/O.

use crate::{
    args::Settings,
    backoff::Backoff,
    context::Context,
    controllers::{Stop, gateway, migration_plan, stomaton_service},
    edges::{self, Alarm, Edges},
    http,
    leader::{self, Candidate},
    optional,
    prometheus::Prometheus,
    pulse::Pulse,
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
    sync::mpsc,
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
    /// Another operator may lead from now on.
    #[error("the lead is lost: {0}")]
    NotLeading(#[from] leader::Lost),
}

/// Runs the operator until SIGTERM or SIGINT.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let mut config = Config::infer().await?;
    // Its retries can sleep for minutes inside a call; here a pass fails and comes back instead.
    config.default_retry = false;
    let client = || Client::try_from(config.clone());
    let clients = Clients { client: client()?, urgent: client()?, lease: client()? };
    let address = settings.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let stop = stop_signal()?;
    tracing::info!(%address, edge_image = settings.edge_image, namespace = settings.namespace, "starting");
    serve(clients, settings, Some(listener), stop).await
}

/// Ways to the API server that do not wait for each other.
pub struct Clients {
    /// For everything, see [`Context::client`].
    pub client: Client,
    /// For taking routes back, see [`Context::urgent`].
    pub urgent: Client,
    /// For keeping the lead: a renewal that waits behind other requests could come too late.
    pub lease: Client,
}

/// Runs every part of the operator until `stop`. Tests start it here, without a listener.
///
/// With an election, only HTTP is answered until this process leads; when the lead is lost everything ends with an
/// error, and on `stop` the lead is released after all parts have ended.
pub async fn serve(
    clients: Clients,
    settings: Settings,
    listener: Option<TcpListener>,
    stop: Stop,
) -> Result<(), Error> {
    let lease = clients.lease.clone();
    let (edges, alarms) = Edges::new();
    let ctx = Arc::new(context(clients, settings, edges));
    // Before anybody can ask whether this process is ready.
    let election = ctx.settings.election.clone();
    let candidate =
        election.map(|election| Candidate::new(lease, election, ctx.metrics.clone(), ctx.standing.clone()));
    let mut parts = Parts { stop: stop.clone(), pulse: ctx.pulse.clone(), running: JoinSet::new() };
    if let Some(listener) = listener {
        let http = http::serve(listener, ctx.clone(), stop);
        parts.start("the HTTP server", http.map(|_| ()).boxed());
    }
    let Some(candidate) = candidate else {
        ctx.metrics.leads(true);
        start_work(&mut parts, ctx, alarms);
        return parts.finish().await.map(drop);
    };
    let mut leader = tokio::select! {
        biased;
        ended = parts.ended() => return ended,
        leader = candidate.acquire() => leader,
    };
    start_work(&mut parts, ctx, alarms);
    let drained = tokio::select! {
        finished = parts.finish() => finished?,
        // All parts end where they are, as in a crash: another operator may have begun.
        lost = leader.keep() => return Err(lost.into()),
    };
    if drained {
        leader.release().await;
    }
    Ok(())
}

/// Starts the parts that look at objects and change them.
fn start_work(parts: &mut Parts, ctx: Arc<Context>, alarms: mpsc::UnboundedReceiver<Alarm>) {
    let stop = parts.stop.clone();
    let follow = edges::follow::run(ctx.clone());
    parts.start("the watch of edge pods", until(stop.clone(), follow).boxed());
    let look = optional::follow(ctx.client.clone(), ctx.kinds.clone(), ctx.settings.resync);
    parts.start("the discovery of optional kinds", until(stop.clone(), look).boxed());
    let asking = ctx.clone();
    let ask = async move { asking.prometheus.run().await };
    parts.start("the queries to Prometheus", until(stop.clone(), ask).boxed());
    parts.start("the StomatonService controller", stomaton_service::run(ctx.clone(), stop.clone()).boxed());
    parts.start("the Gateway controller", gateway::run(ctx.clone(), stop.clone()).boxed());
    parts.start("the MigrationPlan controller", migration_plan::run(ctx, alarms, stop).boxed());
}

/// What all parts share, before any of them runs.
pub(crate) fn context(clients: Clients, settings: Settings, edges: Arc<Edges>) -> Context {
    let Clients { client, urgent, .. } = clients;
    let reporter = Reporter { controller: "stomaton-operator".into(), instance: settings.pod.clone() };
    Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        urgent,
        metrics: Arc::default(),
        watches: Arc::default(),
        pulse: Arc::default(),
        standing: Arc::default(),
        backoff: Backoff::default(),
        settled: crate::apply::Settled::default(),
        prometheus: Prometheus::new(settings.prometheus.as_ref()),
        settings,
        edges,
        kinds: Arc::default(),
    }
}

/// What runs, by name.
struct Parts {
    stop: Stop,
    pulse: Arc<Pulse>,
    running: JoinSet<&'static str>,
}

impl Parts {
    fn start(&mut self, name: &'static str, part: BoxFuture<'static, ()>) {
        self.running.spawn(self.pulse.of(name, part).map(move |()| name));
    }

    /// Waits for the stop, or for the first part that ends before it.
    async fn ended(&mut self) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.stop.clone() => Ok(()),
            Some(ended) = self.running.join_next() => Err(Error::Died(ended.unwrap_or("a part of the operator"))),
        }
    }

    /// As [`Parts::ended`]; after the stop waits for all parts to end, and gives whether they did in time.
    async fn finish(mut self) -> Result<bool, Error> {
        self.ended().await?;
        tracing::info!("stopping");
        let rest = async { while self.running.join_next().await.is_some() {} };
        let drained = timeout(GRACE, rest).await.is_ok();
        if !drained {
            let grace = GRACE.as_secs();
            tracing::warn!("passes under way did not end within {grace} s; the next start takes over");
        }
        Ok(drained)
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
