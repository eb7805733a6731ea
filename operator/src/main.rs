//! The operator's process: what it is told, its logs, and [`run`].

use clap::Parser;
use std::process::ExitCode;
use stomaton_operator::{args::Args, run, telemetry};

fn main() -> ExitCode {
    let settings = Args::parse().into_settings();
    telemetry::start(&settings.log);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(run::Error::Runtime)
        .and_then(|runtime| runtime.block_on(run::run(settings)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator stops");
            ExitCode::FAILURE
        }
    }
}
