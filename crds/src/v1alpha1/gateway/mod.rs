//! `Gateway`: the edge in front of monolith and services. Routes live here and nowhere else.
//!
//! - [`route`]: a route, what it matches, and how its requests are handled
//! - [`status`]: what is known of an edge
//! - [`traffic`]: limits, and whom the edge believes
//! - [`listen`]: hosts and TLS
//! - [`auth`]: who users are
//! - [`cohort`]: by what users are told apart
//! - [`answers`]: what the edge adds to answers, and what it answers itself
//! - [`workload`]: how the edge is reached, and how many pods there are

mod answers;
mod auth;
mod cohort;
mod listen;
mod route;
mod status;
mod traffic;
mod workload;

pub use answers::{Cors, FrameOptions, Maintenance, ReferrerPolicy, SecurityHeaders};
pub use auth::{Auth, Jwt, OnOutage, RouteAuth};
pub use cohort::{Audience, Cohort};
pub use listen::{Certificate, Tls, TlsVersion};
pub use route::{HeaderMatch, Method, Route, RouteMatch, Timeouts};
pub use status::{CertificateStatus, DroppedRoute, GatewayStatus, LimitsStatus, PodStatus, TotalShare};
pub use traffic::{AddressFrom, LimitClass, LimitMode, Rate, RateLimits, RouteLimit, TrustedProxies};
pub use workload::{EdgeScaling, ExternalTrafficPolicy, GatewayService, ServiceType};

use super::{BackendRef, Disruption, PATH, Placement, is_default};
use k8s_openapi::api::core::v1::ResourceRequirements;
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
#[x_kube(
    validation = Rule::new("!has(self.defaultBackend.rewrite)")
        .message("the default backend answers paths as they are: `rewrite` goes with the backend of a route"),
    validation = Rule::new("!has(self.tls) || self.tls.port != self.service.port")
        .message("HTTP and HTTPS need a port each: `service.port` and `tls.port`"),
    validation = Rule::new("has(self.auth) || !has(self.routes) || !self.routes.exists(r, has(r.auth))")
        .message("a route with `auth` needs the Gateway's `auth`: who knows the users"),
    validation = Rule::new("!has(self.scaling) || !has(self.resources) || (!has(self.resources.requests) && !has(self.resources.limits)) || (has(self.resources.requests) && 'cpu' in self.resources.requests) || (has(self.resources.limits) && 'cpu' in self.resources.limits)")
        .message("`scaling` goes by the CPU that `resources` requests: request some"),
    validation = Rule::new("!has(self.cohort) || !(has(self.cohort.header) || (has(self.cohort.audiences) && self.cohort.audiences.exists(a, has(a.header)))) || (has(self.trustedProxies) && (!has(self.trustedProxies.addressFrom) || self.trustedProxies.addressFrom != 'ProxyProtocol'))")
        .message("a header of `cohort` is believed from `trustedProxies` that speak HTTP only: name them, or clients could choose their side")
)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// What carries the traffic.
    #[serde(default)]
    pub engine: Engine,
    /// Edge pods wanted. With `scaling`: where it begins.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 32))]
    pub replicas: i32,
    /// How many edge pods, by load. Left out: `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<EdgeScaling>,
    /// What a drain of nodes may take away. Left out: one pod at a time, when there can be more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
    /// Where edge pods run.
    #[serde(default)]
    pub placement: Placement,
    /// Requests and limits of NGINX. Left out: 100m CPU and 64Mi of memory requested, 256Mi the limit. The agent beside
    /// it has 20m and 32Mi, and 128Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// How the edge is reached.
    #[serde(default)]
    pub service: GatewayService,
    /// Answers everything that no route matches: the monolith.
    pub default_backend: BackendRef,
    /// Hosts that the edge answers for; all others get 421. Empty: every host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hosts: Vec<String>,
    /// HTTPS. Left out: HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Who knows the users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// By what users are told apart, so that each stays on one side of a route.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cohort: Cohort,
    /// How many requests are answered.
    #[serde(default)]
    pub rate_limits: RateLimits,
    /// Hops in front of the edge that are believed. Left out: none, and the client is whoever connects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_proxies: Option<TrustedProxies>,
    /// Headers that protect users in their browsers. Left out: none are added; `{}` adds the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_headers: Option<SecurityHeaders>,
    /// While this is there, every request but `GET /health` is answered with 503. Weights and plans are left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Paths that are answered with 404, whatever the backends have there: `/internal`. Each means itself and
    /// everything below it, and a route cannot be in there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 2, max = 256), regex(pattern = PATH)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(p, !p.contains('//') && !p.contains('/./') && !p.contains('/../') && !p.endsWith('/.') && !p.endsWith('/..') && !p.endsWith('/'))")
            .message("a hidden path has whole segments, none of them empty, '.' or '..', and no '/' at its end")
    )]
    pub hidden_paths: Vec<String>,
    /// Named entries that can be migrated one by one. An exact path wins over a prefix, the longest prefix over the
    /// others; then a route with hosts before one without, one with methods before one without, one with more headers
    /// before one with fewer, and what stands first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub routes: Vec<Route>,
    /// What the edge says about itself to clients.
    #[serde(default)]
    pub diagnostics: Diagnostics,
    /// Where the access log goes, beside being counted.
    #[serde(default)]
    pub access_log: AccessLog,
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

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// Prints a line of JSON for each answer to the standard output of the container `agent`, for whatever collects
    /// the logs of containers. Lines that it does not take as fast as they come are left out, and counted.
    #[serde(default)]
    pub stdout: bool,
}

/// What the edge says about itself to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostics {
    /// Adds `X-Stomaton-Edge: route=..;side=..;bucket=..;pod=..` to every answer.
    #[serde(default)]
    pub response_header: bool,
}
