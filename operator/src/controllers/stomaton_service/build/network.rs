//! Who may talk to a service, and to whom it may talk: its NetworkPolicy. Pure.

use super::selector;
use crate::controllers::stomaton_service::{
    gather::neighbours::{Key, Neighbour},
    validate::Deployed,
};
use k8s_openapi::{
    api::{
        core::v1::Service,
        networking::v1::{
            IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
            NetworkPolicyPort, NetworkPolicySpec,
        },
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};
use std::{collections::BTreeMap, net::IpAddr};
use stomaton_crds::{
    keys,
    v1alpha1::{Peer, Role, Target},
};

/// Label that every namespace has: its name.
const NAMESPACE: &str = "kubernetes.io/metadata.name";
/// Where a DNS answers in a cluster: in pods, on the node, or outside, so its place is not known.
const DNS_PORTS: [i32; 2] = [53, 5353];

/// What a policy is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// Further pods that may call.
    pub ingress_from: Vec<Peer>,
    /// Further targets.
    pub egress_to: Vec<Target>,
    /// Services that may call.
    pub callers: Vec<Key>,
    /// Services that it may call.
    pub callees: Vec<(Key, Neighbour)>,
    /// The Services in the cluster that External ones among them refer to.
    pub referred: BTreeMap<Key, Service>,
}

/// The policy of `wanted`; none when everything is allowed.
pub fn policy(wanted: &Deployed) -> Option<NetworkPolicy> {
    let network = wanted.network.as_ref()?;
    let own = &wanted.family.namespace;
    Some(NetworkPolicy {
        metadata: wanted.family.child(&wanted.name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels(selector(&wanted.name))),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(callers(own, network)),
                ports: Some(tcp(ports(wanted))),
            }]),
            egress: Some(egress(own, network)),
        }),
    })
}

/// By name, which each pod has for its own number: while `port` changes there are pods with the old one.
fn ports(wanted: &Deployed) -> impl Iterator<Item = IntOrString> + '_ {
    let further = wanted.wiring.ports.iter().map(|port| port.name.as_str());
    std::iter::once("http").chain(further).map(|name| IntOrString::String(name.to_owned()))
}

fn callers(own: &str, network: &Network) -> Vec<NetworkPolicyPeer> {
    let edges = NetworkPolicyPeer {
        pod_selector: Some(LabelSelector {
            match_labels: None,
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: keys::GATEWAY.into(),
                operator: "Exists".into(),
                values: None,
            }]),
        }),
        ..NetworkPolicyPeer::default()
    };
    let services = network.callers.iter().map(|key| pods(own, &key.0, selector(&key.1)));
    std::iter::once(edges).chain(services).chain(network.ingress_from.iter().map(peer)).collect()
}

fn egress(own: &str, network: &Network) -> Vec<NetworkPolicyEgressRule> {
    let dns = NetworkPolicyEgressRule {
        to: None,
        ports: Some(
            DNS_PORTS
                .into_iter()
                .flat_map(|number| ["UDP", "TCP"].map(|protocol| port(protocol, IntOrString::Int(number))))
                .collect(),
        ),
    };
    let services = network.callees.iter().filter_map(|(key, callee)| {
        let (to, ports) = match callee.role {
            Role::External => outside(own, key, callee, network)?,
            _ => (pods(own, &key.0, selector(&key.1)), callee.ports.clone()),
        };
        Some(NetworkPolicyEgressRule { to: Some(vec![to]), ports: Some(tcp(ports.into_iter())) })
    });
    let more = network.egress_to.iter().map(|target| NetworkPolicyEgressRule {
        to: Some(vec![match (&target.peer, &target.cidr) {
            (Some(given), _) => peer(given),
            (None, cidr) => block(cidr.clone().unwrap_or_default()),
        }]),
        ports: (!target.ports.is_empty()).then(|| tcp(target.ports.iter().copied().map(IntOrString::Int))),
    });
    std::iter::once(dns).chain(services).chain(more).collect()
}

/// Those that `network` cannot name: External services by host name, or by a Service without a selector.
pub fn nameless<'a>(own: &'a str, network: &'a Network) -> impl Iterator<Item = &'a Key> {
    let external = network.callees.iter().filter(|(_, callee)| callee.role == Role::External);
    external.filter(move |(key, callee)| outside(own, key, callee, network).is_none()).map(|(key, _)| key)
}

/// Pods or the address behind an External service; none when a policy cannot name them: a host name, or a Service
/// without a selector.
fn outside(
    own: &str,
    key: &Key,
    callee: &Neighbour,
    network: &Network,
) -> Option<(NetworkPolicyPeer, Vec<IntOrString>)> {
    if let Some(address) = callee.external.as_ref().and_then(|external| external.address.as_ref()) {
        let length = if address.parse::<IpAddr>().ok()?.is_ipv4() { 32 } else { 128 };
        return Some((block(format!("{address}/{length}")), callee.ports.clone()));
    }
    let spec = network.referred.get(key)?.spec.as_ref()?;
    let chosen = spec.selector.clone().filter(|selector| !selector.is_empty())?;
    // A policy is about pods, which may listen elsewhere than their Service.
    let ports =
        spec.ports.iter().flatten().map(|p| p.target_port.clone().unwrap_or(IntOrString::Int(p.port)));
    Some((pods(own, &key.0, chosen), ports.collect()))
}

/// Pods of `namespace`, as a policy of `own` names them.
fn pods(own: &str, of: &str, chosen: BTreeMap<String, String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(labels(chosen)),
        namespace_selector: (own != of).then(|| namespace(of)),
        ip_block: None,
    }
}

fn peer(peer: &Peer) -> NetworkPolicyPeer {
    let given = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| labels(map.clone()));
    NetworkPolicyPeer {
        pod_selector: given(&peer.pod_labels),
        namespace_selector: given(&peer.namespace_labels),
        ip_block: None,
    }
}

fn block(cidr: String) -> NetworkPolicyPeer {
    NetworkPolicyPeer { ip_block: Some(IPBlock { cidr, except: None }), ..NetworkPolicyPeer::default() }
}

fn namespace(name: &str) -> LabelSelector {
    labels([(NAMESPACE.to_owned(), name.to_owned())].into())
}

fn labels(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

fn tcp(ports: impl Iterator<Item = IntOrString>) -> Vec<NetworkPolicyPort> {
    ports.map(|number| port("TCP", number)).collect()
}

fn port(protocol: &str, number: IntOrString) -> NetworkPolicyPort {
    NetworkPolicyPort { protocol: Some(protocol.into()), port: Some(number), end_port: None }
}
