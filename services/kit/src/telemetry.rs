//! Logs: one JSON object a line on standard output. Process-wide, so it is set up once, by the binary.

use std::panic;

use tracing::{error, level_filters::LevelFilter};

/// Starts logging at `level`, and makes panics log lines like any other. A second call changes nothing.
pub fn init(level: LevelFilter) {
    let started = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_max_level(level)
        .try_init();
    if started.is_ok() {
        panic::set_hook(Box::new(|info| {
            let at = info.location().map(ToString::to_string).unwrap_or_default();
            error!(at, reason = info.payload_as_str().unwrap_or("unknown"), "panic");
        }));
    }
}
