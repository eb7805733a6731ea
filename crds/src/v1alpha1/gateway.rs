//! `Gateway`: the edge in front of monolith and services. Routes live here and nowhere else.

use super::BackendRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// An edge: pods of NGINX that answer users, by default from the monolith, and route by route from services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "fleet.stomaton.com",
    version = "v1alpha1",
    kind = "Gateway",
    shortname = "sgw",
    category = "stomaton",
    namespaced,
    status = "GatewayStatus",
    derive = "PartialEq",
    doc = "The edge in front of a monolith and the services that take over its routes.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Pods", type_ = "string", json_path = ".status.podsInSync"),
    printcolumn(name = "Config", type_ = "integer", json_path = ".status.configRevision"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,51}[a-z0-9])?$')")
        .message("the name starts the names of the edge's objects: lower case letters, digits and '-', a letter first, 53 at most")
)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// What carries the traffic.
    #[serde(default)]
    pub engine: Engine,
    /// Edge pods wanted.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 32))]
    pub replicas: i32,
    /// How the edge is reached.
    #[serde(default)]
    pub service: GatewayService,
    /// Answers everything that no route matches: the monolith.
    pub default_backend: BackendRef,
    /// Named entries that can be migrated one by one. The longest path prefix wins; among equal prefixes a route with
    /// a host before one without, a route with methods before one without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub routes: Vec<Route>,
    /// What the edge says about itself to clients.
    #[serde(default)]
    pub diagnostics: Diagnostics,
}

fn default_replicas() -> i32 {
    2
}

/// What carries the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Engine {
    /// Edge pods of NGINX with an agent beside it.
    #[default]
    Nginx,
}

/// The Service of the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayService {
    /// Type of the Service.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Port on which users are answered.
    #[serde(default = "default_service_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

fn default_service_port() -> i32 {
    80
}

impl Default for GatewayService {
    fn default() -> Self {
        Self { type_: ServiceType::default(), port: default_service_port() }
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

/// A route: the unit of migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Name by which a MigrationPlan means this route.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Which requests.
    #[serde(rename = "match")]
    pub matches: RouteMatch,
    /// Who answers before any migration. Left out: the Gateway's `defaultBackend`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendRef>,
}

/// Which requests a route means: all parts must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// Host names, compared without case and port. Empty: every host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hosts: Vec<String>,
    /// Path prefix by whole segments: `/api/content` means `/api/content` and `/api/content/recent`, not
    /// `/api/contents`.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/[A-Za-z0-9._~/-]*$"))]
    #[x_kube(
        validation = Rule::new("!self.contains('//') && !self.contains('/./') && !self.contains('/../') && !self.endsWith('/.') && !self.endsWith('/..')")
            .message("a path has no empty, '.' or '..' segments: clients and proxies would not agree on what it means"),
        validation = Rule::new("self == '/' || !self.endsWith('/')")
            .message("leave out the '/' at the end: a prefix means whole segments anyway")
    )]
    pub path_prefix: String,
    /// Methods. Empty: every method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub methods: Vec<Method>,
}

/// An HTTP method.
#[allow(missing_docs, clippy::upper_case_acronyms)] // the variants are the methods
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Method {
    GET,
    HEAD,
    POST,
    PUT,
    PATCH,
    DELETE,
    OPTIONS,
}

impl Method {
    /// As it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GET => "GET",
            Self::HEAD => "HEAD",
            Self::POST => "POST",
            Self::PUT => "PUT",
            Self::PATCH => "PATCH",
            Self::DELETE => "DELETE",
            Self::OPTIONS => "OPTIONS",
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the edge says about itself to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostics {
    /// Adds `X-Stomaton-Edge: route=..;side=..;bucket=..;pod=..` to every answer.
    #[serde(default)]
    pub response_header: bool,
}

/// What is known of an edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, and while it applies Reconciling or Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where users are answered inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Newest revision of the structure that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_revision: Option<i64>,
    /// Running edge pods that serve the newest revision, of all running: `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods_in_sync: Option<String>,
    /// Edge pods that do not serve the newest revision, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods_behind: Vec<PodStatus>,
    /// Routes that are not served as written, and why. The others are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_routes: Vec<DroppedRoute>,
}

/// An edge pod that does not serve the newest revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Name of the pod.
    pub pod: String,
    /// What it does instead: silent, behind, or its own words of refusal.
    pub message: String,
}

/// A route that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DroppedRoute {
    /// Name of the route.
    pub name: String,
    /// Why, and what to do.
    pub message: String,
}
