//! Takes a StomatonService and what it refers to; gives the one input of `build`, or what is wrong. Pure.
//!
//! The schema states most of these rules too; they run again here because an object may be older than its schema.

pub mod dependencies;
pub mod shape;
pub mod sources;
pub mod tokens;
pub mod wiring;

use super::{
    build::network::{Network, nameless},
    gather::Gathered,
};
use crate::controllers::meta::Family;
use k8s_openapi::api::core::v1::{ResourceRequirements, Service};
use kube::{Resource, ResourceExt};
use std::net::Ipv6Addr;
use stomaton_crds::{
    conditions::{Finding, Reason, State, Summary, Truth},
    keys,
    v1alpha1::{EnvValue, External, Health, NetworkMode, Role, StomatonService},
};
use wiring::Wiring;

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
    /// Environment beside what the operator sets.
    pub env: Vec<EnvValue>,
    /// Requests and limits; none: the defaults.
    pub resources: Option<ResourceRequirements>,
    /// Where the probes ask.
    pub health: Health,
    /// How many pods, where, and how they are replaced.
    pub shape: shape::Shape,
    /// What it is given beside that.
    pub wiring: Wiring,
    /// What is known of its Secrets and ConfigMaps.
    pub sources: sources::Judged,
    /// What is known of its tokens.
    pub tokens: tokens::Judged,
    /// What is known of the services around it.
    pub dependencies: dependencies::Judged,
    /// What its NetworkPolicy is made of; none when everything is allowed.
    pub network: Option<Network>,
    /// Why no pods can be made or replaced now.
    pub hold: Option<Summary>,
}

impl Deployed {
    /// What the pass found out beside where the service stands as a whole.
    pub fn findings(&self) -> Vec<Finding> {
        // Both are about Secrets: what is wrong comes before what is right.
        let right = |finding: &&Finding| finding.truth == Truth::True;
        let secrets = [&self.sources.finding, &self.tokens.finding].into_iter().flatten();
        let wrong = secrets.clone().find(|finding| !right(finding));
        let secrets = wrong.or_else(|| secrets.clone().find(right));
        secrets.into_iter().chain(&self.dependencies.finding).cloned().collect()
    }

    /// Whether Secrets and ConfigMaps can be made.
    pub fn granted(&self) -> bool {
        self.sources.finding.as_ref().is_none_or(|finding| finding.reason != Reason::NoGrant)
    }
}

/// Checks `service`.
pub fn validate(service: &StomatonService, gathered: &Gathered) -> Result<Validated, Summary> {
    let spec = &service.spec;
    match (spec.role, &spec.external) {
        (Role::External, Some(external)) => return refer(service, external, gathered.external.as_ref()),
        (Role::External, None) => return Err(invalid("role External needs `external`".into())),
        (_, Some(_)) => return Err(invalid("`external` goes with role External only".into())),
        (_, None) => {}
    }
    let Some(image) = spec.image.clone().filter(|image| !image.is_empty()) else {
        return Err(invalid("`image` is missing: name the container image to run".into()));
    };
    if !(1..=65535).contains(&spec.port) {
        return Err(invalid(format!("`port` {} is not between 1 and 65535", spec.port)));
    }
    let wiring = wiring::check(spec, &gathered.claims)?;
    let Some(owner) = service.controller_owner_ref(&()) else {
        return Err(invalid("the object has no UID: it must come from an API server".into()));
    };
    let namespace = service.namespace().unwrap_or_default();
    let sources = sources::judge(spec, &namespace, gathered);
    let tokens = tokens::judge(service, gathered);
    let mut dependencies = dependencies::judge(service, gathered, &wiring::explicit(spec));
    // Once there are pods, a dependency that fails takes none of them away.
    let start =
        dependencies.hold.clone().filter(|_| dependencies.hold_running || gathered.deployment.is_none());
    let network = network(service, gathered, &dependencies);
    if let Some(network) = &network {
        let nameless: Vec<_> = nameless(&namespace, network).collect();
        dependencies.say_nameless(&namespace, &nameless);
    }
    Ok(Validated::Deployed(Box::new(Deployed {
        name: service.name_any(),
        family: Family::new(namespace, owner, keys::SERVICE, "service"),
        image,
        command: spec.command.clone(),
        args: spec.args.clone(),
        port: spec.port,
        env: spec.env.clone(),
        resources: spec.resources.clone(),
        health: spec.health.clone(),
        shape: shape::shape(spec, &gathered.around)?,
        wiring,
        network,
        hold: start.or_else(|| sources.hold.clone()).or_else(|| tokens.hold.clone()),
        sources,
        tokens,
        dependencies,
    })))
}

/// What the policy of `service` is made of.
fn network(
    service: &StomatonService,
    gathered: &Gathered,
    dependencies: &dependencies::Judged,
) -> Option<Network> {
    let policy =
        service.spec.network_policy.as_ref().filter(|policy| policy.mode == NetworkMode::Restricted)?;
    Some(Network {
        ingress_from: policy.ingress_from.clone(),
        egress_to: policy.egress_to.clone(),
        callers: dependencies.callers.clone(),
        callees: dependencies.callees.clone(),
        referred: gathered.referred.clone(),
    })
}

/// An External service: only referred to.
fn refer(
    object: &StomatonService,
    external: &External,
    service: Option<&Service>,
) -> Result<Validated, Summary> {
    let namespace = object.namespace().unwrap_or_default();
    let name = match (&external.service_name, &external.address) {
        (Some(name), None) => name,
        (None, Some(address)) => return Ok(Validated::External { url: outside(address, object.spec.port) }),
        _ => {
            return Err(invalid("`external` needs a `serviceName` or an `address`, one of the two".into()));
        }
    };
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

/// Where an address outside the cluster answers.
fn outside(address: &str, port: i32) -> String {
    match address.parse::<Ipv6Addr>() {
        Ok(address) => format!("http://[{address}]:{port}"),
        Err(_) => format!("http://{address}:{port}"),
    }
}

/// A spec that breaks a rule.
pub fn invalid(message: String) -> Summary {
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
        let external = serde_json::from_value(json!({"spec": {"ports": ports}})).unwrap();
        Gathered { external: Some(external), ..Gathered::default() }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let env = |names: &[&str]| names.iter().map(|n| json!({"name": n, "value": ""})).collect::<Vec<_>>();
        let cases = [
            (json!({}), "`image` is missing: name the container image to run"),
            (json!({"role": "External"}), "role External needs `external`"),
            (
                json!({"role": "External", "external": {}}),
                "`external` needs a `serviceName` or an `address`, one of the two",
            ),
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

        let outside = |address: &str| {
            let external = json!({"role": "External", "port": 443, "external": {"address": address}});
            match validate(&object(external), &Gathered::default()) {
                Ok(Validated::External { url }) => url,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(outside("mono.example.com"), "http://mono.example.com:443");
        assert_eq!(outside("10.1.2.3"), "http://10.1.2.3:443");
        assert_eq!(outside("2001:db8::1"), "http://[2001:db8::1]:443");
    }
}
