//! Who calls: the `X-Service-Token` header, checked against files that may change at any time, and read from files for
//! calls of our own. I/O: reads a small directory, at most once a second.
//!
//! Whoever deploys a service makes, replaces and mounts the tokens. Where there is no directory nobody asked for
//! tokens, and every caller is let through.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::ApiError;

/// The header in which callers show their token.
pub const HEADER: HeaderName = HeaderName::from_static("x-service-token");

/// How long what was read is believed. Tokens overlap for minutes.
const BELIEVED: Duration = Duration::from_secs(1);

/// The tokens that a service accepts: each line of each file of a directory.
#[derive(Debug)]
pub(crate) struct Callers {
    directory: PathBuf,
    read: Mutex<Read>,
}

/// What was read, and when.
#[derive(Default)]
struct Read {
    at: Option<Instant>,
    /// Names, times and sizes of the files: whether they are still those that were read.
    stamp: Vec<(PathBuf, SystemTime, u64)>,
    /// None: there is no directory.
    accepted: Option<Vec<String>>,
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Read")
    }
}

impl Callers {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, read: Mutex::default() }
    }

    /// Whether a request that shows `token` is let through.
    fn admit(&self, token: Option<&[u8]>, now: Instant) -> bool {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.at.is_none_or(|at| now.duration_since(at) >= BELIEVED) {
            self.refresh(&mut read);
            read.at = Some(now);
        }
        let Some(accepted) = &read.accepted else { return true };
        let Some(token) = token else { return false };
        // All of them each time, so that the time taken says nothing.
        accepted.iter().fold(false, |found, line| found | same(line.as_bytes(), token))
    }

    fn refresh(&self, read: &mut Read) {
        match stamp(&self.directory) {
            Ok(stamp) if read.accepted.is_some() && stamp == read.stamp => {}
            Ok(stamp) => {
                let files = stamp.iter().filter_map(|(path, ..)| fs::read_to_string(path).ok());
                let lines =
                    files.flat_map(|text| text.lines().map(|l| l.trim().to_owned()).collect::<Vec<_>>());
                read.accepted = Some(lines.filter(|line| !line.is_empty()).collect());
                read.stamp = stamp;
            }
            // It never was there. One that goes away later opens nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound && read.accepted.is_none() => {}
            Err(error) => {
                tracing::warn!(%error, directory = %self.directory.display(), "cannot read the accepted tokens; those known stay");
                read.accepted.get_or_insert_default();
            }
        }
    }
}

/// The files of a directory. Kubernetes puts them behind symbolic links, and changes where those lead.
fn stamp(directory: &Path) -> io::Result<Vec<(PathBuf, SystemTime, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_file() {
            files.push((fs::canonicalize(&path)?, metadata.modified()?, metadata.len()));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether two texts are the same, in a time that depends on their lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b))) == 0
}

/// Lets only requests through that show a token which is accepted.
pub(crate) async fn check(State(callers): State<Arc<Callers>>, request: Request, next: Next) -> Response {
    let token = request.headers().get(&HEADER).map(HeaderValue::as_bytes);
    match callers.admit(token, Instant::now()) {
        true => next.run(request).await,
        false => ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "this service answers services only: send your token as X-Service-Token",
        )
        .into_response(),
    }
}

/// The tokens of this service for those that it calls.
#[derive(Debug, Clone)]
pub struct Tokens {
    directory: PathBuf,
}

impl Tokens {
    /// The tokens in `directory`, a file for each service that is called.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The token for a call to `service` (`NAMESPACE.NAME`, if it is in another namespace) now, as the value of
    /// [`HEADER`]; none when there is none. Ask anew for each call: the answer changes. A file is read each time, from memory as Kubernetes mounts it.
    pub fn current(&self, service: &str) -> Option<HeaderValue> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if service.is_empty() || service.starts_with('.') || !service.bytes().all(fits) {
            return None;
        }
        let text = fs::read_to_string(self.directory.join(service)).ok()?;
        let mut value = HeaderValue::try_from(text.trim()).ok().filter(|value| !value.is_empty())?;
        // Kept out of logs and debug output.
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory of its own that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("stomaton-kit-{}-{name}", std::process::id()));
            fs::remove_dir_all(&path).ok();
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// Writes the files as the kubelet does: into a new directory, to which one link is then moved.
        fn publish(&self, version: &str, files: &[(&str, &str)]) {
            let data = self.0.join(version);
            fs::create_dir(&data).unwrap();
            for (name, text) in files {
                fs::write(data.join(name), text).unwrap();
                let link = self.0.join(name);
                if fs::symlink_metadata(&link).is_err() {
                    symlink(Path::new("..data").join(name), link).unwrap();
                }
            }
            symlink(version, self.0.join("..tmp")).unwrap();
            fs::rename(self.0.join("..tmp"), self.0.join("..data")).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn each_line_of_each_file_is_accepted_until_it_is_gone() {
        let scratch = Scratch::new("lines");
        scratch.publish("..1", &[("shop", "old\nnew\n"), ("search", "other")]);
        let (callers, now) = (Callers::new(scratch.0.clone()), Instant::now());
        let admits = |token: &str, now| callers.admit(Some(token.as_bytes()), now);
        assert!(["old", "new", "other"].iter().all(|token| admits(token, now)));
        assert!(!["", "ol", "oldnew", "old\nnew"].iter().any(|token| admits(token, now)));
        assert!(!callers.admit(None, now));

        scratch.publish("..2", &[("shop", "new\n"), ("search", "other")]);
        assert!(admits("old", now), "what was read is believed for a second");
        assert!(!admits("old", now + BELIEVED));
        assert!(admits("new", now + BELIEVED));
    }

    #[test]
    fn without_a_directory_everybody_is_let_through_and_an_empty_one_admits_nobody() {
        let scratch = Scratch::new("none");
        let (callers, now) = (Callers::new(scratch.0.join("callers")), Instant::now());
        assert!(callers.admit(None, now));
        fs::create_dir(scratch.0.join("callers")).unwrap();
        assert!(!callers.admit(None, now + BELIEVED));
        fs::remove_dir(scratch.0.join("callers")).unwrap();
        assert!(!callers.admit(None, now + BELIEVED * 2), "what was closed stays closed");
    }

    #[test]
    fn a_token_for_a_call_is_the_newest() {
        let scratch = Scratch::new("tokens");
        scratch.publish("..1", &[("database", "first\n")]);
        let tokens = Tokens::new(&scratch.0);
        let first = tokens.current("database").unwrap();
        assert_eq!((first.as_bytes(), first.is_sensitive()), (&b"first"[..], true));
        scratch.publish("..2", &[("database", "second")]);
        assert_eq!(tokens.current("database").unwrap(), "second");
        assert_eq!(tokens.current("../database"), None);
        assert_eq!(tokens.current(".."), None);
        assert_eq!(tokens.current("search"), None);
    }
}
