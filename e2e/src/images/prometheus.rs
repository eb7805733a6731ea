//! Prometheus as a file: this machine's own, or else that of its package archive. Takes nothing, gives a path. I/O: runs
//! apt-get, once.

use super::debian;
use crate::cluster::{cmd::Fault, dirs};
use std::path::PathBuf;

/// Where the package has it.
const INSTALLED: &str = "/usr/bin/prometheus";

/// Why there is no Prometheus.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cache could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// The package could not be had.
    #[error("Prometheus is not installed, and fetching it from this machine's package archive failed:\n{0}")]
    Package(#[from] debian::Error),
}

/// The path of the program.
pub(crate) async fn ensure() -> Result<PathBuf, Error> {
    let installed = PathBuf::from(INSTALLED);
    if installed.exists() {
        return Ok(installed);
    }
    let program = dirs::cache()?.join("prometheus-debian/prometheus");
    if !program.exists() {
        debian::program("prometheus", INSTALLED.trim_start_matches('/'), "--version", &program).await?;
    }
    Ok(program)
}
