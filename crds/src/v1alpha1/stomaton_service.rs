//! `StomatonService`: deploys one service of the fleet and tells the truth about it.

use k8s_openapi::{
    api::core::v1::ResourceRequirements, apimachinery::pkg::apis::meta::v1::Condition,
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One service of the fleet: the operator deploys it and reports what really runs. With role `External` it is only
/// referred to and never touched: the monolith, say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "fleet.stomaton.com",
    version = "v1alpha1",
    kind = "StomatonService",
    plural = "stomatonservices",
    shortname = "ssvc",
    category = "stomaton",
    namespaced,
    status = "StomatonServiceStatus",
    derive = "PartialEq",
    doc = "A service of the fleet: deployed and wired by the operator, or only referred to (role External).",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')")
        .message("the name becomes a Service's name: lower case letters, digits and '-', a letter first, 63 at most")
)]
#[x_kube(
    validation = Rule::new("self.role == 'External' ? has(self.external) : has(self.image)")
        .message("role External needs `external`, every other role needs `image`"),
    validation = Rule::new("self.role != 'External' || !(has(self.image) || has(self.replicas))")
        .message("role External is not deployed: `image` and `replicas` do not go with it"),
    validation = Rule::new("self.role == 'External' || !has(self.external)")
        .message("`external` goes with role External only")
)]
#[serde(rename_all = "camelCase")]
pub struct StomatonServiceSpec {
    /// Domain and Shared services are deployed; an External one is only referred to and never touched.
    #[serde(default)]
    pub role: Role,
    /// Container image, with a tag or, better, a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Replaces the image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    pub command: Vec<String>,
    /// Arguments of the entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// Port the service listens on; its Service has the same one. The container finds it in `PORT`.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Pods wanted. Left out: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
    /// Environment of the container. `SERVICE_NAME` and `PORT` are set by the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(e, !(e.name in ['SERVICE_NAME', 'PORT']))")
            .message("SERVICE_NAME and PORT are set by the operator, from the object's name and `port`")
    )]
    pub env: Vec<EnvValue>,
    /// Requests and limits of the container. Left out: 50m CPU and 64Mi of memory requested, 512Mi the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Where the probes ask.
    #[serde(default)]
    pub health: Health,
    /// What an External service refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

fn default_port() -> i32 {
    8080
}

/// What a service is to the fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Role {
    /// Answers users.
    #[default]
    Domain,
    /// Answers other services.
    Shared,
    /// Exists already; never touched.
    External,
}

/// One environment variable with a literal value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvValue {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value, taken as it is.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// HTTP paths of the probes, on the service's port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Answers 200 while the process should not be restarted.
    #[serde(default = "live")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/"))]
    pub live_path: String,
    /// Answers 200 while the service can take requests.
    #[serde(default = "ready")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/"))]
    pub ready_path: String,
}

fn live() -> String {
    "/health/live".into()
}

fn ready() -> String {
    "/health/ready".into()
}

impl Default for Health {
    fn default() -> Self {
        Self { live_path: live(), ready_path: ready() }
    }
}

/// Something that exists already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// Name of a Service in the same namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub service_name: String,
}

/// What is known of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StomatonServiceStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, and while it applies Reconciling or Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that can take requests.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Where the service answers inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Probe port of a service, as probes want it.
impl StomatonServiceSpec {
    /// The port as Kubernetes' probes and Services take it.
    pub fn target_port(&self) -> IntOrString {
        IntOrString::Int(self.port)
    }
}
