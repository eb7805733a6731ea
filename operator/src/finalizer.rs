//! Finalizers, by which an object stays until the operator has done what its end needs. I/O.

use crate::{api, context::Context, metrics::Verb};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use stomaton_crds::keys::field_managers;

/// Whether `object` has `finalizer`.
pub fn is_on<K: Resource>(object: &K, finalizer: &str) -> bool {
    object.finalizers().iter().any(|f| f == finalizer)
}

/// Puts `finalizer` on `object`, unless it is there or comes too late.
pub async fn put<K>(ctx: &Context, object: &K, finalizer: &str) -> Result<(), api::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    // An object that is being deleted takes no finalizer any more.
    if is_on(object, finalizer) || object.meta().deletion_timestamp.is_some() {
        return Ok(());
    }
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": object.name_any(), "uid": object.uid(), "finalizers": [finalizer] },
    });
    write(ctx, object, &PatchParams::apply(field_managers::FINALIZER).force(), &Patch::Apply(body)).await
}

/// Takes `finalizer` away, whoever has put it there: an object that comes out of a backup brings it along.
pub async fn take<K>(ctx: &Context, object: &K, finalizer: &str) -> Result<(), api::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let left: Vec<_> = object.finalizers().iter().filter(|f| *f != finalizer).collect();
    let body = json!({ "metadata": {
        "uid": object.uid(), "resourceVersion": object.resource_version(), "finalizers": left,
    }});
    write(ctx, object, &PatchParams::default(), &Patch::Merge(body)).await
}

async fn write<K>(
    ctx: &Context,
    object: &K,
    params: &PatchParams,
    patch: &Patch<Value>,
) -> Result<(), api::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let api = ctx.namespaced::<K>(&namespace);
    let path = format!("{namespace}/{name} (finalizer)");
    let call = api.patch_metadata(&name, params, patch);
    match api::write::<K, _>(&ctx.metrics, Verb::Patch, &path, call).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        // A conflict too: made anew under the same name, or changed since it was read. The next pass knows.
        Err(error) => Err(error),
    }
}
