//! What the operator answers over HTTP: `/livez`, `/readyz`, `/metrics`. I/O: one listener.

use crate::{metrics::Metrics, watch::Watches};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use std::{sync::Arc, time::Instant};
use tokio::net::TcpListener;

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    watches: Arc<Watches>,
}

/// Answers on `listener` until `stop`.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    watches: Arc<Watches>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(metrics, watches)).with_graceful_shutdown(stop).await
}

fn router(metrics: Arc<Metrics>, watches: Arc<Watches>) -> Router {
    Router::new()
        // Alive is who answers: a failing watch or API server is not mended by a restart.
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(text))
        .with_state(Shared { metrics, watches })
}

/// Ready: every watch is complete and none fails.
async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    let troubles = shared.watches.troubles(Instant::now());
    match troubles.is_empty() {
        true => (StatusCode::OK, "ok\n".into()),
        false => (StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n"),
    }
}

async fn text(State(shared): State<Shared>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    shared.metrics.text().map(|text| (kind, text)).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::watcher::Event;

    #[tokio::test]
    async fn the_operator_is_ready_when_its_watches_are() {
        let (metrics, watches) = (Arc::<Metrics>::default(), Arc::<Watches>::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let served = tokio::spawn(serve(listener, metrics.clone(), watches.clone(), stopped));
        let get = async |path: &str| {
            let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };

        watches.starting("gateways");
        assert_eq!(get("/readyz").await, (503, "gateways: the first list is not complete\n".into()));
        assert_eq!(get("/livez").await, (200, "ok\n".into()));
        watches.heard("gateways", &Ok(Event::<()>::InitDone), Instant::now());
        assert_eq!(get("/readyz").await, (200, "ok\n".into()));
        metrics.watch_failed("Gateway");
        let (status, text) = get("/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("stomaton_watch_errors_total") && text.ends_with("# EOF\n"), "{text}");

        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
    }
}
