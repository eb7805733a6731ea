//! Answers on the control socket: one line in, one line out. Does I/O.

use super::Options;
use super::certificates::Certificates;
use super::children::Children;
use super::nginx::{self, Nginx};
use crate::control::{Answer, Status, Verb, Version};
use std::path::{Component, Path};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tracing::{info, warn};

/// What an answer needs.
pub(super) struct Server {
    options: Arc<Options>,
    children: Arc<Children>,
    running: Arc<OnceLock<Nginx>>,
    version: Version,
    certificates: Certificates,
    /// One act at a time: a reload tells old workers from new by looking before and after.
    acting: Mutex<()>,
}

impl Server {
    pub(super) fn new(
        options: Arc<Options>,
        children: Arc<Children>,
        running: Arc<OnceLock<Nginx>>,
        version: Version,
    ) -> Self {
        let certificates = Certificates::below(options.tls_dir.clone());
        Self { options, children, running, version, certificates, acting: Mutex::default() }
    }

    /// Answers until dropped.
    pub(super) async fn serve(self: Arc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(Arc::clone(&self).talk(stream))),
                Err(error) => {
                    warn!(%error, "the control socket does not accept");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn talk(self: Arc<Self>, mut stream: UnixStream) {
        let (reader, mut writer) = stream.split();
        let mut lines = BufReader::new(reader.take(64 << 10)).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(mut answer) = serde_json::to_vec(&self.answer(&line).await) else { return };
            answer.push(b'\n');
            if writer.write_all(&answer).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, line: &str) -> Answer {
        let begun = Instant::now();
        let done = match line.parse() {
            // Asked often; not acts.
            Ok(Verb::Status) => return Answer::Ok(self.status(begun)),
            Ok(Verb::Certificates) => return Answer::Certificates(self.certificates.look()),
            Ok(verb) => self.act(&verb).await,
            Err(reason) => Err(reason),
        };
        match done {
            Ok(()) => {
                let status = self.status(begun);
                info!(request = line, micros = status.took_micros, "done");
                Answer::Ok(status)
            }
            Err(reason) => {
                warn!(request = line, reason, "not done");
                Answer::Error(reason)
            }
        }
    }

    async fn act(&self, verb: &Verb) -> Result<(), String> {
        let running = || self.running.get().ok_or("NGINX waits for a first configuration");
        let _one = self.acting.lock().await;
        match verb {
            Verb::Status | Verb::Certificates => Ok(()),
            Verb::Test(path) => {
                self.may_test(path)?;
                nginx::test(&self.options, &self.children, path).await
            }
            Verb::Reload => running()?.reload().await,
            Verb::Reopen => running()?.reopen(&self.options.log_dir).await,
        }
    }

    /// Reads the present configuration again, because of what it includes; only if NGINX runs.
    pub(super) async fn read_again(&self) -> Result<(), String> {
        let Some(running) = self.running.get() else { return Ok(()) };
        let _one = self.acting.lock().await;
        nginx::test(&self.options, &self.children, &self.options.config).await?;
        running.reload().await
    }

    /// Only what could become the configuration is run through NGINX: `DIR/NAME/nginx.conf` beside `DIR/current`.
    fn may_test(&self, path: &Path) -> Result<(), String> {
        let dir = self.options.config.parent().and_then(Path::parent);
        let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        match dir.filter(|dir| plain && path.starts_with(dir)) {
            Some(_) => Ok(()),
            None => Err("only configurations beside the current one can be tested".into()),
        }
    }

    fn status(&self, begun: Instant) -> Status {
        let nginx = self.running.get();
        let workers = nginx.map(Nginx::workers).unwrap_or_default();
        Status {
            version: self.version,
            running: nginx.is_some(),
            workers: workers.serving,
            retiring: workers.retiring,
            uptime_millis: nginx.map_or(0, |n| millis(n.started)),
            took_micros: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
