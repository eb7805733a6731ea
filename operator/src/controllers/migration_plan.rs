//! The MigrationPlan controller: gather -> step (pure) -> at most one effect -> conditions (pure) -> one status write.
//!
//! The state machine is [`machine`]; this driver only carries its input in and its effect out. Routes are put under
//! their guards before any weight rises; breaches do not pass through here (see [`crate::rollback`]), they are
//! adopted from the edge like any other write.

pub mod acts;
mod brakes;
pub mod conditions;
#[cfg(test)]
mod diagram_tests;
mod end;
pub mod evict;
mod frozen;
mod gates;
pub mod gather;
mod group;
mod judging;
pub mod machine;
mod monitored;
mod pass;
#[cfg(test)]
mod property_tests;
mod ramp;
pub mod stages;
mod start;
pub mod terms;
mod windows;

use crate::{
    api,
    context::Context,
    controllers::{Reconcile, Stop, run as run_controller},
    edges::{Alarm, Armed, kill::Killer},
    finalizer,
    rollback::Rollback,
    status,
    watch::{self, Guarded},
    weights::{self, Write},
};
use futures::StreamExt;
use gather::{Caches, Observed, gateway_of};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    ResourceExt,
    runtime::{Controller, events::EventType, reflector::ObjectRef, watcher},
};
use machine::{Effect, Route, State, Terms};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use stomaton_crds::{
    conditions::Reason,
    keys,
    v1alpha1::{
        EdgeConfig, EdgeWeights, Evidence, Gateway, JudgeStatus, MigrationPlan, MigrationPlanStatus, Phase,
        PlanAction, RouteStatus, StomatonService, Transition,
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
    /// The finalizer could not be set or taken away.
    #[error("the end of the plan cannot be prepared: {0}")]
    Finalizer(#[source] api::Error),
}

/// What gates ask of the API server takes no longer: judges, and people, may want a route back in the same pass.
const GATES_WITHIN: Duration = Duration::from_secs(2);

/// Edge pods that are ahead of EdgeWeights for longer than this are so because EdgeWeights came back from the past: no cache
/// is so late.
const LATE: Duration = Duration::from_secs(2);

/// What passes share: caches, the way to the edge pods, and the last status written of each plan.
pub struct Shared {
    caches: Caches,
    killer: Killer,
    written: Mutex<HashMap<String, Written>>,
    /// Since when edge pods are ahead of EdgeWeights, by plan.
    ahead: Mutex<HashMap<String, Instant>>,
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
        let plan = shared.with_own_writes(self);
        if end::is_over(&plan) {
            return Ok(None);
        }
        // Before the first weight: whoever deletes the plan must not leave traffic where nobody watches it.
        finalizer::put(ctx, &plan, keys::TRAFFIC_FINALIZER).await.map_err(Error::Finalizer)?;
        // Before all that has to be new: these are calls, which take time.
        let facts = gates::facts_within(GATES_WITHIN, ctx, &plan, &shared.caches).await;
        let observed = gather::gather(&plan, &shared.caches, &ctx.edges);
        let mut routes = observed.routes(&plan);
        let acts = gather::acts(&plan, &shared.caches);
        let old = State::of(&plan);
        let now = Timestamp::now();
        monitored::read(&plan, observed.gateway(), &ctx.prometheus, &mut routes, now);
        let terms = Terms::of(&plan, now);
        let (mut next, effects) = machine::step(&terms, &routes, &facts, &old, &acts, now);
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
        let ahead = shared.ahead(&plan, &observed);
        if effects.is_empty() && ahead.is_some_and(|ahead| ahead >= LATE) {
            // What EdgeWeights say here is what the plan wants, but nobody hears it.
            carry_out(ctx, &plan, &observed, &machine::all_wanted(&routes, &next)).await?;
        }
        let moved = !effects.is_empty() || !same_but_evidence(&old, &next);
        let wake = machine::wake(&terms, &routes, &next, now);
        let gone = evict::evict(ctx, &plan, &gateway_of(&plan), &routes, &next, &observed.view).await;
        let kept = end::kept(&plan, observed.gateway(), &next);
        let leaves = plan.metadata.deletion_timestamp.is_some() && kept.is_none();
        let status = conditions::status(&plan, &terms, &routes, kept.as_deref(), next, now);
        record(ctx, shared, &plan, &old, &status).await?;
        // After the plan's own record of them: an act whose answer is lost is answered again, and not done again.
        acts::answer(ctx, &plan, &acts, &status.acts).await?;
        if leaves {
            finalizer::take(ctx, &shared.with_own_writes(&plan), keys::TRAFFIC_FINALIZER)
                .await
                .map_err(Error::Finalizer)?;
            return Ok(None);
        }
        let again = ahead.map(|ahead| LATE.saturating_sub(ahead).max(machine::COUNT_AGAIN));
        Ok(if moved { Some(SOON) } else { wake.into_iter().chain(gone).chain(again).min() })
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
    let (actions, action_events) = watch::others::<PlanAction>(&ctx, CONTROLLER, any());
    let (services, service_events) = watch::others::<StomatonService>(&ctx, CONTROLLER, any());
    let (jobs, job_events) = watch::others(&ctx, CONTROLLER, any().labels(keys::PLAN));
    let gates = gates::Memory::default();
    let caches =
        Caches { plans: plans.clone(), gateways, configs, weights, slices, actions, services, jobs, gates };
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
    let by_service = of(&caches);
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
        .watches_stream(action_events, plan_of)
        .watches_stream(service_events, move |s: StomatonService| by_service(s.namespace(), None))
        .watches_stream(job_events, gates::plan_of)
        .reconcile_on(edges)
        .reconcile_on(taken_back);
    // A task of its own, so that no pass is in front of it; it ends with this one.
    let mut path = JoinSet::new();
    path.spawn(rollback.run(alarms, told, stop.clone()));
    let shared = Arc::new(Shared { caches, killer, written: Mutex::default(), ahead: Mutex::default() });
    tokio::select! {
        () = run_controller(controller, ctx, shared, stop.clone()) => {}
        // Nobody would take routes back: this part is dead, and with it the process.
        () = early_end(&mut path, &stop) => return,
    }
    // Whoever leads next does not know what was breached here: it is answered before this process ends.
    while path.join_next().await.is_some() {}
}

/// The plan that an act is for.
fn plan_of(action: PlanAction) -> Option<ObjectRef<Guarded<MigrationPlan>>> {
    Some(ObjectRef::new(&action.spec.plan).within(&action.namespace()?))
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
        Self::from(plan.status.clone().unwrap_or_default())
    }
}

impl From<MigrationPlanStatus> for State {
    fn from(status: MigrationPlanStatus) -> Self {
        let MigrationPlanStatus { routes, history, halted, acts, stages, .. } = status;
        Self { routes, history, halted, acts, stages }
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
                let resource_version = Some(own.version.to_string());
                let metadata = ObjectMeta { resource_version, ..plan.metadata.clone() };
                MigrationPlan { metadata, status: Some(own.status.clone()), ..plan.clone() }
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

    /// For how long edge pods have seen weights that are not known here; none if they have not.
    fn ahead(&self, plan: &MigrationPlan, observed: &Observed) -> Option<Duration> {
        let known = observed.weights.as_ref()?.spec.revision;
        let uid = plan.uid()?;
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if observed.view.weights_seen() <= known {
            ahead.remove(&uid);
            return None;
        }
        Some(ahead.entry(uid).or_insert_with(Instant::now).elapsed())
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

/// Puts the routes that the service answers under their guards, and takes the guards off all others, and off those that
/// have no way back.
fn guard(ctx: &Context, plan: &MigrationPlan, routes: &[Route<'_>], state: &State, now: Timestamp) {
    let (gateway, namespace) = (gateway_of(plan), plan.namespace().unwrap_or_default());
    let plan_ref = ObjectRef::new(&plan.name_any()).within(&namespace);
    let status_of = |route: &Route<'_>| state.routes.iter().find(|status| status.name == route.name);
    let moving: Vec<_> = routes
        .iter()
        .filter_map(|route| Some((route, route.id.as_deref()?, status_of(route)?)))
        .filter(|(.., status)| status.phase.has_weight() && !status.has_no_way_back())
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
    old: &State,
    status: &MigrationPlanStatus,
) -> Result<(), Error> {
    let said = plan.status.as_ref();
    let only_evidence = said.is_some_and(|said| {
        said.conditions == status.conditions
            && said.summary == status.summary
            && same_but_evidence(old, &State::from(status.clone()))
    });
    if only_evidence && shared.recently_written(plan) {
        return Ok(());
    }
    if let Some(written) = status::write(ctx, plan, said, status).await? {
        shared.remember(&written);
    }
    let before = said.map(|s| s.conditions.as_slice()).unwrap_or_default();
    status::announce(ctx, plan, before, &status.conditions).await;
    for transition in new_transitions(&old.history, &status.history) {
        let kind = match transition.phase {
            Phase::RollingBack | Phase::Frozen => EventType::Warning,
            _ => EventType::Normal,
        };
        let Transition { route, permille, message, phase, .. } = transition;
        let note = format!("route {route} to {}: {message}", conditions::percent(*permille));
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
            if route.phase.is_under_way() {
                route.waits_for.clear();
            }
            for judge in &mut route.judges {
                *judge = JudgeStatus {
                    name: std::mem::take(&mut judge.name),
                    verdict: judge.verdict,
                    ..JudgeStatus::default()
                };
            }
        }
        state
    };
    stripped(a) == stripped(b)
}
