//! The edge as a workload: how it is reached, and how many pods there are, by load.

use super::super::is_default;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many edge pods there are, by load: an autoscaler (HPA) owns their number then, and the operator leaves it alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("`min` must not exceed `max`"))]
pub struct EdgeScaling {
    /// Fewest pods.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 32))]
    pub min: i32,
    /// Most pods.
    #[schemars(range(min = 1, max = 32))]
    pub max: i32,
    /// CPU use aimed at, in percent of what is requested.
    #[serde(default = "cpu_percent")]
    #[schemars(range(min = 1, max = 1000))]
    pub cpu_percent: i32,
}

fn two() -> i32 {
    2
}

fn cpu_percent() -> i32 {
    70
}

/// The Service of the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.externalTrafficPolicy) || self.type != 'ClusterIP'")
        .message("`externalTrafficPolicy` goes with the types NodePort and LoadBalancer: nothing comes from outside to a ClusterIP")
)]
pub struct GatewayService {
    /// Type of the Service.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Port on which users are answered.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Whether traffic from outside may take the way over another node. Left out: as the cluster has it, which is
    /// `Cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Annotations of the Service, for a cloud's balancer or a DNS controller.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('fleet.stomaton.com/'))").message("annotations of fleet.stomaton.com are the operator's"))]
    pub annotations: BTreeMap<String, String>,
}

fn default_port() -> i32 {
    80
}

impl Default for GatewayService {
    fn default() -> Self {
        Self {
            type_: ServiceType::default(),
            port: default_port(),
            external_traffic_policy: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// How a Service is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ServiceType {
    /// From inside the cluster.
    #[default]
    ClusterIP,
    /// On a port of every node.
    NodePort,
    /// Through the cloud's balancer.
    LoadBalancer,
}

impl ServiceType {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Whether traffic from outside may take the way over another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// It may: every node takes it, and the edge sees the node's address in place of the client's.
    Cluster,
    /// Only nodes with an edge pod take it, and the edge sees the client's own address: limits, `allowFrom` and the
    /// cohort are then the client's.
    Local,
}

impl ExternalTrafficPolicy {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}
