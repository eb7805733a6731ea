//! One log file, read by whole lines as it grows. Does I/O.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

const CHUNK: usize = 64 << 10;

/// A file by inode, and how much of it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) inode: u64,
    pub(super) offset: u64,
}

/// An open log file. It stays readable when it is renamed or deleted.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    position: Position,
}

impl Reader {
    /// Opens `path`, if it is there, at the offset that `known` has for this very file, else at its beginning.
    pub(super) fn open(path: &Path, known: &[Position]) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let inode = file.metadata()?.ino();
        let offset = known.iter().find(|p| p.inode == inode).map_or(0, |p| p.offset);
        Ok(Some(Self { file, position: Position { inode, offset } }))
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether what was read is gone from the file.
    pub(super) fn is_truncated(&self) -> io::Result<bool> {
        Ok(self.size()? < self.position.offset)
    }

    /// Begins again at the start of the file.
    pub(super) fn rewind(&mut self) {
        self.position.offset = 0;
    }

    /// Gives every line that is complete by now to `each`; a last line without an end waits for the next time.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            buffer.resize(buffer.len().max(CHUNK), 0);
            let filled = self.file.read_at(buffer, self.position.offset)?;
            let chunk = &buffer[..filled];
            let Some(end) = chunk.iter().rposition(|b| *b == b'\n') else {
                if filled < buffer.len() {
                    return Ok(());
                }
                // A line longer than the buffer: ours never are, but a reader must not stand still.
                buffer.resize(buffer.len() * 2, 0);
                continue;
            };
            chunk[..end].split(|b| *b == b'\n').for_each(&mut each);
            self.position.offset += end as u64 + 1;
        }
    }
}
