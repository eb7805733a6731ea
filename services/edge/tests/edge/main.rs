//! The edge against a real NGINX, on loopback.

// Helpers of tests are outside of what clippy takes for a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod api;
mod auth;
mod clients;
mod cohorts;
mod fallback;
mod fixtures;
mod guards;
mod handling;
mod lifecycle;
mod limits;
mod lint;
mod passing;
mod routing;
mod support;
mod tls;
mod traffic;
mod unreadable;
