//! Starting and stopping: takes a service or a system, serves until it is told to stop.

use futures::{FutureExt, future::try_join_all};
use stomaton_kit::{
    Blueprint, Config, Service, Settings, StartError, System, listen, serve as serve_until, stop_signal,
    telemetry,
};
use thiserror::Error;
use tokio::{net::TcpListener, runtime::Runtime};

/// Settings that services in one process cannot share.
const OWN: &[&str] = &["PORT", "SERVICE_NAME"];

/// Why nothing is served.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// One service did not start, or broke.
    #[error("{service}: {source}")]
    Service { service: &'static str, source: StartError },
    /// A setting of one service, for several.
    #[error(
        "{name} is for one service, but {system} has several: unset it, or set one for each, such as {example}"
    )]
    Shared { name: &'static str, system: &'static str, example: String },
    /// The machine gives no threads.
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
}

/// A service that has its port and its backends.
struct Ready {
    name: &'static str,
    config: Config,
    service: Service,
    listener: TcpListener,
}

/// `fleet serve NAME`.
pub(crate) fn serve(blueprint: &'static Blueprint) -> Result<(), RunError> {
    run([(blueprint, Settings::process())])
}

/// `fleet up NAME`.
pub(crate) fn up(system: &'static System) -> Result<(), RunError> {
    if let Some(&name) = OWN.iter().find(|name| Settings::process().get(name).is_some()) {
        let example = Settings::scoped_name(system.services[0].name, name);
        return Err(RunError::Shared { name, system: system.name, example });
    }
    run(system.services.iter().map(|blueprint| (blueprint, Settings::process().scoped(blueprint.name, OWN))))
}

/// All start or none is served, and one signal stops them all.
fn run(services: impl IntoIterator<Item = (&'static Blueprint, Settings)>) -> Result<(), RunError> {
    Runtime::new().map_err(RunError::Runtime)?.block_on(async {
        let stop = stop_signal().shared();
        let mut ready = Vec::new();
        for (blueprint, settings) in services {
            ready.push(
                prepare(blueprint, &settings)
                    .await
                    .map_err(|source| RunError::Service { service: blueprint.name, source })?,
            );
        }
        try_join_all(ready.into_iter().map(|Ready { name, config, service, listener }| {
            let stop = stop.clone();
            async move {
                let served = serve_until(listener, service, &config, stop).await;
                served.map_err(|source| RunError::Service { service: name, source })
            }
        }))
        .await
        .map(drop)
    })
}

async fn prepare(blueprint: &'static Blueprint, settings: &Settings) -> Result<Ready, StartError> {
    let config = Config::read(blueprint, settings)?;
    telemetry::init(config.log_level);
    let service = (blueprint.build)(&config, settings)?;
    let listener = listen(&config).await?;
    Ok(Ready { name: blueprint.name, config, service, listener })
}
