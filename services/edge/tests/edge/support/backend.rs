//! A backend on loopback that says who it is and what it was asked.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub struct Backend {
    pub address: SocketAddr,
    status: Arc<AtomicU16>,
    running: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    name: &'static str,
    status: Arc<AtomicU16>,
}

impl Backend {
    pub async fn start(name: &'static str) -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let shared = Shared { name, status: Arc::clone(&status) };
        let mut backend = Self::of(Router::new().fallback(answer).with_state(shared)).await;
        backend.status = status;
        backend
    }

    /// A backend that answers as `app` does, whatever `answer_with` says.
    pub async fn of(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let running = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, status: Arc::default(), running }
    }

    /// From now on, answers have this status.
    pub fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Its name, then the request line and the headers; `?slow` takes half a second.
async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    if request.uri().query() == Some("slow") {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let mut text = format!("{}\n{} {}\n", shared.name, request.method(), request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
    }
    let status = StatusCode::from_u16(shared.status.load(Ordering::SeqCst)).unwrap();
    (status, text).into_response()
}
