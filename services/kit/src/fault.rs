//! The fault switch: makes a share of API requests fail or wait, for demos and tests. Process state only.
//!
//! `PUT /_fault` sets it, `GET` shows it, `DELETE` clears it. It exists only with `FAULTS=allow`, which
//! production refuses.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{ApiError, Json};

/// Which share of requests is hurt, and how. Shares are per mille.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fault {
    errors_permille: u16,
    status: u16,
    latency_ms: u32,
    latency_permille: u16,
}

impl Default for Fault {
    fn default() -> Self {
        Self { errors_permille: 0, status: 500, latency_ms: 0, latency_permille: 0 }
    }
}

impl Fault {
    fn checked(self) -> Result<Self, ApiError> {
        let problem = match self {
            Self { errors_permille: 1001.., .. } => "errors_permille is a share from 0 to 1000",
            Self { latency_permille: 1001.., .. } => "latency_permille is a share from 0 to 1000",
            Self { latency_ms: 60_001.., .. } => "latency_ms is at most 60000",
            Self { status: ..400 | 600.., .. } => "status is an error status, 400 to 599",
            fine => return Ok(fine),
        };
        Err(ApiError::unprocessable(problem))
    }

    /// What happens to the request with this number.
    ///
    /// `number * STEP mod 1000` visits every residue once in any 1000 numbers in a row when the step shares
    /// no factor with 1000. So shares are exact, and hits are spread out instead of coming in bursts. Two
    /// steps keep slow requests from always being the failing ones.
    fn verdict(&self, number: u64) -> Verdict {
        const ERROR_STEP: u64 = 617;
        const LATENCY_STEP: u64 = 389;
        let hit = |step: u64, permille: u16| (number % 1000) * step % 1000 < u64::from(permille);
        Verdict {
            delay: hit(LATENCY_STEP, self.latency_permille)
                .then(|| Duration::from_millis(self.latency_ms.into())),
            status: hit(ERROR_STEP, self.errors_permille)
                .then(|| StatusCode::from_u16(self.status).ok())
                .flatten(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    delay: Option<Duration>,
    status: Option<StatusCode>,
}

/// The state of one service's switch.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    fault: Mutex<Fault>,
    /// Requests seen since the fault was set: exact shares start from there.
    seen: AtomicU64,
}

impl Switch {
    fn get(&self) -> Fault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        self.seen.store(0, Ordering::Relaxed);
    }

    fn next(&self) -> Verdict {
        self.get().verdict(self.seen.fetch_add(1, Ordering::Relaxed))
    }
}

/// `/_fault` itself.
pub(crate) fn routes(switch: Arc<Switch>) -> Router {
    Router::new().route("/_fault", get(show).put(put).delete(clear)).with_state(switch)
}

async fn show(State(switch): State<Arc<Switch>>) -> Json<Fault> {
    Json(switch.get())
}

async fn put(State(switch): State<Arc<Switch>>, Json(fault): Json<Fault>) -> Result<Json<Fault>, ApiError> {
    let fault = fault.checked()?;
    switch.set(fault);
    tracing::warn!(?fault, "fault set");
    Ok(Json(fault))
}

async fn clear(State(switch): State<Arc<Switch>>) -> Json<Fault> {
    switch.set(Fault::default());
    tracing::warn!("fault cleared");
    Json(switch.get())
}

/// The layer before the API routes: waits first, then fails, as a sick service would.
pub(crate) async fn inject(State(switch): State<Arc<Switch>>, request: Request, next: Next) -> Response {
    let verdict = switch.next();
    if let Some(delay) = verdict.delay {
        sleep(delay).await;
    }
    match verdict.status {
        Some(status) => {
            ApiError::new(status, "fault_injected", "this answer was made to fail by the fault switch")
                .into_response()
        }
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(errors_permille: u16, latency_permille: u16) -> Fault {
        Fault { errors_permille, status: 503, latency_ms: 7, latency_permille }
    }

    #[test]
    fn shares_are_exact_over_any_thousand_requests() {
        for permille in [0, 1, 3, 250, 500, 999, 1000] {
            let fault = fault(permille, permille);
            for start in [0, 1, 617, 123_456] {
                let verdicts: Vec<_> = (start..start + 1000).map(|number| fault.verdict(number)).collect();
                let errors =
                    verdicts.iter().filter(|v| v.status == Some(StatusCode::SERVICE_UNAVAILABLE)).count();
                let delays = verdicts.iter().filter(|v| v.delay == Some(Duration::from_millis(7))).count();
                assert_eq!((errors, delays), (permille.into(), permille.into()));
            }
        }
    }

    #[test]
    fn errors_are_spread_out() {
        let fault = fault(200, 0);
        for start in 0..1000 {
            let errors = (start..start + 20).filter(|n| fault.verdict(*n).status.is_some()).count();
            assert!((2..=6).contains(&errors), "{errors} of 20 from {start}");
        }
    }

    #[test]
    fn slow_and_failing_requests_are_not_the_same_ones() {
        let fault = fault(500, 500);
        let both =
            (0..1000).map(|n| fault.verdict(n)).filter(|v| v.status.is_some() && v.delay.is_some()).count();
        assert!((200..=300).contains(&both), "{both}");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            fault(1001, 0),
            fault(0, 1001),
            Fault { status: 200, ..Fault::default() },
            Fault { status: 600, ..Fault::default() },
            Fault { latency_ms: 60_001, ..Fault::default() },
        ] {
            assert!(bad.checked().is_err(), "{bad:?}");
        }
        assert!(fault(1000, 1000).checked().is_ok());
    }
}
