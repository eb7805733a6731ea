//! The control endpoint of a running load, meant for the API server's pod proxy. Does I/O.

use super::engine::Load;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Records per answer, so that no answer through the API server grows beyond some megabytes.
const PAGE: usize = 20_000;

/// Where to go on reading records: the value for the next `from`.
static NEXT: HeaderName = HeaderName::from_static("x-next");

#[derive(Clone)]
struct Control {
    load: Arc<Load>,
    exit: Arc<Notify>,
}

/// The routes:
///
/// - `GET /summary`: the [`Report`](super::engine::Report) so far, as JSON
/// - `GET /records?from=N`: up to 20,000 records from index N as NDJSON; header `X-Next` has the N to
///   go on with, an empty body means that there is nothing new
/// - `GET /stream`: a report as one line of JSON each second, the last one with `done: true`
/// - `POST /stop`: sends no more requests
/// - `POST /exit`: lets the process end once the load has
pub(super) fn router(load: Arc<Load>, exit: Arc<Notify>) -> Router {
    Router::new()
        .route("/summary", get(async |State(c): State<Control>| json_line(&c.load)))
        .route("/records", get(records))
        .route("/stream", get(follow))
        .route("/stop", post(async |State(c): State<Control>| c.load.stop()))
        .route("/exit", post(async |State(c): State<Control>| c.exit.notify_one()))
        .with_state(Control { load, exit })
}

#[derive(Deserialize)]
struct From {
    #[serde(default)]
    from: usize,
}

async fn records(State(control): State<Control>, Query(From { from }): Query<From>) -> Response {
    let records = control.load.records(from, PAGE);
    let next = from + records.len();
    let lines: String = records.iter().flat_map(|r| [r.to_line(), "\n".to_owned()]).collect();
    ([(CONTENT_TYPE, "application/x-ndjson".to_owned()), (NEXT.clone(), next.to_string())], lines)
        .into_response()
}

async fn follow(State(control): State<Control>) -> Response {
    let lines = stream::unfold(Some(control.load), async |load| {
        let load = load?;
        let done = timeout(Duration::from_secs(1), load.finished()).await.is_ok();
        let line = report_line(&load);
        Some((Ok::<_, Infallible>(Bytes::from(line)), (!done).then_some(load)))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn json_line(load: &Load) -> Response {
    (StatusCode::OK, [(CONTENT_TYPE, "application/json")], report_line(load)).into_response()
}

/// The report as one line of JSON, newline included.
pub(super) fn report_line(load: &Load) -> String {
    let mut line = serde_json::to_string(&load.report()).unwrap_or_default();
    line.push('\n');
    line
}
