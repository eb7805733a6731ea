//! What a program needs to run in an otherwise empty file system.
//! Takes paths of programs, gives their content and that of their shared libraries. I/O: reads
//! files, runs `ldd` and `strip`.

use super::archive::Entry;
use crate::cluster::cmd::{self, CmdError, Doing as _, Fault};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tokio::process::Command;

/// Why a program could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error(transparent)]
    Io(#[from] Fault),
    /// `ldd` failed.
    #[error(transparent)]
    Command(#[from] CmdError),
    /// A shared library is not installed here.
    #[error("{program} needs the shared library {library}, which is not installed here")]
    Missing {
        /// The program.
        program: String,
        /// The library's name.
        library: String,
    },
}

/// The entries for `program` at `destination` (an absolute path), and for its libraries where the
/// loader looks for them.
pub(crate) async fn gather(program: &Path, destination: &str) -> Result<BTreeMap<String, Entry>, Error> {
    let mut entries = BTreeMap::new();
    for library in libraries(program).await? {
        // As found by the loader, which on most systems is a link: the name counts, and the content.
        add(&mut entries, &library.display().to_string(), read(&library)?);
    }
    add(&mut entries, destination, stripped(program).await?);
    Ok(entries)
}

fn add(entries: &mut BTreeMap<String, Entry>, path: &str, content: Vec<u8>) {
    let path = path.trim_start_matches('/');
    for (end, _) in path.match_indices('/') {
        entries.entry(path[..end].to_owned()).or_insert(Entry::Dir(0o755));
    }
    entries.insert(path.to_owned(), Entry::File(0o755, content));
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    fs::read(path).doing_at("read", path)
}

async fn libraries(program: &Path) -> Result<Vec<PathBuf>, Error> {
    match cmd::output(Command::new("ldd").arg(program)).await {
        Ok(listing) => parse_ldd(&listing)
            .map_err(|library| Error::Missing { program: program.display().to_string(), library }),
        // `ldd` fails on a static program, and says so.
        Err(CmdError::Failed { said, .. }) if said.contains("not a dynamic executable") => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}

/// The paths in what `ldd` printed, or the name of the library that it did not find.
fn parse_ldd(listing: &str) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for line in listing.lines() {
        if let Some((name, _)) = line.split_once("=> not found") {
            return Err(name.trim().to_owned());
        }
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        paths.extend(path.map(PathBuf::from));
    }
    Ok(paths)
}

/// A copy without symbols where `strip` is installed, a plain one elsewhere: a debug build shrinks
/// to a fifth.
async fn stripped(program: &Path) -> Result<Vec<u8>, Error> {
    if !cmd::in_path("strip") {
        return Ok(read(program)?);
    }
    let copy = tempfile::NamedTempFile::new().doing("make a temporary file")?.into_temp_path();
    let mut strip = Command::new("strip");
    strip.args(["--strip-all", "--enable-deterministic-archives", "-o"]).arg(&copy).arg(program);
    cmd::output(&mut strip).await?;
    Ok(read(&copy)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines_give_paths() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse_ldd(listing).unwrap(), expected);
    }

    #[test]
    fn a_missing_library_is_named() {
        assert_eq!(parse_ldd("\tlibssl.so.3 => not found\n").unwrap_err(), "libssl.so.3");
    }
}
