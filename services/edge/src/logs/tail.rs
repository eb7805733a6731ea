//! Both logs of NGINX, with rotation, counted exactly once across restarts of the agent. Does I/O.
//!
//! Where the agent stands is kept in a checkpoint: the counters, and for each file how much of it they contain. A
//! restarted agent reads on from there and catches up before it says anything, so its boot goes on, and counters
//! never go back: every line that was reported since the checkpoint is still in a file. Therefore a rotated log is
//! deleted only after a checkpoint that contains all of it.

use super::count::{Kind, count};
use super::print::Printer;
use super::reader::{Position, Reader};
use super::{BAD_LOG, GOOD_LOG, ROTATED};
use crate::files::{self, FileError, fail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use stomaton_crds::edge_state::EdgeState;

use tracing::warn;

/// A log of this size is rotated.
const ROTATE_AT: u64 = 8 << 20;

/// What a restarted agent goes on from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Counters, boot and sequence.
    pub state: EdgeState,
    files: Vec<Position>,
    /// Rotated logs that were counted to their end: whether they are still there means nothing.
    done: Vec<Position>,
}

/// Both logs.
#[derive(Debug)]
pub struct Tail {
    dir: PathBuf,
    checkpoint: PathBuf,
    rotate_at: u64,
    logs: [Log; 2],
    buffer: Vec<u8>,
    /// Gets every line that was counted.
    printer: Option<Printer>,
}

#[derive(Debug)]
struct Log {
    name: &'static str,
    /// The file of this name, once it is there.
    current: Option<Reader>,
    /// The file before it: renamed, and NGINX may still write to it.
    rotated: Option<Reader>,
    /// The rotated file was counted to its end.
    done: bool,
}

impl Tail {
    /// Opens the logs in `dir` and goes on from `checkpoint`, if there is one; gives the counters so far.
    pub fn open(dir: &Path, checkpoint: &Path) -> Result<(Self, Option<EdgeState>), FileError> {
        let before = load(checkpoint)?;
        let known: Vec<Position> =
            before.iter().flat_map(|before| before.files.iter().chain(&before.done).copied()).collect();
        let log = |name| Log::open(dir, name, &known);
        let logs = [log(GOOD_LOG)?, log(BAD_LOG)?];
        let mut tail = Self {
            dir: dir.into(),
            checkpoint: checkpoint.into(),
            rotate_at: ROTATE_AT,
            logs,
            buffer: Vec::new(),
            printer: None,
        };
        let Some(Checkpoint { mut state, files, done }) = before else { return Ok((tail, None)) };
        let open: Vec<u64> = tail.readers().map(|reader| reader.position().inode).collect();
        // What was not read to its end and is nowhere now was lost.
        state.gaps += files.iter().filter(|file| !open.contains(&file.inode)).count() as u64;
        for log in &mut tail.logs {
            log.done = log.rotated.as_ref().is_some_and(|r| done.contains(&r.position()));
        }
        tail.remove_done()?;
        Ok((tail, Some(state)))
    }

    /// Rotates at `bytes` instead of 8 MiB.
    #[must_use]
    pub fn rotating_at(mut self, bytes: u64) -> Self {
        self.rotate_at = bytes;
        self
    }

    /// Gives every line to `printer`, too.
    #[must_use]
    pub fn printing(mut self, printer: Printer) -> Self {
        self.printer = Some(printer);
        self
    }

    /// Counts what is there and writes down whose count it is. To be called before anything is said: a boot of
    /// which there is no checkpoint could not go on after a crash.
    pub fn resume(&mut self, state: &mut EdgeState) -> Result<(), FileError> {
        self.catch_up(state)?;
        self.note_if_full(state);
        self.save(state)
    }

    /// Counts what was written since; gives the worst of it.
    pub(super) fn catch_up(&mut self, state: &mut EdgeState) -> Result<Option<Kind>, FileError> {
        let mut worst = None;
        for log in &mut self.logs {
            let mut each = |line: &[u8]| {
                worst = worst.max(Some(count(state, line)));
                if let Some(printer) = &mut self.printer {
                    printer.line(line);
                    if printer.is_full() {
                        printer.flush();
                    }
                }
            };
            let gaps = log.catch_up(&self.dir, &mut self.buffer, &mut each)?;
            state.gaps += gaps;
        }
        self.printer.iter_mut().for_each(Printer::flush);
        Ok(worst)
    }

    /// Without room NGINX drops lines, and nothing else shows it: a gap.
    pub(super) fn note_if_full(&self, state: &mut EdgeState) {
        if rustix::fs::statvfs(&self.dir).is_ok_and(|volume| volume.f_bavail == 0) {
            warn!("the volume of the access logs is full: answers go uncounted");
            state.gaps += 1;
        }
    }

    /// Renames what has become large. Then, or if a run before this one has renamed and gone no further, NGINX must
    /// be asked to reopen its logs, and [`Self::reopened`] be called.
    pub(super) fn rotate(&mut self) -> Result<bool, FileError> {
        for log in &mut self.logs {
            log.rotate(&self.dir, self.rotate_at)?;
        }
        Ok(self.logs.iter().any(|log| log.rotated.is_some()))
    }

    /// NGINX has let go of what was renamed: counts the rest of it, then deletes it.
    pub(super) fn reopened(&mut self, state: &mut EdgeState) -> Result<Option<Kind>, FileError> {
        let worst = self.catch_up(state)?;
        self.logs.iter_mut().for_each(|log| log.done = log.rotated.is_some());
        self.save(state)?;
        self.remove_done()?;
        Ok(worst)
    }

    /// Writes down where the counters in `state` stand.
    pub(super) fn save(&self, state: &EdgeState) -> Result<(), FileError> {
        let positions = |done| {
            let rotated =
                self.logs.iter().filter(move |log| log.done == done).filter_map(|l| l.rotated.as_ref());
            rotated.map(Reader::position)
        };
        let current = self.logs.iter().filter_map(|log| log.current.as_ref()).map(Reader::position);
        let files = current.chain(positions(false)).collect();
        let checkpoint = Checkpoint { state: state.clone(), files, done: positions(true).collect() };
        let bytes = serde_json::to_vec(&checkpoint)
            .map_err(|error| fail("encode", &self.checkpoint)(std::io::Error::other(error)))?;
        files::write(&self.checkpoint, &bytes)
    }

    fn remove_done(&mut self) -> Result<(), FileError> {
        for log in self.logs.iter_mut().filter(|log| log.done) {
            let path = self.dir.join(log.rotated_name());
            fs::remove_file(&path).map_err(fail("remove", &path))?;
            log.rotated = None;
            log.done = false;
        }
        Ok(())
    }

    fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.logs.iter().flat_map(|log| log.current.iter().chain(&log.rotated))
    }
}

impl Log {
    fn open(dir: &Path, name: &'static str, known: &[Position]) -> Result<Self, FileError> {
        let mut log = Self { name, current: None, rotated: None, done: false };
        let open = |path: PathBuf| Reader::open(&path, known).map_err(fail("open", &path));
        log.current = open(dir.join(name))?;
        log.rotated = open(dir.join(log.rotated_name()))?;
        Ok(log)
    }

    fn rotated_name(&self) -> String {
        format!("{}{ROTATED}", self.name)
    }

    /// Gives `each` line that was written since; says how many stretches were lost.
    fn catch_up(
        &mut self,
        dir: &Path,
        buffer: &mut Vec<u8>,
        each: &mut impl FnMut(&[u8]),
    ) -> Result<u64, FileError> {
        let path = dir.join(self.name);
        let mut gaps = 0;
        let on_disk = fs::metadata(&path).ok().map(|meta| meta.ino());
        if let Some(current) = &mut self.current
            && current.is_truncated().map_err(fail("read", &path))?
        {
            gaps += 1;
            current.rewind();
        }
        for reader in self.rotated.iter_mut().chain(&mut self.current) {
            reader.read(buffer, &mut *each).map_err(fail("read", &path))?;
        }
        let is_other = |reader: &Reader| on_disk != Some(reader.position().inode);
        if self.current.as_ref().is_some_and(is_other) {
            // Somebody else renamed or removed it: what NGINX still writes there cannot be followed for long.
            gaps += 1;
            self.current = None;
        }
        if self.current.is_none() && on_disk.is_some() {
            self.current = Reader::open(&path, &[]).map_err(fail("open", &path))?;
            return Ok(gaps + self.catch_up(dir, buffer, each)?);
        }
        Ok(gaps)
    }

    fn rotate(&mut self, dir: &Path, at: u64) -> Result<(), FileError> {
        let path = dir.join(self.name);
        let Some(current) = self.current.as_ref().filter(|_| self.rotated.is_none()) else { return Ok(()) };
        if current.size().map_err(fail("read", &path))? >= at {
            fs::rename(&path, dir.join(self.rotated_name())).map_err(fail("rotate", &path))?;
            self.rotated = self.current.take();
        }
        Ok(())
    }
}

fn load(path: &Path) -> Result<Option<Checkpoint>, FileError> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail("read", path)(error)),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| fail("understand", path)(std::io::Error::other(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;

    const GOOD: &str =
        "{\"r\":\"00000000000000aa\",\"d\":\"service\",\"a\":\"public\",\"s\":\"200\",\"u\":\"200\"}\n";

    /// NGINX's side and ours.
    struct Pair {
        dir: tempfile::TempDir,
        tail: Tail,
        state: EdgeState,
    }

    impl Pair {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (tail, state) = Self::open(dir.path());
            Self { dir, tail, state: state.unwrap_or_default() }
        }

        fn open(dir: &Path) -> (Tail, Option<EdgeState>) {
            let logs = dir.join("logs");
            fs::create_dir_all(&logs).unwrap();
            let (tail, state) = Tail::open(&logs, &dir.join("counted.json")).unwrap();
            let mut tail = tail.rotating_at(100);
            let mut counted = state.clone().unwrap_or_default();
            tail.resume(&mut counted).unwrap();
            (tail, state.map(|_| counted))
        }

        /// The agent ends without a word, and another one begins.
        fn crash(&mut self) {
            let (tail, state) = Self::open(self.dir.path());
            (self.tail, self.state) = (tail, state.unwrap());
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join("logs").join(name)
        }

        fn write(&self, name: &str, text: &str) {
            let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn counted(&mut self) -> (u64, u64) {
            self.tail.catch_up(&mut self.state).unwrap();
            (self.state.lines, self.state.gaps)
        }
    }

    #[test]
    fn a_line_counts_when_it_is_whole() {
        let mut pair = Pair::new();
        pair.write(GOOD_LOG, &GOOD[..20]);
        assert_eq!(pair.counted(), (0, 0));
        pair.write(GOOD_LOG, &GOOD[20..]);
        pair.write(BAD_LOG, GOOD);
        assert_eq!(pair.counted(), (2, 0));
        assert_eq!(pair.counted(), (2, 0));
    }

    #[test]
    fn every_line_counts_once_wherever_a_crash_comes() {
        // Before the rename, before the reopening, after it, and between the last checkpoint and the deletion.
        for crash_at in 0..4 {
            let mut pair = Pair::new();
            let crash = |step: i32, pair: &mut Pair| {
                if step == crash_at {
                    pair.crash();
                }
            };
            pair.write(GOOD_LOG, &GOOD.repeat(3));
            assert_eq!(pair.counted(), (3, 0));
            crash(0, &mut pair);
            assert!(pair.tail.rotate().unwrap());
            // NGINX does not know yet.
            pair.write("good.log.old", GOOD);
            crash(1, &mut pair);
            assert_eq!(pair.counted(), (4, 0), "crash at {crash_at}");
            assert!(pair.tail.rotate().unwrap(), "NGINX must be asked again after a crash");
            pair.write("good.log.old", GOOD);
            pair.write(GOOD_LOG, GOOD);
            crash(2, &mut pair);
            assert_eq!(pair.counted(), (6, 0), "crash at {crash_at}");
            if crash_at == 3 {
                pair.tail.logs[0].done = true;
                pair.tail.save(&pair.state).unwrap();
                pair.crash();
            } else {
                pair.tail.reopened(&mut pair.state).unwrap();
            }
            assert!(!pair.path("good.log.old").exists());
            pair.write(GOOD_LOG, GOOD);
            assert_eq!(pair.counted(), (7, 0), "crash at {crash_at}");
        }
    }

    #[test]
    fn what_is_lost_is_a_gap() {
        let mut pair = Pair::new();
        pair.write(GOOD_LOG, &GOOD.repeat(2));
        assert_eq!(pair.counted(), (2, 0));
        fs::remove_file(pair.path(GOOD_LOG)).unwrap();
        pair.write(GOOD_LOG, GOOD);
        assert_eq!(pair.counted(), (3, 1));
        fs::write(pair.path(GOOD_LOG), "").unwrap();
        assert_eq!(pair.counted(), (3, 2));
        pair.write(GOOD_LOG, GOOD);
        assert_eq!(pair.counted(), (4, 2));
        pair.tail.save(&pair.state).unwrap();
        fs::remove_file(pair.path(GOOD_LOG)).unwrap();
        pair.crash();
        assert_eq!(pair.counted(), (4, 3));
    }
}
