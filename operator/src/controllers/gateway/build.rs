//! Takes a checked Gateway and what was gathered; gives the children as they should be, and what of the spec they
//! leave out. Pure.
//!
//! - [`config`]: the structure of the edge
//! - [`handling`]: how requests of a route are handled
//! - [`kill`]: what agents need to be told without the API server
//! - [`pods`]: the edge pods
//! - [`scaling`]: how many there are
//! - [`share`]: among how many of them a limit for all clients is shared
//! - [`access`]: how the edge is reached, and what its agent may read

mod access;
mod config;
pub(super) mod handling;
pub(super) mod kill;
mod pods;
mod scaling;
mod share;

use super::{Problems, gather::Gathered, names, validate::Valid};
use crate::controllers::workload::{name, scaling::Replicas};
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Secret, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
};
use kube::api::ObjectMeta;
use std::collections::BTreeSet;
use stomaton_crds::v1alpha1::{EdgeConfig, EdgeConfigSpec, LimitsStatus};

/// Children as they should be; nothing is known of how they are, but for the structure's predecessor.
#[derive(Debug)]
pub struct Prepared {
    /// Who the agents are.
    pub account: ServiceAccount,
    /// What they may read.
    pub role: Role,
    /// That they may.
    pub binding: RoleBinding,
    /// How users reach the edge.
    pub service: Service,
    /// How agents find each other.
    pub agents: Service,
    /// The key of kills; none where the operator may not read Secrets.
    pub kill_key: Option<Secret>,
    /// The edge pods. How many there are is not its to say.
    pub deployment: Deployment,
    /// Who decides how many there are.
    pub replicas: Replicas,
    /// By what, if they are scaled by load.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// What a drain may take away.
    pub budget: Option<PodDisruptionBudget>,
    /// How limits for all clients are shared in this structure.
    pub limits: Option<LimitsStatus>,
    /// The structure; none while the default backend was never there.
    pub config: Option<Structure>,
}

impl Prepared {
    /// The children that come and go with the spec, those that stay, by kind and name.
    pub fn optional(&self) -> BTreeSet<(String, String)> {
        [self.autoscaler.as_ref().map(name), self.budget.as_ref().map(name)].into_iter().flatten().collect()
    }
}

/// The structure and what is there of it.
#[derive(Debug)]
pub struct Structure {
    /// As it should be, with its revision.
    pub wanted: EdgeConfig,
    /// As it was read; a write replaces exactly this.
    pub present: Option<EdgeConfig>,
}

/// The children of a Gateway.
pub fn build(valid: &Valid<'_>, gathered: &Gathered, edge_image: &str) -> (Prepared, Problems) {
    let name = &valid.family.owner.name;
    let pods = share::pods(valid, gathered);
    let (content, problems) = config::compile(valid, gathered, pods);
    let limits = content.as_ref().and_then(|content| share::status(valid, content, pods));
    let (replicas, autoscaler) = scaling::replicas(valid);
    let config =
        content.map(|content| structure(content, valid.family.child(&names::edge_config(name)), gathered));
    let prepared = Prepared {
        account: access::account(valid),
        role: access::role(valid),
        binding: access::binding(valid),
        service: access::service(valid),
        agents: kill::agents(valid),
        kill_key: gathered.kill_key.as_ref().map(|key| kill::secret(valid, key)),
        deployment: pods::deployment(valid, edge_image),
        replicas,
        autoscaler,
        budget: scaling::budget(valid),
        limits,
        config,
    };
    (prepared, problems)
}

/// The structure with its revision: a new one when the content changed, or when an agent has seen a higher one and
/// would take this for the past (an object that was restored or made anew).
fn structure(content: EdgeConfigSpec, metadata: ObjectMeta, gathered: &Gathered) -> Structure {
    let present = gathered.present.clone();
    let (seen, now) = (gathered.edges.config_seen(), present.as_ref().map_or(0, |p| p.spec.revision));
    let same =
        present.as_ref().is_some_and(|p| p.spec == EdgeConfigSpec { revision: now, ..content.clone() });
    let revision = if same && seen <= now { now } else { now.max(seen) + 1 };
    let spec = EdgeConfigSpec { revision, ..content };
    Structure { wanted: EdgeConfig { metadata, spec }, present }
}

#[cfg(test)]
mod tests;
