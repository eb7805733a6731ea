//! The command line: takes words, gives the service or system they name. Pure.

use std::fmt::Write;

use clap::{Parser, Subcommand};
use stomaton_kit::{Blueprint, System};

/// Every system that is linked into this binary.
const SYSTEMS: &[&System] = &[&stomaton::SYSTEM];

const SETTINGS: &str = "\
Settings (environment variables; unset or empty means the default):
  ENVIRONMENT              development (default) or production, which refuses stand-ins and FAULTS
  PORT, HOST               where to listen; the service's own port on 0.0.0.0 by default
  SERVICE_NAME             the name in logs, /health and the X-Served-By header
  LOG_LEVEL                error, warn, info (default; one line a request), debug or trace
  DRAIN_SECONDS            how long to go on serving after SIGTERM (default 5)
  DATA_DIR                 a directory, or memory (default in development; lost at exit)
  FAULTS                   allow: mount the fault switch at /_fault (development only)
  JWT_SECRET               auth: the key of the tokens, 32 bytes or more (development has a known one)
  GENERATOR                offline (default): texts from templates
  ALLOW_OFFLINE_GENERATOR  true: let production use GENERATOR=offline

`fleet up` starts several services in one process: PORT and SERVICE_NAME are then read as
CONTENT_PORT, MONOLITH_PORT, CONTENT_SERVICE_NAME and so on.";

/// One binary that serves any service of the fleet.
#[derive(Debug, Parser)]
#[command(version, after_help = SETTINGS)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show every service and system, with ports.
    List,
    /// Serve one service until SIGTERM or Ctrl-C.
    #[command(after_help = SETTINGS)]
    Serve {
        /// The name of a service, as `fleet list` shows it.
        #[arg(value_parser = service)]
        service: &'static Blueprint,
    },
    /// Serve all services of a system in this process, each on its own port.
    #[command(after_help = SETTINGS)]
    Up {
        /// The name of a system, as `fleet list` shows it.
        #[arg(value_parser = system)]
        system: &'static System,
    },
}

fn services() -> impl Iterator<Item = &'static Blueprint> {
    SYSTEMS.iter().flat_map(|system| system.services)
}

fn service(name: &str) -> Result<&'static Blueprint, String> {
    let known = || services().map(|service| service.name).collect::<Vec<_>>().join(", ");
    services().find(|service| service.name == name).ok_or_else(|| format!("the services are: {}", known()))
}

fn system(name: &str) -> Result<&'static System, String> {
    let known = || SYSTEMS.iter().map(|system| system.name).collect::<Vec<_>>().join(", ");
    SYSTEMS
        .iter()
        .find(|system| system.name == name)
        .copied()
        .ok_or_else(|| format!("the systems are: {}", known()))
}

/// What `fleet list` prints.
pub(crate) fn list() -> String {
    SYSTEMS.iter().fold(String::new(), |mut text, system| {
        // Writing to a string cannot fail.
        writeln!(text, "{}: {}", system.name, system.about).ok();
        for service in system.services {
            writeln!(text, "  {:<12} {:>5}  {}", service.name, service.port, service.about).ok();
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_find_their_service_and_wrong_ones_learn_the_right_ones() {
        let cli = Cli::try_parse_from(["fleet", "serve", "content"]).unwrap();
        assert!(matches!(cli.command, Command::Serve { service } if service.port == 8001));
        let cli = Cli::try_parse_from(["fleet", "up", "stomaton"]).unwrap();
        assert!(matches!(cli.command, Command::Up { system } if system.services.len() == 3));
        let message = Cli::try_parse_from(["fleet", "serve", "contents"]).unwrap_err().to_string();
        assert!(message.contains("content, monolith"), "{message}");
    }

    #[test]
    fn names_are_unique_and_ports_within_a_system() {
        let names: Vec<_> = services().map(|service| service.name).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        for system in SYSTEMS {
            let ports: HashSet<_> = system.services.iter().map(|service| service.port).collect();
            assert_eq!(ports.len(), system.services.len());
        }
    }

    #[test]
    fn the_list_shows_each_service_with_its_port() {
        let list = list();
        assert!(list.contains("monolith      8000") && list.contains("content       8001"), "{list}");
    }
}
