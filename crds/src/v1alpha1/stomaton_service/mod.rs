//! `StomatonService`: deploys one service of the fleet and tells the truth about it.

mod shape;
mod surroundings;
mod wiring;

pub use shape::{Disruption, OnFailure, Placement, Rollout, Scaling, Spread, Trigger};
pub use surroundings::{Monitoring, NetworkMode, NetworkPolicy, Peer, PodOverrides, Target};
pub use wiring::{
    Access, Binding, BindingKey, ConfigFile, DataVolume, Dependency, EnvFrom, EnvValue, NamedPort, OnDelete,
    SecretEnv, ServiceAuth,
};

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
    validation = Rule::new("self.role != 'External' || !(has(self.image) || has(self.replicas) || has(self.scaling) || has(self.volumes) || has(self.dependsOn) || has(self.serviceAuth))")
        .message("role External is not deployed: `image`, `replicas`, `scaling`, `volumes`, `dependsOn` and `serviceAuth` do not go with it"),
    validation = Rule::new("!has(self.volumes) || self.volumes.all(v, v.access != 'ReadWriteOnce') || (!has(self.scaling) && (!has(self.replicas) || self.replicas <= 1))")
        .message("a volume that is ReadWriteOnce allows one pod: leave out `scaling`, and set `replicas` to 1 at most"),
    validation = Rule::new("!has(self.monitoring) || !has(self.monitoring.port) || self.monitoring.port == 'http' || (has(self.ports) && self.ports.exists(p, p.name == self.monitoring.port))")
        .message("`monitoring.port` must be `http` or the name of one of `ports`"),
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
    /// Pods wanted. Left out: 1 to begin with, and then whatever anybody makes of it. With `scaling`: where it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
    /// Further ports of container and Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(p, p.name != 'http')").message("`http` is the name of `port`"),
        validation = Rule::new("self.all(a, self.exists_one(b, a.port == b.port))").message("two ports have the same number")
    )]
    pub ports: Vec<NamedPort>,
    /// Environment of the container. `SERVICE_NAME` and `PORT` are set by the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(e, !(e.name in ['SERVICE_NAME', 'PORT']))")
            .message("SERVICE_NAME and PORT are set by the operator, from the object's name and `port`")
    )]
    pub env: Vec<EnvValue>,
    /// Environment from single keys of Secrets. A changed value replaces the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secret_env: Vec<SecretEnv>,
    /// Environment from whole Secrets and ConfigMaps; `env`, `secretEnv` and `bindings` win over it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub env_from: Vec<EnvFrom>,
    /// Backing stores, with the keys that their Secrets must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub bindings: Vec<Binding>,
    /// Files. A changed file replaces the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    pub config: Vec<ConfigFile>,
    /// Data that must last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub volumes: Vec<DataVolume>,
    /// Services that this one calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub depends_on: Vec<Dependency>,
    /// Tokens by which the service knows who calls it. Left out: it asks nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_auth: Option<ServiceAuth>,
    /// Requests and limits of the container. Left out: 50m CPU and 64Mi of memory requested, 512Mi the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Where the probes ask.
    #[serde(default)]
    pub health: Health,
    /// How many pods, by load. `replicas` is where it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// What a drain of nodes may take away. Left out: one pod at a time, when there can be more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
    /// How a new revision replaces the old one.
    #[serde(default)]
    pub rollout: Rollout,
    /// Where pods run.
    #[serde(default)]
    pub placement: Placement,
    /// ServiceAccount of the pods; only what the operator was told to allow (`--allowed-service-accounts`). Left out:
    /// the namespace's default one, whose token no pod gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
    /// Who may talk to the service, and to whom it may talk. Left out: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// Metrics, for a Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
    /// What pods have beyond what the operator writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodOverrides>,
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
#[x_kube(validation = Rule::new("has(self.serviceName) != has(self.address)").message("name a `serviceName` or an `address`, one of the two"))]
pub struct External {
    /// Name of a Service in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = wiring::SERVICE))]
    pub service_name: Option<String>,
    /// Host name or IP address outside the cluster; the port is `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-zA-Z0-9]([-a-zA-Z0-9.:]*[a-zA-Z0-9])?$"))]
    pub address: Option<String>,
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
    /// The newest revision whose pods were all ready: where a failed one returns to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good_revision: Option<String>,
    /// The revision that failed and was taken back; none when the newest one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_revision: Option<String>,
}

/// Probe port of a service, as probes want it.
impl StomatonServiceSpec {
    /// The port as Kubernetes' probes and Services take it.
    pub fn target_port(&self) -> IntOrString {
        IntOrString::Int(self.port)
    }
}
