//! Takes a Gateway; gives what its structure is compiled from, read live. I/O: three reads.

use crate::{
    api,
    context::Context,
    edges::{EdgeView, Key, ready::Lately},
    watch::Guarded,
};
use k8s_openapi::api::core::v1::Service;
use kube::{ResourceExt, api::ListParams};
use std::collections::BTreeMap;
use stomaton_crds::v1alpha1::{EdgeConfig, Gateway, MigrationPlan};

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
    let (services, plans, present) = tokio::try_join!(
        api::read(|| format!("list Services of {namespace}"), services.list(&all)),
        api::read(|| format!("list MigrationPlans of {namespace}"), plans.list(&all)),
        api::read(|| format!("read EdgeConfig {name}"), configs.get_opt(&name)),
    )?;
    // A plan that does not fit its kind moves nothing; its own controller says so.
    let plans = plans.items.into_iter().filter_map(|plan| plan.0.ok());
    Ok(Gathered {
        services: services.items.into_iter().map(|service| (service.name_any(), service)).collect(),
        plans: oldest_first(plans.filter(|plan| plan.spec.gateway_ref.name == name).collect()),
        present,
        edges: ctx.edges.view(&Key::from_obj(gateway)),
        ready: ctx.edges.ready(&Key::from_obj(gateway)),
    })
}

/// By age, then by name: an order that every pass finds again.
fn oldest_first(mut plans: Vec<MigrationPlan>) -> Vec<MigrationPlan> {
    plans.sort_by_key(|plan| (plan.creation_timestamp(), plan.name_any()));
    plans
}
