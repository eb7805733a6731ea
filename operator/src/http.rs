//! What the operator answers over HTTP: `/livez`, `/readyz`, `/metrics`. I/O: one listener.

use crate::context::Context;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use std::{sync::Arc, time::Instant};
use tokio::net::TcpListener;

/// Answers on `listener` until `stop`.
pub async fn serve(
    listener: TcpListener,
    ctx: Arc<Context>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(ctx)).with_graceful_shutdown(stop).await
}

fn router(ctx: Arc<Context>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(text))
        .with_state(ctx)
}

/// Alive: everything that runs still moves. A failing watch or API server is not mended by a restart.
async fn livez(State(ctx): State<Arc<Context>>) -> (StatusCode, String) {
    answer(&ctx.pulse.stuck(tokio::time::Instant::now()))
}

/// Ready: every watch is complete and none fails. Who stands by has no watches; it is ready when it could take over.
async fn readyz(State(ctx): State<Arc<Context>>) -> (StatusCode, String) {
    let lease = ctx.settings.election.as_ref().map(|election| election.lease).unwrap_or_default();
    if ctx.standing.waits() {
        let sees = ctx.standing.sees_the_lease(tokio::time::Instant::now(), lease);
        let trouble = (!sees).then(|| "standing by, and the Lease cannot be read: see the log".to_owned());
        return answer(&Vec::from_iter(trouble));
    }
    let begun = ctx.pulse.not_begun().into_iter().map(|part| format!("{part}: not begun"));
    answer(&begun.chain(ctx.watches.troubles(Instant::now())).collect::<Vec<_>>())
}

fn answer(troubles: &[String]) -> (StatusCode, String) {
    match troubles.is_empty() {
        true => (StatusCode::OK, "ok\n".into()),
        false => (StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n"),
    }
}

async fn text(State(ctx): State<Arc<Context>>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    // A watch recovers by time alone, so its gauge is true only when it is set now.
    for (watch, healthy) in ctx.watches.healthy(Instant::now()) {
        ctx.metrics.watch_is(watch, healthy);
    }
    ctx.metrics.text().map(|text| (kind, text)).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        leader::{Candidate, Election},
        testing::scripted,
    };
    use kube::runtime::watcher::Event;
    use serde_json::json;
    use std::time::Duration;

    #[tokio::test]
    async fn the_operator_is_ready_when_its_watches_are() {
        let ctx = Arc::new(scripted(vec![]).0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let served = tokio::spawn(serve(listener, ctx.clone(), stopped));
        let get = async |path: &str| {
            let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };

        let part = ctx.pulse.of("a part", std::future::pending::<()>());
        assert_eq!(get("/readyz").await, (503, "a part: not begun\n".into()));
        let part = tokio::spawn(part);
        while !ctx.pulse.not_begun().is_empty() {
            tokio::task::yield_now().await;
        }
        ctx.watches.starting("gateways");
        assert_eq!(get("/readyz").await, (503, "gateways: the first list is not complete\n".into()));
        assert_eq!(get("/livez").await, (200, "ok\n".into()));
        ctx.watches.heard("gateways", &Ok(Event::<()>::InitDone), Instant::now());
        assert_eq!(get("/readyz").await, (200, "ok\n".into()));
        ctx.metrics.watch_failed("Gateway");
        let (status, text) = get("/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("stomaton_watch_errors_total") && text.ends_with("# EOF\n"), "{text}");
        assert!(text.contains(r#"stomaton_watch_healthy{watch="gateways"} 1"#), "{text}");

        part.abort();
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_is_ready_as_long_as_it_sees_the_lease() {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "stomaton-operator"},
            "spec": {"holderIdentity": "another", "leaseDurationSeconds": 10},
        });
        let (mut ctx, _calls) = scripted(vec![(StatusCode::OK, lease)]);
        let election =
            Election { namespace: "system".into(), identity: "me".into(), lease: Duration::from_secs(10) };
        ctx.settings.election = Some(election.clone());
        let ctx = Arc::new(ctx);
        let client = ctx.client.clone();
        let candidate = Candidate::new(client, election, ctx.metrics.clone(), ctx.standing.clone());
        let ready = async || readyz(State(ctx.clone())).await.0;
        assert_eq!(ready().await, StatusCode::SERVICE_UNAVAILABLE);
        let standby = tokio::spawn(candidate.acquire());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(ready().await, StatusCode::OK);
        // From the second time on nobody answers.
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(ready().await, StatusCode::SERVICE_UNAVAILABLE);
        standby.abort();
    }
}
