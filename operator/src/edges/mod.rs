//! What the operator knows of every edge pod, from a state stream it holds to each of them.
//!
//! - [`follow`] (I/O): watches edge pods, holds the streams
//! - [`kill`] (I/O): tells them to take a route back, past the API server
//! - [`ready`] (pure): how many pods are ready, and were lately
//! - [`tally`] (pure): counts per route, and whether a guard is breached
//! - this file: the shared picture; short locks, no I/O
//!
//! Whoever reads a state line judges it at once: a breach leaves here on its own channel and never waits in a
//! work queue (see [`crate::rollback`]).

pub mod follow;
pub mod kill;
pub mod ready;
pub mod tally;

use crate::{
    edges::{
        kill::Order,
        ready::{Lately, Ready},
        tally::{Breach, ByAudience, Tally, since},
    },
    watch::Guarded,
};
use futures::Stream;
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use std::{
    cell::LazyCell,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use stomaton_crds::{
    edge_state::{EdgeState, Latch},
    kill::{Key as KillKey, Kill},
    v1alpha1::{EdgeWeightsSpec, Gateway, Guard, MigrationPlan},
};
use tokio::sync::{broadcast, mpsc};

/// A Gateway by namespace and name.
pub type Key = ObjectRef<Gateway>;

/// A state line is due each second. After this long without one a pod is silent: unknown, never fine.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);

/// One edge pod whose NGINX may run: starting, ready, unready and terminating ones alike.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgePod {
    /// Name of the pod.
    pub name: String,
    /// Whether Kubernetes sends users to it.
    pub ready: bool,
    /// Whether it is on its way out. It still serves, so it still counts.
    pub terminating: bool,
    /// The last state line; none before the first one.
    pub state: Option<EdgeState>,
    /// Time since that line.
    pub silent_for: Option<Duration>,
}

impl EdgePod {
    /// The state, if it is fresh enough to be believed.
    pub fn fresh(&self) -> Option<&EdgeState> {
        self.state.as_ref().filter(|_| self.silent_for.is_some_and(|age| age < SILENT_AFTER))
    }
}

/// Every edge pod of a Gateway at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeView {
    /// In order of name.
    pub pods: Vec<EdgePod>,
}

impl EdgeView {
    /// The lowest revision of the structure that all pods serve; none if there is no pod or one is silent.
    pub fn config_acknowledged(&self) -> Option<i64> {
        let all: Option<Vec<i64>> = self.pods.iter().map(|p| p.fresh().map(|s| s.applied.config)).collect();
        all.and_then(|all| all.into_iter().min())
    }

    /// Whether all pods serve exactly these weights; not if there is no pod or one is silent.
    pub fn acknowledges(&self, weights: &EdgeWeightsSpec) -> bool {
        let digest = LazyCell::new(|| weights.digest());
        let serves = |s: &EdgeState| s.applied.weights == weights.revision && s.weights_digest == *digest;
        !self.pods.is_empty() && self.pods.iter().all(|pod| pod.fresh().is_some_and(serves))
    }

    /// The highest revision of the structure any pod ever saw, silent ones included.
    pub fn config_seen(&self) -> i64 {
        self.states().map(|s| s.seen.config.max(s.applied.config)).max().unwrap_or(0)
    }

    /// The highest revision of the weights any pod ever saw, silent ones included. Latches are of one, too: what is
    /// to end them must be above it.
    pub fn weights_seen(&self) -> i64 {
        let latched = |s: &EdgeState| s.latches.values().map(|latch| latch.revision).max().unwrap_or(0);
        self.states().map(|s| s.seen.weights.max(s.applied.weights).max(latched(s))).max().unwrap_or(0)
    }

    /// The last attempt of a route that any pod knows to be over; 0: none.
    pub fn taken(&self, route_id: &str) -> i32 {
        self.states().filter_map(|s| s.taken.get(route_id)).copied().max().unwrap_or(0)
    }

    fn states(&self) -> impl Iterator<Item = &EdgeState> {
        self.pods.iter().filter_map(|p| p.state.as_ref())
    }
}

/// A route that is to be taken back the moment one of its guards is breached.
#[derive(Clone, Debug, PartialEq)]
pub struct Armed {
    /// The plan that moves the route.
    pub plan: ObjectRef<Guarded<MigrationPlan>>,
    /// Name of the route.
    pub route: String,
    /// Attempt under way: a breach of an earlier one is not a breach of this one.
    pub attempt: i32,
    /// Routes that are taken back with it: their identities, and their attempts under way.
    pub group: Vec<(String, i32)>,
    /// Answers before this do not count.
    pub from: Timestamp,
    /// The guards.
    pub guards: Vec<Guard>,
    /// Whether the monolith can take the route back. If not, traffic stays and people are alarmed.
    pub safe_ready: bool,
}

/// A breach, on its way to [`crate::rollback`].
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// Where.
    pub gateway: Key,
    /// Identity of the route at the edge.
    pub route_id: String,
    /// What was armed.
    pub armed: Armed,
    /// What was counted.
    pub breach: Breach,
}

impl Alarm {
    /// What has to be taken back, by identity and attempt: the route first, then those that share its fate.
    pub fn routes(&self) -> impl Iterator<Item = (&str, i32)> {
        let own = (self.route_id.as_str(), self.armed.attempt);
        std::iter::once(own).chain(self.armed.group.iter().map(|(id, attempt)| (id.as_str(), *attempt)))
    }
}

/// The shared picture of all edges.
pub struct Edges {
    inner: Mutex<HashMap<Key, Edge>>,
    changes: broadcast::Sender<Key>,
    alarms: mpsc::UnboundedSender<Alarm>,
}

#[derive(Default)]
struct Edge {
    pods: BTreeMap<String, Pod>,
    /// Signs kills; none before the Gateway's first pass, and where the operator may not have Secrets.
    kill_key: Option<KillKey>,
    ready: Ready,
    tally: Tally,
    armed: HashMap<String, Armed>,
    /// Breaches by route id, with the attempt they belong to.
    breached: HashMap<String, (i32, Breach)>,
    /// Totals when a revision of a route was first seen acknowledged, so that evidence is of that step only.
    baselines: HashMap<String, (i64, ByAudience)>,
}

impl Edge {
    /// Kubernetes sends no new clients to a pod that is on its way out.
    fn note_ready(&mut self) {
        let ready = self.pods.values().filter(|pod| pod.ready && !pod.terminating).count();
        self.ready.note(i32::try_from(ready).unwrap_or(i32::MAX), Instant::now());
    }
}

#[derive(Default)]
struct Pod {
    ready: bool,
    terminating: bool,
    /// Where its agent answers.
    at: String,
    uid: Option<String>,
    state: Option<(EdgeState, Instant)>,
    /// Whether the last word on this pod was that it is silent.
    silent: bool,
}

impl Edges {
    /// An empty picture, and where alarms come out.
    pub fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Alarm>) {
        let (alarms, receiver) = mpsc::unbounded_channel();
        let (changes, _) = broadcast::channel(1024);
        (Arc::new(Self { inner: Mutex::default(), changes, alarms }), receiver)
    }

    /// The edge pods of a Gateway, now.
    pub fn view(&self, gateway: &Key) -> EdgeView {
        let inner = self.lock();
        let Some(edge) = inner.get(gateway) else { return EdgeView::default() };
        let pods = edge.pods.iter().map(|(name, pod)| EdgePod {
            name: name.clone(),
            ready: pod.ready,
            terminating: pod.terminating,
            state: pod.state.as_ref().map(|(state, _)| state.clone()),
            silent_for: pod.state.as_ref().map(|(_, at)| at.elapsed()),
        });
        EdgeView { pods: pods.collect() }
    }

    /// How many edge pods of a Gateway users are sent to, now and lately.
    pub fn ready(&self, gateway: &Key) -> Lately {
        let now = Instant::now();
        self.lock().get(gateway).map_or_else(Lately::default, |edge| edge.ready.lately(now))
    }

    /// Fires when pods came or went, or when one applied, refused, fell silent, spoke again, or has other
    /// certificates. Counters alone do not.
    pub fn changes(&self) -> impl Stream<Item = Key> + Send + 'static {
        futures::stream::unfold(self.changes.subscribe(), async |mut receiver| {
            loop {
                match receiver.recv().await {
                    Ok(key) => return Some((key, receiver)),
                    // Missed changes are repaired by the periodic pass that every controller makes.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
    }

    /// Puts a route under its guards, or changes how it is guarded.
    ///
    /// The same attempt keeps its beginning: what came before it does not count, everything since does.
    pub fn arm(&self, gateway: &Key, route_id: &str, mut armed: Armed) {
        let mut inner = self.lock();
        let edge = inner.entry(gateway.clone()).or_default();
        if let Some(present) = edge.armed.get(route_id).filter(|present| present.attempt == armed.attempt) {
            armed.from = present.from;
        }
        edge.breached.retain(|id, (attempt, _)| id != route_id || *attempt >= armed.attempt);
        edge.armed.insert(route_id.to_owned(), armed);
        // What is armed now may have been breached already.
        self.judge(gateway, edge, Timestamp::now());
    }

    /// Takes the guards off every route of `plan` that is not in `keep`.
    pub fn disarm_others(&self, gateway: &Key, plan: &ObjectRef<Guarded<MigrationPlan>>, keep: &[&str]) {
        if let Some(edge) = self.lock().get_mut(gateway) {
            let gone = |id: &String, armed: &Armed| armed.plan == *plan && !keep.contains(&id.as_str());
            edge.breached.retain(|id, _| edge.armed.get(id).is_none_or(|armed| !gone(id, armed)));
            edge.armed.retain(|id, armed| !gone(id, armed));
        }
    }

    /// The last breach of a guarded route, with the attempt it belongs to.
    pub fn breach(&self, gateway: &Key, route_id: &str) -> Option<(i32, Breach)> {
        self.lock().get(gateway)?.breached.get(route_id).cloned()
    }

    /// What was counted for a route, by audience, since `revision` was first seen acknowledged by all pods, which is the first
    /// call for it. Evidence is of one step only, and begins anew after a restart of the operator.
    pub fn counted_since(&self, gateway: &Key, route_id: &str, revision: i64) -> ByAudience {
        let mut inner = self.lock();
        let edge = inner.entry(gateway.clone()).or_default();
        let totals = edge.tally.totals(route_id);
        match edge.baselines.get(route_id) {
            Some((at, baseline)) if *at == revision => {
                let before = |audience: &String| baseline.get(audience).copied().unwrap_or_default();
                let news = totals.into_iter().map(|(audience, sides)| {
                    let news = since(sides, before(&audience));
                    (audience, news)
                });
                news.collect()
            }
            _ => {
                edge.baselines.insert(route_id.to_owned(), (revision, totals));
                ByAudience::default()
            }
        }
    }

    /// Remembers the key of kills of a Gateway.
    pub fn share(&self, gateway: &Key, key: Option<KillKey>) {
        self.lock().entry(gateway.clone()).or_default().kill_key = key;
    }

    /// A pod as Kubernetes describes it.
    fn pod_seen(&self, gateway: &Key, name: &str, ready: bool, terminating: bool) {
        let mut inner = self.lock();
        let edge = inner.entry(gateway.clone()).or_default();
        let pod = edge.pods.entry(name.to_owned()).or_default();
        if (pod.ready, pod.terminating) != (ready, terminating) || pod.state.is_none() {
            (pod.ready, pod.terminating) = (ready, terminating);
            edge.note_ready();
            self.changed(gateway);
        }
    }

    /// Where the agent of a pod answers, and which pod of that name it is.
    fn pod_is_at(&self, gateway: &Key, name: &str, at: &str, uid: Option<String>) {
        if let Some(pod) = self.lock().get_mut(gateway).and_then(|edge| edge.pods.get_mut(name)) {
            at.clone_into(&mut pod.at);
            pod.uid = uid;
        }
    }

    /// Which pod of that name it is.
    pub fn uid(&self, gateway: &Key, name: &str) -> Option<String> {
        self.lock().get(gateway)?.pods.get(name)?.uid.clone()
    }

    /// Whether the pod is still there, and there.
    fn is_at(&self, gateway: &Key, name: &str, at: &str) -> bool {
        self.lock().get(gateway).and_then(|edge| edge.pods.get(name)).is_some_and(|pod| pod.at == at)
    }

    /// What to tell all pods of a Gateway so that they take back `attempt` of a route; none without a key.
    fn order(&self, gateway: &Key, route_id: &str, attempt: i32) -> Option<Order> {
        let revision = self.view(gateway).weights_seen();
        let namespace = gateway.namespace.as_deref().unwrap_or_default();
        let route = route_id.to_owned();
        let kill = Kill { gateway: format!("{namespace}/{}", gateway.name), route, attempt, revision };
        let body = serde_json::to_vec(&kill).ok()?;
        let inner = self.lock();
        let edge = inner.get(gateway)?;
        let signature = edge.kill_key.as_ref()?.sign(&body);
        let pods = edge.pods.iter().filter(|(_, pod)| !pod.at.is_empty());
        let pods = pods.map(|(name, pod)| (name.clone(), pod.at.clone())).collect();
        Some(Order { body, signature, pods })
    }

    /// A pod whose containers no longer run.
    fn pod_gone(&self, gateway: &Key, name: &str) {
        if let Some(edge) = self.lock().get_mut(gateway)
            && edge.pods.remove(name).is_some()
        {
            edge.tally.forget(name);
            edge.note_ready();
            self.changed(gateway);
        }
    }

    /// A line of a pod's state stream: counted and judged before anything else is done with it.
    fn state_received(&self, gateway: &Key, name: &str, state: EdgeState) {
        let mut inner = self.lock();
        let Some(edge) = inner.get_mut(gateway) else { return };
        let Some(pod) = edge.pods.get_mut(name) else { return };
        edge.tally.record(name, &state, Timestamp::now());
        let news = pod.silent
            || pod.state.as_ref().is_none_or(|(old, _)| {
                (old.applied, &old.refused, &old.boot, &old.latches, &old.certificates)
                    != (state.applied, &state.refused, &state.boot, &state.latches, &state.certificates)
            });
        pod.silent = false;
        pod.state = Some((state, Instant::now()));
        self.judge(gateway, edge, Timestamp::now());
        if news {
            self.changed(gateway);
        }
    }

    /// Notices pods that fell silent; nobody else would say so.
    fn notice_silence(&self) {
        for (gateway, edge) in self.lock().iter_mut() {
            for pod in edge.pods.values_mut().filter(|p| !p.silent) {
                if pod.state.as_ref().is_some_and(|(_, at)| at.elapsed() >= SILENT_AFTER) {
                    pod.silent = true;
                    self.changed(gateway);
                }
            }
        }
    }

    /// Raises an alarm for each armed route whose guard is breached, here or at an edge pod, once an attempt.
    fn judge(&self, gateway: &Key, edge: &mut Edge, now: Timestamp) {
        for (route_id, armed) in &edge.armed {
            if edge.breached.contains_key(route_id) {
                continue;
            }
            let told = reported(&edge.pods, route_id, armed, now);
            let is_later = told.as_ref().is_some_and(|(attempt, _)| *attempt > armed.attempt);
            // Of the same attempt, what all pods have counted says more than what one of them did about it.
            let mut guards = armed.guards.iter().filter(|_| !is_later);
            let counted = guards.find_map(|g| edge.tally.breach(route_id, g, armed.from, now));
            if let Some((attempt, breach)) = counted.map(|breach| (armed.attempt, breach)).or(told) {
                edge.breached.insert(route_id.clone(), (attempt, breach.clone()));
                let alarm = Alarm {
                    gateway: gateway.clone(),
                    route_id: route_id.clone(),
                    armed: Armed { attempt, ..armed.clone() },
                    breach,
                };
                // The receiver lives as long as the process; without it the process is on its way out.
                let _ = self.alarms.send(alarm);
            }
        }
    }

    fn changed(&self, gateway: &Key) {
        // Nobody listening is fine: controllers subscribe before they start.
        let _ = self.changes.send(gateway.clone());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Edge>> {
        // Nothing panics while it holds the lock; if something did, the picture is still the best there is.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an edge pod has latched by itself or on a kill is a breach of the attempt under way, unless it is of an earlier
/// one. A later one, which only a restored object can have made us forget, is taken over: below it no pod would follow.
fn reported(
    pods: &BTreeMap<String, Pod>,
    route_id: &str,
    armed: &Armed,
    now: Timestamp,
) -> Option<(i32, Breach)> {
    let latch_of = |pod: &Pod| pod.state.as_ref()?.0.latches.get(route_id).cloned();
    let latches = pods.iter().filter_map(|(name, pod)| Some((name, latch_of(pod)?)));
    let (pod, Latch { attempt, why, counted, .. }) =
        latches.filter(|(_, latch)| latch.attempt >= armed.attempt).max_by_key(|(_, latch)| latch.attempt)?;
    let counted = counted.unwrap_or_default();
    let breach = Breach {
        guard: why.as_str().into(),
        bad: counted.bad,
        requests: counted.requests,
        over_ms: counted.over_millis,
        at: now,
        reported_by: Some(pod.clone()),
    };
    Some((attempt, breach))
}

#[cfg(test)]
mod tests;
