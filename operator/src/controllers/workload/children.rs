//! Children of an owner, as far as the caches of their watches know them, and the end of those that are no longer
//! wanted. I/O: watches, deletes.
//!
//! A cache may be late: what it does not show yet comes with an event, and with it the next pass. What it still shows
//! and is gone costs one refused delete. Deletes name the UID that was seen.

use crate::{api, apply::controller_of, context::Context, metrics::Verb, optional::Optional, watch};
use futures::stream::BoxStream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Preconditions, PropagationPolicy},
    core::ObjectMeta,
    runtime::{reflector::Store, watcher},
};
use std::collections::BTreeSet;

/// What a child is to the others: they go in this order, and the next only when nothing is left of the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Acts on the pods: would start or protect what is to end.
    Acting,
    /// The pods.
    Pods,
    /// What pods and callers use.
    Used,
}

impl Part {
    /// In the order in which they go.
    pub const ALL: [Self; 3] = [Self::Acting, Self::Pods, Self::Used];
}

/// A kind of child.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Group, version and names.
    pub resource: ApiResource,
    /// Which kind of another project it is, if it is one.
    pub optional: Option<Optional>,
    /// When it goes.
    pub part: Part,
    /// Whether it is watched here; the others are watched by the controller itself, in other ways.
    pub watched: bool,
    /// Whether the right to it is given namespace by namespace. Where it is not, nothing was made.
    pub by_grant: bool,
    /// Whether the next part, or the finalizer, waits for its end. Data may be held up for as long as others use it.
    pub awaited: bool,
}

impl Kind {
    /// One that is watched, and there on every cluster.
    pub fn of<K: Resource<DynamicType = ()>>(part: Part) -> Self {
        Self {
            resource: ApiResource::erase::<K>(&()),
            optional: None,
            part,
            watched: true,
            by_grant: false,
            awaited: true,
        }
    }
}

/// A child as far as it is looked at here.
pub type Child = watch::Erased;
/// Children of one kind as they change.
type Changes = BoxStream<'static, watcher::Result<Child>>;

/// What is known of all children.
pub struct Children(Vec<(Kind, Store<Child>)>);

/// Watches these kinds, where children carry `label`: what is known of them, and a stream for each.
pub fn watch(
    ctx: &Context,
    by: &'static str,
    label: &'static str,
    kinds: Vec<Kind>,
) -> (Children, Vec<(ApiResource, Changes)>) {
    let mut children = Vec::new();
    let mut streams = Vec::new();
    for kind in kinds.into_iter().filter(|kind| kind.watched) {
        let (store, changes) = match kind.optional {
            // Of the pods alone the status matters.
            None => watch::erased(ctx, by, &kind.resource, label, kind.part == Part::Pods),
            Some(optional) => watch::erased_while_served(ctx, by, optional, label),
        };
        streams.push((kind.resource.clone(), changes));
        children.push((kind, store));
    }
    (Children(children), streams)
}

impl Children {
    /// Children of `owner` that exist, as far as is known.
    fn of<'a>(&'a self, ctx: &'a Context, owner: &'a ObjectMeta) -> impl Iterator<Item = (&'a Kind, Child)> {
        // The cache of a kind that is gone shows what was there once.
        let served = |kind: &Kind| kind.optional.is_none_or(|optional| ctx.kinds.has(optional));
        self.0.iter().filter(move |(kind, _)| served(kind)).flat_map(move |(kind, store)| {
            let ours = store.state_filter(|child| is_ours(child, owner));
            ours.into_iter().map(move |child| (kind, (*child).clone()))
        })
    }

    /// Whether `owner` is known to have the child `name` of this kind.
    pub fn has<K: Resource<DynamicType = ()>>(&self, owner: &ObjectMeta, name: &str) -> bool {
        let (kind, group) = (K::kind(&()), K::group(&()));
        let of_kind = self.0.iter().find(|(k, _)| k.resource.kind == kind && k.resource.group == group);
        of_kind.is_some_and(|(_, store)| {
            !store.state_filter(|child| child.name_any() == name && is_ours(child, owner)).is_empty()
        })
    }

    /// The children of one kind, the oldest first.
    pub fn names<K: Resource<DynamicType = ()>>(&self, owner: &ObjectMeta) -> Vec<String> {
        let (kind, group) = (K::kind(&()), K::group(&()));
        let of_kind = self.0.iter().find(|(k, _)| k.resource.kind == kind && k.resource.group == group);
        let mut found = of_kind.map(|(_, s)| s.state_filter(|c| is_ours(c, owner))).unwrap_or_default();
        found.sort_by_key(|child| (child.creation_timestamp(), child.name_any()));
        found.iter().map(|child| child.name_any()).collect()
    }
}

/// Whether `owner` controls `child`, and it is not on its way out.
fn is_ours(child: &Child, owner: &ObjectMeta) -> bool {
    owned(child, owner) && child.metadata.deletion_timestamp.is_none()
}

/// Whether `owner` controls `child`.
pub fn owned(child: &Child, owner: &ObjectMeta) -> bool {
    let controls = |o: &OwnerReference| Some(&o.uid) == owner.uid.as_ref();
    child.namespace() == owner.namespace && controller_of(&child.metadata).is_some_and(controls)
}

/// Deletes the children of `owner` that are not in `wanted`, by kind and name. Never its pods: those only go when
/// the whole owner does.
pub async fn prune(
    ctx: &Context,
    children: &Children,
    owner: &ObjectMeta,
    wanted: &BTreeSet<(String, String)>,
) -> Result<(), api::Error> {
    let unwanted: Vec<_> = children
        .of(ctx, owner)
        .filter(|(kind, _)| kind.part != Part::Pods)
        .filter(|(kind, child)| !wanted.contains(&(kind.resource.kind.clone(), child.name_any())))
        .collect();
    for (kind, child) in unwanted {
        delete(ctx, kind, &child).await?;
    }
    Ok(())
}

/// Deletes the very child that was seen; a Deployment stays until its pods are gone.
pub async fn delete(ctx: &Context, kind: &Kind, child: &Child) -> Result<(), api::Error> {
    let (name, namespace) = (child.name_any(), child.namespace().unwrap_or_default());
    let foreground = kind.part == Part::Pods;
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: child.uid(), resource_version: None }),
        propagation_policy: foreground.then_some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    let api: Api<DynamicObject> = ctx.dynamic(&namespace, &kind.resource);
    let doing = || format!("delete {} {name}", kind.resource.kind);
    ctx.metrics.wrote(Verb::Delete, &kind.resource.kind);
    match api::read(doing, api.delete(&name, &params)).await {
        Ok(_) => Ok(()),
        // Gone, or another one of the name: neither is the one that was to go.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}
