//! The agent's own endpoints. Does I/O.
//!
//! Everything here only reads and tells no secret, so it asks for no credentials. What changes something is a router
//! of its own ([`super::kill`]), which asks for a signature.

use super::metrics;
use crate::state::State;
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State as Extract};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::watch;

pub(super) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/v1/state", get(stream))
        .route("/metrics", get(scrape))
        .route("/readyz", get(|Extract(state): Extract<Arc<State>>| async move { check(state.is_ready()) }))
        .route("/livez", get(|Extract(state): Extract<Arc<State>>| async move { check(state.is_alive()) }))
        .with_state(state)
}

#[derive(Deserialize)]
struct Ask {
    /// One line, then the end.
    #[serde(default)]
    once: bool,
}

async fn stream(Extract(state): Extract<Arc<State>>, Query(ask): Query<Ask>) -> Response {
    let mut lines = state.lines();
    lines.mark_unchanged();
    // The first line is made for this reader, so that it is not up to a second old.
    state.publish_at_once();
    let body = if ask.once {
        Body::from(next(&mut lines).await.unwrap_or_default())
    } else {
        Body::from_stream(async_stream::stream! {
            while let Some(line) = next(&mut lines).await {
                yield Ok::<_, Infallible>(line);
            }
        })
    };
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

async fn next(lines: &mut watch::Receiver<Bytes>) -> Option<Bytes> {
    lines.changed().await.ok()?;
    Some(lines.borrow_and_update().clone())
}

async fn scrape(Extract(state): Extract<Arc<State>>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics::encode(&state.read(Clone::clone)) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn check(holds: bool) -> (StatusCode, &'static str) {
    if holds { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not yet\n") }
}
