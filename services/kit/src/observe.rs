//! The outermost layer: every answer, whatever made it, is counted, logged, signed and of one shape.
//! Takes a request, gives a response; writes one log line.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header::CONNECTION},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use tracing::{Instrument, debug, error_span, info, warn};

use crate::{ApiError, CorrelationId, correlation, error, health::Life, metrics::Metrics};

const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

/// What the layer needs of the service it is around.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) service: String,
    pub(crate) served_by: HeaderValue,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) life: Arc<Life>,
}

pub(crate) async fn observe(
    State(observer): State<Arc<Observer>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = CorrelationId::of(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    request.extensions_mut().insert(id.clone());

    // An error span, so that the id is on a handler's warnings whatever LOG_LEVEL is.
    let span = error_span!("request", service = observer.service, correlation_id = %id, %method, route);
    let response = answer(next, request).instrument(span.clone()).await;

    let mut response = error::rendered(response, &id);
    observer.sign(&mut response, &id);
    let took = started.elapsed();
    observer.metrics.record(&method, route, response.status(), took);
    span.in_scope(|| log(route, response.status(), took));
    response
}

/// A panic in a handler is a 500 for its client, not a dropped connection for everyone on it.
async fn answer(next: Next, request: Request) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        // The panic hook has logged it, inside this request's span.
        Err(_) => ApiError::internal().into_response(),
    }
}

impl Observer {
    fn sign(&self, response: &mut Response, id: &CorrelationId) {
        let headers = response.headers_mut();
        headers.insert(correlation::HEADER, id.header());
        headers.insert(SERVED_BY, self.served_by.clone());
        if self.life.is_draining() {
            // Moves keep-alive clients elsewhere one answer at a time, so that none is mid-request at the end.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

fn log(route: &str, status: StatusCode, took: Duration) {
    let code = status.as_u16();
    let latency_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let is_probe = route.starts_with("/health") || route == "/metrics";
    match () {
        () if is_probe => debug!(status = code, latency_us, "request"),
        () if status.is_server_error() => warn!(status = code, latency_us, "request"),
        () => info!(status = code, latency_us, "request"),
    }
}
