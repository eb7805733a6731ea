//! Takes a StomatonService and what it refers to; gives the one input of `build`, or what is wrong. Pure.
//!
//! The schema states most of these rules too; they run again here because an object may be older than its schema.

use super::gather::Gathered;
use crate::controllers::meta::Family;
use k8s_openapi::api::core::v1::{ResourceRequirements, Service};
use kube::{Resource, ResourceExt};
use std::collections::BTreeSet;
use stomaton_crds::{
    conditions::{Reason, State, Summary},
    keys,
    v1alpha1::{EnvValue, External, Health, Role, StomatonService},
};

/// Variables the operator sets itself.
const RESERVED: [&str; 2] = ["SERVICE_NAME", "PORT"];

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Validated {
    /// Children to make.
    Deployed(Box<Deployed>),
    /// Nothing to make: the service answers at this URL.
    External {
        /// `http://NAME.NAMESPACE.svc:PORT`
        url: String,
    },
}

/// A service to deploy, checked.
#[derive(Debug, PartialEq)]
pub struct Deployed {
    /// Name of the object, its Deployment and its Service.
    pub name: String,
    /// What the children have in common.
    pub family: Family,
    /// Container image.
    pub image: String,
    /// Entry point; empty: the image's.
    pub command: Vec<String>,
    /// Arguments.
    pub args: Vec<String>,
    /// Port of container and Service.
    pub port: i32,
    /// Pods.
    pub replicas: i32,
    /// Environment beside what the operator sets.
    pub env: Vec<EnvValue>,
    /// Requests and limits; none: the defaults.
    pub resources: Option<ResourceRequirements>,
    /// Where the probes ask.
    pub health: Health,
}

/// Checks `service`.
pub fn validate(service: &StomatonService, gathered: &Gathered) -> Result<Validated, Summary> {
    let spec = &service.spec;
    match (spec.role, &spec.external) {
        (Role::External, Some(external)) => return refer(service, external, gathered.external.as_ref()),
        (Role::External, None) => return Err(invalid("role External needs `external.serviceName`".into())),
        (_, Some(_)) => return Err(invalid("`external` goes with role External only".into())),
        (_, None) => {}
    }
    let Some(image) = spec.image.clone().filter(|image| !image.is_empty()) else {
        return Err(invalid("`image` is missing: name the container image to run".into()));
    };
    if !(1..=65535).contains(&spec.port) {
        return Err(invalid(format!("`port` {} is not between 1 and 65535", spec.port)));
    }
    check_env(&spec.env)?;
    let Some(owner) = service.controller_owner_ref(&()) else {
        return Err(invalid("the object has no UID: it must come from an API server".into()));
    };
    let namespace = service.namespace().unwrap_or_default();
    Ok(Validated::Deployed(Box::new(Deployed {
        name: service.name_any(),
        family: Family::new(namespace, owner, keys::SERVICE, "service"),
        image,
        command: spec.command.clone(),
        args: spec.args.clone(),
        port: spec.port,
        replicas: spec.replicas.unwrap_or(1),
        env: spec.env.clone(),
        resources: spec.resources.clone(),
        health: spec.health.clone(),
    })))
}

fn check_env(env: &[EnvValue]) -> Result<(), Summary> {
    let mut names = BTreeSet::new();
    for EnvValue { name, .. } in env {
        if RESERVED.contains(&name.as_str()) {
            return Err(invalid(format!("the operator sets {name} itself: take it out of `env`")));
        }
        if !names.insert(name) {
            return Err(invalid(format!("`env` has {name} twice")));
        }
    }
    Ok(())
}

/// An External service: only referred to.
fn refer(
    object: &StomatonService,
    external: &External,
    service: Option<&Service>,
) -> Result<Validated, Summary> {
    let (name, namespace) = (&external.service_name, object.namespace().unwrap_or_default());
    let Some(service) = service else {
        // Not Stalled: it may be applied a moment later, and its coming brings the next pass.
        return Err(Summary {
            state: State::Reconciling,
            reason: Reason::NotFound,
            message: format!(
                "there is no Service {name} in namespace {namespace}: create it, or correct `external.serviceName`"
            ),
        });
    };
    let ports: Vec<i32> =
        service.spec.iter().flat_map(|s| s.ports.iter().flatten()).map(|p| p.port).collect();
    let port = match ports[..] {
        [only] => only,
        _ if ports.contains(&object.spec.port) => object.spec.port,
        _ => {
            return Err(Summary {
                state: State::Stalled,
                reason: Reason::NoPort,
                message: format!("Service {name} has the ports {ports:?}: set `port` to one of them"),
            });
        }
    };
    Ok(Validated::External { url: url(name, &namespace, port) })
}

/// Where a Service answers inside the cluster.
pub fn url(name: &str, namespace: &str, port: i32) -> String {
    format!("http://{name}.{namespace}.svc:{port}")
}

fn invalid(message: String) -> Summary {
    Summary { state: State::Stalled, reason: Reason::Invalid, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(spec: serde_json::Value) -> StomatonService {
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
            "metadata": {"name": "content", "namespace": "fleet", "uid": "u"},
            "spec": spec,
        }))
        .unwrap()
    }

    fn service(ports: &[i32]) -> Gathered {
        let ports: Vec<_> = ports.iter().map(|p| json!({"port": p})).collect();
        Gathered { external: Some(serde_json::from_value(json!({"spec": {"ports": ports}})).unwrap()) }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let env = |names: &[&str]| names.iter().map(|n| json!({"name": n, "value": ""})).collect::<Vec<_>>();
        let cases = [
            (json!({}), "`image` is missing: name the container image to run"),
            (json!({"role": "External"}), "role External needs `external.serviceName`"),
            (
                json!({"image": "i", "external": {"serviceName": "s"}}),
                "`external` goes with role External only",
            ),
            (json!({"image": "i", "port": 0}), "`port` 0 is not between 1 and 65535"),
            (
                json!({"image": "i", "env": env(&["PORT"])}),
                "the operator sets PORT itself: take it out of `env`",
            ),
            (json!({"image": "i", "env": env(&["A", "A"])}), "`env` has A twice"),
        ];
        for (spec, message) in cases {
            let problem = validate(&object(spec), &Gathered::default()).unwrap_err();
            assert_eq!((problem.state, problem.message.as_str()), (State::Stalled, message));
        }
    }

    #[test]
    fn an_external_service_answers_at_the_port_that_is_meant() {
        let external =
            |port| object(json!({"role": "External", "port": port, "external": {"serviceName": "mono"}}));
        let url = |port| Ok(Validated::External { url: format!("http://mono.fleet.svc:{port}") });
        assert_eq!(validate(&external(8080), &service(&[80])), url(80));
        assert_eq!(validate(&external(443), &service(&[80, 443])), url(443));
        let problem = validate(&external(8080), &service(&[80, 443])).unwrap_err();
        assert_eq!((problem.state, problem.reason), (State::Stalled, Reason::NoPort));
        let problem = validate(&external(8080), &Gathered::default()).unwrap_err();
        assert_eq!((problem.state, problem.reason), (State::Reconciling, Reason::NotFound));
    }
}
