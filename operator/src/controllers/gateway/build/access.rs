//! How the edge is reached, and what its agent may read. Pure.

use super::super::{names, validate::Valid};
use k8s_openapi::{
    api::{
        core::v1::{Service, ServiceAccount, ServicePort, ServiceSpec},
        rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::api::ObjectMeta;
use stomaton_crds::{GROUP, keys, v1alpha1::GatewaySpec};

/// The Service of the edge.
pub fn service(valid: &Valid<'_>) -> Service {
    let wanted = &valid.gateway.spec.service;
    let annotations = (!wanted.annotations.is_empty()).then(|| wanted.annotations.clone());
    Service {
        metadata: ObjectMeta { annotations, ..valid.family.child(&names::edge(&valid.family.owner.name)) },
        spec: Some(ServiceSpec {
            type_: Some(wanted.type_.as_str().into()),
            selector: Some(selector(valid)),
            // A client meets one pod, so that limits per client hold and a user without a cookie keeps their side.
            session_affinity: Some("ClientIP".into()),
            external_traffic_policy: wanted.external_traffic_policy.map(|policy| policy.as_str().into()),
            ports: Some(ports(&valid.gateway.spec)),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn ports(spec: &GatewaySpec) -> Vec<ServicePort> {
    let port = |name: &str, port| ServicePort {
        name: Some(name.into()),
        port,
        target_port: Some(IntOrString::String(name.into())),
        ..ServicePort::default()
    };
    let https = spec.tls.as_ref().map(|tls| port("https", tls.port));
    std::iter::once(port("http", spec.service.port)).chain(https).collect()
}

/// The labels that edge pods are selected by; they can never change.
pub fn selector(valid: &Valid<'_>) -> std::collections::BTreeMap<String, String> {
    let kept = |(key, _): &(&String, &String)| matches!(key.as_str(), keys::GATEWAY | keys::COMPONENT);
    valid.family.labels.iter().filter(kept).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Who the agents are.
pub fn account(valid: &Valid<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: valid.family.child(&names::edge(&valid.family.owner.name)),
        // The agent's container mounts a token itself; NGINX' container must not have one.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// What the agents may read: the two objects of their own edge, and nothing else.
pub fn role(valid: &Valid<'_>) -> Role {
    let gateway = &valid.family.owner.name;
    Role {
        metadata: valid.family.child(&names::edge(gateway)),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec![GROUP.into()]),
            resources: Some(vec!["edgeconfigs".into(), "edgeweights".into()]),
            resource_names: Some(vec![names::edge_config(gateway)]),
            verbs: ["get", "list", "watch"].map(Into::into).into(),
            ..PolicyRule::default()
        }]),
    }
}

/// That the agents may.
pub fn binding(valid: &Valid<'_>) -> RoleBinding {
    let name = names::edge(&valid.family.owner.name);
    RoleBinding {
        metadata: valid.family.child(&name),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "Role".into(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name,
            namespace: Some(valid.family.namespace.clone()),
            api_group: None,
        }]),
    }
}
