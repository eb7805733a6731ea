//! What a service is given: environment, secrets, backing stores, files, data, other services.

use super::super::DURATION;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{KubeSchema, core::Duration};
use serde::{Deserialize, Serialize};

/// Pattern of the name of an environment variable.
pub(super) const VARIABLE: &str = r"^[A-Za-z_][A-Za-z0-9_]*$";
/// Pattern of the name of a Secret or ConfigMap.
const OBJECT: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// Pattern of a key of a Secret or ConfigMap.
const KEY: &str = r"^[-._a-zA-Z0-9]+$";
/// Pattern of the name of a StomatonService, which is that of a Service.
pub(super) const SERVICE: &str = r"^[a-z]([-a-z0-9]*[a-z0-9])?$";

/// One more port of the container and of its Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedPort {
    /// Name of the port; `http` is the name of `port`.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Number, the same in the container and in the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// One environment variable with a literal value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvValue {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 128), regex(pattern = VARIABLE))]
    pub name: String,
    /// Its value, taken as it is.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// One environment variable whose value is a key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretEnv {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 128), regex(pattern = VARIABLE))]
    pub name: String,
    /// Secret of the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT))]
    pub secret: String,
    /// Key of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY))]
    pub key: String,
}

/// Every key of a Secret or of a ConfigMap as an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secret) != has(self.configMap)").message("name a `secret` or a `configMap`, one of the two")
)]
pub struct EnvFrom {
    /// Secret of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT))]
    pub secret: Option<String>,
    /// ConfigMap of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT))]
    pub config_map: Option<String>,
    /// Put before each name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = VARIABLE))]
    pub prefix: Option<String>,
}

/// A backing store (database, cache, queue): a Secret that must have these keys. Each key becomes an environment
/// variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// What the store is to the service: `mongodb`, `redis`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Secret of the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT))]
    pub secret: String,
    /// Keys that the Secret must have.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub keys: Vec<BindingKey>,
}

/// One key of a backing store's Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingKey {
    /// Key of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY))]
    pub key: String,
    /// Environment variable that gets it. Left out: name and key in capitals, `MONGODB_URI` for key `uri` of `mongodb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = VARIABLE))]
    pub env: Option<String>,
}

/// A file in the container. All files of a service are one ConfigMap, so they hold nothing secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFile {
    /// Where the file is, read-only: `/etc/content/settings.yaml`.
    #[schemars(length(min = 2, max = 256), regex(pattern = r"^(/[-._a-zA-Z0-9]+)+$"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(s, s == '.' || s == '..')").message("a path has one meaning: no `.` or `..`"))]
    pub path: String,
    /// What is in it.
    #[schemars(length(max = 65536))]
    pub content: String,
}

/// Data that must last longer than a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataVolume {
    /// Name; the PersistentVolumeClaim is called SERVICE-NAME.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Directory in the container.
    #[schemars(length(min = 2, max = 256), regex(pattern = r"^(/[-._a-zA-Z0-9]+)+$"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(s, s == '.' || s == '..')").message("a path has one meaning: no `.` or `..`"))]
    pub mount_path: String,
    /// How much is asked for: `10Gi`. It can grow where the storage class allows it, never shrink.
    pub size: Quantity,
    /// Storage class; left out: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a claim's storage class can't change: make another volume"))]
    pub storage_class: Option<String>,
    /// `ReadWriteOnce` allows one pod at a time: it ends before its successor starts.
    #[serde(default)]
    pub access: Access,
    /// What becomes of the data when the service, or the volume, is deleted.
    #[serde(default)]
    pub on_delete: OnDelete,
}

/// Who may use a volume at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Access {
    /// Pods of one node.
    #[default]
    ReadWriteOnce,
    /// Every pod.
    ReadWriteMany,
}

/// What becomes of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnDelete {
    /// The claim stays, without an owner.
    #[default]
    Keep,
    /// The claim goes with the service.
    Delete,
}

/// Another StomatonService that this one calls. It finds the URL in its environment, starts after it is Ready, and the
/// network policies of both allow the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// Name of the StomatonService.
    #[schemars(length(min = 1, max = 63), regex(pattern = SERVICE))]
    pub name: String,
    /// Its namespace, if another one: then a ReferenceGrant there must allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// Start without it too.
    #[serde(default)]
    pub optional: bool,
    /// Environment variable that gets the URL. Left out: `DATABASE_SERVICE_URL` for `database`, and for
    /// `database-service` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = VARIABLE))]
    pub env: Option<String>,
}

/// Tokens for calls between services: each caller (a service that depends on this one) has a token of its own, made
/// and rotated by the operator, and sends it as `X-Service-Token`. Callers find theirs in the file
/// `/var/run/stomaton/tokens/SERVICE`; this service finds those it must accept in `/var/run/stomaton/callers/CALLER`,
/// one a line (one of another namespace is called `NAMESPACE.NAME`). Files change under running pods: read them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.rotateEvery) > duration(self.overlap)")
        .message("`rotateEvery` must be longer than `overlap`")
)]
pub struct ServiceAuth {
    /// Age at which a token is replaced.
    #[serde(default = "default_rotation")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub rotate_every: Duration,
    /// How long a new token is accepted before callers get it, and an old one after: longer than the kubelet takes
    /// to bring a changed Secret to every pod (a minute and a half at most, as kubelets are set by default).
    #[serde(default = "default_overlap")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub overlap: Duration,
}

fn default_rotation() -> Duration {
    Duration::from(std::time::Duration::from_secs(24 * 3600))
}

fn default_overlap() -> Duration {
    Duration::from(std::time::Duration::from_secs(2 * 60))
}
