//! PID 1 of the NGINX container. Takes a configuration that the agent writes, gives a running NGINX and answers on
//! a unix socket. Does I/O.
//!
//! It makes tables for NGINX of mounted tokens, which nobody else may see, and reloads it when they change.
//!
//! It starts NGINX when a first configuration is there, and ends with it. On TERM it keeps serving while endpoints
//! move, then lets NGINX finish. It knows nothing of routes, and of the
//! certificates that NGINX serves it tells everything but the keys.

mod certificates;
mod children;
mod nginx;
mod server;
mod tokens;
mod workers;

use crate::files::FileError;
use children::Children;
use nginx::Nginx;
use server::Server;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{io, thread};
use tokens::{Tokens, follow};

use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// What the supervisor is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it answers.
    pub control_socket: PathBuf,
    /// Directory of the access logs; made here, since only its owner may let others rename in it.
    pub log_dir: PathBuf,
    /// Directory with a directory for each certificate; need not be there.
    pub tls_dir: PathBuf,
    /// Configuration of NGINX, a path through a symlink that the agent replaces.
    pub config: PathBuf,
    /// Directory with a directory for each mounted Secret of tokens; need not be there.
    pub tokens_dir: PathBuf,
    /// Directory for what NGINX includes of them.
    pub token_tables_dir: PathBuf,
    /// How long to go on serving after TERM, until no endpoint leads here any more.
    pub drain: Duration,
    /// The NGINX binary.
    pub nginx: PathBuf,
    /// Further arguments of NGINX, for a run as for a test.
    pub nginx_args: Vec<String>,
}

/// Why the supervisor could not start.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// A directory or socket could not be made.
    #[error("cannot {step} {path}: {cause}; is the volume mounted, writable, and of the pod's fsGroup?")]
    Volume {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Tables of tokens that a run before this one left could not be removed.
    #[error(transparent)]
    Tokens(#[from] FileError),
    /// The binary could not be run.
    #[error("cannot run {nginx}: {cause}; --nginx must name an NGINX binary")]
    Start {
        /// The binary.
        nginx: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The binary does not say a version that can be read.
    #[error("{nginx} -v said {said:?}, which is no version of NGINX")]
    Version {
        /// The binary.
        nginx: PathBuf,
        /// Its answer.
        said: String,
    },
    /// Signals cannot be received.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
}

/// Runs until TERM or until NGINX ends; gives the exit code.
pub async fn run(options: Options) -> Result<i32, SuperviseError> {
    let mut stop = pin!(stop().map_err(SuperviseError::Signals)?);
    make_log_dir(&options.log_dir)?;
    let listener = bind(&options.control_socket)?;
    let children = Arc::new(Children::default());
    let reaper = Arc::clone(&children);
    thread::spawn(move || reaper.reap());
    let version = nginx::version(&options, &children).await?;

    let options = Arc::new(options);
    let running = Arc::new(OnceLock::new());
    let server = Server::new(Arc::clone(&options), Arc::clone(&children), Arc::clone(&running), version);
    let server = Arc::new(server);
    let mut tokens = Tokens::open(&options.tokens_dir, &options.token_tables_dir)?;
    // Before the first configuration that includes them.
    tokens.refresh();
    let following = tokio::spawn(follow(tokens, Arc::clone(&server)));
    let serving = tokio::spawn(server.serve(listener));
    info!(%version, config = %options.config.display(), "waiting for a first configuration");
    let code = tokio::select! {
        () = exists(&options.config) => {
            let (nginx, exit) = nginx::start(&options, &children)?;
            attend(running.get_or_init(|| nginx), exit, stop.as_mut(), options.drain).await
        }
        () = &mut stop => 0,
    };
    serving.abort();
    following.abort();
    // Tells the agent that nothing serves here any more.
    let _ = fs::remove_file(&options.control_socket);
    Ok(code)
}

/// Done at the first TERM, or INT from a terminal.
fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Waits for TERM or the end of NGINX, drains, and gives the exit code.
async fn attend(
    nginx: &Nginx,
    mut exit: oneshot::Receiver<i32>,
    stop: impl Future<Output = ()>,
    drain: Duration,
) -> i32 {
    info!("NGINX was started");
    let died = tokio::select! {
        code = &mut exit => Some(code),
        () = stop => None,
    };
    let died = match died {
        Some(code) => Some(code),
        None => {
            info!(drain = drain.as_secs_f32(), "TERM: serving on while endpoints move");
            timeout(drain, &mut exit).await.ok()
        }
    };
    if let Some(code) = died {
        let code = code.unwrap_or(1);
        warn!(code, "NGINX ended by itself");
        nginx.clear();
        return code;
    }
    nginx.quit();
    let code = exit.await.unwrap_or(1);
    info!(code, "NGINX finished");
    code
}

/// A path that is not there yet is looked for 50 times a second: once per pod, and short.
async fn exists(path: &Path) {
    while !path.exists() {
        sleep(Duration::from_millis(20)).await;
    }
}

/// An emptyDir is sticky, so that only the owner of a file may rename it; this directory is not, and keeps the group
/// that both containers are in.
fn make_log_dir(dir: &Path) -> Result<(), SuperviseError> {
    fs::create_dir_all(dir).map_err(volume("make", dir))?;
    fs::set_permissions(dir, Permissions::from_mode(0o2775)).map_err(volume("set the mode of", dir))
}

/// Sockets of a run before this one would keep NGINX and us from binding; nothing answers on them any more.
fn bind(socket: &Path) -> Result<UnixListener, SuperviseError> {
    let dir = socket.parent().unwrap_or(Path::new("."));
    let stale = fs::read_dir(dir).map_err(volume("read", dir))?.flatten();
    for entry in stale.filter(|entry| entry.file_type().is_ok_and(|t| t.is_socket())) {
        fs::remove_file(entry.path()).map_err(volume("remove", &entry.path()))?;
    }
    let listener = UnixListener::bind(socket).map_err(volume("listen at", socket))?;
    // The agent is another user of the same group.
    fs::set_permissions(socket, Permissions::from_mode(0o660)).map_err(volume("set the mode of", socket))?;
    Ok(listener)
}

fn volume(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SuperviseError {
    let path = path.to_owned();
    move |cause| SuperviseError::Volume { step, path, cause }
}
