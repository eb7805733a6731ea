//! NGINX as a child process: start, test, reload, reopen, quit. Does I/O.

use super::children::Children;
use super::workers::{Workers, holds, workers};
use super::{Options, SuperviseError};
use crate::control::Version;
use crate::lock;
use crate::logs::ROTATED;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// How long NGINX may take for anything it is asked; a reload of 3,000 routes takes 0.9 s.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);

/// A running NGINX.
pub(super) struct Nginx {
    master: Pid,
    pub(super) started: Instant,
    /// The last line of level `emerg`: why a reload was refused.
    emergency: Arc<Mutex<Option<String>>>,
}

/// Starts NGINX in the foreground, in a process group of its own; the receiver gets its exit code.
pub(super) fn start(
    options: &Options,
    children: &Children,
) -> Result<(Nginx, oneshot::Receiver<i32>), SuperviseError> {
    let mut command = command(options, &options.config);
    command.args(["-g", "daemon off;"]).process_group(0).stderr(Stdio::piped());
    let (mut child, exit) = children
        .spawn(&mut command)
        .map_err(|cause| SuperviseError::Start { nginx: options.nginx.clone(), cause })?;
    let emergency = Arc::default();
    if let Some(stderr) = child.stderr.take() {
        let emergency = Arc::clone(&emergency);
        thread::spawn(move || pass_on(stderr, &emergency));
    }
    Ok((Nginx { master: Pid::from_child(&child), started: Instant::now(), emergency }, exit))
}

/// What NGINX would say to the configuration `path`.
pub(super) async fn test(options: &Options, children: &Children, path: &Path) -> Result<(), String> {
    let mut command = command(options, path);
    let (mut child, exit) =
        children.spawn(command.args(["-t", "-q"]).stderr(Stdio::piped())).map_err(|e| e.to_string())?;
    let pid = Pid::from_child(&child);
    let stderr = child.stderr.take();
    let reading = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        let mut stderr = stderr.into_iter().map(|s| s.take(64 << 10)).next();
        stderr.as_mut().map_or(Ok(0), |s| s.read_to_string(&mut said)).map(|_| said)
    });
    let code = match timeout(PATIENCE, exit).await {
        Ok(code) => code.unwrap_or(-1),
        Err(_) => {
            let _ = kill_process(pid, Signal::KILL);
            return Err(format!("nginx -t did not end within {} s", PATIENCE.as_secs()));
        }
    };
    let said = reading.await.ok().and_then(Result::ok).unwrap_or_default();
    if code == 0 { Ok(()) } else { Err(format!("nginx -t ended with {code}: {}", said.trim())) }
}

/// Version of the binary.
pub(super) async fn version(options: &Options, children: &Children) -> Result<Version, SuperviseError> {
    let unknown = |said: String| SuperviseError::Version { nginx: options.nginx.clone(), said };
    let mut command = Command::new(&options.nginx);
    let (mut child, exit) = children
        .spawn(command.arg("-v").stderr(Stdio::piped()))
        .map_err(|cause| SuperviseError::Start { nginx: options.nginx.clone(), cause })?;
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).map_err(|e| unknown(e.to_string()))?;
    }
    let _ = exit.await;
    let number = said.rsplit('/').next().unwrap_or_default();
    // Debian writes `nginx/1.22.1`, others add a word after it.
    let number = number.split_whitespace().next().unwrap_or_default();
    number.parse().map_err(|_| unknown(said.trim().to_owned()))
}

fn command(options: &Options, config: &Path) -> Command {
    let mut command = Command::new(&options.nginx);
    command.args(&options.nginx_args).arg("-c").arg(config).stdin(Stdio::null());
    command
}

/// Passes NGINX's words on to the container's log and keeps the last emergency.
fn pass_on(stderr: ChildStderr, emergency: &Mutex<Option<String>>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some((_, reason)) = line.split_once("[emerg] ") {
            *lock(emergency) = Some(reason.to_owned());
        }
        // A log that cannot be written must not stop NGINX.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

impl Nginx {
    pub(super) fn workers(&self) -> Workers {
        workers(self.pid())
    }

    fn pid(&self) -> i32 {
        self.master.as_raw_nonzero().get()
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(self.master, signal).map_err(|cause| format!("cannot signal NGINX: {cause}"))
    }

    /// The workers, once there are some: a master that has none yet does not know its signals, and dies of them.
    async fn started(&self) -> Result<Vec<i32>, String> {
        let begun = Instant::now();
        loop {
            let workers = self.workers().serving;
            if !workers.is_empty() {
                return Ok(workers);
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("NGINX has had no worker for {} s", PATIENCE.as_secs()));
            }
            sleep(POLL).await;
        }
    }

    /// Reads the configuration anew. Done when new workers serve and every old one retires or is gone: until
    /// then both take connections. NGINX reports no refusal but in its log.
    pub(super) async fn reload(&self) -> Result<(), String> {
        let old = self.started().await?;
        *lock(&self.emergency) = None;
        self.signal(Signal::HUP)?;
        let begun = Instant::now();
        loop {
            let now = self.workers().serving;
            if !now.is_empty() && now.iter().all(|pid| !old.contains(pid)) {
                return Ok(());
            }
            if let Some(reason) = lock(&self.emergency).take() {
                return Err(format!("NGINX refused the reload: {reason}"));
            }
            if begun.elapsed() > PATIENCE {
                let left = now.iter().filter(|pid| old.contains(pid)).count();
                return Err(format!(
                    "{} s after the reload {left} of {} old workers still take connections",
                    PATIENCE.as_secs(),
                    old.len()
                ));
            }
            sleep(POLL).await;
        }
    }

    /// Opens the logs anew. Done when no process of NGINX holds a rotated one.
    pub(super) async fn reopen(&self, log_dir: &Path) -> Result<(), String> {
        self.started().await?;
        self.signal(Signal::USR1)?;
        let begun = Instant::now();
        while holds(self.pid(), log_dir, ROTATED)
            .map_err(|e| format!("cannot see NGINX's open files: {e}"))?
        {
            if begun.elapsed() > PATIENCE {
                return Err(format!("NGINX held a rotated log for {} s", PATIENCE.as_secs()));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Finish what is open, then end.
    pub(super) fn quit(&self) {
        // It may have ended by itself this moment; its exit tells.
        let _ = self.signal(Signal::QUIT);
    }

    /// Ends what a master that died by itself left behind: its workers would hold the ports.
    pub(super) fn clear(&self) {
        let _ = kill_process_group(self.master, Signal::KILL);
    }
}
