//! Takes the autoscaler that a service should have; makes it so, one at a time. I/O.

use super::{Error, build::scaling::Autoscaler};
use crate::{api, apply as children, context::Context, foreign::ScaledObject, optional::Optional};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{Resource, ResourceExt};
use stomaton_crds::keys::field_managers;

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
    let owner = |meta| children::controller_of(meta).map(|owner| &owner.uid);
    match read.map_err(Error::Gather)? {
        Some(other) if owner(&other.metadata) == owner(wanted.meta()) => {
            Err(children::Error::Leaving { kind, name }.into())
        }
        _ => Ok(()),
    }
}
