//! What all parts of the operator share. One [`Context`] a process, made in [`crate::run`].

use crate::{
    apply::Settled, args::Settings, backoff::Backoff, edges::Edges, leader::Standing, metrics::Metrics,
    optional::Kinds, prometheus::Prometheus, pulse::Pulse, watch::Watches,
};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject},
    runtime::events::Recorder,
};
use std::sync::Arc;

/// What all parts share.
pub struct Context {
    /// The way to the API server, without retries of its own: see [`crate::api`].
    pub client: Client,
    /// A connection of its own for taking routes back, so that no other request is in front of one.
    pub urgent: Client,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How the watches fare.
    pub watches: Arc<Watches>,
    /// Whether all that runs still moves.
    pub pulse: Arc<Pulse>,
    /// Whether this process works or stands by.
    pub standing: Arc<Standing>,
    /// Publishes Events; one for all, because it folds repeated ones together.
    pub recorder: Recorder,
    /// Which objects are left alone for now.
    pub backoff: Backoff,
    /// Children that are known to be as wanted.
    pub settled: Settled,
    /// What the operator was told.
    pub settings: Settings,
    /// What the edge pods serve.
    pub edges: Arc<Edges>,
    /// Which kinds of other projects the cluster serves.
    pub kinds: Arc<Kinds>,
    /// What Prometheus counts.
    pub prometheus: Prometheus,
}

impl Context {
    /// All objects of a kind that this operator cares for: of one namespace when told so.
    pub fn watched<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.settings.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// Objects of a kind in `namespace`.
    pub fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Objects in `namespace` of a kind that is only known by its names.
    pub fn dynamic(&self, namespace: &str, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, resource)
    }
}
