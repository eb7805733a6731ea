//! The size of a page, one rule for every listing. Pure.

use stomaton_kit::ApiError;

/// When the client does not say.
pub(crate) fn default_limit() -> u32 {
    20
}

/// # Errors
/// 400 outside 1 to 100.
pub(crate) fn limited(limit: u32) -> Result<u32, ApiError> {
    match limit {
        1..=100 => Ok(limit),
        _ => Err(ApiError::bad_request("limit is a number from 1 to 100")),
    }
}
