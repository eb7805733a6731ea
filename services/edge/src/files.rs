//! Files that change in one step: whoever reads sees the old or the new, never half. Does I/O.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A step on the pod's own volume failed; what was there before stays.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {path}: {cause}")]
pub struct FileError {
    step: &'static str,
    path: PathBuf,
    cause: io::Error,
}

pub(crate) fn fail(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |cause| FileError { step, path, cause }
}

/// Makes the symlink `link` point to `target`.
pub(crate) fn replace_link(link: &Path, target: &str) -> Result<(), FileError> {
    let next = link.with_extension("next");
    match fs::remove_file(&next) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(fail("remove", &next)(cause)),
        _ => {}
    }
    symlink(target, &next).map_err(fail("link", &next))?;
    fs::rename(&next, link).map_err(fail("switch", link))
}

/// Replaces the content of `path`.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let next = path.with_extension("next");
    fs::write(&next, content).map_err(fail("write", &next))?;
    fs::rename(&next, path).map_err(fail("replace", path))
}

/// Numbers of the directories `gen-N` in `dir`, ascending.
pub(crate) fn generations(dir: &Path) -> Result<Vec<u64>, FileError> {
    let mut numbers: Vec<u64> = entries(dir)?.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes all `gen-N` of `dir` but the one that `current` points to and the one before it. What is newer was never
/// in force: a crash left it.
pub(crate) fn keep_two_generations(dir: &Path, current: &Path) -> Result<Vec<PathBuf>, FileError> {
    let current = fs::read_link(current).ok().and_then(|link| number(link.as_os_str())).unwrap_or(0);
    let (older, newer): (Vec<u64>, Vec<u64>) = generations(dir)?.into_iter().partition(|n| *n <= current);
    let (old, kept) = older.split_at(older.len().saturating_sub(2));
    let path = |n: &u64| dir.join(format!("gen-{n}"));
    old.iter().chain(&newer).try_for_each(|n| remove_dir(&path(n)))?;
    Ok(kept.iter().map(path).collect())
}

fn number(name: &OsStr) -> Option<u64> {
    name.to_str()?.strip_prefix("gen-")?.parse().ok()
}

pub(crate) fn entries(dir: &Path) -> Result<Vec<OsString>, FileError> {
    let read = fs::read_dir(dir).map_err(fail("read", dir))?;
    read.map(|entry| entry.map(|e| e.file_name()).map_err(fail("read", dir))).collect()
}

/// Removes a directory and what is in it; none there is fine.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(dir) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(fail("remove", dir)(cause)),
        _ => Ok(()),
    }
}
