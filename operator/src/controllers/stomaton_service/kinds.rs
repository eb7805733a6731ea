//! Every kind of child that a StomatonService ever has, in one table: how it is watched, and when it goes. What a
//! pass no longer wants is found in the caches of these watches, see [`crate::controllers::workload::children`]. I/O:
//! the end of all of them, when the service goes.
//!
//! Files, data and policies are not watched here, and while their service stays they go by the record on its Service:
//! see [`crate::apply::prune`].

use super::Error;
use crate::{
    api, apply as children,
    context::Context,
    controllers::workload::children::{Child, Kind, Part, delete, owned},
    foreign::{PodMonitor, ScaledObject},
    optional::Optional,
};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, Deployment},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{ResourceExt, api::ListParams};
use stomaton_crds::{keys, v1alpha1::StomatonService};

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
                    delete(ctx, kind, &child).await.map_err(children::Error::Api)?;
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
    Ok(found.items.into_iter().filter(|child| owned(child, &service.metadata)).collect())
}
