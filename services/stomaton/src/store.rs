//! SQLite on a thread of its own: takes closures over a connection, gives their results. Does disk I/O there.
//!
//! One thread and one connection serialise all work, so there is no lock to wait for and no busy error, and
//! nothing blocks the async runtime. A statement here takes tens of microseconds.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    thread,
    time::Duration,
};

use rusqlite::Connection;
use stomaton_kit::{ApiError, DataDir, StartError};
use thiserror::Error;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tracing::error;

use crate::schema::{self, SchemaError};

/// Jobs that may wait. More would only mean answers that nobody waits for any more.
const QUEUE: usize = 512;

/// Why a job has no result.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// More jobs wait than can be answered in time.
    #[error("the database has too many requests waiting")]
    Overloaded,
    /// The job panicked, or the thread is gone.
    #[error("the database job broke")]
    Broken,
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl From<StoreError> for ApiError {
    fn from(failure: StoreError) -> Self {
        match failure {
            StoreError::Overloaded => Self::overloaded(),
            StoreError::Broken | StoreError::Sqlite(_) => {
                error!(error = %failure, "database");
                Self::internal()
            }
        }
    }
}

#[derive(Debug, Error)]
enum OpenError {
    #[error("{path}: {source}")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("no thread for it: {0}")]
    Thread(std::io::Error),
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the database thread; the thread ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Opens the database of the service `name`, makes its tables and fills them on the first start.
    ///
    /// # Errors
    /// [`StartError::Backend`] names the database and what to do.
    pub(crate) fn open(data: &DataDir, name: &str) -> Result<Self, StartError> {
        Self::try_open(data, name).map_err(|source| StartError::Backend {
            what: format!("cannot open the database of {name}"),
            remedy: "give DATA_DIR a directory that this user can write to, or set it to \"memory\"",
            source: source.into(),
        })
    }

    fn try_open(data: &DataDir, name: &str) -> Result<Self, OpenError> {
        let mut connection = connect(data, name)?;
        schema::prepare(&mut connection)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name(format!("{name}-store"))
            .spawn(move || work(connection, queue))
            .map_err(OpenError::Thread)?;
        Ok(Self { jobs })
    }

    /// Runs `job` on the database thread.
    ///
    /// # Errors
    /// At once when the queue is full; otherwise what became of the job.
    pub(crate) async fn call<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        // The caller may have gone away; the work is done all the same.
        let job = Box::new(move |connection: &mut Connection| drop(reply.send(job(connection))));
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Overloaded,
            TrySendError::Closed(_) => StoreError::Broken,
        })?;
        Ok(result.await.map_err(|_| StoreError::Broken)??)
    }
}

fn connect(data: &DataDir, name: &str) -> Result<Connection, OpenError> {
    let connection = match data {
        DataDir::Memory => Connection::open_in_memory()?,
        DataDir::Dir(directory) => {
            std::fs::create_dir_all(directory)
                .map_err(|source| OpenError::Directory { path: directory.clone(), source })?;
            Connection::open(directory.join(format!("{name}.db")))?
        }
    };
    // Another process holds the file for a moment when a new pod starts before the old one has gone.
    connection.busy_timeout(Duration::from_secs(5))?;
    // The root file system may be read-only, so sorting must not need a temporary file.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

fn work(mut connection: Connection, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        // A panic unwinds through the job's transaction, which rolls back, and drops the reply: its caller
        // gets an error, and everyone else goes on. The panic hook has logged it.
        catch_unwind(AssertUnwindSafe(|| job(&mut connection))).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn count(connection: &mut Connection) -> rusqlite::Result<i64> {
        connection.query_row("SELECT count(*) FROM stone", [], |row| row.get(0))
    }

    #[tokio::test]
    async fn a_panicking_job_rolls_back_and_hurts_only_its_caller() {
        let store = Store::open(&DataDir::Memory, "test").unwrap();
        let broken = store.call(|connection| -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM stone", [])?;
            panic!("a bug")
        });
        assert!(matches!(broken.await, Err(StoreError::Broken)));
        assert_eq!(store.call(count).await.unwrap(), 286);
    }

    #[tokio::test]
    async fn a_full_queue_is_refused_at_once() {
        let store = Store::open(&DataDir::Memory, "test").unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (started, running) = oneshot::channel();
        let blocker = tokio::spawn({
            let store = store.clone();
            async move {
                store
                    .call(move |_| {
                        started.send(()).ok();
                        held.recv().ok();
                        Ok(())
                    })
                    .await
            }
        });
        running.await.unwrap();
        let waiting: Vec<_> = (0..QUEUE).map(|_| store.jobs.try_send(Box::new(|_| ()))).collect();
        assert!(waiting.iter().all(Result::is_ok));
        assert!(matches!(store.call(count).await, Err(StoreError::Overloaded)));

        release.send(()).unwrap();
        blocker.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_file_keeps_its_rows_and_is_filled_only_once() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::Dir(directory.path().join("made/when/missing"));
        let store = Store::open(&data, "test").unwrap();
        store
            .call(|connection| connection.execute("DELETE FROM stone WHERE id LIKE 'ruby-%'", []))
            .await
            .unwrap();
        let left = store.call(count).await.unwrap();
        drop(store);
        assert_eq!(left, 280);
        assert_eq!(Store::open(&data, "test").unwrap().call(count).await.unwrap(), left);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error_with_a_way_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = Store::open(&DataDir::Dir(file.path().join("below")), "test").unwrap_err().to_string();
        assert!(
            message.contains("cannot open the database of test") && message.contains("DATA_DIR"),
            "{message}"
        );
    }
}
