//! Applies EdgeWeights: past the fence, one switch, read back through NGINX. Never waits for structure. Does I/O.

use super::kept::Kept;
use super::probe::Probe;
use super::source::{Newest, changed};
use crate::files::FileError;
use crate::state::{Object, State};
use crate::weights::Weights;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stomaton_crds::v1alpha1::EdgeWeightsSpec;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

/// How often NGINX is asked while it does not answer, until it says what was put in force, and after.
const SILENT: Duration = Duration::from_millis(50);
const UNTIL_SEEN: Duration = Duration::from_millis(5);
const IDLE: Duration = Duration::from_secs(1);

/// The part of the agent that is responsible for weights.
pub(super) struct Weighing {
    kept: Kept<EdgeWeightsSpec>,
    weights: Weights,
    probe: Probe,
    state: Arc<State>,
}

impl Weighing {
    pub(super) fn open(root: &Path, probe: Probe, state: Arc<State>) -> Result<Self, FileError> {
        let kept = Kept::load(root.join("state/weights.json"))?;
        let weights = Weights::open(root.join("weights"))?;
        state.change(|s| s.seen.weights = kept.seen());
        Ok(Self { kept, weights, probe, state })
    }

    /// Applies what comes, for ever.
    pub(super) async fn run(mut self, mut newest: watch::Receiver<Newest<EdgeWeightsSpec>>) {
        // Admitted; after a crash it may not have been put in force yet.
        let mut wanted = self.kept.good();
        let mut tidy = false;
        loop {
            if let Some(spec) = &wanted
                && self.weights.revision() != Some(spec.revision)
            {
                self.switch(spec);
                tidy = true;
            }
            let pause = self.read_back().await;
            tokio::select! {
                biased;
                () = changed(&mut newest) => {
                    let given = newest.borrow_and_update().clone();
                    wanted = self.admit(given).or(wanted);
                }
                () = sleep(pause) => if pause == IDLE && std::mem::take(&mut tidy) {
                    self.tidy();
                }
            }
        }
    }

    /// What of `newest` may be applied.
    fn admit(&mut self, newest: Newest<EdgeWeightsSpec>) -> Option<Arc<EdgeWeightsSpec>> {
        let admitted = match newest {
            Newest::Nothing => return None,
            Newest::Unreadable(why) => Err(why),
            Newest::Object(spec) => self.kept.admit(spec.revision, &spec).map(|()| spec),
        };
        self.state.change(|s| s.seen.weights = self.kept.seen());
        self.state.refuse(Object::EdgeWeights, admitted.as_ref().err().map(String::as_str));
        admitted.ok()
    }

    fn switch(&mut self, spec: &EdgeWeightsSpec) {
        match self.weights.switch(spec) {
            Ok(ignored) if ignored.is_empty() => info!(revision = spec.revision, "weights switched"),
            Ok(ignored) => warn!(revision = spec.revision, ?ignored, "weights switched, some ignored"),
            // What was in force stays, and the next turn tries again.
            Err(error) => {
                let why = format!("revision {}: {error}", spec.revision);
                return self.state.refuse(Object::EdgeWeights, Some(&why));
            }
        }
        self.state.refuse(Object::EdgeWeights, None);
        if let Err(error) = self.kept.keep(spec) {
            warn!(%error, "weights not kept for the next start");
        }
    }

    /// Reports what NGINX sees; gives the time until it should be asked again.
    async fn read_back(&self) -> Duration {
        let Ok(seen) = self.probe.weights().await else { return SILENT };
        self.state.change(|s| s.applied.weights = seen);
        if seen == self.weights.revision().unwrap_or(0) { IDLE } else { UNTIL_SEEN }
    }

    fn tidy(&self) {
        if let Err(error) = self.weights.tidy() {
            warn!(%error, "old weights not cleared");
        }
    }
}
