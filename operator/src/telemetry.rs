//! Logs: one JSON object a line on standard output. I/O: sets the process-wide subscriber.

use tracing_subscriber::EnvFilter;

/// Starts logging; `filter` is in the syntax of RUST_LOG. A second call changes nothing.
pub fn start(filter: &str) {
    // Fails only when a subscriber is already set, as in tests: then that one stays.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(EnvFilter::new(filter))
        .try_init();
}
