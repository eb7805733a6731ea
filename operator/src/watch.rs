//! Streams of objects for controllers, and how they fare. I/O: watches.
//!
//! A controller of kube merges its streams under one backoff: an error of any one would pause all of them for up to
//! a minute. So every stream here has its own backoff, and its errors are logged, counted and dropped before a
//! controller sees them; [`Watches`] keeps what `/readyz` says about them.
//!
//! Own kinds come as [`Guarded`]: one object that does not fit the types (an older or newer schema) would otherwise
//! end the list, and with it the kind. Children come as metadata: passes read what they need live, so a cache can
//! never make a pass decide from the past.

mod quiet;

use crate::{backoff, context::Context, metrics::Metrics, optional::Optional};
use futures::{Stream, StreamExt, future, stream::BoxStream};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject},
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        Predicate, WatchStreamExt, predicates,
        reflector::{self, Store, store::Writer},
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeMap,
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// An object as it is, or why it is not one of its kind.
pub type Guarded<K> = DeserializeGuard<K>;

/// Objects per page of a first list: a lower peak of memory than kube's 500.
const PAGE: u32 = 100;
/// A failing watch is tried again after ten seconds at most; one that has not failed for this long has recovered in
/// silence: nothing has happened since that it could tell.
const RECOVERED: Duration = Duration::from_secs(20);

/// How the watches fare, for `/readyz`.
#[derive(Debug, Default)]
pub struct Watches(Mutex<BTreeMap<String, Health>>);

/// How one watch fares.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Health {
    /// The first list is not complete.
    Starting,
    /// Events come, or nothing happens.
    Synced,
    /// The last thing heard was an error; whether the first list was complete before it.
    Failing { at: Instant, synced: bool },
}

impl Health {
    fn trouble(self, now: Instant) -> Option<&'static str> {
        match self {
            Self::Synced => None,
            Self::Starting => Some("the first list is not complete"),
            Self::Failing { at, synced } if synced && now.duration_since(at) >= RECOVERED => None,
            Self::Failing { .. } => Some("the watch fails, see the log"),
        }
    }
}

impl Watches {
    /// The watches that cannot be relied on at `now`, in words; none when all is well.
    pub fn troubles(&self, now: Instant) -> Vec<String> {
        let watches = self.lock();
        watches
            .iter()
            .filter_map(|(watch, health)| Some(format!("{watch}: {}", health.trouble(now)?)))
            .collect()
    }

    /// Every watch, and whether it can be relied on at `now`.
    pub fn healthy(&self, now: Instant) -> Vec<(String, bool)> {
        self.lock().iter().map(|(watch, health)| (watch.clone(), health.trouble(now).is_none())).collect()
    }

    pub(crate) fn starting(&self, watch: &str) {
        self.lock().insert(watch.to_owned(), Health::Starting);
    }

    pub(crate) fn stopped(&self, watch: &str) {
        self.lock().remove(watch);
    }

    pub(crate) fn heard<T>(&self, watch: &str, event: &watcher::Result<watcher::Event<T>>, now: Instant) {
        let mut watches = self.lock();
        let Some(health) = watches.get_mut(watch) else { return };
        let synced = matches!(health, Health::Synced | Health::Failing { synced: true, .. });
        *health = match event {
            Err(_) => Health::Failing { at: now, synced },
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) if !synced => Health::Starting,
            Ok(_) => Health::Synced,
        };
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Health>> {
        // Entries are replaced whole, so a panic elsewhere leaves none half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Objects of an own kind for the controller `by`: a store, and the stream that fills it. An object comes when its
/// spec, its finalizers or its deletion changed, not when only its status did.
pub fn main<K>(
    ctx: &Context,
    by: &str,
) -> (Store<Guarded<K>>, impl Stream<Item = watcher::Result<Guarded<K>>> + Send + use<K>)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    main_heard(ctx, by, |_| {})
}

/// As [`main`], for who must know of every change, of a status too: `heard` is told of each event after the store.
pub fn main_heard<K, F>(
    ctx: &Context,
    by: &str,
    mut heard: F,
) -> (Store<Guarded<K>>, impl Stream<Item = watcher::Result<Guarded<K>>> + Send + use<K, F>)
where
    F: FnMut(&watcher::Event<Guarded<K>>) + Send + 'static,
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store::<Guarded<K>>();
    let events = alone(ctx, by, ctx.watched::<Guarded<K>>(), watcher::Config::default());
    let events = events.reflect(writer).inspect(move |event| {
        if let Ok(event) = event {
            heard(event);
        }
    });
    let changed = predicates::generation.combine(predicates::finalizers);
    (store, events.applied_objects().predicate_filter(changed, Default::default()))
}

/// Objects of another kind whose content the controller `by` needs: a store, and the stream that fills it. An object
/// comes at every change, deletion included, after the store knows of it. What does not fit the kind is left out.
pub fn others<K>(
    ctx: &Context,
    by: &str,
    config: watcher::Config,
) -> (Store<K>, impl Stream<Item = watcher::Result<K>> + Send + use<K>)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store::<K>();
    (store, fitting(ctx, by, config).reflect(writer).touched_objects())
}

/// As [`others`], without a store.
pub fn changes<K>(ctx: &Context, by: &str) -> impl Stream<Item = watcher::Result<K>> + Send + use<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    fitting(ctx, by, watcher::Config::default()).touched_objects()
}

/// Children that carry `label`, as metadata: they come at every change, of their status too, and when deleted.
pub fn children<K>(
    ctx: &Context,
    by: &str,
    label: &str,
) -> impl Stream<Item = watcher::Result<PartialObjectMeta<K>>> + Send + use<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let config = watcher::Config::default().labels(label);
    alone(ctx, by, ctx.watched::<PartialObjectMeta<K>>(), config).touched_objects()
}

/// As [`metadata`], with a store.
pub fn metadata_kept<K>(
    ctx: &Context,
    by: &str,
) -> (Store<PartialObjectMeta<K>>, impl Stream<Item = watcher::Result<PartialObjectMeta<K>>> + Send + use<K>)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store::<PartialObjectMeta<K>>();
    let events = alone(ctx, by, ctx.watched::<PartialObjectMeta<K>>(), watcher::Config::default());
    (store, events.reflect(writer).touched_objects())
}

/// All objects of a kind, as metadata: they come at every change and when deleted.
pub fn metadata<K>(
    ctx: &Context,
    by: &str,
) -> impl Stream<Item = watcher::Result<PartialObjectMeta<K>>> + Send + use<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    alone(ctx, by, ctx.watched::<PartialObjectMeta<K>>(), watcher::Config::default()).touched_objects()
}

/// Objects as metadata, of a kind that is only known by its names.
pub type Erased = PartialObjectMeta<DynamicObject>;

/// Children that carry `label`, of a kind that is only known by its names: a store, and the stream that fills it. They
/// come at every change, of their status too if `status` says so, and when deleted.
pub fn erased(
    ctx: &Context,
    by: &str,
    resource: &ApiResource,
    label: &str,
    status: bool,
) -> (Store<Erased>, BoxStream<'static, watcher::Result<Erased>>) {
    let writer = Writer::new(resource.clone());
    let store = writer.as_reader();
    let events = Watching::new(ctx, by, resource).events(label, status);
    (store, events.reflect(writer).touched_objects().boxed())
}

/// As [`erased`] without the status, of a kind that is watched only while the cluster serves it.
pub fn erased_while_served(
    ctx: &Context,
    by: &str,
    kind: Optional,
    label: &'static str,
) -> (Store<Erased>, BoxStream<'static, watcher::Result<Erased>>) {
    let resource = kind.resource();
    let writer = Writer::new(resource.clone());
    let store = writer.as_reader();
    let watching = Watching::new(ctx, by, &resource);
    let (watches, name) = (ctx.watches.clone(), watching.name.clone());
    let events = ctx.kinds.while_served(
        kind,
        move || watching.events(label, false).boxed(),
        move || watches.stopped(&name),
    );
    (store, events.reflect(writer).touched_objects().boxed())
}

/// What it takes to watch a kind, now or later.
struct Watching {
    client: Client,
    namespace: Option<String>,
    resource: ApiResource,
    name: String,
    metrics: Arc<Metrics>,
    watches: Arc<Watches>,
}

impl Watching {
    fn new(ctx: &Context, by: &str, resource: &ApiResource) -> Self {
        Self {
            client: ctx.client.clone(),
            namespace: ctx.settings.namespace.clone(),
            resource: resource.clone(),
            name: format!("{} for {by}", resource.plural),
            metrics: ctx.metrics.clone(),
            watches: ctx.watches.clone(),
        }
    }

    fn events(
        &self,
        label: &str,
        status: bool,
    ) -> impl Stream<Item = watcher::Result<watcher::Event<Erased>>> + Send + use<> {
        let api = match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &self.resource),
            None => Api::all_with(self.client.clone(), &self.resource),
        };
        let config = watcher::Config::default().labels(label);
        let (metrics, watches) = (self.metrics.clone(), self.watches.clone());
        let mut news = quiet::beside_status();
        heard(api, config, self.resource.kind.clone(), self.name.clone(), metrics, watches)
            .filter(move |event| future::ready(event.as_ref().map_or(true, &mut news) || status))
            .modify(forget)
    }
}

/// A watch without the objects that do not fit their kind.
fn fitting<K>(
    ctx: &Context,
    by: &str,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + use<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let metrics = ctx.metrics.clone();
    alone(ctx, by, ctx.watched::<Guarded<K>>(), config)
        .filter_map(move |event| future::ready(event.map(|event| valid(event, &metrics)).transpose()))
}

/// A watch whose backoff and errors are its own.
pub(crate) fn alone<K>(
    ctx: &Context,
    by: &str,
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let (kind, watch) = (K::kind(&()).into_owned(), format!("{} for {by}", K::plural(&())));
    steady(api, config, kind, watch, ctx.metrics.clone(), ctx.watches.clone())
}

/// The watch itself, with objects as they are kept.
fn steady<K>(
    api: Api<K>,
    config: watcher::Config,
    kind: String,
    watch: String,
    metrics: Arc<Metrics>,
    watches: Arc<Watches>,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + use<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Clone + Debug + Eq + Hash,
{
    heard(api, config, kind, watch, metrics, watches).modify(forget)
}

/// Drops what makes half of an object's bytes, and nobody here reads.
fn forget<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// The watch itself, with objects as they come.
fn heard<K>(
    api: Api<K>,
    config: watcher::Config,
    kind: String,
    watch: String,
    metrics: Arc<Metrics>,
    watches: Arc<Watches>,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + use<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Clone + Debug + Eq + Hash,
{
    watches.starting(&watch);
    watcher(api, config.page_size(PAGE))
        .backoff(backoff::of_watch())
        .inspect(move |event| watches.heard(&watch, event, Instant::now()))
        .filter(move |event| future::ready(sound(event, &kind, &metrics)))
}

/// The event of an object that fits its kind; an object that does not is logged, counted and left out.
fn valid<K: Resource<DynamicType = ()>>(
    event: watcher::Event<Guarded<K>>,
    metrics: &Metrics,
) -> Option<watcher::Event<K>> {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    let object = |guarded: Guarded<K>| match guarded.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let kind = K::kind(&());
            tracing::warn!(%kind, name = invalid.metadata.name, error = invalid.error, "the object does not fit its kind");
            metrics.invalid_object(&kind);
            None
        }
    };
    match event {
        Apply(guarded) => object(guarded).map(Apply),
        Delete(guarded) => object(guarded).map(Delete),
        InitApply(guarded) => object(guarded).map(InitApply),
        Init => Some(Init),
        InitDone => Some(InitDone),
    }
}

/// Whether to pass an event on; an error is logged and counted here, and ends here.
fn sound<T>(event: &watcher::Result<T>, kind: &str, metrics: &Metrics) -> bool {
    if let Err(error) = event {
        tracing::warn!(kind, %error, "a watch failed; it is tried again");
        metrics.watch_failed(kind);
    }
    event.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::watcher::Event;

    fn failed() -> watcher::Result<Event<()>> {
        Err(watcher::Error::NoResourceVersion)
    }

    #[test]
    fn a_watch_is_trouble_until_its_first_list_is_complete() {
        let (watches, now) = (Watches::default(), Instant::now());
        watches.starting("w");
        watches.heard("w", &Ok(Event::<()>::Init), now);
        assert_eq!(watches.troubles(now), ["w: the first list is not complete"]);
        watches.heard("w", &Ok(Event::<()>::InitDone), now);
        assert!(watches.troubles(now).is_empty());
    }

    #[test]
    fn a_failing_watch_recovers_by_an_event_or_by_two_minutes_of_silence() {
        let (watches, now) = (Watches::default(), Instant::now());
        watches.starting("w");
        watches.heard("w", &failed(), now);
        assert_eq!(watches.troubles(now + RECOVERED).len(), 1, "the first list never came");
        watches.heard("w", &Ok(Event::<()>::InitDone), now);
        watches.heard("w", &failed(), now);
        assert_eq!(watches.troubles(now).len(), 1);
        assert!(watches.troubles(now + RECOVERED).is_empty());
        watches.heard("w", &Ok(Event::Apply(())), now);
        assert!(watches.troubles(now).is_empty());
    }

    #[test]
    fn errors_are_counted_and_dropped() {
        let metrics = Metrics::default();
        assert!(!sound(&failed(), "Pod", &metrics));
        assert!(sound(&Ok(()), "Pod", &metrics));
        assert!(metrics.text().unwrap().contains(r#"stomaton_watch_errors_total{kind="Pod"} 1"#));
    }
}
