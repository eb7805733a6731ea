//! Takes who decides how many pods there are; makes it so. I/O.
//!
//! The number of pods has a field manager of its own, and is written in a request of its own: so it can be left to an
//! autoscaler, and taken back, without anything else being touched, and it is never reset by being left out.

use super::scaling::Replicas;
use crate::{api, context::Context, metrics::Verb};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use stomaton_crds::keys::field_managers;

/// The number that `deployment` should have and does not; none: it is right, or not ours to say.
fn missing(wanted: &Replicas, deployment: &Deployment) -> Option<i32> {
    let now = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    // Nobody has written anything since it was made without a number.
    let new = deployment.metadata.generation == Some(1);
    let wanted = match (wanted.held, wanted.begin, wanted.wake) {
        (Some(held), _, _) => Some(held),
        // Only ever more: it may be new to us and serve for long, and to make it less is the autoscaler's.
        (None, Some(begin), _) if new && begin > now => Some(begin),
        (None, _, Some(wake)) if now == 0 => Some(wake),
        _ => None,
    };
    wanted.filter(|wanted| *wanted != now)
}

/// Gives `deployment` the number of pods that is wanted, if the operator has a say.
pub async fn settle(
    ctx: &Context,
    wanted: &Replicas,
    deployment: Deployment,
) -> Result<Deployment, api::Error> {
    let Some(replicas) = missing(wanted, &deployment) else { return Ok(deployment) };
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
    api::write::<Deployment, _>(&ctx.metrics, Verb::Patch, &name, call).await
}
