//! Takes a StomatonService; gives what it refers to, read live. I/O: reads, and only those that the spec asks for.

pub mod grants;
pub mod neighbours;
pub mod sources;
pub mod tokens;

use super::{
    Error,
    build::wiring::{claim_name, files_name},
    in_use::Around,
};
use crate::{api, apply::Record, context::Context};
use grants::Grants;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{PersistentVolumeClaim, Service},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt;
use neighbours::{Key, Neighbours};
use sources::{Kind, Source, Sources};
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::{
    keys,
    v1alpha1::{Role, StomatonService},
};

/// What the object refers to.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The Service that an External one names, if it exists.
    pub external: Option<Service>,
    /// Its own Service as it is; without its spec when that is known to be as wanted.
    pub service: Option<Service>,
    /// The children that the operator may have made, as its Service says.
    pub children: Record,
    /// Sizes of the claims that are there, by name of the volume.
    pub claims: BTreeMap<String, Quantity>,
    /// Secrets and ConfigMaps that it names, and the ConfigMap of its files.
    pub sources: Sources,
    /// The Deployment as it is.
    pub deployment: Option<Deployment>,
    /// Services around it.
    pub neighbours: Neighbours,
    /// What ReferenceGrants allow.
    pub grants: Grants,
    /// Services in the cluster that External ones among its dependencies refer to; read for a policy only.
    pub referred: BTreeMap<Key, Service>,
    /// Tokens that it and those around it hold.
    pub tokens: tokens::Held,
    /// What is around it beside that.
    pub around: Around,
}

impl Gathered {
    /// Whether the operator was refused a look at any Secret or ConfigMap.
    pub fn may_not_read(&self) -> bool {
        self.sources.values().any(|source| *source == Source::Forbidden)
    }

    /// An annotation of the pods as they are now.
    pub fn pod_annotation(&self, key: &str) -> Option<String> {
        let template = &self.deployment.as_ref()?.spec.as_ref()?.template;
        template.metadata.as_ref()?.annotations.as_ref()?.get(key).cloned()
    }

    /// A variable of the pods as they are now.
    pub fn pod_variable(&self, name: &str) -> Option<String> {
        let pod = self.deployment.as_ref()?.spec.as_ref()?.template.spec.as_ref()?;
        let env = pod.containers.first()?.env.as_ref()?;
        env.iter().find(|variable| variable.name == name)?.value.clone()
    }
}

/// What caches say.
pub struct Cached {
    /// The services around it.
    pub neighbours: Neighbours,
    /// Its own Service without its spec, when that is known to be as wanted.
    pub service: Option<Service>,
}

/// Reads what `service` refers to, beside what caches say; `around` is what else is around it.
pub async fn gather(
    ctx: &Context,
    service: &StomatonService,
    cached: Cached,
    around: Around,
) -> Result<Gathered, Error> {
    let neighbours = cached.neighbours;
    let namespace = service.namespace().unwrap_or_default();
    if service.spec.role == Role::External {
        let external = external(ctx, service, &namespace).await?;
        return Ok(Gathered { external, around, ..Gathered::default() });
    }
    let mut names = sources::named(&service.spec);
    if !service.spec.config.is_empty() {
        // Not for what is in it: whether the operator may look.
        names.insert((Kind::ConfigMap, files_name(&service.name_any(), &service.spec.config)));
    }
    let own = match cached.service {
        Some(settled) => Some(settled),
        None => service_of(ctx, service, &namespace).await?,
    };
    let deployment = deployment(ctx, service, &namespace).await?;
    let grants = grants::read(ctx, foreign(service, &namespace, &neighbours)).await?;
    Ok(Gathered {
        external: None,
        children: recorded(own.as_ref()),
        service: own,
        claims: claims(ctx, service, &namespace).await?,
        sources: sources::read(ctx, &namespace, names).await?,
        referred: referred(ctx, service, &neighbours).await?,
        tokens: tokens::read(ctx, service, &neighbours, &grants, deployment.as_ref()).await?,
        deployment,
        grants,
        neighbours,
        around,
    })
}

async fn referred(
    ctx: &Context,
    service: &StomatonService,
    neighbours: &Neighbours,
) -> Result<BTreeMap<Key, Service>, api::Error> {
    let mut found = BTreeMap::new();
    if service.spec.network_policy.is_none() {
        return Ok(found);
    }
    for (key, neighbour) in &neighbours.known {
        let named = neighbour.external.as_ref().and_then(|external| external.service_name.as_ref());
        let Some(name) = named else { continue };
        let api = ctx.namespaced::<Service>(&key.0);
        let service = api::read(|| format!("read Service {name}"), api.get_opt(name)).await?;
        found.extend(service.map(|service| (key.clone(), service)));
    }
    Ok(found)
}

/// The namespaces in which a ReferenceGrant may matter: those of dependencies, and one's own for callers.
fn foreign(service: &StomatonService, own: &str, neighbours: &Neighbours) -> BTreeSet<String> {
    let callees = neighbours::edges(service).map(|((namespace, _), _)| namespace).filter(|n| n != own);
    let called = neighbours.callers.iter().any(|(namespace, _)| namespace != own).then(|| own.to_owned());
    callees.chain(called).collect()
}

async fn deployment(
    ctx: &Context,
    service: &StomatonService,
    namespace: &str,
) -> Result<Option<Deployment>, api::Error> {
    let name = service.name_any();
    api::read(|| format!("read Deployment {name}"), ctx.namespaced(namespace).get_opt(&name)).await
}

async fn external(
    ctx: &Context,
    service: &StomatonService,
    namespace: &str,
) -> Result<Option<Service>, api::Error> {
    let named = service.spec.external.as_ref().and_then(|external| external.service_name.as_ref());
    let Some(name) = named else { return Ok(None) };
    api::read(|| format!("read Service {name}"), ctx.namespaced(namespace).get_opt(name)).await
}

async fn service_of(
    ctx: &Context,
    service: &StomatonService,
    namespace: &str,
) -> Result<Option<Service>, api::Error> {
    let name = service.name_any();
    api::read(|| format!("read Service {name}"), ctx.namespaced(namespace).get_opt(&name)).await
}

/// What the Service says of the other children.
fn recorded(service: Option<&Service>) -> Record {
    let record = service.and_then(|service| service.annotations().get(keys::CHILDREN));
    let Ok(children) = record.map_or("", String::as_str).parse();
    children
}

async fn claims(
    ctx: &Context,
    service: &StomatonService,
    namespace: &str,
) -> Result<BTreeMap<String, Quantity>, api::Error> {
    let (mut sizes, api) = (BTreeMap::new(), ctx.namespaced::<PersistentVolumeClaim>(namespace));
    for volume in &service.spec.volumes {
        let name = claim_name(&service.name_any(), &volume.name);
        let claim = api::read(|| format!("read PersistentVolumeClaim {name}"), api.get_opt(&name)).await?;
        let requests = claim.and_then(|claim| claim.spec?.resources?.requests);
        if let Some(size) = requests.and_then(|mut requests| requests.remove("storage")) {
            sizes.insert(volume.name.clone(), size);
        }
    }
    Ok(sizes)
}
