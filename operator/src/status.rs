//! The status of an object: written at most once a pass, only when it says something new, by its own field manager,
//! and followed by an Event when the object turned ready or stopped being so. I/O.

use crate::{api, context::Context, metrics::Verb};
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use stomaton_crds::{conditions::Type, keys::field_managers};

/// Writes `new` as the status of `object` unless `old` says the same already. Gives the object as it then is, if it
/// wrote.
///
/// Equality is enough to tell: [`stomaton_crds::conditions`] keeps the time of a condition that did not flip, so
/// two statuses that say the same are the same. The UID goes along, so that a status never lands on an object that
/// was made anew under the same name. An object that is gone needs no status.
pub async fn write<K, S>(ctx: &Context, object: &K, old: Option<&S>, new: &S) -> Result<Option<K>, api::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    S: Serialize + PartialEq,
{
    if old == Some(new) {
        return Ok(None);
    }
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let body = serde_json::json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "uid": object.uid() },
        "status": new,
    });
    let params = PatchParams::apply(field_managers::STATUS).force();
    let (api, patch) = (ctx.namespaced::<K>(&namespace), Patch::Apply(&body));
    let path = format!("{namespace}/{name} (status)");
    match api::write::<K, _>(&ctx.metrics, Verb::Patch, &path, api.patch_status(&name, &params, &patch)).await
    {
        Ok(written) => Ok(Some(written)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Publishes an Event when `Ready` of `object` changed its status or its reason. Best effort: an Event that cannot
/// be published is logged, and nothing waits for it to succeed.
pub async fn announce<K>(ctx: &Context, object: &K, old: &[Condition], new: &[Condition])
where
    K: Resource<DynamicType = ()>,
{
    let said = |conditions: &[Condition]| {
        conditions
            .iter()
            .find(|c| c.type_ == Type::Ready.as_str())
            .map(|c| (c.status.clone(), c.reason.clone()))
    };
    let Some(ready) = new.iter().find(|c| c.type_ == Type::Ready.as_str()) else { return };
    if said(old) == said(new) {
        return;
    }
    let stalled = new.iter().any(|c| c.type_ == Type::Stalled.as_str());
    let kind = if stalled { EventType::Warning } else { EventType::Normal };
    publish(ctx, object, kind, &ready.reason, "Reconcile", &ready.message).await;
}

/// Publishes an Event about `object`.
pub async fn publish<K>(ctx: &Context, object: &K, kind: EventType, reason: &str, action: &str, note: &str)
where
    K: Resource<DynamicType = ()>,
{
    let event = Event {
        type_: kind,
        reason: reason.to_owned(),
        // The API server refuses a note of more than 1 kB, and a character may take four bytes.
        note: Some(note.chars().take(250).collect()),
        action: action.to_owned(),
        secondary: None,
    };
    ctx.metrics.wrote(Verb::Create, "Event");
    let reference = object.object_ref(&());
    let published = tokio::time::timeout(api::TIMEOUT, ctx.recorder.publish(&event, &reference)).await;
    match published {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, reason, "cannot publish an Event"),
        Err(_) => tracing::warn!(reason, "cannot publish an Event: no answer from the API server"),
    }
}

#[cfg(test)]
mod tests;
