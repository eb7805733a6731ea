//! `EdgeConfig`: the structure of one edge, as the operator compiled it. Written by the operator only, read by the
//! agents of that edge. It changes rarely; weights are apart, in [`super::EdgeWeights`].

use super::{
    Cohort, Cors, HeaderMatch, LimitClass, Method, OnOutage, SecurityHeaders, TlsVersion, TrustedProxies,
    is_default,
};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Structure of one edge: backends by address, routes, salts. Has the name of its Gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "fleet.stomaton.com",
    version = "v1alpha1",
    kind = "EdgeConfig",
    plural = "edgeconfigs",
    namespaced,
    derive = "PartialEq",
    doc = "Written by the operator only: the structure of one edge.",
    printcolumn(name = "Revision", type_ = "integer", json_path = ".spec.revision"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.spec.revision > oldSelf.spec.revision || self.spec == oldSelf.spec")
        .message("a changed spec needs a higher revision")
)]
#[x_kube(
    validation = Rule::new("self.revision >= oldSelf.revision").message("revision never decreases"),
    validation = Rule::new("self.defaultBackend in self.backends").message("defaultBackend is not among the backends")
)]
#[serde(rename_all = "camelCase")]
pub struct EdgeConfigSpec {
    /// Never decreases; the same revision always has the same content.
    #[schemars(range(min = 1))]
    pub revision: i64,
    /// Addresses (`ip:port`) by key. Keys are hashes.
    #[schemars(extend(
        "maxProperties" = 2048,
        "additionalProperties" = {"type": "string", "maxLength": 64, "pattern": r"^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:]+\]):\d{1,5}$"}
    ))]
    pub backends: BTreeMap<String, String>,
    /// Key of the backend that answers what no route matches.
    #[schemars(length(max = 64))]
    pub default_backend: String,
    /// Hosts that are answered for; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub hosts: Vec<String>,
    /// HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<EdgeTls>,
    /// Who knows the users. None: nobody can say, and routes with `auth` do as in an outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<EdgeAuth>,
    /// By what users are told apart.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cohort: EdgeCohort,
    /// Limits for one client; none: no route has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<EdgeLimits>,
    /// Hops in front of the edge that are believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_proxies: Option<TrustedProxies>,
    /// Headers that are added to answers without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_headers: Option<SecurityHeaders>,
    /// Every request is answered with 503, and told to come again after so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub maintenance_seconds: Option<i32>,
    /// Paths that are answered with 404, with everything below them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256)))]
    pub hidden_paths: Vec<String>,
    /// All routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub routes: Vec<EdgeRoute>,
    /// Whether answers carry the diagnostic header.
    #[serde(default)]
    pub diagnostics: bool,
    /// Whether agents print the access log.
    #[serde(default, skip_serializing_if = "is_default")]
    pub access_log_to_stdout: bool,
}

/// A route, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeRoute {
    /// Identity: see [`crate::ids::route_id`].
    #[schemars(regex(pattern = r"^[0-9a-f]{16}$"))]
    pub id: String,
    /// Name in the Gateway, for people.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Host names; empty: every host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    pub hosts: Vec<String>,
    /// Path prefix by whole segments, without a `/` at its end.
    #[schemars(length(min = 1, max = 256))]
    pub path_prefix: String,
    /// Exactly that path, and nothing below it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exact: bool,
    /// Methods; empty: every method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    pub methods: Vec<Method>,
    /// Headers that a request must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub headers: Vec<HeaderMatch>,
    /// How its requests are handled.
    #[serde(default, skip_serializing_if = "is_default")]
    pub handling: EdgeHandling,
    /// Key of the backend on the safe side.
    #[schemars(length(max = 64))]
    pub safe: String,
    /// Path that the safe side has in place of the route's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub safe_rewrite: Option<String>,
    /// Key of the backend that takes over, when the route is in a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub target: Option<String>,
    /// Path that the target has in place of the route's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub target_rewrite: Option<String>,
    /// Salt of the route's group and epoch: see [`crate::ids::salt`]. Only with a target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{16}$"))]
    pub salt: Option<String>,
    /// What makes an edge pod take the route back by itself. None: it has no way back, and the pod only counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub guards: Vec<EdgeGuard>,
    /// The point of no return is behind it: the safe side is the service, its answers count as the service's, and there is
    /// no other side.
    #[serde(default, skip_serializing_if = "is_default")]
    pub crossed: bool,
}

/// A guard of the plan, as one edge pod judges it by what it has counted alone. A route with guards also comes back
/// when its service takes no connections or gives no answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeGuard {
    /// Bad answers it takes at least.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_bad: i64,
    /// Share of bad answers it takes, in per mille.
    #[schemars(range(min = 1, max = 1000))]
    pub bad_permille: i64,
    /// How far back it looks, in milliseconds.
    #[schemars(range(min = 1, max = 600_000))]
    pub window_millis: i64,
}

/// How requests of a route are handled, whichever side answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeHandling {
    /// Milliseconds until a connection to the backend stands.
    #[serde(default = "connect_millis")]
    #[schemars(range(min = 1, max = 60_000))]
    pub connect_millis: i32,
    /// Milliseconds that the backend may be silent.
    #[serde(default = "silent_millis")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub silent_millis: i32,
    /// Largest body of a request, in bytes.
    #[serde(default = "max_body_bytes")]
    #[schemars(range(min = 1, max = 10_737_418_240_i64))]
    pub max_body_bytes: i64,
    /// Whether a connection may become a WebSocket.
    #[serde(default, skip_serializing_if = "is_default")]
    pub web_socket: bool,
    /// Whether answers are passed on byte by byte.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unbuffered: bool,
    /// Whether text is compressed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gzip: bool,
    /// For users who are known, and what happens while nobody can say who a user is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<OnOutage>,
    /// Which of the limits for one client count.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limit: LimitClass,
    /// What one edge pod allows to all clients together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<EdgeRate>,
    /// Networks that may ask; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub allow_from: Vec<String>,
    /// Which pages of other origins may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// The safe side answers where the target could not. Only with a target, and the same paths on both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<EdgeFallback>,
}

/// When the safe side answers where the target could not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeFallback {
    /// Methods that may be sent twice, beside GET, HEAD and OPTIONS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub also_for: Vec<Method>,
    /// Milliseconds after which a failure is the answer.
    #[schemars(range(min = 1, max = 60_000))]
    pub within_millis: i32,
}

fn connect_millis() -> i32 {
    1_000
}

fn silent_millis() -> i32 {
    30_000
}

fn max_body_bytes() -> i64 {
    10 << 20
}

/// As requests are handled that no route matches.
impl Default for EdgeHandling {
    fn default() -> Self {
        Self {
            connect_millis: connect_millis(),
            silent_millis: silent_millis(),
            max_body_bytes: max_body_bytes(),
            web_socket: false,
            unbuffered: false,
            gzip: false,
            auth: None,
            limit: LimitClass::General,
            total: None,
            allow_from: Vec::new(),
            cors: None,
            fallback: None,
        }
    }
}

/// Limits for one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeLimits {
    /// On all routes together.
    pub client: EdgeRate,
    /// On routes of the class `Auth`.
    pub client_auth: EdgeRate,
    /// What is too much is only marked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dry_run: bool,
}

/// A number of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeRate {
    /// Requests in each minute: a share of a rate need not be a whole number for a second.
    #[schemars(range(min = 1, max = 6_000_000))]
    pub per_minute: i32,
    /// Requests that may come at once.
    #[schemars(range(min = 0, max = 200_000))]
    pub burst: i32,
}

/// HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeTls {
    /// Oldest version that clients may use.
    pub min_version: TlsVersion,
    /// Port to which plain HTTP is redirected; left out: plain HTTP is answered like HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub redirect_to: Option<i32>,
    /// All certificates. The one without hosts is for all that the others do not name.
    #[schemars(length(max = 64))]
    pub certificates: Vec<EdgeCertificate>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeCertificate {
    /// Name of the directory in which it is mounted: see [`crate::ids::secret_dir`].
    #[schemars(regex(pattern = r"^[0-9a-f]{16}$"))]
    pub id: String,
    /// Names that a client may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub hosts: Vec<String>,
}

/// Who knows the users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeAuth {
    /// Key of the backend; left out: it was never there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub backend: Option<String>,
    /// Where it is asked.
    #[schemars(length(min = 1, max = 256))]
    pub path: String,
    /// Headers of its answer that backends get, and that clients cannot set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub identity_headers: Vec<String>,
    /// How long it may take.
    #[schemars(range(min = 1, max = 60_000))]
    pub timeout_millis: i32,
}

/// By what users are told apart: the first of these that a request has, and else the client's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeCohort {
    /// Header that trusted hops set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub header: Option<String>,
    /// Name of the cookie.
    #[schemars(length(min = 1, max = 32))]
    pub cookie: String,
    /// Whether browsers without the cookie get one.
    pub set_cookie: bool,
    /// Audiences beside everybody; a request is of the first one that it fits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub audiences: Vec<EdgeAudience>,
    /// Directory in which tokens of testers are mounted: see [`crate::ids::secret_dir`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{16}$"))]
    pub testers: Option<String>,
}

/// An audience: who fits any of what is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeAudience {
    /// Its name.
    #[schemars(length(min = 1, max = 32))]
    pub name: String,
    /// Networks of clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub networks: Vec<String>,
    /// What a trusted hop says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderMatch>,
    /// Directory in which its token is mounted: see [`crate::ids::secret_dir`]. The token itself is in no object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{16}$"))]
    pub token: Option<String>,
}

/// As a Gateway has it that says nothing of it.
impl Default for EdgeCohort {
    fn default() -> Self {
        let Cohort { header, cookie, set_cookie, .. } = Cohort::default();
        Self { header, cookie, set_cookie, audiences: Vec::new(), testers: None }
    }
}
