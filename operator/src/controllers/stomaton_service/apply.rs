//! Takes the children as they should be; makes them so and gives what they say. I/O.

use super::{Error, build::Prepared};
use crate::{
    apply as children,
    context::Context,
    controllers::{pod_words, rollout},
};
use k8s_openapi::api::apps::v1::Deployment;
use stomaton_crds::keys::{self, field_managers};

/// The children are as they should be; only this makes a status.
pub struct Applied {
    /// As the API server has it.
    pub deployment: Deployment,
    /// What holds its pods up, if they are not all ready.
    pub words: Option<String>,
}

/// Makes the children as they should be.
pub async fn apply(ctx: &Context, prepared: Prepared) -> Result<Applied, Error> {
    // Without `..`: a child that is built and not applied does not compile.
    let Prepared { service, deployment } = prepared;
    children::apply(ctx, field_managers::SERVICE, &service).await?;
    let deployment = children::apply(ctx, field_managers::SERVICE, &deployment).await?;
    let words = match rollout::unfinished(&deployment, None) {
        Some(_) => pod_words(ctx, &deployment, keys::SERVICE).await.map_err(Error::Gather)?,
        None => None,
    };
    Ok(Applied { deployment, words })
}
