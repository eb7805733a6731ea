//! `kubectl stomaton`: where a migration is, why, and the acts of people on it.
//!
//! - [`args`]: the command line
//! - [`commands`]: what each command does, from end to end (I/O)
//! - [`cluster`]: calls to the API server (I/O)
//! - [`live`]: a text that stays in its place on a terminal (I/O)
//! - [`act`], [`direct`]: acts, and rollback without the operator (pure)
//! - [`status`], [`explain`], [`history`], [`export`], [`lint`]: objects in, text out (pure)
//! - [`find`], [`places`], [`table`], [`words`]: what they share (pure)

mod act;
mod args;
mod cluster;
mod commands;
mod direct;
mod error;
mod explain;
mod export;
mod find;
mod history;
mod lint;
mod live;
mod places;
mod status;
mod table;
#[cfg(test)]
mod testing;
mod words;

use clap::Parser;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match commands::run(args::Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kubectl stomaton: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
