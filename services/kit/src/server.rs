//! Serving and stopping: sockets, signals and time. Takes a built service, gives back when it has stopped.
//!
//! The order of a stop is what loses no request: readiness says no at once, the service goes on answering
//! while endpoints move away (each answer asks its client to leave), and only then does it stop accepting
//! and finish what it has.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use axum::serve::ListenerExt;
use tokio::{
    net::TcpListener,
    select,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::sleep,
};
use tracing::{info, warn};

use crate::{App, Config, Service, StartError, app};

/// How long answers that are under way may take after the drain; less than Kubernetes' grace of 30 s,
/// with the default drain before it.
const FINISH_LIMIT: Duration = Duration::from_secs(20);

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Go on serving for the drain time first: clients are still being sent here (SIGTERM).
    Drain,
    /// Only finish what is under way: a person at a terminal waits (SIGINT).
    Now,
}

/// Waits for the process to be told to stop. Signals count from this call on, not from the first poll: the
/// first process of a container would otherwise ignore SIGTERM while it starts. Call it within a runtime.
pub fn stop_signal() -> impl Future<Output = Stop> + Send {
    let (terminate, interrupt) = (received(SignalKind::terminate()), received(SignalKind::interrupt()));
    async {
        select! {
            () = terminate => Stop::Drain,
            () = interrupt => Stop::Now,
        }
    }
}

fn received(kind: SignalKind) -> impl Future<Output = ()> + Send {
    let signals = signal(kind);
    async {
        match signals {
            Ok(mut signals) => drop(signals.recv().await),
            Err(error) => {
                warn!(%error, "cannot listen for a stop signal; only SIGKILL will end this process");
                std::future::pending().await
            }
        }
    }
}

/// Binds the address that the configuration names.
///
/// # Errors
/// [`StartError::Listen`] when the port is taken or not allowed.
pub async fn listen(config: &Config) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(config.host, config.port);
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

/// Serves until `stop` says how to stop, then stops without losing a request.
///
/// # Errors
/// [`StartError::Serve`] when the server breaks.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    config: &Config,
    stop: impl Future<Output = Stop> + Send + 'static,
) -> Result<(), StartError> {
    let name = config.service_name.clone();
    for stand_in in &service.stand_ins {
        warn!(service = name, stand_in, "running with a development stand-in");
    }
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    info!(service = name, address, environment = config.environment.as_str(), "serving");
    let stopping = name.clone();
    let stop = async move {
        let how = stop.await;
        info!(service = stopping, ?how, "stopping");
        how
    };
    run(listener, app(service, config), config.drain, stop).await.map_err(StartError::Serve)?;
    info!(service = name, "stopped");
    Ok(())
}

async fn run(
    listener: TcpListener,
    app: App,
    drain: Duration,
    stop: impl Future<Output = Stop> + Send + 'static,
) -> io::Result<()> {
    let (drained_sender, drained) = oneshot::channel();
    let life = app.life.clone();
    let closing = async move {
        let how = stop.await;
        life.start_draining();
        if how == Stop::Drain {
            sleep(drain).await;
        }
        // Nobody listens only when the server is gone already.
        drained_sender.send(()).ok();
    };
    let listener = listener.tap_io(|stream| {
        // Without it, small answers on kept-alive connections wait for the client's delayed ACK.
        stream.set_nodelay(true).ok();
    });
    select! {
        result = async { axum::serve(listener, app.router).with_graceful_shutdown(closing).await } => result,
        () = overdue(drained) => {
            warn!("some answers took too long; their connections are cut");
            Ok(())
        }
    }
}

/// Never ends before the drain has.
async fn overdue(drained: oneshot::Receiver<()>) {
    match drained.await {
        Ok(()) => sleep(FINISH_LIMIT).await,
        Err(_) => std::future::pending().await,
    }
}
