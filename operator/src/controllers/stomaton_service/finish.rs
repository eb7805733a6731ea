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
    let collected = deleted && service.finalizers().iter().any(|f| f == FOREGROUND);
    if !collected && !around.holders.is_empty() {
        return Ok(Finish::InUse(around.holders.clone()));
    }
    let left = kinds::take_down(ctx, service).await?;
    if !left.is_empty() {
        return Ok(Finish::Leaving(left));
    }
    finalizers(ctx, service, json!([])).await?;
    Ok(Finish::Done)
}

/// Notes that children are about to be made.
pub async fn prepare(ctx: &Context, service: &StomatonService) -> Result<(), Error> {
    // An object that is being deleted takes no finalizer any more; it has ours, or it would not be here.
    if in_use::finalized(service) || service.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    finalizers(ctx, service, json!([keys::FINALIZER])).await
}

async fn finalizers(ctx: &Context, service: &StomatonService, finalizers: Value) -> Result<(), Error> {
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    let body = json!({
        "apiVersion": StomatonService::api_version(&()),
        "kind": StomatonService::kind(&()),
        "metadata": { "name": name, "uid": service.uid(), "finalizers": finalizers },
    });
    let api = ctx.namespaced::<StomatonService>(&namespace);
    let params = PatchParams::apply(field_managers::FINALIZER).force();
    let patch = Patch::Apply(&body);
    let path = format!("{namespace}/{name} (finalizer)");
    let call = api.patch_metadata(&name, &params, &patch);
    match api::write::<StomatonService, _>(&ctx.metrics, Verb::Patch, &path, call).await {
        Ok(_) => Ok(()),
        // Gone, or made anew under the same name: the finalizer of another object is not ours to set.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(Error::Finalizer(error)),
    }
}
