//! A test on a real cluster: sets the cluster up once, gives the test a namespace, and when the test fails keeps
//! everything that explains it. I/O: everything.

use super::{Error, Harness, dump::dump, install, namespace::Namespace, target_dir};
use crate::cluster::{
    Target,
    cmd::{Doing as _, Fault},
    dirs,
};
use futures::FutureExt as _;
use std::{fs::File, panic::AssertUnwindSafe, path::PathBuf};
use tokio::sync::Mutex;

/// Whether other scenarios may run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It neither measures time nor disturbs what others rely on.
    Alongside,
    /// It measures, loads the machine, or takes the operator away.
    Alone,
}

/// Whether this process has set the cluster up. Clients belong to the runtime that made them and each test has its
/// own, so this is all that tests share.
static SET_UP: Mutex<bool> = Mutex::const_new(false);

/// Runs a test body in a namespace of its own, on a cluster with the newest operator.
///
/// # Panics
/// When the body fails or panics, after everything was dumped to `target/e2e/NAMESPACE/`.
pub async fn scenario(name: &str, turn: Turn, body: impl AsyncFnOnce(&Namespace<'_>) -> Result<(), Error>) {
    if let Err(error) = in_namespace(name, turn, body).await {
        panic!("{name}: {error}");
    }
}

/// The same for what is no test: gives what the body gives, or its error, after the same dump.
pub async fn in_namespace<T>(
    name: &str,
    turn: Turn,
    body: impl AsyncFnOnce(&Namespace<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let harness = set_up().await?;
    let _turn = take(turn).await?;
    let namespace = Namespace::create(&harness, name).await?;
    let outcome = AssertUnwindSafe(body(&namespace)).catch_unwind().await;
    if !matches!(outcome, Ok(Ok(_))) {
        dump(&namespace).await;
    }
    namespace.delete().await?;
    // Its pods would take time from whoever measures next.
    if turn == Turn::Alone {
        namespace.is_gone().await?;
    }
    match outcome {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The cluster with images and operator up to date. Tests of several processes wait for each other.
async fn set_up() -> Result<Harness, Error> {
    let mut done = SET_UP.lock().await;
    if *done {
        return Harness::start(&Target::default()).await;
    }
    let _one_at_a_time = dirs::lock(lock_file("set-up")).await?;
    install::build().await?;
    let harness = Harness::start(&Target::default()).await?;
    let images = harness.load_images().await?;
    harness.install(&images).await?;
    *done = true;
    Ok(harness)
}

/// Waits for the turn; it ends when the file is dropped.
async fn take(turn: Turn) -> Result<File, Error> {
    let path = lock_file("turn");
    let taken = tokio::task::spawn_blocking(move || {
        let file = dirs::lock_file(&path)?;
        let lock = match turn {
            Turn::Alongside => file.lock_shared(),
            Turn::Alone => file.lock(),
        };
        lock.doing_at("lock", &path)?;
        Ok::<_, Fault>(file)
    });
    Ok(taken.await.map_err(std::io::Error::other).doing("wait for a turn")??)
}

fn lock_file(name: &str) -> PathBuf {
    target_dir().join("e2e").join(format!("{name}.lock"))
}
