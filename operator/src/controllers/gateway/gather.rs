//! Takes a Gateway; gives what its structure is compiled from, read live. I/O: four reads.

use super::{build::kill, names};
use crate::{
    api,
    apply::controller_of,
    context::Context,
    edges::{EdgeView, Key, ready::Lately},
    watch::Guarded,
};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::{Resource, ResourceExt, api::ListParams};
use std::collections::BTreeMap;
use stomaton_crds::{
    kill::Key as KillKey,
    v1alpha1::{EdgeConfig, Gateway, MigrationPlan},
};

/// What the structure is compiled from.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Services of the namespace, by name.
    pub services: BTreeMap<String, Service>,
    /// Plans that move routes of this Gateway, the oldest first: it is the one that counts.
    pub plans: Vec<MigrationPlan>,
    /// What was compiled before.
    pub present: Option<EdgeConfig>,
    /// What the edge pods know.
    pub edges: EdgeView,
    /// The key of kills: the one that is there, else a new one; none where the operator may not read Secrets.
    pub kill_key: Option<KillKey>,
    /// How many of them users are sent to.
    pub ready: Lately,
}

/// Reads what the structure of `gateway` is compiled from.
pub async fn gather(ctx: &Context, gateway: &Gateway) -> Result<Gathered, api::Error> {
    let (name, namespace) = (gateway.name_any(), gateway.namespace().unwrap_or_default());
    let all = ListParams::default();
    let services = ctx.namespaced::<Service>(&namespace);
    let plans = ctx.namespaced::<Guarded<MigrationPlan>>(&namespace);
    let configs = ctx.namespaced::<EdgeConfig>(&namespace);
    let (services, plans, present, kill_key) = tokio::try_join!(
        api::read(|| format!("list Services of {namespace}"), services.list(&all)),
        api::read(|| format!("list MigrationPlans of {namespace}"), plans.list(&all)),
        api::read(|| format!("read EdgeConfig {name}"), configs.get_opt(&name)),
        kill_key(ctx, gateway),
    )?;
    // A plan that does not fit its kind moves nothing; its own controller says so.
    let plans = plans.items.into_iter().filter_map(|plan| plan.0.ok());
    Ok(Gathered {
        services: services.items.into_iter().map(|service| (service.name_any(), service)).collect(),
        plans: oldest_first(plans.filter(|plan| plan.spec.gateway_ref.name == name).collect()),
        present,
        edges: ctx.edges.view(&Key::from_obj(gateway)),
        kill_key,
        ready: ctx.edges.ready(&Key::from_obj(gateway)),
    })
}

/// The key that our own Secret has, or a new one. Without the right to Secrets the edge goes on without kills.
async fn kill_key(ctx: &Context, gateway: &Gateway) -> Result<Option<KillKey>, api::Error> {
    let name = names::kill_key(&gateway.name_any());
    let secrets = ctx.namespaced::<Secret>(&gateway.namespace().unwrap_or_default());
    let found = match api::read(|| format!("read Secret {name}"), secrets.get_opt(&name)).await {
        Err(error) if error.is_forbidden() => return Ok(None),
        found => found?,
    };
    let is_ours = |secret: &Secret| {
        controller_of(&secret.metadata).is_some_and(|o| Some(&o.uid) == gateway.meta().uid.as_ref())
    };
    let held = found.filter(is_ours).as_ref().and_then(kill::key_of);
    let mut random = [0; 32];
    // Without randomness there is no key: none is better than one that can be guessed.
    Ok(held.or_else(|| getrandom::fill(&mut random).ok().map(|()| KillKey::new(random))))
}

/// By age, then by name: an order that every pass finds again.
fn oldest_first(mut plans: Vec<MigrationPlan>) -> Vec<MigrationPlan> {
    plans.sort_by_key(|plan| (plan.creation_timestamp(), plan.name_any()));
    plans
}
