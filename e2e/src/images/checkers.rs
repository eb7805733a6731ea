//! Programs that read configurations of NGINX in ways of their own, for tests of what is rendered.
//! Takes nothing, gives a directory of Python packages in the cache. I/O: runs pip, once.

use crate::cluster::{
    cmd::{Doing as _, Fault},
    dirs, pip,
};
use std::{fs, path::PathBuf};

/// Releases and hashes.
const REQUIREMENTS: &str = include_str!("checkers.txt");

/// Why they are not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cache could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// pip failed.
    #[error("crossplane and gixy come from PyPI, and fetching them failed:\n{0}")]
    Pip(#[from] pip::Error),
}

/// Puts them where tests of other crates look for them; others than those that are wanted are replaced.
pub(crate) async fn publish() -> Result<PathBuf, Error> {
    let dir = dirs::cache()?.join("nginx-checkers");
    if fs::read_to_string(dir.join("requirements.txt")).is_ok_and(|there| there == REQUIREMENTS) {
        return Ok(dir);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).doing_at("remove", &dir)?;
    }
    pip::install(REQUIREMENTS, &dir).await?;
    Ok(dir)
}
