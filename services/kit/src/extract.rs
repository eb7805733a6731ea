//! Request extractors that refuse in the kit's error shape. Takes a request, gives typed values.

use axum::{
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::ApiError;

/// A JSON body, in or out. As an extractor: 415 without `Content-Type: application/json`, 413 when too
/// large, 400 when it is not JSON, 422 when it is JSON of another shape.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(json_error(&rejection)),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

fn json_error(rejection: &JsonRejection) -> ApiError {
    match (rejection, rejection.status()) {
        (JsonRejection::MissingJsonContentType(_), status) => {
            ApiError::new(status, "unsupported_media_type", "send JSON, with Content-Type: application/json")
        }
        (_, StatusCode::PAYLOAD_TOO_LARGE) => ApiError::of_status(StatusCode::PAYLOAD_TOO_LARGE),
        (JsonRejection::JsonDataError(error), _) => ApiError::unprocessable(cause(error)),
        (JsonRejection::JsonSyntaxError(error), _) => ApiError::bad_request(cause(error)),
        _ => ApiError::bad_request("the request body could not be read"),
    }
}

/// The query string. 400 when a value has the wrong form.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                Err(ApiError::bad_request(cause(&error)))
            }
            Err(_) => Err(ApiError::bad_request("the query string could not be read")),
        }
    }
}

/// The innermost cause: serde's own sentence, which names the field, without the framework's before it.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
