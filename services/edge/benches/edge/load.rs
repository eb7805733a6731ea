//! Load and a backend for it, both in this process. I/O.

use crate::Fault;
use axum::{Router, http::StatusCode, routing::get};
use e2e::load::{Args, engine::Load, record::Record, summary::Summary};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;

/// Longer than any load here.
const AT_MOST: Duration = Duration::from_secs(900);

/// Starts a load with these options of `e2e load`.
pub async fn start(target: SocketAddr, options: &str) -> Result<Load, Fault> {
    let target = format!("http://{target}");
    let words = ["--target", &target, "--duration", "15m"].into_iter().chain(options.split_whitespace());
    Ok(Load::start(Args::of(words)?.config().await?))
}

/// Waits for the end of a load in which every request must be answered with a success; gives its counts.
pub async fn end(load: &Load) -> Result<Summary, Fault> {
    tokio::time::timeout(AT_MOST, load.finished()).await?;
    let summary = load.report().summary;
    let good = summary.status.get("2xx").copied().unwrap_or(0);
    if good == summary.sent { Ok(summary) } else { Err(format!("not all is well: {summary:?}").into()) }
}

/// Ends a load and gives its records.
pub async fn stop(load: &Load) -> Result<Vec<Record>, Fault> {
    load.stop();
    tokio::time::timeout(AT_MOST, load.finished()).await?;
    Ok(load.records(0, usize::MAX))
}

/// A backend that can be made to fail.
pub struct Breakable {
    /// Where it answers.
    pub address: SocketAddr,
    fails: Arc<AtomicBool>,
}

impl Breakable {
    /// Starts one that is well.
    pub async fn start() -> Result<Self, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, fails) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&fails);
        let app = Router::new().fallback(async move || {
            let fails = seen.load(Ordering::SeqCst);
            if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { address, fails })
    }

    /// From now on every answer is an error, or none is.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }
}

/// Starts a backend that answers everything with few bytes, and `/auth` with none.
pub async fn backend() -> Result<SocketAddr, Fault> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = Router::new()
        .route("/auth", get(async || StatusCode::NO_CONTENT))
        .fallback(async || "An answer of about seventy bytes, as an interface gives them: {\"ok\": true}\n");
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}
