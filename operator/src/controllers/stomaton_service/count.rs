//! Takes who decides how many pods there are; makes it so. I/O.
//!
//! The number of pods has a field manager of its own, and is written in a request of its own: so it can be left to an
//! autoscaler, and taken back, without anything else being touched, and it is never reset by being left out.

use super::{
    Error,
    build::scaling::{Autoscaler, Count},
};
use crate::{
    api, apply as children, context::Context, foreign::ScaledObject, metrics::Verb, optional::Optional,
};
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use stomaton_crds::keys::field_managers;

/// The number that `deployment` should have and does not; none: it is right, or not ours to say.
fn missing(count: &Count, deployment: &Deployment) -> Option<i32> {
    let now = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    // Nobody has written anything since it was made without a number.
    let new = deployment.metadata.generation == Some(1);
    let wanted = match (count.held, count.begin, count.wake) {
        (Some(held), _, _) => Some(held),
        // Only ever more: it may be new to us and serve for long, and to make it less is the autoscaler's.
        (None, Some(begin), _) if new && begin > now => Some(begin),
        (None, _, Some(wake)) if now == 0 => Some(wake),
        _ => None,
    };
    wanted.filter(|wanted| *wanted != now)
}

/// Gives `deployment` the number of pods that is wanted, if the operator has a say.
pub async fn settle(ctx: &Context, count: &Count, deployment: Deployment) -> Result<Deployment, Error> {
    let Some(replicas) = missing(count, &deployment) else { return Ok(deployment) };
    let name = deployment.name_any();
    let body = json!({
        "apiVersion": Deployment::api_version(&()),
        "kind": Deployment::kind(&()),
        "metadata": { "name": name, "uid": deployment.uid() },
        "spec": { "replicas": replicas },
    });
    let api = ctx.namespaced::<Deployment>(&deployment.namespace().unwrap_or_default());
    let params = PatchParams::apply(field_managers::REPLICAS).force();
    let patch = Patch::Apply(&body);
    let call = api.patch(&name, &params, &patch);
    let written = api::write::<Deployment, _>(&ctx.metrics, Verb::Patch, &name, call).await;
    Ok(written.map_err(children::Error::Api)?)
}

/// Makes the autoscaler as it should be, when the other one is gone: two would pull the number to and fro.
pub async fn autoscale(ctx: &Context, wanted: &Autoscaler) -> Result<(), Error> {
    const MANAGER: &str = field_managers::SERVICE;
    match wanted {
        Autoscaler::Hpa(hpa) => {
            if ctx.kinds.has(Optional::ScaledObject) {
                gone::<HorizontalPodAutoscaler, ScaledObject>(ctx, hpa).await?;
            }
            children::apply(ctx, MANAGER, &**hpa).await?;
        }
        Autoscaler::Keda(object) => {
            gone::<ScaledObject, HorizontalPodAutoscaler>(ctx, object).await?;
            children::apply(ctx, MANAGER, &**object).await?;
        }
    }
    Ok(())
}

/// Waits for the `Other` autoscaler of the same name and owner to be gone; the prune of an earlier pass, or this one,
/// deletes it.
async fn gone<K, Other>(ctx: &Context, wanted: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()>,
    Other: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    Other: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let (kind, name) = (Other::kind(&()).into_owned(), wanted.name_any());
    let api = ctx.namespaced::<Other>(&wanted.namespace().unwrap_or_default());
    let read = api::read(|| format!("read {kind} {name}"), api.get_metadata_opt(&name)).await;
    let owner = |o: &kube::core::ObjectMeta| {
        o.owner_references.iter().flatten().find(|r| r.controller == Some(true)).map(|r| r.uid.clone())
    };
    match read.map_err(Error::Gather)? {
        Some(other) if owner(&other.metadata) == owner(wanted.meta()) => {
            Err(children::Error::Leaving { kind, name }.into())
        }
        _ => Ok(()),
    }
}
