//! `e2e load`: sends requests, never a second time, and records what became of each. Does I/O.
//!
//! Pure parts: [`record`] (one request and its line), [`summary`], [`judge`] (verdicts over records),
//! [`workload`] (what is sent). The rest, from the wire up: `delay` and `wire` (TCP), [`tls`], `gate` (a
//! client that does not look), `connection` (one exchange), `header` (headers from files), [`engine`] (clients
//! and their pace), `store`, `control` (HTTP endpoint).

mod args;
mod connection;
mod control;
mod delay;
pub mod engine;
mod gate;
mod header;
pub mod judge;
pub mod record;
mod store;
pub mod summary;
pub mod tls;
mod wire;
pub mod workload;

pub use args::Args;
pub use engine::MAX_REQUESTS;
pub use header::HeaderFile;

use engine::Load;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::sleep;

/// Why `e2e load` failed. A load that lost requests has not failed: the summary says so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options contradict each other or leave the bounds.
    #[error("{0}")]
    Options(String),
    /// The target's name does not resolve.
    #[error("--target: cannot resolve `{target}`: {reason}; is the Service there, and in this namespace?")]
    Resolve {
        /// Host and port as given.
        target: String,
        /// What the resolver said.
        reason: String,
    },
    /// The control endpoint cannot listen.
    #[error("--listen {address}: {source}; choose another port or end what is using it")]
    Listen {
        /// The address as given.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot listen for SIGTERM: {0}")]
    Signal(std::io::Error),
}

/// Runs `e2e load`: the load, its control endpoint, one summary line on stdout.
///
/// SIGTERM and SIGINT end the load early, still with its summary, and skip the linger.
pub async fn run(args: Args) -> Result<(), Error> {
    let config = args.config().await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let interrupted = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    tokio::pin!(interrupted);
    let listener = match args.listen {
        Some(address) => {
            Some(TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?)
        }
        None => None,
    };

    let load = Arc::new(Load::start(config));
    let exit = Arc::new(Notify::new());
    let lingers = listener.is_some();
    if let Some(listener) = listener {
        if let Ok(address) = listener.local_addr() {
            eprintln!("e2e load: control endpoint on http://{address}");
        }
        let router = control::router(Arc::clone(&load), Arc::clone(&exit));
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    let in_time = tokio::select! {
        () = load.finished() => true,
        () = &mut interrupted => false,
    };
    if !in_time {
        load.stop();
        load.finished().await;
    }
    print!("{}", control::report_line(&load));
    if in_time && lingers {
        tokio::select! {
            () = exit.notified() => {}
            () = &mut interrupted => {}
            () = sleep(args.linger) => {}
        }
    }
    Ok(())
}
