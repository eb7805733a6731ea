//! A route: what it matches, and how its requests are handled.

use super::super::{
    BackendRef, DURATION, NETWORK, NETWORK_SAYS, ONE_MEANING, ONE_MEANING_SAYS, PATH, WHOLE_SEGMENTS,
    WHOLE_SEGMENTS_SAYS, is_default,
};
use super::{answers::Cors, auth::RouteAuth, traffic::RouteLimit};
use kube::{KubeSchema, core::Duration};
use serde::{Deserialize, Serialize};
use std::time::Duration as StdDuration;

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
    /// How long things may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: Timeouts,
    /// Largest body of a request: `64Ki`, `10Mi`, `2Gi`; a larger one is answered with 413. Left out: `10Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^([1-9][0-9]{0,3}(Ki|Mi)|[1-9]Gi)$"))]
    pub max_body: Option<String>,
    /// Whether a connection may become a WebSocket. Nothing else is upgraded to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub web_socket: bool,
    /// Whether answers are streams of server-sent events: passed on byte by byte, never held back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub server_sent_events: bool,
    /// Whether text is compressed for clients that ask for it. Off by default: together with secrets in a page it
    /// tells about them (BREACH).
    #[serde(default, skip_serializing_if = "is_default")]
    pub gzip: bool,
    /// The route is for users who are known: the Gateway's `auth` is asked. Left out: for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RouteAuth>,
    /// How many requests are answered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rate_limit: RouteLimit,
    /// Which pages of other origins may call. Left out: the edge adds nothing, and backends decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Networks that may ask; everybody else gets 403. Empty: everybody may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(NETWORK).message(NETWORK_SAYS)
    )]
    pub allow_from: Vec<String>,
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.connect) >= duration('10ms') && duration(self.connect) <= duration('1m')")
        .message("`connect` must be between 10ms and 1m"),
    validation = Rule::new("duration(self.response) >= duration('10ms') && duration(self.response) <= duration('1h')")
        .message("`response` must be between 10ms and 1h"),
    validation = Rule::new("duration(self.idle) >= duration('1s') && duration(self.idle) <= duration('24h')")
        .message("`idle` must be between 1s and 24h")
)]
pub struct Timeouts {
    /// Until a connection to the backend stands.
    #[serde(default = "connect")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub connect: Duration,
    /// How long the backend may be silent, before and within an answer.
    #[serde(default = "response")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub response: Duration,
    /// The same for a route with `webSocket` or `serverSentEvents`, in place of `response`.
    #[serde(default = "idle")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub idle: Duration,
}

fn connect() -> Duration {
    StdDuration::from_secs(1).into()
}

fn response() -> Duration {
    StdDuration::from_secs(30).into()
}

fn idle() -> Duration {
    StdDuration::from_secs(3600).into()
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: connect(), response: response(), idle: idle() }
    }
}

/// Which requests a route means: all parts must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.pathPrefix) != has(self.path)").message("name a `pathPrefix` or a `path`, one of the two")
)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = PATH))]
    #[x_kube(
        validation = Rule::new(ONE_MEANING).message(ONE_MEANING_SAYS),
        validation = Rule::new(WHOLE_SEGMENTS).message(WHOLE_SEGMENTS_SAYS)
    )]
    pub path_prefix: Option<String>,
    /// Exactly this path, and nothing below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = PATH))]
    #[x_kube(
        validation = Rule::new(ONE_MEANING).message(ONE_MEANING_SAYS),
        validation = Rule::new(WHOLE_SEGMENTS).message(WHOLE_SEGMENTS_SAYS)
    )]
    pub path: Option<String>,
    /// Methods. Empty: every method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub methods: Vec<Method>,
    /// Headers that a request must have, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<HeaderMatch>,
}

impl RouteMatch {
    /// The path, and whether it is meant exactly. None where the object names both kinds of path, or neither.
    pub fn place(&self) -> Option<(&str, bool)> {
        match (&self.path_prefix, &self.path) {
            (Some(prefix), None) => Some((prefix, false)),
            (None, Some(path)) => Some((path, true)),
            _ => None,
        }
    }
}

/// A header that a request must have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Name, written in lower case; requests may write it as they like.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Whole value, compared without case.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._~+/=:@-]+$"))]
    pub value: String,
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
