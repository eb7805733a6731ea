//! Wakes services when a Secret or ConfigMap changes that they use, or a ReferenceGrant. I/O: watches of metadata, of
//! one namespace each, and one of ReferenceGrants, started when the first service needs them. Nothing of what they
//! bring is kept.
//!
//! One namespace each, because the right to read Secrets is given namespace by namespace. Where it is not given the
//! watch is tried again, quietly: the services' conditions say so already.

use super::gather::{grants, sources::Kind};
use crate::{backoff::jittered, context::Context, watch::Guarded};
use futures::{StreamExt, channel::mpsc::UnboundedSender};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, Resource,
    api::DynamicObject,
    core::PartialObjectMeta,
    runtime::{
        reflector::ObjectRef,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use stomaton_crds::v1alpha1::StomatonService;
use tokio::task::JoinSet;

/// Longest between two attempts of a watch: about what a person waits who has just given the right.
const LONGEST: Duration = Duration::from_secs(5);

/// Between two questions whether the cluster has ReferenceGrants by now.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// What happened to a Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The object was made, changed or deleted; `service` is what our label on it says.
    Touched {
        /// Secret or ConfigMap.
        kind: Kind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The service whose child it is, if it says so.
        service: Option<String>,
    },
    /// ReferenceGrants came, changed or went.
    Granted,
    /// The watch works again: anything may have changed in this namespace.
    Anything {
        /// The namespace.
        namespace: String,
    },
}

/// A service to reconcile.
pub type Wake = ObjectRef<Guarded<StomatonService>>;

/// Stands for the watch of ReferenceGrants among the namespaces, none of which is called so.
const GRANTS: &str = "";

/// The watches that run, by namespace. They end when this goes, or when [`Self::keep`] says so.
#[derive(Default)]
pub struct Watching(Mutex<BTreeMap<String, JoinSet<()>>>);

impl Watching {
    /// Makes sure that Secrets and ConfigMaps of `namespace` are watched.
    pub fn watch(&self, ctx: &Context, namespace: &str, news: &UnboundedSender<News>) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !running.contains_key(namespace) {
            let secrets = follow::<Secret>(ctx, namespace, Kind::Secret, news.clone());
            let maps = follow::<ConfigMap>(ctx, namespace, Kind::ConfigMap, news.clone());
            let mut tasks = JoinSet::new();
            tasks.spawn(secrets);
            tasks.spawn(maps);
            running.insert(namespace.to_owned(), tasks);
        }
    }

    /// Ends the watches of namespaces that are not `used` any more: one that was deleted would be asked for in vain for
    /// ever.
    pub fn keep(&self, used: impl Fn(&str) -> bool) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|namespace, _| namespace == GRANTS || used(namespace));
    }

    /// Makes sure that ReferenceGrants are watched, as soon as the cluster has that kind.
    pub fn watch_grants(&self, ctx: &Context, news: &UnboundedSender<News>) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.entry(GRANTS.to_owned()).or_insert_with(|| {
            let mut tasks = JoinSet::new();
            tasks.spawn(follow_grants(ctx.client.clone(), news.clone()));
            tasks
        });
    }
}

/// One watch, for ever.
fn follow<K>(
    ctx: &Context,
    namespace: &str,
    kind: Kind,
    news: UnboundedSender<News>,
) -> impl Future<Output = ()> + Send + use<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (api, namespace) = (ctx.namespaced::<PartialObjectMeta<K>>(namespace), namespace.to_owned());
    async move {
        let mut events = watcher(api, watcher::Config::default().page_size(100)).boxed();
        let mut failed = 0;
        while let Some(event) = events.next().await {
            let Ok(event) = event.inspect_err(|error| tracing::debug!(namespace, kind = kind.as_str(), %error, "a watch failed; it is tried again"))
            else {
                failed += 1;
                tokio::time::sleep(jittered(pause(failed))).await;
                continue;
            };
            let message = match event {
                Event::Apply(object) | Event::Delete(object) => Some(touched(kind, &namespace, &object)),
                // What was there already was read by the pass that started the watch; what changed between the two,
                // and while the watch failed, is not known.
                Event::InitDone => Some(News::Anything { namespace: namespace.clone() }),
                Event::Init | Event::InitApply(_) => None,
            };
            // A list begins before anybody knows whether it may.
            if message.is_some() {
                failed = 0;
            }
            if message.is_some_and(|message| news.unbounded_send(message).is_err()) {
                return;
            }
        }
    }
}

/// The watch of ReferenceGrants, for ever. While the kind is absent it is asked for again and again; when it goes, so
/// does what was granted.
async fn follow_grants(client: Client, news: UnboundedSender<News>) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &grants::resource());
    let mut events = watcher(api, watcher::Config::default()).boxed();
    let mut works = false;
    while let Some(event) = events.next().await {
        let failed = event.is_err();
        let tell = match event {
            Ok(Event::Apply(_) | Event::Delete(_)) => true,
            Ok(Event::InitDone) => {
                works = true;
                true
            }
            Ok(Event::Init | Event::InitApply(_)) => false,
            Err(error) => {
                tracing::debug!(%error, "ReferenceGrants cannot be watched; it is tried again");
                std::mem::take(&mut works)
            }
        };
        if tell && news.unbounded_send(News::Granted).is_err() {
            return;
        }
        if failed && !tell {
            tokio::time::sleep(jittered(ASK_AGAIN)).await;
        }
    }
}

fn touched<K: Resource<DynamicType = ()>>(
    kind: Kind,
    namespace: &str,
    object: &PartialObjectMeta<K>,
) -> News {
    use kube::ResourceExt;
    News::Touched {
        kind,
        namespace: namespace.to_owned(),
        name: object.name_any(),
        service: object.labels().get(stomaton_crds::keys::SERVICE).cloned(),
    }
}

/// Time after the attempt number `failed` that failed in a row.
fn pause(failed: u32) -> Duration {
    Duration::from_secs(1 << (failed.saturating_sub(1)).min(3)).min(LONGEST)
}
