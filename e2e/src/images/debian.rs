//! Programs of the package archive of this machine, without installing them. Takes the name of a package, gives a program
//! in the cache. I/O: runs apt-get and dpkg-deb.

use crate::cluster::cmd::{self, CmdError, Doing as _, Fault};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tokio::process::Command;

/// Why a package's program could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// apt-get, dpkg-deb or the program itself failed.
    #[error(transparent)]
    Command(#[from] CmdError),
}

/// Puts the program that is at `within` in a package to `destination`, whole or not at all, after it has answered to
/// `check`.
pub(crate) async fn program(
    package: &str,
    within: &str,
    check: &str,
    destination: &Path,
) -> Result<(), Error> {
    let fresh = tempfile::tempdir().doing("make a directory")?;
    cmd::output(Command::new("apt-get").args(["-q", "download", package]).current_dir(&fresh)).await?;
    let files = fs::read_dir(&fresh).doing_at("read", fresh.path())?.flatten().map(|file| file.path());
    let packages: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "deb")).collect();
    for package in packages {
        cmd::output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(fresh.path())).await?;
    }
    let unpacked = fresh.path().join(within);
    // One that lacks a library of the system would fail every test, and none would say why.
    cmd::output(Command::new(&unpacked).arg(check)).await?;
    let dir = destination.parent().unwrap_or(destination);
    fs::create_dir_all(dir).doing_at("make", dir)?;
    let whole = destination.with_extension("new");
    fs::copy(&unpacked, &whole).doing_at("write", &whole)?;
    fs::rename(&whole, destination).doing_at("move a program to", destination)?;
    Ok(())
}
