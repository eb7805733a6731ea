//! What all children have in common: owner, labels, security, how pods are replaced. Pure.

use k8s_openapi::{
    api::{
        apps::v1::{DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext},
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use std::collections::BTreeMap;
use stomaton_crds::keys;

/// What a child is called and whom it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Namespace of owner and children.
    pub namespace: String,
    /// The object that wants the children; the garbage collector takes them when it goes.
    pub owner: OwnerReference,
    /// Labels of every child, and of pods.
    pub labels: BTreeMap<String, String>,
}

impl Family {
    /// Children of `owner`, found by the label `key`; `component` is what they are to the fleet.
    pub fn new(namespace: String, owner: OwnerReference, key: &str, component: &str) -> Self {
        let labels = [
            (keys::MANAGED_BY, keys::MANAGER),
            (keys::NAME, &owner.name),
            (keys::COMPONENT, component),
            (key, &owner.name),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self { namespace, labels: labels.into(), owner }
    }

    /// Metadata of the child `name`.
    pub fn child(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels.clone()),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        }
    }

    /// Metadata of pods.
    pub fn pod(&self) -> ObjectMeta {
        ObjectMeta { labels: Some(self.labels.clone()), ..ObjectMeta::default() }
    }
}

/// A pod that the restricted Pod Security Standard admits; its files belong to the group `fs_group`.
pub fn restricted_pod(fs_group: i64) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        fs_group: Some(fs_group),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

/// A container that the restricted Pod Security Standard admits, as user and group `id`, on a read-only root.
pub fn restricted_container(id: i64) -> SecurityContext {
    SecurityContext {
        run_as_user: Some(id),
        run_as_group: Some(id),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        ..SecurityContext::default()
    }
}

/// A pod goes only when its successor is ready.
pub fn surge_first() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(1)),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}
