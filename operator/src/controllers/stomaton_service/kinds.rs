//! Every kind of child that a StomatonService ever has, in one table: how it is watched, and when it goes. What a
//! pass no longer wants is found in the caches of these watches and deleted, if it is ours. I/O: watches, deletes.
//!
//! Files, data and policies are not watched here, and while their service stays they go by the record on its Service:
//! see [`crate::apply::prune`].
//!
//! A cache may be late: what it does not show yet comes with an event, and with it the next pass. What it still shows
//! and is gone costs one refused delete. Deletes name the UID that was seen.

use super::Error;
use crate::{
    api,
    context::Context,
    foreign::{PodMonitor, ScaledObject},
    metrics::Verb,
    optional::Optional,
    watch,
};
use futures::stream::BoxStream;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, Deployment},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Preconditions, PropagationPolicy},
    runtime::{reflector::Store, watcher},
};
use std::collections::BTreeSet;
use stomaton_crds::{keys, v1alpha1::StomatonService};

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
    watched: bool,
    /// Whether the right to it is given namespace by namespace. Where it is not, nothing was made.
    by_grant: bool,
    /// Whether the next part, or the finalizer, waits for its end. Data may be held up for as long as others use it.
    awaited: bool,
}

impl Kind {
    fn of<K: Resource<DynamicType = ()>>(part: Part) -> Self {
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

/// Every kind of child.
pub fn all() -> Vec<Kind> {
    let foreign = |kind: Optional, of: Kind| Kind { optional: Some(kind), ..of };
    vec![
        Kind::of::<HorizontalPodAutoscaler>(Part::Acting),
        foreign(Optional::ScaledObject, Kind::of::<ScaledObject>(Part::Acting)),
        Kind::of::<PodDisruptionBudget>(Part::Acting),
        foreign(Optional::PodMonitor, Kind::of::<PodMonitor>(Part::Acting)),
        Kind::of::<Deployment>(Part::Pods),
        Kind { watched: false, ..Kind::of::<Service>(Part::Used) },
        Kind { watched: false, ..Kind::of::<NetworkPolicy>(Part::Used) },
        Kind { watched: false, by_grant: true, ..Kind::of::<ConfigMap>(Part::Used) },
        Kind { watched: false, by_grant: true, ..Kind::of::<Secret>(Part::Used) },
        // Those that go with the service; what is to stay has no owner, and is not its child.
        Kind { watched: false, awaited: false, ..Kind::of::<PersistentVolumeClaim>(Part::Used) },
        Kind::of::<ControllerRevision>(Part::Used),
    ]
}

/// A child as far as it is looked at here.
pub type Child = watch::Erased;
/// Children of one kind as they change.
type Changes = BoxStream<'static, watcher::Result<Child>>;

/// What is known of all children.
pub struct Children(Vec<(Kind, Store<Child>)>);

/// Watches every kind: what is known of them, and a stream for each.
pub fn watch(ctx: &Context, by: &'static str) -> (Children, Vec<(ApiResource, Changes)>) {
    let mut children = Vec::new();
    let mut streams = Vec::new();
    for kind in all().into_iter().filter(|kind| kind.watched) {
        let (store, changes) = match kind.optional {
            // Of the pods alone the status matters.
            None => watch::erased(ctx, by, &kind.resource, keys::SERVICE, kind.part == Part::Pods),
            Some(optional) => watch::erased_while_served(ctx, by, optional, keys::SERVICE),
        };
        streams.push((kind.resource.clone(), changes));
        children.push((kind, store));
    }
    (Children(children), streams)
}

impl Children {
    /// Children of `service` that exist, as far as is known.
    fn of<'a>(
        &'a self,
        ctx: &'a Context,
        service: &'a StomatonService,
    ) -> impl Iterator<Item = (&'a Kind, Child)> {
        // The cache of a kind that is gone shows what was there once.
        let served = |kind: &Kind| kind.optional.is_none_or(|optional| ctx.kinds.has(optional));
        self.0.iter().filter(move |(kind, _)| served(kind)).flat_map(move |(kind, store)| {
            let ours = store.state_filter(|child| is_ours(child, service));
            ours.into_iter().map(move |child| (kind, (*child).clone()))
        })
    }

    /// Whether `service` is known to have the child `name` of this kind.
    pub fn has<K: Resource<DynamicType = ()>>(&self, service: &StomatonService, name: &str) -> bool {
        let (kind, group) = (K::kind(&()), K::group(&()));
        let of_kind = self.0.iter().find(|(k, _)| k.resource.kind == kind && k.resource.group == group);
        of_kind.is_some_and(|(_, store)| {
            !store.state_filter(|child| child.name_any() == name && is_ours(child, service)).is_empty()
        })
    }

    /// The children of one kind, the oldest first.
    pub fn names<K: Resource<DynamicType = ()>>(&self, service: &StomatonService) -> Vec<String> {
        let (kind, group) = (K::kind(&()), K::group(&()));
        let of_kind = self.0.iter().find(|(k, _)| k.resource.kind == kind && k.resource.group == group);
        let mut found = of_kind.map(|(_, s)| s.state_filter(|c| is_ours(c, service))).unwrap_or_default();
        found.sort_by_key(|child| (child.creation_timestamp(), child.name_any()));
        found.iter().map(|child| child.name_any()).collect()
    }
}

/// Whether `service` controls `child`, and it is not on its way out.
fn is_ours(child: &Child, service: &StomatonService) -> bool {
    owned(child, service) && child.metadata.deletion_timestamp.is_none()
}

fn owned(child: &Child, service: &StomatonService) -> bool {
    let uid = service.metadata.uid.as_deref();
    child.namespace() == service.namespace()
        && child.owner_references().iter().any(|o| o.controller == Some(true) && Some(o.uid.as_str()) == uid)
}

/// Deletes the children of `service` that are not in `wanted`, by kind and name. Never its pods: those only go when
/// the whole service does.
pub async fn prune(
    ctx: &Context,
    children: &Children,
    service: &StomatonService,
    wanted: &BTreeSet<(String, String)>,
) -> Result<(), Error> {
    let unwanted: Vec<_> = children
        .of(ctx, service)
        .filter(|(kind, _)| kind.part != Part::Pods)
        .filter(|(kind, child)| !wanted.contains(&(kind.resource.kind.clone(), child.name_any())))
        .collect();
    for (kind, child) in unwanted {
        delete(ctx, kind, &child).await?;
    }
    Ok(())
}

/// Takes the children of `service` down, part after part. Gives the ones it waits for; none: all are gone.
pub async fn take_down(ctx: &Context, service: &StomatonService) -> Result<Vec<String>, Error> {
    let served = ctx.kinds.served().await.map_err(Error::Gather)?;
    let here = |kind: &Kind| kind.optional.is_none_or(|optional| served.contains(&optional));
    let kinds: Vec<Kind> = all().into_iter().filter(here).collect();
    for part in Part::ALL {
        let mut left = Vec::new();
        for kind in kinds.iter().filter(|kind| kind.part == part) {
            for child in present(ctx, kind, service).await? {
                if kind.awaited {
                    left.push(format!("{} {}", kind.resource.kind, child.name_any()));
                }
                if child.metadata.deletion_timestamp.is_none() {
                    delete(ctx, kind, &child).await?;
                }
            }
        }
        if !left.is_empty() {
            return Ok(left);
        }
    }
    Ok(Vec::new())
}

/// Children of one kind, read live.
async fn present(ctx: &Context, kind: &Kind, service: &StomatonService) -> Result<Vec<Child>, Error> {
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    let params = ListParams::default().labels(&format!("{}={name}", keys::SERVICE));
    let api = ctx.dynamic(&namespace, &kind.resource);
    let doing = || format!("list {} of {name}", kind.resource.plural);
    let found = match api::read(doing, api.list_metadata(&params)).await {
        Err(error) if kind.by_grant && error.is_forbidden() => return Ok(Vec::new()),
        found => found.map_err(Error::Gather)?,
    };
    Ok(found.items.into_iter().filter(|child| owned(child, service)).collect())
}

/// Deletes the very child that was seen; a Deployment stays until its pods are gone.
async fn delete(ctx: &Context, kind: &Kind, child: &Child) -> Result<(), Error> {
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
        Err(error) => Err(Error::Apply(error.into())),
    }
}
