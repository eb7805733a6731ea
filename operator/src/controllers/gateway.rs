//! Gateway: edge pods, their Service and rights, and the structure they serve. The driver: five steps and a status.

mod apply;
mod build;
mod certificates;
mod conditions;
mod gather;
pub mod names;
mod ownership;
mod validate;

use super::{
    Reconcile, Stop, of_label,
    workload::children::{self as known, Children, Kind, Part},
};
use crate::{
    api, apply as children,
    context::Context,
    edges::{Key, ready::LATELY},
    status, watch,
};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Pod, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Resource, ResourceExt,
    runtime::{
        Controller,
        reflector::{ObjectRef, Store},
    },
};
use std::{sync::Arc, time::Duration};
use stomaton_crds::{
    conditions::{Reason, Summary},
    keys,
    v1alpha1::{DroppedRoute, EdgeConfig, Gateway, MigrationPlan},
};
use watch::Guarded;

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the object refers to could not be read.
    #[error(transparent)]
    Gather(api::Error),
    /// A child is not as it should be.
    #[error(transparent)]
    Apply(#[from] children::Error),
    /// The status could not be written.
    #[error(transparent)]
    Status(api::Error),
}

/// What a pass found out.
enum Outcome {
    /// Nothing could be made of the object: the summary says why.
    Refused(Summary),
    /// Children are as wanted; this is what they say, and what of the spec they leave out.
    Applied { applied: Box<apply::Applied>, problems: Problems },
    /// The pass could not be finished.
    Failed(Error),
}

/// What of a Gateway is not served as written.
#[derive(Clone, Debug, Default, PartialEq)]
struct Problems {
    /// Why the default backend cannot be used as written.
    default_backend: Option<Summary>,
    /// Routes that are not served as written.
    dropped: Vec<DroppedRoute>,
    /// Whether any of them needs a person; the others wait for an object to come.
    stuck: bool,
    /// Whether an older Gateway has one of them.
    conflicted: bool,
}

/// What passes share.
pub struct Shared {
    /// All Gateways: the oldest has what several claim.
    all: Store<Guarded<Gateway>>,
    /// Children that come and go with the spec.
    known: Children,
}

/// The kinds of children that come and go with the spec.
fn optional() -> Vec<Kind> {
    vec![Kind::of::<HorizontalPodAutoscaler>(Part::Acting), Kind::of::<PodDisruptionBudget>(Part::Acting)]
}

/// How often a Gateway looks whether what another one had claimed is free, and whether pods that went stay away.
const AGAIN: Duration = LATELY;

impl Reconcile for Gateway {
    type Error = Error;
    type Shared = Shared;

    fn reason(error: &Error) -> Reason {
        match error {
            Error::Gather(_) | Error::Status(_) => Reason::ApiError,
            Error::Apply(error) => error.reason(),
        }
    }

    async fn reconcile(&self, ctx: &Context, shared: &Self::Shared) -> Result<Option<Duration>, Error> {
        if self.meta().deletion_timestamp.is_some() {
            // The garbage collector takes the children; making them anew would fight it.
            return Ok(None);
        }
        let outcome = pass(self, ctx, shared).await.unwrap_or_else(Outcome::Failed);
        let edges = ctx.edges.view(&Key::from_obj(self));
        let next = conditions::status(self, &outcome, &edges, Timestamp::now());
        if status::write(ctx, self, self.status.as_ref(), &next).await.map_err(Error::Status)?.is_some() {
            let old = self.status.as_ref().map_or(&[][..], |s| &s.conditions);
            status::announce(ctx, self, old, &next.conditions).await;
        }
        match outcome {
            Outcome::Failed(error) => Err(error),
            Outcome::Applied { applied, problems } => {
                let ready = ctx.edges.ready(&Key::from_obj(self)).now;
                // Nothing fires when fewer pods have been ready for long enough.
                let waits = applied.limits.is_some_and(|limits| limits.shared_by != ready);
                Ok((problems.conflicted || waits).then_some(AGAIN))
            }
            Outcome::Refused(_) => Ok(None),
        }
    }
}

async fn pass(gateway: &Gateway, ctx: &Context, Shared { all, known }: &Shared) -> Result<Outcome, Error> {
    let gathered = gather::gather(ctx, gateway).await.map_err(Error::Gather)?;
    // A store that is not full yet would hide who was first. It only fails when the controller ends.
    let _ = all.wait_until_ready().await;
    let all = all.state();
    let mut valid = match validate::validate(gateway) {
        Ok(valid) => valid,
        Err(problem) => return Ok(Outcome::Refused(problem)),
    };
    ownership::settle(&mut valid, &all.iter().filter_map(|g| g.0.as_ref().ok()).collect::<Vec<_>>());
    let (prepared, problems) = build::build(&valid, &gathered, &ctx.settings.edge_image);
    let applied = Box::new(apply::apply(ctx, &gateway.metadata, prepared, known).await?);
    Ok(Outcome::Applied { applied, problems })
}

/// Reconciles Gateways until `stop`.
pub async fn run(ctx: Arc<Context>, stop: Stop) {
    const BY: &str = "Gateway";
    let (store, gateways) = watch::main::<Gateway>(&ctx, BY);
    let (known, changes) = known::watch(&ctx, BY, keys::GATEWAY, optional());
    let (neighbours, shared) = (store.clone(), Shared { all: store.clone(), known });
    let edges = ctx.edges.changes().map(|gateway| {
        let namespace = gateway.namespace.unwrap_or_default();
        ObjectRef::new(&gateway.name).within(&namespace)
    });
    let controller = Controller::for_stream(gateways, store)
        .owns_stream(watch::children::<Deployment>(&ctx, BY, keys::GATEWAY))
        .owns_stream(watch::children::<ServiceAccount>(&ctx, BY, keys::GATEWAY))
        .owns_stream(watch::children::<Role>(&ctx, BY, keys::GATEWAY))
        .owns_stream(watch::children::<RoleBinding>(&ctx, BY, keys::GATEWAY))
        .owns_stream(watch::metadata::<EdgeConfig>(&ctx, BY))
        .watches_stream(watch::children::<Pod>(&ctx, BY, keys::GATEWAY), |pod| of_label(&pod, keys::GATEWAY))
        .watches_stream(watch::changes::<MigrationPlan>(&ctx, BY), |plan| {
            Some(ObjectRef::new(&plan.spec.gateway_ref.name).within(&plan.namespace()?))
        })
        // Any Service may be, or become, a backend of any Gateway beside it.
        .watches_stream(watch::metadata::<Service>(&ctx, BY), move |service| {
            beside(&neighbours, service.namespace())
        })
        .reconcile_on(edges);
    let controller = changes.into_iter().fold(controller, |controller, (resource, changes)| {
        controller.watches_stream_with(changes, |child| of_label(&child, keys::GATEWAY), resource)
    });
    super::run(controller, ctx, Arc::new(shared), stop).await;
}

/// The Gateways of a namespace.
fn beside(store: &Store<Guarded<Gateway>>, namespace: Option<String>) -> Vec<ObjectRef<Guarded<Gateway>>> {
    store
        .state()
        .iter()
        .filter(|gateway| gateway.namespace() == namespace)
        .map(|gateway| ObjectRef::from_obj(&**gateway))
        .collect()
}
