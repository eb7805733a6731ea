//! The edge against a real NGINX, on loopback.

// Helpers of tests are outside of what clippy takes for a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api;
mod cohorts;
mod fallback;
mod handling;
mod lifecycle;
mod routing;
mod support;
mod traffic;
