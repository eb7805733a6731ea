//! Takes a StomatonService that should have no children any more, because it is being deleted or has become External;
//! takes them down in order, unless traffic would be lost by it. I/O.
//!
//! The finalizer says that children may exist. It is there before the first of them, and goes after the last.

use super::{
    Error,
    in_use::{self, Around},
    kinds,
};
use crate::{api, context::Context, metrics::Verb};
use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use stomaton_crds::{
    keys::{self, field_managers},
    v1alpha1::{Role, StomatonService},
};

/// Finalizer by which the garbage collector deletes the children first, in no order of ours.
const FOREGROUND: &str = "foregroundDeletion";

/// Finalizer by which the garbage collector lets go of the children: `--cascade=orphan`.
const ORPHAN: &str = "orphan";

/// How far the end of the children is.
pub enum Finish {
    /// Nobody asked for it.
    NotAsked,
    /// It waits for these, who would lose the service: everything stays as it is.
    InUse(Vec<String>),
    /// It waits for these children to be gone.
    Leaving(Vec<String>),
    /// There are no children.
    Done,
}

/// Takes the children of `service` down if they should go.
pub async fn finish(ctx: &Context, service: &StomatonService, around: &Around) -> Result<Finish, Error> {
    let deleted = service.metadata.deletion_timestamp.is_some();
    let external = service.spec.role == Role::External;
    if !in_use::finalized(service) || !(deleted || external) {
        return Ok(Finish::NotAsked);
    }
    let by = |finalizer| deleted && service.finalizers().iter().any(|f| f == finalizer);
    if by(ORPHAN) {
        // What nobody owns any more is not ours to take down.
        return Ok(Finish::Leaving(vec!["the hold of the garbage collector".into()]));
    }
    let collected = by(FOREGROUND);
    if !collected && !around.holders.is_empty() {
        return Ok(Finish::InUse(around.holders.clone()));
    }
    let left = kinds::take_down(ctx, service).await?;
    if !left.is_empty() {
        return Ok(Finish::Leaving(left));
    }
    release(ctx, service).await?;
    Ok(Finish::Done)
}

/// Notes that children are about to be made.
pub async fn prepare(ctx: &Context, service: &StomatonService) -> Result<(), Error> {
    // An object that is being deleted takes no finalizer any more; it has ours, or it would not be here.
    if in_use::finalized(service) || service.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let body = json!({
        "apiVersion": StomatonService::api_version(&()),
        "kind": StomatonService::kind(&()),
        "metadata": { "name": service.name_any(), "uid": service.uid(), "finalizers": [keys::FINALIZER] },
    });
    write(ctx, service, &PatchParams::apply(field_managers::FINALIZER).force(), &Patch::Apply(body)).await
}

/// Takes the finalizer away, whoever has put it there: an object that comes out of a backup brings it along.
async fn release(ctx: &Context, service: &StomatonService) -> Result<(), Error> {
    let left: Vec<_> = service.finalizers().iter().filter(|f| *f != keys::FINALIZER).collect();
    let body = json!({ "metadata": {
        "uid": service.uid(), "resourceVersion": service.resource_version(), "finalizers": left,
    }});
    write(ctx, service, &PatchParams::default(), &Patch::Merge(body)).await
}

async fn write(
    ctx: &Context,
    service: &StomatonService,
    params: &PatchParams,
    patch: &Patch<Value>,
) -> Result<(), Error> {
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    let api = ctx.namespaced::<StomatonService>(&namespace);
    let path = format!("{namespace}/{name} (finalizer)");
    let call = api.patch_metadata(&name, params, patch);
    match api::write::<StomatonService, _>(&ctx.metrics, Verb::Patch, &path, call).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        // A conflict too: made anew under the same name, or changed since it was read. The next pass knows.
        Err(error) => Err(Error::Finalizer(error)),
    }
}
