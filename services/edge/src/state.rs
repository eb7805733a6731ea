//! What this pod reports: one [`EdgeState`], published as lines to however many readers. No I/O but the clock.

use crate::lock;
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stomaton_crds::edge_state::EdgeState;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// A line at least this often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Counters that only went on as expected wait this long.
const SOON: Duration = Duration::from_millis(200);
/// No two lines closer than this, so that a storm of bad answers does not become a storm of lines.
const SPACING: Duration = Duration::from_millis(2);

/// Which object a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Structure.
    EdgeConfig,
    /// Weights.
    EdgeWeights,
}

/// The state, shared by all parts of the agent.
#[derive(Debug)]
pub struct State {
    inner: Mutex<Inner>,
    at_once: Notify,
    soon: Notify,
    counted: Notify,
    line: watch::Sender<Bytes>,
}

#[derive(Debug)]
struct Inner {
    state: EdgeState,
    refused: [Option<String>; 2],
    /// When NGINX last answered the probe.
    answered: Option<Instant>,
    /// Whether the latches of peers are known.
    greeted: bool,
    published: Instant,
}

impl State {
    /// Begins with `state`: its boot, its sequence, its counters.
    pub fn new(state: EdgeState) -> Arc<Self> {
        let inner =
            Inner { state, refused: [None, None], answered: None, greeted: false, published: Instant::now() };
        let (line, _) = watch::channel(Bytes::new());
        let state = Self {
            inner: Mutex::new(inner),
            at_once: Notify::new(),
            soon: Notify::new(),
            counted: Notify::new(),
            line,
        };
        state.compose();
        Arc::new(state)
    }

    /// Looks at it.
    pub fn read<T>(&self, look: impl FnOnce(&EdgeState) -> T) -> T {
        look(&lock(&self.inner).state)
    }

    /// Changes counters; who does says when to publish.
    pub(crate) fn count<T>(&self, change: impl FnOnce(&mut EdgeState) -> T) -> T {
        let changed = change(&mut lock(&self.inner).state);
        self.counted.notify_one();
        changed
    }

    /// Returns when counters may have moved since the last time.
    pub(crate) async fn counted(&self) {
        self.counted.notified().await;
    }

    /// Changes anything else; a change is published at once.
    pub fn change(&self, change: impl FnOnce(&mut EdgeState)) {
        let news = |s: &EdgeState| {
            (s.applied, s.seen, s.reloads, s.latches.clone(), s.taken.clone(), s.certificates.clone())
        };
        let mut inner = lock(&self.inner);
        let before = news(&inner.state);
        change(&mut inner.state);
        if before != news(&inner.state) {
            self.at_once.notify_one();
        }
    }

    /// Why the newest revision of `object` is not applied; `None`: it is, or nothing speaks against it. Logged and
    /// published when it changes.
    pub fn refuse(&self, object: Object, reason: Option<&str>) {
        let reason = reason.map(|why| format!("{object:?}: {why}"));
        let mut inner = lock(&self.inner);
        if inner.refused[object as usize] == reason {
            return;
        }
        if let Some(reason) = &reason {
            warn!(reason, "refused");
        }
        inner.refused[object as usize] = reason;
        let both: Vec<&str> = inner.refused.iter().flatten().map(String::as_str).collect();
        inner.state.refused = (!both.is_empty()).then(|| both.join("; "));
        self.at_once.notify_one();
    }

    /// NGINX answered the probe.
    pub fn answered(&self) {
        lock(&self.inner).answered = Some(Instant::now());
    }

    /// Whoever of the peers answers has said which routes must not be on the service.
    pub fn greeted(&self) {
        lock(&self.inner).greeted = true;
    }

    /// Whether users can be sent here: a configuration is in force, NGINX has answered lately, and what peers hold on
    /// its safe side is held here too.
    pub fn is_ready(&self) -> bool {
        let inner = lock(&self.inner);
        let lately = inner.answered.is_some_and(|at| at.elapsed() < Duration::from_secs(3));
        inner.state.applied.config > 0 && lately && inner.greeted
    }

    /// Whether lines are still made.
    pub fn is_alive(&self) -> bool {
        lock(&self.inner).published.elapsed() < HEARTBEAT * 10
    }

    /// A line now.
    pub fn publish_at_once(&self) {
        self.at_once.notify_one();
    }

    /// A line within 200 ms.
    pub fn publish_soon(&self) {
        self.soon.notify_one();
    }

    /// The newest line, and every one that comes; a slow reader skips lines, which are complete in themselves.
    pub fn lines(&self) -> watch::Receiver<Bytes> {
        self.line.subscribe()
    }

    /// Makes lines for ever.
    pub async fn publish(&self) {
        loop {
            let last = Instant::now();
            self.compose();
            tokio::select! {
                () = self.at_once.notified() => sleep_until(last + SPACING).await,
                () = self.soon.notified() => tokio::select! {
                    () = self.at_once.notified() => sleep_until(last + SPACING).await,
                    () = sleep_until(last + SOON) => {}
                },
                () = sleep_until(last + HEARTBEAT) => {}
            }
        }
    }

    fn compose(&self) {
        let mut inner = lock(&self.inner);
        inner.published = Instant::now();
        inner.state.sequence += 1;
        inner.state.at_micros = now_micros();
        // Plain data with text keys always becomes JSON.
        if let Ok(mut line) = serde_json::to_vec(&inner.state) {
            line.push(b'\n');
            self.line.send_replace(line.into());
        }
    }
}

/// Microseconds since the epoch.
pub(crate) fn now_micros() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
