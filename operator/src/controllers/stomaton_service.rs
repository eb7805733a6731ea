//! StomatonService: a Deployment and a Service, and the truth about both. The driver: five steps and a status.

mod apply;
mod build;
mod conditions;
mod gather;
mod validate;

use super::{Reconcile, Stop, of_label};
use crate::{api, apply as children, context::Context, status, watch};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{
    Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        Controller,
        reflector::{ObjectRef, Store},
    },
};
use std::{sync::Arc, time::Duration};
use stomaton_crds::{
    conditions::{Reason, Summary},
    keys,
    v1alpha1::StomatonService,
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
    /// Nothing to deploy, or nothing that could be: the summary says which.
    Known(Summary),
    /// An External service that answers at this URL.
    External { url: String },
    /// Children are as wanted; this is what they say.
    Applied(Box<apply::Applied>),
    /// The pass could not be finished.
    Failed(Error),
}

impl Reconcile for StomatonService {
    type Error = Error;
    type Shared = ();

    fn reason(error: &Error) -> Reason {
        match error {
            Error::Gather(_) | Error::Status(_) => Reason::ApiError,
            Error::Apply(error) => error.reason(),
        }
    }

    async fn reconcile(&self, ctx: &Context, (): &()) -> Result<Option<Duration>, Error> {
        if self.meta().deletion_timestamp.is_some() {
            // The garbage collector takes the children; making them anew would fight it.
            return Ok(None);
        }
        let outcome = pass(self, ctx).await.unwrap_or_else(Outcome::Failed);
        let next = conditions::status(self, &outcome, Timestamp::now());
        if status::write(ctx, self, self.status.as_ref(), &next).await.map_err(Error::Status)?.is_some() {
            let old = self.status.as_ref().map_or(&[][..], |s| &s.conditions);
            status::announce(ctx, self, old, &next.conditions).await;
        }
        match outcome {
            Outcome::Failed(error) => Err(error),
            _ => Ok(None),
        }
    }
}

async fn pass(service: &StomatonService, ctx: &Context) -> Result<Outcome, Error> {
    let gathered = gather::gather(ctx, service).await.map_err(Error::Gather)?;
    let wanted = match validate::validate(service, &gathered) {
        Ok(validate::Validated::Deployed(wanted)) => wanted,
        Ok(validate::Validated::External { url }) => return Ok(Outcome::External { url }),
        Err(problem) => return Ok(Outcome::Known(problem)),
    };
    let prepared = build::build(&wanted);
    Ok(Outcome::Applied(Box::new(apply::apply(ctx, prepared).await?)))
}

/// Reconciles StomatonServices until `stop`.
pub async fn run(ctx: Arc<Context>, stop: Stop) {
    const BY: &str = "StomatonService";
    let (store, services) = watch::main::<StomatonService>(&ctx, BY);
    let referring = store.clone();
    let controller = Controller::for_stream(services, store)
        .owns_stream(watch::children::<Deployment>(&ctx, BY, keys::SERVICE))
        // All Services, not ours alone: an External service may refer to any.
        .watches_stream(watch::metadata::<Service>(&ctx, BY), move |service| concerned(&referring, &service))
        // What holds a pod up shows in the pod long before the Deployment gives up.
        .watches_stream(watch::children::<Pod>(&ctx, BY, keys::SERVICE), |pod| of_label(&pod, keys::SERVICE));
    super::run(controller, ctx, Arc::new(()), stop).await;
}

/// The StomatonServices that a Service belongs to, or that refer to it.
fn concerned(
    store: &Store<Guarded<StomatonService>>,
    service: &PartialObjectMeta<Service>,
) -> Vec<ObjectRef<Guarded<StomatonService>>> {
    let (name, namespace) = (service.name_any(), service.namespace());
    let refers = |object: &Guarded<StomatonService>| {
        object.namespace() == namespace
            && object
                .0
                .as_ref()
                .is_ok_and(|s| s.spec.external.as_ref().is_some_and(|e| e.service_name == name))
    };
    let external = store.state().into_iter().filter(|o| refers(o)).map(|o| ObjectRef::from_obj(&*o));
    external.chain(of_label(service, keys::SERVICE)).collect()
}
