//! Takes a StomatonService that should have no children any more, because it is being deleted or has become External;
//! takes them down in order, unless traffic would be lost by it. I/O.
//!
//! The finalizer says that children may exist. It is there before the first of them, and goes after the last.

use super::{Error, in_use::Around, kinds};
use crate::{context::Context, finalizer};
use kube::ResourceExt;
use stomaton_crds::{
    keys,
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
    if !finalizer::is_on(service, keys::FINALIZER) || !(deleted || external) {
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
    finalizer::take(ctx, service, keys::FINALIZER).await.map_err(Error::Finalizer)?;
    Ok(Finish::Done)
}
