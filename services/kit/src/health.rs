//! Liveness, readiness and the state of a service's life. Takes no dependency into account: a probe that
//! asks the database restarts every pod when the database is slow. No I/O.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use crate::{ApiError, Config, Json};

/// Serving, or on the way out.
#[derive(Debug, Default)]
pub(crate) struct Life {
    draining: AtomicBool,
}

impl Life {
    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

struct Health {
    life: Arc<Life>,
    service: String,
    environment: &'static str,
    stand_ins: Vec<String>,
    started: Instant,
}

pub(crate) fn routes(life: Arc<Life>, config: &Config, stand_ins: Vec<String>) -> Router {
    let health = Health {
        life,
        service: config.service_name.clone(),
        environment: config.environment.as_str(),
        stand_ins,
        started: Instant::now(),
    };
    Router::new()
        .route("/health", get(summary))
        .route("/health/live", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/health/ready", get(ready))
        .with_state(Arc::new(health))
}

async fn summary(State(health): State<Arc<Health>>) -> Json<Value> {
    Json(json!({
        "status": if health.life.is_draining() { "draining" } else { "ok" },
        "service": health.service,
        "version": env!("CARGO_PKG_VERSION"),
        "environment": health.environment,
        "uptime_seconds": health.started.elapsed().as_secs(),
        "stand_ins": health.stand_ins,
    }))
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    match health.life.is_draining() {
        true => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "stopping: send new requests elsewhere",
        )
        .into_response(),
        false => Json(json!({"status": "ok"})).into_response(),
    }
}
