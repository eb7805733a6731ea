//! What every service of the fleet shares: configuration, health, logs, metrics, tokens, faults, graceful stop.
//!
//! A service is a [`Blueprint`]: a name, a port and a function that builds its routes. The kit turns it
//! into a process that behaves well in Kubernetes. Nothing here knows what a service does.
//!
//! ```no_run
//! # async fn example(blueprint: &stomaton_kit::Blueprint) -> Result<(), stomaton_kit::StartError> {
//! let settings = stomaton_kit::Settings::process();
//! let config = stomaton_kit::Config::read(blueprint, &settings)?;
//! let service = (blueprint.build)(&config, &settings)?;
//! let listener = stomaton_kit::listen(&config).await?;
//! stomaton_kit::serve(listener, service, &config, stomaton_kit::stop_signal()).await
//! # }
//! ```

mod app;
pub mod auth;
mod config;
mod correlation;
#[cfg(test)]
mod drain_test;
mod error;
mod extract;
mod fault;
mod health;
mod metrics;
mod observe;
mod server;
pub mod telemetry;

pub use app::{App, app};
pub use config::{Config, ConfigError, DataDir, Environment, Settings};
pub use correlation::CorrelationId;
pub use error::{ApiError, StartError};
pub use extract::{Json, Query};
pub use server::{Stop, listen, serve, stop_signal};

/// One service as the fleet knows it before it runs.
#[derive(Debug)]
pub struct Blueprint {
    /// The word after `fleet serve`, and the default of `SERVICE_NAME`.
    pub name: &'static str,
    /// The port when the platform sets no `PORT`.
    pub port: u16,
    /// One line for `fleet list`.
    pub about: &'static str,
    /// Opens the backends and makes the routes. May block: it runs before the service listens.
    pub build: fn(&Config, &Settings) -> Result<Service, StartError>,
}

/// Services that are started together by `fleet up NAME`.
#[derive(Debug)]
pub struct System {
    /// The word after `fleet up`.
    pub name: &'static str,
    /// One line for `fleet list`.
    pub about: &'static str,
    /// Its services, in start order.
    pub services: &'static [Blueprint],
}

/// A built service: what it answers, and what in it is only good for development.
#[derive(Debug)]
pub struct Service {
    /// The API. Health, metrics and the fault switch are added by the kit.
    pub routes: axum::Router,
    /// Development stand-ins in use, in words; logged at start and shown by `/health`.
    pub stand_ins: Vec<String>,
}
