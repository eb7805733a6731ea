//! What a load has recorded so far, shared by its clients and the control endpoint. No I/O.

use super::record::Record;
use super::summary::{Summary, Tally};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Wall time that does not jump while a load runs, comparable with other processes of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    began_micros: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { began: Instant::now(), began_micros: wall.as_micros() as u64 }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn began_micros(&self) -> u64 {
        self.began_micros
    }

    /// Microseconds since the Unix epoch.
    pub(super) fn now_micros(&self) -> u64 {
        self.began_micros + self.began.elapsed().as_micros() as u64
    }
}

/// All records, in the order in which they were completed, and their running summary.
#[derive(Debug, Default)]
pub(super) struct Store(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    records: Vec<Record>,
    tally: Tally,
    latest_start: Duration,
}

impl Store {
    /// Sets address space aside for `expected` records, so that growing never copies while clients
    /// wait; memory is used only as it fills.
    pub(super) fn expecting(expected: usize) -> Self {
        Store(Mutex::new(Inner { records: Vec::with_capacity(expected), ..Inner::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record; `late` is by how much it was sent later than the schedule wanted.
    pub(super) fn push(&self, record: Record, late: Duration) {
        let mut inner = self.lock();
        inner.tally.add(&record);
        inner.records.push(record);
        inner.latest_start = inner.latest_start.max(late);
    }

    /// At most `limit` records from index `from`.
    pub(super) fn records(&self, from: usize, limit: usize) -> Vec<Record> {
        self.lock().records.iter().skip(from).take(limit).cloned().collect()
    }

    /// The summary so far, and the longest that a request had to wait for a free client.
    pub(super) fn summary(&self) -> (Summary, Duration) {
        let (tally, late) = {
            let inner = self.lock();
            (inner.tally.clone(), inner.latest_start)
        };
        (tally.summary(), late)
    }
}
