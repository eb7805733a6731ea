//! The MigrationPlan controller: gather -> step (pure) -> at most one effect -> conditions (pure) -> one status write.
//!
//! The state machine is [`machine`]; this driver only carries its input in and its effect out. Routes are put under
//! their guards before any weight rises; breaches do not pass through here (see [`crate::rollback`]), they are
//! adopted from the edge like any other write.

pub mod conditions;
pub mod evict;
pub mod gather;
mod group;
pub mod machine;
mod ramp;

use crate::{
    api,
    context::Context,
    controllers::{Reconcile, Stop, run as run_controller},
    edges::{Alarm, Armed, kill::Killer},
    rollback::Rollback,
    status, watch,
    weights::{self, Write},
};
use futures::StreamExt;
use gather::{Caches, Observed, gateway_of};
use jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{Controller, events::EventType, reflector::ObjectRef, watcher},
};
use machine::{Effect, Route, State};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use stomaton_crds::{
    conditions::Reason,
    v1alpha1::{
        EdgeConfig, EdgeWeights, Evidence, Gateway, MigrationPlan, MigrationPlanStatus, Phase, RouteStatus,
        Transition,
    },
};
use tokio::{sync::mpsc, task::JoinSet};

const CONTROLLER: &str = "migration plans";
/// Evidence alone is written no more often than this.
const EVIDENCE_EVERY: Duration = Duration::from_secs(10);
/// When to come back after something moved: the next step may be possible at once.
const SOON: Duration = Duration::from_millis(20);

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plan has no namespace or UID: it does not come from an API server.
    #[error("the plan has no {0}")]
    Incomplete(&'static str),
    /// The weights could not be written.
    #[error("cannot write the weights: {0}")]
    Weights(#[from] weights::Error),
    /// The status could not be written.
    #[error(transparent)]
    Status(#[from] api::Error),
}

/// What passes share: caches, the way to the edge pods, and the last status written of each plan.
pub struct Shared {
    caches: Caches,
    killer: Killer,
    written: Mutex<HashMap<String, Written>>,
}

/// Our own last word on a plan: used until the cache has it too.
struct Written {
    version: u64,
    status: MigrationPlanStatus,
    at: Instant,
}

impl Reconcile for MigrationPlan {
    type Error = Error;
    type Shared = Shared;

    fn reason(_: &Error) -> Reason {
        Reason::ApiError
    }

    async fn reconcile(&self, ctx: &Context, shared: &Shared) -> Result<Option<Duration>, Error> {
        if self.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let plan = shared.with_own_writes(self);
        let observed = gather::gather(&plan, &shared.caches, &ctx.edges);
        let routes = observed.routes(&plan);
        let old = State::of(&plan);
        let now = Timestamp::now();
        let (mut next, effects) = machine::step(&routes, &plan.spec.rollback, &old, now);
        guard(ctx, &plan, &routes, &next, now);
        if !effects.is_empty() {
            effects.iter().for_each(|effect| shared.tell(&plan, effect));
            match carry_out(ctx, &plan, &observed, &effects).await {
                Ok(revision) => effects.iter().for_each(|effect| next.written(&effect.route, revision)),
                // The edge moved on while the cache did not show it yet.
                Err(weights::Error::Latched { .. } | weights::Error::Overtaken { .. }) => {
                    return Ok(Some(SOON));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let moved = !effects.is_empty() || !same_but_evidence(&old, &next);
        let wake = machine::wake(&routes, &plan.spec.rollback, &next, now);
        let gone = evict::evict(ctx, &plan, &gateway_of(&plan), &routes, &next, &observed.view).await;
        record(ctx, shared, &plan, &routes, next, now).await?;
        Ok(if moved { Some(SOON) } else { wake.into_iter().chain(gone).min() })
    }
}

/// Runs the controller and the rollback path until `stop`.
pub async fn run(ctx: Arc<Context>, alarms: mpsc::UnboundedReceiver<Alarm>, stop: Stop) {
    let any = watcher::Config::default;
    let (plans, plan_events) = watch::main::<MigrationPlan>(&ctx, CONTROLLER);
    let (gateways, gateway_events) = watch::others::<Gateway>(&ctx, CONTROLLER, any());
    let (configs, config_events) = watch::others::<EdgeConfig>(&ctx, CONTROLLER, any());
    let (weights, weights_events) = watch::others::<EdgeWeights>(&ctx, CONTROLLER, any());
    let (slices, slice_events) = watch::others(&ctx, CONTROLLER, any());
    let caches = Caches { plans: plans.clone(), gateways, configs, weights, slices };
    let killer = Killer::new(ctx.edges.clone());
    let rollback = Rollback {
        client: ctx.urgent.clone(),
        edges: ctx.edges.clone(),
        killer: killer.clone(),
        caches: caches.clone(),
        metrics: ctx.metrics.clone(),
    };

    let of = |caches: &Caches| {
        let caches = caches.clone();
        move |namespace: Option<String>, gateway: Option<String>| {
            caches.plans_of(namespace.as_deref(), gateway.as_deref())
        }
    };
    let (by_gateway, by_config, by_weights, by_slice, by_edge) =
        (of(&caches), of(&caches), of(&caches), of(&caches), of(&caches));
    let (told, tell) = mpsc::unbounded_channel();
    let taken_back =
        futures::stream::unfold(tell, async |mut tell| tell.recv().await.map(|plan| (plan, tell)));
    let changes = ctx.edges.changes();
    let edges = changes.flat_map(move |key| futures::stream::iter(by_edge(key.namespace, Some(key.name))));
    let controller = Controller::for_stream(plan_events, plans)
        .watches_stream(gateway_events, move |g: Gateway| by_gateway(g.namespace(), Some(g.name_any())))
        .watches_stream(config_events, move |c: EdgeConfig| by_config(c.namespace(), Some(c.name_any())))
        .watches_stream(weights_events, move |w: EdgeWeights| by_weights(w.namespace(), Some(w.name_any())))
        .watches_stream(slice_events, move |s| by_slice(s.namespace(), None))
        .reconcile_on(edges)
        .reconcile_on(taken_back);
    // A task of its own, so that no pass is in front of it; it ends with this one.
    let mut path = JoinSet::new();
    path.spawn(rollback.run(alarms, told, stop.clone()));
    let shared = Arc::new(Shared { caches, killer, written: Mutex::default() });
    tokio::select! {
        () = run_controller(controller, ctx, shared, stop.clone()) => {}
        // Nobody would take routes back: this part is dead, and with it the process.
        () = early_end(&mut path, &stop) => return,
    }
    // Whoever leads next does not know what was breached here: it is answered before this process ends.
    while path.join_next().await.is_some() {}
}

/// Resolves when the rollback path ends although nobody asked for it.
async fn early_end(path: &mut JoinSet<()>, stop: &Stop) {
    path.join_next().await;
    if stop.peek().is_some() {
        std::future::pending::<()>().await;
    }
}

impl State {
    /// The state that a plan's status has.
    fn of(plan: &MigrationPlan) -> Self {
        let status = plan.status.clone().unwrap_or_default();
        Self { routes: status.routes, history: status.history }
    }
}

impl Shared {
    /// What takes a route back goes to the edge pods themselves too, beside the write that is about to be made.
    fn tell(&self, plan: &MigrationPlan, effect: &Effect) {
        if effect.weights.latched {
            let (killer, gateway) = (self.killer.clone(), gateway_of(plan));
            let (id, attempt) = (effect.id.clone(), effect.weights.attempt);
            tokio::spawn(async move { killer.kill(&gateway, &id, attempt).await });
        }
    }

    /// The plan with the status we wrote last, if the cache is older than that.
    fn with_own_writes(&self, plan: &MigrationPlan) -> MigrationPlan {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match plan.uid().and_then(|uid| written.get(&uid)) {
            Some(own) if version(plan) < own.version => {
                MigrationPlan { status: Some(own.status.clone()), ..plan.clone() }
            }
            _ => plan.clone(),
        }
    }

    fn remember(&self, plan: &MigrationPlan) {
        let (Some(uid), Some(status)) = (plan.uid(), plan.status.clone()) else { return };
        let own = Written { version: version(plan), status, at: Instant::now() };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(uid, own);
    }

    /// Whether evidence of this plan was written a moment ago.
    fn recently_written(&self, plan: &MigrationPlan) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        plan.uid().and_then(|uid| written.get(&uid)).is_some_and(|own| own.at.elapsed() < EVIDENCE_EVERY)
    }
}

/// Resource versions of one object grow; the API promises the comparison for objects of one kind.
fn version(plan: &MigrationPlan) -> u64 {
    plan.resource_version().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Puts the routes that the service answers under their guards, and takes the guards off all others.
fn guard(ctx: &Context, plan: &MigrationPlan, routes: &[Route<'_>], state: &State, now: Timestamp) {
    let (gateway, namespace) = (gateway_of(plan), plan.namespace().unwrap_or_default());
    let plan_ref = ObjectRef::new(&plan.name_any()).within(&namespace);
    let status_of = |route: &Route<'_>| state.routes.iter().find(|status| status.name == route.name);
    let moving: Vec<_> = routes
        .iter()
        .filter_map(|route| Some((route, route.id.as_deref()?, status_of(route)?)))
        .filter(|(.., status)| matches!(status.phase, Phase::Ramp | Phase::Done))
        .collect();
    let mut kept = Vec::new();
    for (route, id, status) in moving.iter().copied() {
        // A monolith that is away keeps its own route where it is, and no other.
        let with_it = |other: &&(&Route<'_>, &str, &RouteStatus)| {
            other.0.name != route.name
                && route.group.is_some()
                && other.0.group == route.group
                && other.0.safe_ready
        };
        let group = moving.iter().filter(with_it).map(|(_, id, status)| ((*id).to_owned(), status.attempt));
        let armed = Armed {
            plan: plan_ref.clone(),
            route: route.name.to_owned(),
            attempt: status.attempt,
            group: group.collect(),
            from: now,
            guards: plan.spec.guards.clone(),
            safe_ready: route.safe_ready,
        };
        ctx.edges.arm(&gateway, id, armed);
        kept.push(id);
    }
    ctx.edges.disarm_others(&gateway, &plan_ref, &kept);
}

/// Writes the effects to the edge, in one revision, and gives it.
async fn carry_out(
    ctx: &Context,
    plan: &MigrationPlan,
    observed: &Observed,
    effects: &[Effect],
) -> Result<i64, weights::Error> {
    let Some(gateway) = observed.gateway() else { return Ok(0) };
    let api = ctx.namespaced(&plan.namespace().unwrap_or_default());
    let entries: Vec<_> = effects.iter().map(|effect| (effect.id.as_str(), &effect.weights)).collect();
    let write = Write {
        gateway,
        entries: &entries,
        above: observed.view.weights_seen(),
        known: Some(&observed.known),
    };
    let cached = observed.weights.as_deref().cloned();
    let revision = weights::write(&api, cached, &write, &ctx.metrics).await?;
    for Effect { route, weights, .. } in effects {
        tracing::info!(plan = plan.name_any(), route, ?weights, revision, "weights written");
    }
    Ok(revision)
}

/// Writes status if it says something new, and then an Event for each transition.
async fn record(
    ctx: &Context,
    shared: &Shared,
    plan: &MigrationPlan,
    routes: &[Route<'_>],
    next: State,
    now: Timestamp,
) -> Result<(), Error> {
    let old = State::of(plan);
    let news: Vec<Transition> = new_transitions(&old.history, &next.history).to_vec();
    let only_evidence = same_but_evidence(&old, &next);
    let status = conditions::status(plan, routes, next, now);
    let said = plan.status.as_ref();
    let conditions_same =
        said.is_some_and(|s| s.conditions == status.conditions && s.summary == status.summary);
    if only_evidence && conditions_same && shared.recently_written(plan) {
        return Ok(());
    }
    if let Some(written) = status::write(ctx, plan, said, &status).await? {
        shared.remember(&written);
    }
    let before = said.map(|s| s.conditions.as_slice()).unwrap_or_default();
    status::announce(ctx, plan, before, &status.conditions).await;
    for transition in news {
        let kind =
            if transition.phase == Phase::RollingBack { EventType::Warning } else { EventType::Normal };
        let Transition { route, permille, message, phase, .. } = transition;
        let note = format!("route {route} to {}: {message}", conditions::percent(permille));
        status::publish(ctx, plan, kind, phase.as_str(), "Migrate", &note).await;
    }
    Ok(())
}

/// What was added to a bounded history: everything after the last entry it shares with the old one.
fn new_transitions<'a>(old: &[Transition], next: &'a [Transition]) -> &'a [Transition] {
    let same = |a: &Transition, b: &Transition| {
        (&a.at, &a.route, a.phase, a.permille) == (&b.at, &b.route, b.phase, b.permille)
    };
    let known = old.last().and_then(|last| next.iter().rposition(|t| same(t, last)));
    known.map_or(next, |at| &next[at + 1..])
}

/// Whether two states differ in nothing but what was counted.
fn same_but_evidence(a: &State, b: &State) -> bool {
    let stripped = |state: &State| {
        let mut state = state.clone();
        for route in &mut state.routes {
            (route.evidence, route.weights.observed) = (Evidence::default(), None);
            // "19 of 20 counted" is evidence too.
            if route.phase == Phase::Ramp {
                route.waits_for.clear();
            }
        }
        state
    };
    stripped(a) == stripped(b)
}
