//! Takes a kill: a signed message that holds a route on its safe side. It can set latches and lift none. Does I/O.
//!
//! The key is read for each message: its Secret may be made after the pod, and the kubelet changes the file later.

use super::force::Force;
use super::latches;
use crate::names::RouteId;
use crate::state::now_micros;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State as Extract};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use stomaton_crds::edge_state::{Latch, Why};
use stomaton_crds::kill::{Key, Kill, Killed, Outcome, PATH, SIGNATURE};

use tracing::{info, warn};

/// More than a message can need.
const MAX_BODY: usize = 4096;

/// Why a message was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("this edge has no key for kills: the Secret is missing, or not mounted yet")]
    NoKey,
    #[error("the message is not signed with this edge's key: send its HMAC-SHA256 as {SIGNATURE}, in hex")]
    Signature,
    #[error("not a kill: {0}")]
    Message(#[from] serde_json::Error),
    #[error("not a kill: {0}")]
    Route(#[from] crate::names::NameError),
    #[error("this edge is of Gateway {0}")]
    Elsewhere(String),
    #[error("there are too many latches")]
    Full,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoKey => StatusCode::SERVICE_UNAVAILABLE,
            Self::Signature => StatusCode::UNAUTHORIZED,
            Self::Message(_) | Self::Route(_) => StatusCode::BAD_REQUEST,
            Self::Elsewhere(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
        };
        (status, format!("{self}\n")).into_response()
    }
}

struct Kills {
    gateway: String,
    key: Option<PathBuf>,
    force: Arc<Force>,
}

/// The endpoint, for the edge of `gateway`, with the key in the file `key`.
pub(super) fn router(gateway: String, key: Option<PathBuf>, force: Arc<Force>) -> Router {
    let kills = Arc::new(Kills { gateway, key, force });
    Router::new().route(PATH, post(kill)).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(kills)
}

async fn kill(Extract(kills): Extract<Arc<Kills>>, headers: HeaderMap, body: Bytes) -> Response {
    match kills.answer(&headers, &body) {
        Ok(killed) => Json(killed).into_response(),
        Err(refused) => {
            warn!(reason = %refused, "a kill was refused");
            refused.into_response()
        }
    }
}

impl Kills {
    /// Nothing of the message is looked at before its signature was.
    fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Result<Killed, Refused> {
        let key = self.key().ok_or(Refused::NoKey)?;
        let signature = headers.get(SIGNATURE).and_then(|value| value.to_str().ok());
        if !signature.is_some_and(|signature| key.verify(body, signature)) {
            return Err(Refused::Signature);
        }
        let Kill { gateway, route, attempt, revision } = serde_json::from_slice(body)?;
        if gateway != self.gateway {
            return Err(Refused::Elsewhere(self.gateway.clone()));
        }
        let route = RouteId::parse(&route)?;
        let latch = Latch { attempt, revision, why: Why::Kill, at_micros: now_micros(), counted: None };
        let (outcome, revision) = self.force.latch(&route, latch);
        info!(%route, attempt, ?outcome, "a kill was answered");
        let outcome = match outcome {
            latches::Outcome::Set => Outcome::Latched,
            latches::Outcome::Held => Outcome::Held,
            latches::Outcome::Superseded => Outcome::Superseded,
            latches::Outcome::Full => return Err(Refused::Full),
        };
        Ok(Killed { outcome, revision })
    }

    fn key(&self) -> Option<Key> {
        Key::read(&fs::read_to_string(self.key.as_ref()?).ok()?)
    }
}
