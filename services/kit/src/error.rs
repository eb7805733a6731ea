//! Errors: what a client sees ([`ApiError`], one JSON shape), and what stops a start ([`StartError`]). No I/O.

use std::{borrow::Cow, net::SocketAddr};

use axum::{
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::json;
use thiserror::Error;

use crate::{ConfigError, CorrelationId};

/// Why a service did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is wrong, missing or refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A backend cannot be opened.
    #[error("{what}: {source}; {remedy}")]
    Backend {
        /// What was tried.
        what: String,
        /// What to do about it.
        remedy: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}; stop what holds the port, or set PORT or HOST")]
    Listen {
        /// The address that was tried.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The server broke while it ran.
    #[error("the server stopped: {0}")]
    Serve(std::io::Error),
}

/// An error as clients see it: `{"error":{"code","message","correlation_id"}}`.
///
/// As a response it has no body yet: the kit's outermost layer, which knows the correlation id, writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
}

impl ApiError {
    /// An error with a status of its own; `code` is for programs and never changes, `message` is for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 404: the thing asked for is not there.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 422: the request is understood, but a value in it cannot be used.
    pub fn unprocessable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", message)
    }

    /// 500: our fault. The cause goes to the log, never to the client.
    pub fn internal() -> Self {
        Self::of_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// 503: too much at once; the same request is fine a moment later.
    pub fn overloaded() -> Self {
        Self::of_status(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// For errors that the framework answered by itself, such as 404 and 405.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let (code, message) = match status {
            StatusCode::NOT_FOUND => ("not_found", "there is nothing at this path"),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method_not_allowed", "this path does not answer this method; see the Allow header")
            }
            StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the request body is too large"),
            StatusCode::INTERNAL_SERVER_ERROR => {
                ("internal", "something went wrong here; the log has it under this correlation id")
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                ("overloaded", "too many requests at once; try again in a moment")
            }
            status if status.is_server_error() => ("internal", "something went wrong here"),
            _ => ("bad_request", "the request cannot be answered"),
        };
        Self::new(status, code, message)
    }

    pub(crate) fn body(&self, id: &CorrelationId) -> String {
        json!({"error": {"code": self.code, "message": self.message, "correlation_id": id.to_string()}})
            .to_string()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the body of an error, whoever made it; leaves every other answer alone.
pub(crate) fn rendered(response: Response, id: &CorrelationId) -> Response {
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let error = parts.extensions.remove().unwrap_or_else(|| ApiError::of_status(parts.status));
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    Response::from_parts(parts, error.body(id).into())
}
