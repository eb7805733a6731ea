//! Applies EdgeConfig: past the fence, rendered, tested by NGINX, reloaded, read back from its new workers. Does I/O.

use super::kept::Kept;
use super::probe::Probe;
use super::source::{Newest, changed};
use crate::control::{ControlError, Supervisor, Verb};
use crate::files::{self, FileError, fail};
use crate::nginx::{Settings, render};
use crate::state::{Object, State};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stomaton_crds::v1alpha1::EdgeConfigSpec;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

/// Two reloads are at least this far apart; what comes meanwhile is applied as one.
const SPACING: Duration = Duration::from_secs(1);
/// How often the supervisor is asked again when it does not answer, and NGINX probed until it has started.
const AGAIN: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(1);

/// Why a configuration is not in force.
#[derive(Debug, thiserror::Error)]
enum StructureError {
    /// It cannot ever be; the one before stays.
    #[error("{0}")]
    Refused(String),
    /// It may be, later.
    #[error("{0}")]
    NotNow(String),
}

impl From<FileError> for StructureError {
    fn from(error: FileError) -> Self {
        Self::NotNow(error.to_string())
    }
}

impl From<ControlError> for StructureError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Unreachable { .. } => Self::NotNow(error.to_string()),
            ControlError::Refused(why) => Self::Refused(why),
        }
    }
}

/// The part of the agent that is responsible for structure.
pub(super) struct Structure {
    kept: Kept<EdgeConfigSpec>,
    dir: PathBuf,
    next: u64,
    settings: Settings,
    supervisor: Supervisor,
    probe: Probe,
    state: Arc<State>,
    /// Who else must know what is in force.
    in_force: watch::Sender<Option<Arc<EdgeConfigSpec>>>,
    /// Before this, no reload.
    not_before: Instant,
}

impl Structure {
    pub(super) fn open(
        root: &Path,
        settings: Settings,
        supervisor: Supervisor,
        probe: Probe,
        state: Arc<State>,
        in_force: watch::Sender<Option<Arc<EdgeConfigSpec>>>,
    ) -> Result<Self, FileError> {
        let dir = root.join("nginx");
        fs::create_dir_all(&dir).map_err(fail("make", &dir))?;
        files::keep_two_generations(&dir, &dir.join("current"))?;
        let next = files::generations(&dir)?.last().unwrap_or(&0) + 1;
        let kept = Kept::load(root.join("state/config.json"))?;
        state.change(|s| s.seen.config = kept.seen());
        let not_before = Instant::now();
        Ok(Self { kept, dir, next, settings, supervisor, probe, state, in_force, not_before })
    }

    /// Applies what comes, for ever.
    pub(super) async fn run(mut self, mut newest: watch::Receiver<Newest<EdgeConfigSpec>>) {
        // Not known to be in force; after a restart NGINX may serve it already.
        let mut wanted = self.kept.good();
        loop {
            let mut pause = IDLE;
            if let Some(spec) = wanted.take() {
                let applied =
                    if self.answers(spec.revision).await { Ok(()) } else { self.apply(&spec).await };
                match applied {
                    Ok(()) => drop(self.in_force.send_replace(Some(spec))),
                    Err(StructureError::NotNow(why)) => {
                        debug!(why, "not yet");
                        wanted = Some(spec);
                        pause = AGAIN;
                    }
                    Err(StructureError::Refused(_)) => {}
                }
            }
            self.look().await;
            tokio::select! {
                biased;
                () = changed(&mut newest) => {
                    // What comes while the next reload must wait is applied with it.
                    sleep_until(self.not_before).await;
                    let given = newest.borrow_and_update().clone();
                    wanted = self.admit(given).or(wanted);
                }
                () = sleep(pause) => {}
            }
        }
    }

    /// What of `newest` may be applied.
    fn admit(&mut self, newest: Newest<EdgeConfigSpec>) -> Option<Arc<EdgeConfigSpec>> {
        let admitted = match newest {
            Newest::Nothing => return None,
            Newest::Unreadable(why) => Err(why),
            Newest::Object(spec) => self.kept.admit(spec.revision, &spec).map(|()| spec),
        };
        self.state.change(|s| s.seen.config = self.kept.seen());
        self.state.refuse(Object::EdgeConfig, admitted.as_ref().err().map(String::as_str));
        admitted.ok()
    }

    async fn apply(&mut self, spec: &Arc<EdgeConfigSpec>) -> Result<(), StructureError> {
        let done = self.try_apply(spec).await;
        match &done {
            Ok(()) => self.state.refuse(Object::EdgeConfig, None),
            Err(StructureError::Refused(why)) => {
                let why = format!("revision {}: {why}", spec.revision);
                self.state.refuse(Object::EdgeConfig, Some(&why));
            }
            Err(StructureError::NotNow(_)) => {}
        }
        done
    }

    async fn try_apply(&mut self, spec: &Arc<EdgeConfigSpec>) -> Result<(), StructureError> {
        let begun = Instant::now();
        let status = self.supervisor.ask(Verb::Status).await?;
        // What an attempt before this one has left.
        let current = self.dir.join("current");
        files::keep_two_generations(&self.dir, &current)?;
        self.settings.version = status.version;
        let config = render(spec, &self.settings).map_err(|e| StructureError::Refused(e.to_string()))?;
        for left_out in &config.dropped {
            warn!(subject = left_out.subject, reason = left_out.reason, "left out of the configuration");
        }
        let name = format!("gen-{}", self.next);
        self.next += 1;
        let generation = self.dir.join(&name);
        fs::create_dir(&generation).map_err(fail("make", &generation))?;
        let file = generation.join("nginx.conf");
        fs::write(&file, &config.text).map_err(fail("write", &file))?;
        let rendered = begun.elapsed();
        self.supervisor.ask(Verb::Test(file)).await?;
        let tested = begun.elapsed();

        let before = fs::read_link(&current).ok();
        files::replace_link(&current, &name)?;
        // Asked again: one that was not running may have met the configuration before. Where there was none before, it
        // has met this one or is about to.
        if before.is_some() && self.supervisor.ask(Verb::Status).await?.running {
            sleep_until(self.not_before).await;
            self.not_before = Instant::now() + SPACING;
            let reloaded = self.supervisor.ask(Verb::Reload).await;
            if let (Err(error), Some(before)) = (&reloaded, before.as_ref().and_then(|b| b.to_str())) {
                // An NGINX that starts again must not meet what it has just refused.
                warn!(%error, "reload failed; going back");
                files::replace_link(&current, before)?;
            }
            reloaded?;
            self.state.change(|s| s.reloads += 1);
        }
        let reloaded = begun.elapsed();
        self.kept.keep(spec)?;
        self.acknowledge(spec.revision).await?;
        let [rendered, tested, reloaded, all] =
            [rendered, tested, reloaded, begun.elapsed()].map(|took| took.as_millis());
        info!(revision = spec.revision, rendered, tested, reloaded, all, "configuration in force, after ms");
        Ok(())
    }

    /// Waits until NGINX answers with `revision`, from all of its workers.
    async fn acknowledge(&self, revision: i64) -> Result<(), StructureError> {
        let begun = Instant::now();
        while !self.answers(revision).await {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err(StructureError::NotNow(
                    "NGINX does not answer with the new configuration".into(),
                ));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Twice as many fresh connections as there are workers all meet `revision`: then it is what is applied.
    async fn answers(&self, revision: i64) -> bool {
        for _ in 0..2 * self.settings.workers {
            if !self.probe.config().await.is_ok_and(|answered| answered == revision) {
                return false;
            }
        }
        self.state.answered();
        self.state.change(|s| s.applied.config = revision);
        true
    }

    /// Reports whether NGINX answers, and what.
    async fn look(&self) {
        match self.probe.config().await {
            Ok(revision) if revision == self.state.read(|s| s.applied.config) => self.state.answered(),
            Ok(revision) => drop(self.answers(revision).await),
            Err(error) => debug!(%error, "NGINX does not answer the probe"),
        }
    }
}
