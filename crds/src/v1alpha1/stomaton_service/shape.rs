//! How many pods there are, where they run, and how they are replaced.

use super::super::DURATION;
use k8s_openapi::{api::core::v1::Toleration, apimachinery::pkg::util::intstr::IntOrString};
use kube::{KubeSchema, core::Duration};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many pods there are, by load. An autoscaler owns the number of pods then, and the operator leaves it alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.min <= self.max").message("`min` must not exceed `max`"),
    validation = Rule::new("self.min > 0 || size(self.triggers) > 0").message("`min: 0` needs `triggers`: nothing else would start the first pod"),
    validation = Rule::new("has(self.cpuPercent) || has(self.memoryPercent) || size(self.triggers) > 0").message("say by what: `cpuPercent`, `memoryPercent` or `triggers`")
)]
pub struct Scaling {
    /// Fewest pods. 0 needs `triggers`; while a route gives the service weight, one pod is kept all the same.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub min: i32,
    /// Most pods.
    #[schemars(range(min = 1, max = 1000))]
    pub max: i32,
    /// CPU use aimed at, in percent of what is requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub cpu_percent: Option<i32>,
    /// Memory use aimed at, in percent of what is requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub memory_percent: Option<i32>,
    /// KEDA triggers: the service is then scaled by a ScaledObject. Without KEDA a condition says so, and `cpuPercent`
    /// and `memoryPercent` work meanwhile.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub triggers: Vec<Trigger>,
}

fn one() -> i32 {
    1
}

/// One KEDA trigger, as its documentation has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// Kind of the scaler: `prometheus`, `cron`, `rabbitmq`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub type_: String,
    /// Its settings.
    #[schemars(extend("maxProperties" = 32))]
    pub metadata: BTreeMap<String, String>,
    /// Name of a TriggerAuthentication of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub authentication: Option<String>,
}

/// What a drain of nodes may take away: a PodDisruptionBudget. Pods that are not ready never hold a drain up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disruption {
    /// Pods that may be away at the same time: a number, or a share such as `25%`.
    #[serde(default = "one_pod")]
    #[schemars(extend("pattern" = "%$"))]
    #[x_kube(validation = Rule::new("string(self).matches('^([1-9][0-9]{0,2}|1000|([1-9]|[1-9][0-9]|100)%)$')").message("at least 1, or 1% to 100%: a budget of nothing would block every drain"))]
    pub max_unavailable: IntOrString,
}

fn one_pod() -> IntOrString {
    IntOrString::Int(1)
}

/// Where pods run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// What pods are spread over.
    #[serde(default)]
    pub spread: Spread,
    /// PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub priority_class_name: Option<String>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that pods may run on all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,
}

/// What pods are spread over, as evenly as the scheduler can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Spread {
    /// Nodes, and zones where nodes have them.
    #[default]
    NodesAndZones,
    /// Nodes.
    Nodes,
    /// Nothing: the scheduler's own defaults.
    None,
}

/// How a new revision replaces the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Pods beyond the wanted number while a revision is replaced: a number, or a share such as `25%`.
    #[serde(default = "one_pod")]
    #[schemars(extend("pattern" = "%$"))]
    #[x_kube(validation = Rule::new("string(self).matches('^([1-9][0-9]{0,2}|1000|([1-9]|[1-9][0-9]|100)%)$')").message("at least 1, or 1% to 100%: a pod goes only when its successor is ready"))]
    pub max_surge: IntOrString,
    /// How long a new pod must have been ready before it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 16), regex(pattern = DURATION))]
    pub min_ready: Option<Duration>,
    /// How long nothing may move forward before the revision counts as failed.
    #[serde(default = "default_deadline")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub progress_deadline: Duration,
    /// Condition types that a pod must have before it takes requests, set by something outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 316)))]
    pub readiness_gates: Vec<String>,
    /// What happens to a revision that failed.
    #[serde(default)]
    pub on_failure: OnFailure,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_surge: one_pod(),
            min_ready: None,
            progress_deadline: default_deadline(),
            readiness_gates: Vec::new(),
            on_failure: OnFailure::default(),
        }
    }
}

fn default_deadline() -> Duration {
    Duration::from(std::time::Duration::from_secs(300))
}

/// What happens to a revision whose pods do not become ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnFailure {
    /// The last good revision comes back, and stays until the spec changes.
    #[default]
    Return,
    /// It is left as it is, for a person to look at; pods of the old revision go on serving.
    Stop,
}
