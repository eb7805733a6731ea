//! What the agent remembers of one object, on its volume: the fence, and the last content that was good. With it a
//! restarted agent serves on without an API server. Does I/O.

use super::fence::Fence;
use crate::files::{self, FileError, fail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

/// Memory of one object.
#[derive(Debug)]
pub(super) struct Kept<T> {
    path: PathBuf,
    memory: Memory<T>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Memory<T> {
    seen: Fence,
    good: Option<T>,
}

impl<T: Clone + Serialize + DeserializeOwned> Kept<T> {
    /// Reads what a run before this one kept at `path`.
    pub(super) fn load(path: PathBuf) -> Result<Self, FileError> {
        let memory = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Memory { seen: Fence::default(), good: None }
            }
            Err(error) => return Err(fail("read", &path)(error)),
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| fail("understand", &path)(io::Error::other(e)))?
            }
        };
        Ok(Self { path, memory })
    }

    /// Highest revision ever seen.
    pub(super) fn seen(&self) -> i64 {
        self.memory.seen.revision
    }

    /// The last content that was good.
    pub(super) fn good(&self) -> Option<Arc<T>> {
        self.memory.good.clone().map(Arc::new)
    }

    /// Asks the fence, and remembers the answer before anything is done with it.
    pub(super) fn admit(&mut self, revision: i64, object: &T) -> Result<(), String> {
        let before = self.memory.seen.clone();
        self.memory.seen.admit(revision, object)?;
        if self.memory.seen == before { Ok(()) } else { self.save().map_err(|error| error.to_string()) }
    }

    /// `object` is good: keep it for the next start.
    pub(super) fn keep(&mut self, object: &T) -> Result<(), FileError> {
        self.memory.good = Some(object.clone());
        self.save()
    }

    fn save(&self) -> Result<(), FileError> {
        let bytes =
            serde_json::to_vec(&self.memory).map_err(|e| fail("encode", &self.path)(io::Error::other(e)))?;
        files::write(&self.path, &bytes)
    }
}
