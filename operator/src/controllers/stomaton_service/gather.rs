//! Takes a StomatonService; gives what it refers to, read live. I/O: at most one read.

use crate::{api, context::Context};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use stomaton_crds::v1alpha1::StomatonService;

/// What the object refers to.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The Service that an External one names, if it exists.
    pub external: Option<Service>,
}

/// Reads what `service` refers to.
pub async fn gather(ctx: &Context, service: &StomatonService) -> Result<Gathered, api::Error> {
    let Some(external) = &service.spec.external else { return Ok(Gathered::default()) };
    let (name, api) = (&external.service_name, ctx.namespaced(&service.namespace().unwrap_or_default()));
    let external = api::read(|| format!("read Service {name}"), api.get_opt(name)).await?;
    Ok(Gathered { external })
}
