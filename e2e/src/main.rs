//! `e2e`: clusters, images, load and the demo, as one command.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Starts clusters, makes images, sends load and runs the demo.
#[derive(Parser)]
#[command(name = "e2e", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start, stop and use a cluster.
    Cluster(e2e::cluster::Args),
    /// Build or fetch what tests need beside Rust, unless it is there: Kubernetes and NGINX.
    Tools,
    /// Send load and record every answer; never retries.
    Load(Box<e2e::load::Args>),
    /// Watch a route move, break, come back by itself, and arrive.
    Demo(e2e::demo::Args),
    /// Kill processes of this node; runs in a pod.
    #[command(hide = true)]
    Kill(e2e::harness::kill::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Cluster(args) => e2e::cluster::run(args).await.map_err(|e| e.to_string()),
        Command::Tools => e2e::cluster::tools().await.map_err(|e| e.to_string()),
        Command::Load(args) => e2e::load::run(*args).await.map_err(|e| e.to_string()),
        Command::Demo(args) => e2e::demo::run(args).await.map_err(|e| e.to_string()),
        Command::Kill(args) => e2e::harness::kill::run(&args).map_err(|e| e.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("e2e: {message}");
            ExitCode::FAILURE
        }
    }
}
