//! The rollback path (I/O): takes alarms and latches routes, on a client of its own. It waits for no work queue, no
//! status, no Event; plans hear of it afterwards.

use crate::{
    controllers::migration_plan::gather::Caches,
    edges::{Alarm, Edges},
    metrics::Metrics,
    watch::Guarded,
    weights::{self, Write, millis_since},
};
use futures::Stream;
use kube::{Api, Client, runtime::reflector::ObjectRef};
use std::{sync::Arc, time::Duration};
use stomaton_crds::v1alpha1::{MigrationPlan, RouteWeights};
use tokio::sync::mpsc;

/// Wait between two tries while the API server is away.
const RETRY: Duration = Duration::from_millis(100);

/// What the rollback path needs: all of it is at hand before an alarm comes.
pub struct Rollback {
    /// A client nobody else uses, so that no other request is in front of it.
    pub client: Client,
    /// What is known of the edge pods.
    pub edges: Arc<Edges>,
    /// Gateways, plans and present weights.
    pub caches: Caches,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Rollback {
    /// Answers alarms for as long as it is polled; plans to look at come out of the stream it gives.
    pub fn run(
        self,
        mut alarms: mpsc::UnboundedReceiver<Alarm>,
    ) -> impl Stream<Item = ObjectRef<Guarded<MigrationPlan>>> + Send {
        let (told, tell) = mpsc::unbounded_channel();
        let this = Arc::new(self);
        tokio::spawn(async move {
            while let Some(alarm) = alarms.recv().await {
                // Each on its own: one gateway whose write is slow does not hold up another's.
                let (this, told) = (this.clone(), told.clone());
                tokio::spawn(async move {
                    this.answer(&alarm).await;
                    // The controller is gone only when the process is about to be.
                    let _ = told.send(alarm.armed.plan);
                });
            }
        });
        futures::stream::unfold(tell, async |mut tell| tell.recv().await.map(|plan| (plan, tell)))
    }

    async fn answer(&self, alarm: &Alarm) {
        let Alarm { gateway, route_id, armed, breach } = alarm;
        if !armed.safe_ready {
            tracing::error!(
                route = armed.route,
                guard = breach.guard,
                "breach, but the monolith has no ready endpoint: traffic stays"
            );
            return;
        }
        loop {
            match self.latch(alarm).await {
                Ok(Some(revision)) => {
                    let ms = millis_since(breach.at);
                    tracing::warn!(%gateway, route = armed.route, route_id, guard = breach.guard, breach.bad, breach.requests, revision, ms, "taken back");
                    return;
                }
                Ok(None) => return tracing::warn!(%gateway, "breach, but the Gateway is gone"),
                Err(weights::Error::Overtaken { attempt, .. }) => {
                    return tracing::info!(route = armed.route, attempt, "breach of an attempt that is over");
                }
                Err(error) => {
                    tracing::error!(%gateway, route = armed.route, %error, "cannot write the rollback yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn latch(
        &self,
        Alarm { gateway, route_id, armed, .. }: &Alarm,
    ) -> Result<Option<i64>, weights::Error> {
        let Some(owner) = self.caches.gateways.get(gateway) else { return Ok(None) };
        let namespace = gateway.namespace.as_deref().unwrap_or_default();
        let present =
            self.caches.weights.get(&ObjectRef::new(&gateway.name).within(namespace)).map(|w| (*w).clone());
        // The step is that of the edge: a latch says nothing of how far the ramp was.
        let there =
            present.as_ref().and_then(|w| w.spec.routes.get(route_id)).filter(|e| e.attempt == armed.attempt);
        let step = there.map_or(0, |e| e.step);
        let entry = RouteWeights { latched: true, attempt: armed.attempt, step, ..RouteWeights::default() };
        let above = self.edges.view(gateway).weights_seen();
        let write = Write { gateway: &owner, route_id, entry: &entry, above, known: None };
        weights::write(&Api::namespaced(self.client.clone(), namespace), present, &write, &self.metrics)
            .await
            .map(Some)
    }
}
