//! Takes the children as they should be; makes them so and gives what they say. I/O.

use super::{
    Error,
    build::{Prepared, Structure, kill},
};
use crate::{
    api, apply as children,
    context::Context,
    controllers::{
        pod_words, rollout,
        workload::{
            children::{Children, prune},
            replicas::settle,
        },
    },
    edges::Key,
    metrics::Verb,
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    ResourceExt,
    api::{ObjectMeta, PostParams},
};
use stomaton_crds::{
    keys::{self, field_managers},
    v1alpha1::{EdgeConfig, LimitsStatus},
};

/// The children are as they should be; only this makes a status.
pub struct Applied {
    /// As the API server has it.
    pub deployment: Deployment,
    /// What holds its pods up, if they are not all ready.
    pub words: Option<String>,
    /// Whether edge pods can be told to take a route back without the API server.
    pub kills: bool,
    /// Revision of the structure; none while there is no structure.
    pub revision: Option<i64>,
    /// How limits for all clients are shared in it.
    pub limits: Option<LimitsStatus>,
}

/// Makes the children of `owner` as they should be, and takes away what is `known` and no longer wanted.
pub async fn apply(
    ctx: &Context,
    owner: &ObjectMeta,
    prepared: Prepared,
    known: &Children,
) -> Result<Applied, Error> {
    const MANAGER: &str = field_managers::GATEWAY;
    let stay = prepared.optional();
    // Without `..`: a child that is built and not applied does not compile.
    let Prepared {
        account,
        role,
        binding,
        service,
        agents,
        kill_key,
        deployment,
        replicas,
        autoscaler,
        budget,
        limits,
        config,
    } = prepared;
    // The structure first: it is what users notice. Rights before the pods that need them.
    let revision = match config {
        Some(structure) => Some(write(ctx, structure).await?),
        None => None,
    };
    children::apply(ctx, MANAGER, &account).await?;
    children::apply(ctx, MANAGER, &role).await?;
    children::apply(ctx, MANAGER, &binding).await?;
    children::apply(ctx, MANAGER, &service).await?;
    children::apply(ctx, MANAGER, &agents).await?;
    let kills = share(ctx, owner, kill_key).await?;
    let deployment = children::apply(ctx, MANAGER, &deployment).await?;
    // An autoscaler that is no longer wanted goes before the number of pods is taken back from it.
    prune(ctx, known, owner, &stay).await.map_err(children::Error::Api)?;
    let deployment = settle(ctx, &replicas, deployment).await.map_err(children::Error::Api)?;
    if let Some(budget) = &budget {
        children::apply(ctx, MANAGER, budget).await?;
    }
    if let Some(autoscaler) = &autoscaler {
        children::apply(ctx, MANAGER, autoscaler).await?;
    }
    let words = match rollout::unfinished(&deployment, None) {
        Some(_) => pod_words(ctx, &deployment, keys::GATEWAY).await.map_err(Error::Gather)?,
        None => None,
    };
    Ok(Applied { deployment, words, kills, revision, limits })
}

/// Keeps the key of kills in its Secret, and here. Gives whether there is one: where the operator may not write
/// Secrets, the edge goes on without.
async fn share(ctx: &Context, owner: &ObjectMeta, secret: Option<Secret>) -> Result<bool, Error> {
    let Some(secret) = secret else { return Ok(false) };
    let written = match children::apply(ctx, field_managers::GATEWAY, &secret).await {
        Err(children::Error::Api(error)) if error.is_forbidden() => return Ok(false),
        written => written?,
    };
    let (name, namespace) = (owner.name.as_deref(), owner.namespace.as_deref());
    let gateway = Key::new(name.unwrap_or_default()).within(namespace.unwrap_or_default());
    let key = kill::key_of(&written);
    let shared = key.is_some();
    ctx.edges.share(&gateway, key);
    Ok(shared)
}

/// Writes the structure if it is new: whole, and only on what it was compiled from. Somebody who was faster makes
/// this fail, and the next pass compile anew.
async fn write(ctx: &Context, Structure { mut wanted, present }: Structure) -> Result<i64, Error> {
    let (name, revision) = (wanted.name_any(), wanted.spec.revision);
    let api = ctx.namespaced::<EdgeConfig>(&wanted.namespace().unwrap_or_default());
    let params = PostParams { field_manager: Some(field_managers::GATEWAY.into()), ..PostParams::default() };
    let written = match present {
        None => {
            api::write::<EdgeConfig, _>(&ctx.metrics, Verb::Create, &name, api.create(&params, &wanted)).await
        }
        Some(present) => {
            children::ours(&wanted, &present)?;
            if present.spec == wanted.spec {
                return Ok(revision);
            }
            wanted.metadata.resource_version = present.resource_version();
            let call = api.replace(&name, &params, &wanted);
            api::write::<EdgeConfig, _>(&ctx.metrics, Verb::Replace, &name, call).await
        }
    };
    written.map_err(children::Error::Api)?;
    tracing::info!(namespace = wanted.namespace(), gateway = name, revision, "structure written");
    Ok(revision)
}
