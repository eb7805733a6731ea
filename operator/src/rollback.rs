//! The rollback path (I/O): takes alarms and latches routes, on a client of its own, and at the same moment tells the
//! edge pods themselves. It waits for no work queue, no status, no Event, and for the API server only to write what
//! the pods know by then; plans hear of it afterwards.

use crate::{
    controllers::{Stop, migration_plan::gather::Caches},
    edges::{Alarm, Edges, Key, kill::Killer},
    metrics::Metrics,
    watch::Guarded,
    weights::{self, Write, millis_since},
};
use kube::{Api, Client, runtime::reflector::ObjectRef};
use std::{sync::Arc, time::Duration};
use stomaton_crds::v1alpha1::{MigrationPlan, RouteWeights};
use tokio::{sync::mpsc, task::JoinSet};

/// Wait between two tries while the API server is away.
const RETRY: Duration = Duration::from_millis(100);

/// Where plans go that have to be looked at after a rollback.
pub type Told = mpsc::UnboundedSender<ObjectRef<Guarded<MigrationPlan>>>;

/// What the rollback path needs: all of it is at hand before an alarm comes.
pub struct Rollback {
    /// A client nobody else uses, so that no other request is in front of it.
    pub client: Client,
    /// What is known of the edge pods.
    pub edges: Arc<Edges>,
    /// The way to them.
    pub killer: Killer,
    /// Gateways, plans and present weights.
    pub caches: Caches,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Rollback {
    /// Answers alarms until `stop`, and then until those that came before it are answered; tells `told` of each.
    pub async fn run(self, mut alarms: mpsc::UnboundedReceiver<Alarm>, told: Told, stop: Stop) {
        let this = Arc::new(self);
        let mut answers = JoinSet::new();
        loop {
            let alarm = tokio::select! {
                alarm = alarms.recv() => alarm,
                () = stop.clone() => None,
            };
            let Some(alarm) = alarm else { break };
            while answers.try_join_next().is_some() {}
            let Some(alarm) = this.with_a_way_back(alarm) else { continue };
            // Each on its own: one gateway whose write is slow does not hold up another's.
            if alarm.armed.safe_ready {
                for (route, attempt) in alarm.routes() {
                    let (killer, gateway, route) =
                        (this.killer.clone(), alarm.gateway.clone(), route.to_owned());
                    answers.spawn(async move { killer.kill(&gateway, &route, attempt).await });
                }
            }
            let (this, told) = (this.clone(), told.clone());
            answers.spawn(async move {
                this.answer(&alarm).await;
                // The controller is gone only when the process is about to be.
                let _ = told.send(alarm.armed.plan);
            });
        }
        while answers.join_next().await.is_some() {}
    }

    /// The alarm without routes that have no way back; none if it is of such a one. One that was raised just before is on
    /// its way still.
    fn with_a_way_back(&self, mut alarm: Alarm) -> Option<Alarm> {
        let plan = self.caches.plans.get(&alarm.armed.plan);
        let status = plan.as_ref().and_then(|plan| plan.0.as_ref().ok()?.status.as_ref());
        let Some(status) = status else { return Some(alarm) };
        let stays = |id: &str| status.routes.iter().any(|route| route.id == id && route.has_no_way_back());
        alarm.armed.group.retain(|(id, _)| !stays(id));
        if stays(&alarm.route_id) {
            let route = &alarm.armed.route;
            tracing::error!(
                route,
                guard = alarm.breach.guard,
                "breach past the point of no return: traffic stays"
            );
            return None;
        }
        Some(alarm)
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

    /// Latches the route, and in the same write those that share its fate.
    async fn latch(&self, alarm: &Alarm) -> Result<Option<i64>, weights::Error> {
        let all: Vec<_> = alarm.routes().collect();
        match self.latch_all(&alarm.gateway, &all).await {
            // One of the others is at another attempt by now: that must not keep this one where it is.
            Err(weights::Error::Overtaken { .. }) if all.len() > 1 => {
                self.latch_all(&alarm.gateway, &all[..1]).await
            }
            done => done,
        }
    }

    async fn latch_all(&self, gateway: &Key, routes: &[(&str, i32)]) -> Result<Option<i64>, weights::Error> {
        let Some(owner) = self.caches.gateways.get(gateway) else { return Ok(None) };
        let namespace = gateway.namespace.as_deref().unwrap_or_default();
        let present =
            self.caches.weights.get(&ObjectRef::new(&gateway.name).within(namespace)).map(|w| (*w).clone());
        let latched = |&(id, attempt): &(&str, i32)| {
            // The step is that of the edge: a latch says nothing of how far the ramp was.
            let there = present.as_ref().and_then(|w| w.spec.routes.get(id)).filter(|e| e.attempt == attempt);
            let step = there.map_or(0, |e| e.step);
            RouteWeights { latched: true, attempt, step, ..RouteWeights::default() }
        };
        let entries: Vec<_> = routes.iter().map(latched).collect();
        let entries: Vec<_> = routes.iter().map(|(id, _)| *id).zip(&entries).collect();
        let above = self.edges.view(gateway).weights_seen();
        let write = Write { gateway: &owner, entries: &entries, above, known: None };
        let api = Api::namespaced(self.client.clone(), namespace);
        weights::write(&api, present.clone(), &write, &self.metrics).await.map(Some)
    }
}
