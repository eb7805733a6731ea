//! What is in force: EdgeWeights with latches over them, by one switch. Whoever changes either of them has switched
//! when the call returns; nothing is waited for. Does I/O, on the pod's own volume.

use super::kept::Kept;
use super::latches::{Latches, Outcome};
use super::source::Newest;
use crate::files::{self, FileError, fail};
use crate::lock;
use crate::names::RouteId;
use crate::state::{Object, State};
use crate::weights::Weights;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::{fs, io};
use stomaton_crds::edge_state::Latch;
use stomaton_crds::v1alpha1::{EdgeWeightsSpec, RouteWeights};

use tracing::{info, warn};

/// What is in force, for all parts of the agent that may change it.
#[derive(Debug)]
pub(super) struct Force {
    inner: Mutex<Inner>,
    state: Arc<State>,
}

#[derive(Debug)]
struct Inner {
    kept: Kept<EdgeWeightsSpec>,
    /// The newest that were admitted.
    spec: Option<Arc<EdgeWeightsSpec>>,
    latches: Latches,
    latches_file: PathBuf,
    weights: Weights,
    /// What is on disk may not be what it should be.
    due: bool,
    /// The last switch failed, and that was said.
    failed: bool,
    /// There may be generations that nobody needs any more.
    untidy: bool,
}

impl Force {
    /// Goes on with what a run before this one kept below `root`. A crash may have left it admitted and not in force,
    /// so it is put in force again.
    pub(super) fn open(root: &Path, state: Arc<State>) -> Result<Self, FileError> {
        let kept: Kept<EdgeWeightsSpec> = Kept::load(root.join("state/weights.json"))?;
        let latches_file = root.join("state/latches.json");
        let mut latches = load(&latches_file)?;
        let weights = Weights::open(root.join("weights"))?;
        let spec = kept.good();
        if let Some(spec) = &spec {
            latches.meet(spec);
        }
        state.change(|s| s.seen.weights = kept.seen());
        let mut inner =
            Inner { kept, spec, latches, latches_file, weights, due: true, failed: false, untidy: false };
        inner.switch(&state);
        Ok(Self { inner: Mutex::new(inner), state })
    }

    /// Puts what of `newest` may be applied in force.
    pub(super) fn admit(&self, newest: Newest<EdgeWeightsSpec>) {
        let mut inner = lock(&self.inner);
        let seen = inner.kept.seen();
        let (admitted, clashes) = match newest {
            Newest::Nothing => return,
            Newest::Unreadable(why) => (Err(why), false),
            Newest::Object(spec) => {
                let admitted = inner.kept.admit(spec.revision, &spec).map(|()| spec.clone());
                let clashes = admitted.is_err() && spec.revision == seen;
                (admitted, clashes)
            }
        };
        self.state.change(|s| s.seen.weights = inner.kept.seen() + i64::from(clashes));
        self.state.refuse(Object::EdgeWeights, admitted.as_ref().err().map(String::as_str));
        let Ok(spec) = admitted else { return };
        if inner.spec.as_ref().is_some_and(|there| there.revision == spec.revision) && !inner.due {
            return;
        }
        // Before the switch: an agent that dies in between must not come back with what was in force before.
        if let Err(error) = inner.kept.keep(&spec) {
            warn!(%error, "weights not kept for the next start");
        }
        let ended = inner.latches.meet(&spec);
        inner.spec = Some(spec);
        inner.due = true;
        inner.switch(&self.state);
        if !ended.is_empty() {
            info!(routes = ?ended, "EdgeWeights say it themselves, or begin a further attempt: latches ended");
            inner.keep_latches();
        }
    }

    /// Holds a route on its safe side from now on; says what became of it and the revision in force.
    pub(super) fn latch(&self, route: &RouteId, latch: Latch) -> (Outcome, i64) {
        let mut inner = lock(&self.inner);
        let spec = inner.spec.clone();
        let outcome = inner.latches.set(route.as_str(), latch, spec.as_deref());
        if outcome == Outcome::Set {
            if let Some(latch) = inner.latches.all().get(route.as_str()) {
                warn!(%route, why = latch.why.as_str(), attempt = latch.attempt, counted = ?latch.counted, "latched");
            }
            // Before the switch, as weights are; and if that fails, users are helped all the same.
            inner.keep_latches();
            inner.due = true;
            inner.switch(&self.state);
        }
        (outcome, spec.map_or(0, |spec| spec.revision))
    }

    /// Looks at the newest weights and at the latches over them.
    pub(super) fn look<T>(
        &self,
        look: impl FnOnce(Option<&EdgeWeightsSpec>, &BTreeMap<String, Latch>) -> T,
    ) -> T {
        let inner = lock(&self.inner);
        look(inner.spec.as_deref(), inner.latches.all())
    }

    /// Drops latches of routes that are not among `known`, and that weights which are not older do not have either.
    pub(super) fn forget(&self, known: &BTreeSet<&str>) {
        let mut inner = lock(&self.inner);
        let spec = inner.spec.clone();
        if inner.latches.forget(known, spec.as_deref()) {
            inner.keep_latches();
            self.state.change(|s| s.latches = inner.latches.all().clone());
        }
    }

    /// Tries again what failed; gives whether all is as it should be.
    pub(super) fn settle(&self) -> bool {
        let mut inner = lock(&self.inner);
        inner.switch(&self.state);
        !inner.due
    }

    /// Revision that NGINX should see; 0: none.
    pub(super) fn revision(&self) -> i64 {
        lock(&self.inner).weights.revision().unwrap_or(0)
    }

    /// Clears what the last switches left.
    pub(super) fn tidy(&self) {
        let mut inner = lock(&self.inner);
        if std::mem::take(&mut inner.untidy)
            && let Err(error) = inner.weights.tidy()
        {
            warn!(%error, "old weights not cleared");
        }
    }
}

impl Inner {
    /// Makes the disk as it should be, if it may not be. What was in force stays when that fails.
    fn switch(&mut self, state: &State) {
        if !self.due {
            return;
        }
        if let Some(spec) = &self.spec {
            let revision = spec.revision;
            match self.weights.switch(&self.latches.over(spec)) {
                Ok(ignored) if ignored.is_empty() => info!(revision, "weights switched"),
                Ok(ignored) => warn!(revision, ?ignored, "weights switched, some ignored"),
                Err(error) => {
                    let why = format!("revision {revision}: {error}");
                    self.failed = true;
                    return state.refuse(Object::EdgeWeights, Some(&why));
                }
            }
            if std::mem::take(&mut self.failed) {
                state.refuse(Object::EdgeWeights, None);
            }
            self.untidy = true;
        }
        self.due = false;
        let taken = self.spec.as_deref().map(taken).unwrap_or_default();
        let digest = self.spec.as_deref().map(EdgeWeightsSpec::digest).unwrap_or_default();
        state
            .change(|s| (s.latches, s.taken, s.weights_digest) = (self.latches.all().clone(), taken, digest));
    }

    fn keep_latches(&self) {
        let kept = serde_json::to_vec(&self.latches)
            .map_err(|error| fail("encode", &self.latches_file)(io::Error::other(error)))
            .and_then(|bytes| files::write(&self.latches_file, &bytes));
        if let Err(error) = kept {
            warn!(%error, "latches not kept for the next start");
        }
    }
}

/// The last attempt of each route that is over by these weights: the one that they take back, or that before theirs.
fn taken(spec: &EdgeWeightsSpec) -> BTreeMap<String, i32> {
    let over = |entry: &RouteWeights| if entry.latched { entry.attempt } else { entry.attempt - 1 };
    let all = spec.routes.iter().map(|(id, entry)| (id.clone(), over(entry)));
    all.filter(|(_, attempt)| *attempt > 0).collect()
}

fn load(path: &Path) -> Result<Latches, FileError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Latches::default()),
        Err(error) => Err(fail("read", path)(error)),
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|e| fail("understand", path)(io::Error::other(e)))
        }
    }
}
