//! StomatonService: a Deployment and a Service, and the truth about both. The driver: five steps and a status.

mod apply;
mod autoscale;
mod build;
mod conditions;
mod finish;
mod gather;
mod in_use;
mod kinds;
mod revision;
mod ripples;
mod tokens;
mod validate;
mod watching;
mod written;

use super::{
    Reconcile, Stop, of_label,
    workload::{self, children::Children},
};
use crate::{api, apply as children, context::Context, finalizer, status, watch};
use apply::Before;
use finish::Finish;
use futures::{
    StreamExt,
    channel::mpsc::{self, UnboundedSender},
    stream,
};
use gather::{
    Cached, Gathered,
    neighbours::{self, Key, Neighbours},
    sources::named,
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Pod, Service},
    networking::v1::NetworkPolicy,
};
use kube::{
    Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        Controller,
        reflector::{ObjectRef, Store},
    },
};
use ripples::Ripples;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use stomaton_crds::{
    conditions::{Finding, Reason, Summary},
    keys,
    v1alpha1::{EdgeWeights, Gateway, MigrationPlan, Role, StomatonService},
};
use validate::{Deployed, Validated};
use watch::Guarded;
use watching::{News, Wake, Watching};
use written::Written;

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the object refers to could not be read.
    #[error(transparent)]
    Gather(#[from] api::Error),
    /// There are no random bytes for a new token.
    #[error("cannot make a token: {0}")]
    Random(#[from] getrandom::Error),
    /// A child is not as it should be.
    #[error(transparent)]
    Apply(#[from] children::Error),
    /// The finalizer could not be set or taken away.
    #[error(transparent)]
    Finalizer(api::Error),
    /// The status could not be written.
    #[error(transparent)]
    Status(api::Error),
}

/// What a pass found out.
enum Outcome {
    /// Nothing to deploy, or nothing that could be: the summary says which.
    Known(Summary),
    /// The children are being taken down: these are left.
    Leaving(Vec<String>),
    /// An External service that answers at this URL.
    External { url: String },
    /// Children are as wanted; this is what they say.
    Applied(Box<apply::Applied>),
    /// Pods must not be made or replaced now; what runs is left as it is.
    Held { why: Summary, deployment: Option<Box<Deployment>> },
    /// The pass could not be finished.
    Failed(Error),
}

/// A child whose end no watch brings, a ConfigMap where the watch began later, say, is looked for this often.
const LEAVING: Duration = Duration::from_secs(5);

/// What passes share.
pub struct Shared {
    known: Children,
    store: Store<Guarded<StomatonService>>,
    services: Store<PartialObjectMeta<Service>>,
    watching: Watching,
    news: UnboundedSender<News>,
    written: Written,
}

impl Shared {
    /// Sees to it that a change of what `service` uses brings the next pass.
    fn follow(&self, ctx: &Context, service: &StomatonService) {
        if uses_sources(service) {
            self.watching.watch(ctx, &service.namespace().unwrap_or_default(), &self.news);
        }
        for (namespace, _) in self.partners(service) {
            self.watching.watch(ctx, &namespace, &self.news);
        }
        if leaves_its_namespace(service) {
            self.watching.watch_grants(ctx, &self.news);
        }
    }

    /// Whose tokens matter to `service`, itself among them.
    fn partners(&self, service: &StomatonService) -> BTreeSet<Key> {
        let asks = |key: &Key| {
            let callee = self.store.get(&ObjectRef::new(&key.1).within(&key.0));
            callee.is_some_and(|o| o.0.as_ref().is_ok_and(|callee| callee.spec.service_auth.is_some()))
        };
        let mut partners: BTreeSet<_> = neighbours::edges(service).map(|(key, _)| key).filter(asks).collect();
        if service.spec.service_auth.is_some() || !partners.is_empty() {
            partners.insert(neighbours::key(service));
        }
        partners
    }

    /// Drops what was kept for a service that is gone.
    fn forget(&self, gone: &StomatonService) {
        self.written.forget(gone);
        let all = self.store.state();
        self.watching.keep(|namespace| {
            all.iter().any(|o| o.namespace().as_deref() == Some(namespace) && o.uid() != gone.uid())
        });
    }

    /// The Service of `service` as far as passes need it while it is as wanted; none when it must be read.
    fn settled(&self, ctx: &Context, service: &StomatonService) -> Option<Service> {
        let key = ObjectRef::new(&service.name_any()).within(&service.namespace()?);
        let metadata = self.services.get(&key)?.metadata.clone();
        let known = ctx.settled.knows(metadata.uid.as_deref(), metadata.resource_version.as_deref());
        known.then(|| Service { metadata, ..Service::default() })
    }

    /// The services around `service`, as they were heard of last.
    fn neighbours(&self, service: &StomatonService) -> Neighbours {
        let all = self.store.state();
        neighbours::look(service, all.iter().filter_map(|object| object.0.as_ref().ok()))
    }
}

impl Reconcile for StomatonService {
    type Error = Error;
    type Shared = Shared;

    // Deployments and their pods change in bursts, each of which is one thing to look at.
    const DEBOUNCE: Duration = Duration::from_millis(100);

    fn reason(error: &Error) -> Reason {
        match error {
            Error::Gather(_) | Error::Random(_) | Error::Finalizer(_) | Error::Status(_) => Reason::ApiError,
            Error::Apply(error) => error.reason(),
        }
    }

    async fn reconcile(&self, ctx: &Context, shared: &Shared) -> Result<Option<Duration>, Error> {
        if self.meta().deletion_timestamp.is_some() && !finalizer::is_on(self, keys::FINALIZER) {
            // Nothing was ever made, or all is taken down.
            shared.forget(self);
            return Ok(None);
        }
        let object = &shared.written.newest(self);
        let Passed { outcome, findings, in_use, again } = match pass(object, ctx, shared).await {
            Ok(Some(passed)) => passed,
            Ok(None) => {
                shared.forget(self);
                return Ok(None);
            }
            Err(error) => Passed::only(Outcome::Failed(error)),
        };
        let next = conditions::status(object, &outcome, findings.as_deref(), &in_use, Timestamp::now());
        let written =
            status::write(ctx, object, object.status.as_ref(), &next).await.map_err(Error::Status)?;
        if let Some(written) = written {
            shared.written.note(&written);
            let old = object.status.as_ref().map_or(&[][..], |s| &s.conditions);
            status::announce(ctx, object, old, &next.conditions).await;
        }
        match outcome {
            Outcome::Failed(error) => Err(error),
            Outcome::Leaving(_) => Ok(Some(LEAVING)),
            // A revision has just failed, and the status says so: only now may the last good one come back.
            _ if next.failed_revision.is_some()
                && next.failed_revision != object.status.as_ref().and_then(|s| s.failed_revision.clone()) =>
            {
                Ok(Some(Duration::ZERO))
            }
            Outcome::Applied(applied) => applied.trouble.map_or(Ok(again), Err),
            _ => Ok(again),
        }
    }
}

/// What a pass found out.
struct Passed {
    /// As a whole.
    outcome: Outcome,
    /// One by one; none when the pass did not come so far.
    findings: Option<Vec<Finding>>,
    /// For whom the service stays although it should go.
    in_use: Vec<String>,
    /// When time alone may change what was found out.
    again: Option<Duration>,
}

impl Passed {
    /// A pass that did not come far.
    fn only(outcome: Outcome) -> Self {
        Self { outcome, findings: None, in_use: Vec::new(), again: None }
    }
}

/// One pass; none: the object is gone, and there is nothing to say any more.
async fn pass(service: &StomatonService, ctx: &Context, shared: &Shared) -> Result<Option<Passed>, Error> {
    // Before the first look: what changes after it is news.
    shared.follow(ctx, service);
    let around = in_use::gather(ctx, service).await.map_err(Error::Gather)?;
    // Before anything else is read: what cannot be read must not keep a service that should go.
    let in_use = match finish::finish(ctx, service, &around).await? {
        Finish::NotAsked => Vec::new(),
        Finish::InUse(by) => by,
        Finish::Leaving(left) => {
            return Ok(Some(Passed::only(Outcome::Leaving(left))));
        }
        Finish::Done if service.metadata.deletion_timestamp.is_some() => return Ok(None),
        Finish::Done => Vec::new(),
    };
    let cached = Cached { neighbours: shared.neighbours(service), service: shared.settled(ctx, service) };
    let gathered = gather::gather(ctx, service, cached, around).await?;
    let (outcome, findings, again) = match validate::validate(service, &gathered) {
        Ok(Validated::Deployed(wanted)) => {
            let (findings, again) = (wanted.findings(), wanted.tokens.again);
            (deploy(service, ctx, shared, *wanted, gathered).await?, findings, again)
        }
        Ok(Validated::External { url }) => (Outcome::External { url }, Vec::new(), None),
        Err(problem) => (Outcome::Known(problem), Vec::new(), None),
    };
    let again = again.and_then(|again| Duration::try_from(again).ok());
    Ok(Some(Passed { outcome, findings: Some(findings), in_use, again }))
}

async fn deploy(
    service: &StomatonService,
    ctx: &Context,
    shared: &Shared,
    wanted: Deployed,
    gathered: Gathered,
) -> Result<Outcome, Error> {
    let prepared = match build::build(&wanted) {
        Ok(prepared) => prepared,
        Err(problem) => return Ok(Outcome::Known(problem)),
    };
    finalizer::put(ctx, service, keys::FINALIZER).await.map_err(Error::Finalizer)?;
    let Gathered { children: record, service: live, deployment, .. } = gathered;
    if let Some(why) = wanted.hold {
        apply::apply_around(ctx, prepared, &record, live).await?;
        return Ok(Outcome::Held { why, deployment: deployment.map(Box::new) });
    }
    let before = Before { known: &shared.known, record: &record, service: live, deployment };
    Ok(Outcome::Applied(Box::new(apply::apply(ctx, service, prepared, before).await?)))
}

/// Reconciles StomatonServices until `stop`.
pub async fn run(ctx: Arc<Context>, stop: Stop) {
    const BY: &str = "StomatonService";
    let (wake, woken) = mpsc::unbounded();
    let mut ripples = Ripples::default();
    let (store, services) = watch::main_heard::<StomatonService, _>(&ctx, BY, move |event| {
        for (namespace, name) in ripples.heard(event) {
            // Nobody listens only when everything ends.
            wake.unbounded_send(ObjectRef::new(&name).within(&namespace)).ok();
        }
    });
    let (referring, using) = (store.clone(), store.clone());
    let (news, heard) = mpsc::unbounded();
    let (known, changes) = workload::children::watch(&ctx, BY, keys::SERVICE, kinds::all());
    let (of_gateways, of_plans, of_weights) = (store.clone(), store.clone(), store.clone());
    let (kept, services_of_all) = watch::metadata_kept::<Service>(&ctx, BY);
    let (watching, written) = (Watching::default(), Written::default());
    let shared = Shared { known, store: store.clone(), services: kept, watching, news, written };
    let told = heard.flat_map(move |news| stream::iter(concerned_by(&using, &news)));
    let controller = Controller::for_stream(services, store)
        .reconcile_all_on(ctx.kinds.changes())
        .reconcile_on(woken)
        .reconcile_on(told)
        // Who sends traffic to a service that is to go, or to have no pods.
        .watches_stream(watch::metadata::<Gateway>(&ctx, BY), move |gateway| waiting(&of_gateways, &gateway))
        .watches_stream(watch::metadata::<MigrationPlan>(&ctx, BY), move |plan| waiting(&of_plans, &plan))
        .watches_stream(watch::metadata::<EdgeWeights>(&ctx, BY), move |weights| {
            waiting(&of_weights, &weights)
        })
        // All Services, not ours alone: an External service may refer to any.
        .watches_stream(services_of_all, move |service| concerned(&referring, &service))
        .owns_stream(watch::children::<NetworkPolicy>(&ctx, BY, keys::SERVICE))
        // Data that stays has no owner, but our label.
        .watches_stream(watch::children::<PersistentVolumeClaim>(&ctx, BY, keys::SERVICE), |claim| {
            of_label(&claim, keys::SERVICE)
        })
        // What holds a pod up shows in the pod long before the Deployment gives up.
        .watches_stream(watch::children::<Pod>(&ctx, BY, keys::SERVICE), |pod| of_label(&pod, keys::SERVICE));
    let controller = changes.into_iter().fold(controller, |controller, (resource, changes)| {
        controller.watches_stream_with(changes, |child| of_label(&child, keys::SERVICE), resource)
    });
    super::run(controller, ctx, Arc::new(shared), stop).await;
}

/// The StomatonServices beside `neighbour` to which it matters who sends traffic to them.
fn waiting<K: Resource>(store: &Store<Guarded<StomatonService>>, neighbour: &K) -> Vec<Wake> {
    let namespace = neighbour.namespace();
    let concerned = store.state_filter(|object| {
        object.namespace() == namespace && object.0.as_ref().is_ok_and(in_use::matters)
    });
    concerned.iter().map(|object| ObjectRef::from_obj(&**object)).collect()
}

/// Whether `service` has to do with Secrets or ConfigMaps.
fn uses_sources(service: &StomatonService) -> bool {
    service.spec.role != Role::External
        && !(named(&service.spec).is_empty() && service.spec.config.is_empty())
}

/// Whether `service` depends on one of another namespace.
fn leaves_its_namespace(service: &StomatonService) -> bool {
    neighbours::edges(service).any(|((namespace, _), _)| Some(namespace) != service.namespace())
}

/// The StomatonServices that news of a Secret or ConfigMap is for.
fn concerned_by(store: &Store<Guarded<StomatonService>>, news: &News) -> Vec<Wake> {
    let all = store.state();
    let hit = |service: &StomatonService| match news {
        News::Granted => {
            let me = neighbours::key(service);
            let calls = |object: &Guarded<StomatonService>| {
                let caller =
                    object.0.as_ref().ok().filter(|caller| caller.namespace() != service.namespace());
                caller.is_some_and(|caller| neighbours::edges(caller).any(|(key, _)| key == me))
            };
            leaves_its_namespace(service) || all.iter().any(|object| calls(object))
        }
        News::Anything { namespace } => {
            service.namespace().as_ref() == Some(namespace) && uses_sources(service)
        }
        News::Touched { kind, namespace, name, service: owner } => {
            let here = service.namespace().as_ref() == Some(namespace);
            let owner = owner.as_ref().map(|owner| (namespace.clone(), owner.clone()));
            here && named(&service.spec).contains(&(*kind, name.clone()))
                || owner.is_some_and(|owner| {
                    owner == neighbours::key(service) || tokens_matter(store, service, &owner, name)
                })
        }
    };
    all.iter().filter(|o| o.0.as_ref().is_ok_and(hit)).map(|o| ObjectRef::from_obj(&**o)).collect()
}

/// Whether the Secret `name` of `owner` has tokens for calls between it and `service`.
fn tokens_matter(
    store: &Store<Guarded<StomatonService>>,
    service: &StomatonService,
    owner: &Key,
    name: &str,
) -> bool {
    let calls =
        |caller: &StomatonService, callee: &Key| neighbours::edges(caller).any(|(key, _)| key == *callee);
    if name == tokens::callers_name(&owner.1) {
        return calls(service, owner);
    }
    let shows = name == tokens::tokens_name(&owner.1) && service.spec.service_auth.is_some();
    let caller = shows.then(|| store.get(&ObjectRef::new(&owner.1).within(&owner.0))).flatten();
    caller.is_some_and(|o| o.0.as_ref().is_ok_and(|caller| calls(caller, &neighbours::key(service))))
}

/// The StomatonServices that a Service belongs to, or that refer to it.
fn concerned(
    store: &Store<Guarded<StomatonService>>,
    service: &PartialObjectMeta<Service>,
) -> Vec<ObjectRef<Guarded<StomatonService>>> {
    let (name, namespace) = (service.name_any(), service.namespace());
    let refers = |object: &Guarded<StomatonService>| {
        object.namespace() == namespace
            && object.0.as_ref().is_ok_and(|s| {
                s.spec.external.as_ref().is_some_and(|e| e.service_name.as_ref() == Some(&name))
            })
    };
    let all = store.state();
    let external: Vec<_> = all.iter().filter(|o| refers(o)).collect();
    let calls = |object: &Guarded<StomatonService>| {
        let targets = external.iter().filter_map(|o| o.0.as_ref().ok()).map(neighbours::key);
        let caller = object.0.as_ref().ok();
        let edges: BTreeSet<_> = caller.into_iter().flat_map(neighbours::edges).map(|(key, _)| key).collect();
        targets.into_iter().any(|target| edges.contains(&target))
    };
    // Whoever calls an External one has the pods behind it in its NetworkPolicy.
    let callers = all.iter().filter(|object| !external.is_empty() && calls(object));
    let touched = external.iter().copied().chain(callers).map(|o| ObjectRef::from_obj(&**o));
    touched.chain(of_label(service, keys::SERVICE)).collect()
}
