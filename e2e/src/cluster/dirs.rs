//! Where things live: state (of one cluster, gone with it) and cache (kept, safe to delete).
//! Takes the environment, gives paths and locks. I/O: creates directories and lock files.

use super::cmd::{Doing as _, Fault};
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The directory for files that may be deleted at any time and are made again when missing.
pub(crate) fn cache() -> Result<PathBuf, Fault> {
    base("XDG_CACHE_HOME", ".cache")
}

/// The directory that holds the state of all local clusters.
pub(crate) fn state() -> Result<PathBuf, Fault> {
    base("XDG_STATE_HOME", ".local/state")
}

fn base(variable: &str, fallback: &str) -> Result<PathBuf, Fault> {
    let given = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let dir = given
        .or_else(|| std::env::home_dir().map(|home| home.join(fallback)))
        .ok_or_else(|| std::io::Error::other(format!("neither {variable} nor HOME is set")))
        .doing("find a directory to work in")?
        .join("stomaton");
    make_private(&dir)?;
    Ok(dir)
}

/// Creates a directory that only its owner may enter (it holds keys).
pub(crate) fn make_private(dir: &Path) -> Result<(), Fault> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).doing_at("create", dir)
}

/// Opens a lock file. It is never deleted: a lock on a deleted file guards nothing.
pub(crate) fn lock_file(path: &Path) -> Result<File, Fault> {
    if let Some(dir) = path.parent() {
        make_private(dir)?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .doing_at("open the lock file", path)
}

/// Takes an exclusive lock, off the runtime's threads, since another process may hold it for minutes.
pub(crate) async fn lock(path: PathBuf) -> Result<File, Fault> {
    let taken = tokio::task::spawn_blocking(move || {
        let file = lock_file(&path)?;
        file.lock().doing_at("lock", &path)?;
        Ok(file)
    });
    taken.await.map_err(std::io::Error::other).doing("wait for a lock")?
}
