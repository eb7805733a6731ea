//! One binary that serves any service of the fleet: takes a command line and the environment, listens on ports.

mod command;
mod run;

use std::process::ExitCode;

use clap::Parser;

use crate::command::{Cli, Command};

/// Exit codes: 0 after a clean stop, 1 when a service could not start or broke, 2 for a wrong command line.
fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::List => {
            print!("{}", command::list());
            Ok(())
        }
        Command::Serve { service } => run::serve(service),
        Command::Up { system } => run::up(system),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error}");
            ExitCode::FAILURE
        }
    }
}
