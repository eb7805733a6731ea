//! Where objects come from: two channels that always hold the newest, filled by watches of exactly two objects.
//! Does I/O (the watches).

use futures::{StreamExt, TryStreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use stomaton_crds::v1alpha1::{EdgeConfig, EdgeConfigSpec, EdgeWeights, EdgeWeightsSpec};

use tokio::sync::watch;
use tracing::{info, warn};

/// The newest of an object that is known. An object that was deleted stays: the edge serves on.
#[derive(Clone, Debug, Default)]
pub enum Newest<T> {
    /// Nothing has come yet.
    #[default]
    Nothing,
    /// It was read.
    Object(Arc<T>),
    /// It is there and cannot be read; why.
    Unreadable(String),
}

/// Returns when there is something newer; never, when nothing newer can come.
pub(super) async fn changed<T>(newest: &mut watch::Receiver<Newest<T>>) {
    if newest.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Where to look for the newest of both objects.
#[derive(Clone, Debug)]
pub struct Objects {
    /// Structure.
    pub config: watch::Receiver<Newest<EdgeConfigSpec>>,
    /// Weights.
    pub weights: watch::Receiver<Newest<EdgeWeightsSpec>>,
}

/// Watches the two objects called `name`. Each watch has its own backoff, so that neither waits for the other.
pub fn watch_api(client: &Client, namespace: &str, name: &str) -> Objects {
    let config =
        feed(Api::<DeserializeGuard<EdgeConfig>>::namespaced(client.clone(), namespace), name, |o| o.spec);
    let weights =
        feed(Api::<DeserializeGuard<EdgeWeights>>::namespaced(client.clone(), namespace), name, |o| o.spec);
    Objects { config, weights }
}

fn feed<K, T>(
    api: Api<DeserializeGuard<K>>,
    name: &str,
    spec: impl Fn(K) -> T + Send + 'static,
) -> watch::Receiver<Newest<T>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Send + Sync + 'static,
{
    let (sender, receiver) = watch::channel(Newest::Nothing);
    let kind = K::kind(&());
    // A watch that died in silence is noticed when it should have ended.
    let config = Config::default().fields(&format!("metadata.name={name}")).timeout(60);
    tokio::spawn(async move {
        let events = watcher(api, config).backoff(Delays::default());
        let events = events.inspect_err(|error| warn!(%kind, %error, "watch failed; trying again"));
        let mut events = pin!(events);
        while let Some(event) = events.next().await {
            let newest = match event {
                Ok(Event::Apply(guard) | Event::InitApply(guard)) => guard.0,
                Ok(Event::Delete(_)) => {
                    warn!(%kind, "deleted; what it said stays in force");
                    continue;
                }
                Ok(Event::Init | Event::InitDone) | Err(_) => continue,
            };
            let newest = match newest {
                Ok(object) => Newest::Object(Arc::new(spec(object))),
                Err(invalid) => Newest::Unreadable(invalid.error),
            };
            if sender.send(newest).is_err() {
                return;
            }
        }
        info!(%kind, "watch ended");
    });
    receiver
}

/// From 100 ms, doubling up to 5 s, each with up to half as much again: a thousand edge pods must not come back to
/// an API server in step, and none may be late for a rollback.
#[derive(Default)]
struct Delays {
    failures: u32,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let base = (100_u64 << self.failures.min(6)).min(5_000);
        self.failures += 1;
        let chance = RandomState::new().hash_one(self.failures) % (base / 2);
        Some(Duration::from_millis(base + chance))
    }
}

impl Backoff for Delays {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound_and_begin_again() {
        let mut delays = Delays::default();
        let all: Vec<Duration> = delays.by_ref().take(20).collect();
        assert!(all[0] < Duration::from_millis(150));
        assert!(all[6..].iter().all(|d| (5_000..7_500).contains(&d.as_millis())));
        delays.reset();
        assert!(delays.next() < Some(Duration::from_millis(150)));
    }
}
