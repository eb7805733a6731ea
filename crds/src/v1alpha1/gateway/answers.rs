//! What the edge adds to answers, and what it answers itself.

use super::super::{DURATION, is_default};
use super::Method;
use kube::{KubeSchema, core::Duration};
use serde::{Deserialize, Serialize};

/// Which pages of other origins may call a route (CORS). The edge answers preflights itself, and what a backend says
/// about it is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!self.allowOrigins.exists(o, o == '*') || (size(self.allowOrigins) == 1 && (!has(self.allowCredentials) || !self.allowCredentials))")
        .message("`*` stands alone, and not with `allowCredentials`: every page could act as its visitor")
)]
pub struct Cors {
    /// Origins: `https://app.example.com`, or `*` for all.
    #[schemars(
        length(min = 1, max = 32),
        inner(
            length(max = 253),
            regex(pattern = r"^(\*|https?://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?)$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow_origins: Vec<String>,
    /// Methods that may be used. Empty: GET, HEAD and POST.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow_methods: Vec<Method>,
    /// Request headers that may be sent: `content-type`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow_headers: Vec<String>,
    /// Answer headers that a page may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub expose_headers: Vec<String>,
    /// Whether cookies may be sent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_credentials: bool,
    /// Seconds for which browsers remember the answer to a preflight. 0: as long as they like.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(min = 0, max = 86_400))]
    pub max_age_seconds: i32,
}

/// Headers that protect users in their browsers, added to answers that do not have them already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityHeaders {
    /// `X-Content-Type-Options: nosniff`.
    #[serde(default = "yes")]
    pub no_sniff: bool,
    /// `X-Frame-Options`: who may show a page in a frame.
    #[serde(default)]
    pub frame_options: FrameOptions,
    /// `Referrer-Policy`.
    #[serde(default)]
    pub referrer_policy: ReferrerPolicy,
    /// `Strict-Transport-Security`, on answers over HTTPS: seconds for which browsers use nothing else. 0: not sent.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(min = 0, max = 63_072_000))]
    pub hsts_seconds: i32,
    /// `Content-Security-Policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[A-Za-z0-9 '*.:/;=_-]+$"))]
    pub content_security_policy: Option<String>,
}

fn yes() -> bool {
    true
}

/// Who may show a page in a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum FrameOptions {
    /// Pages of the same origin.
    #[default]
    SameOrigin,
    /// Nobody.
    Deny,
    /// The header is not sent.
    Unset,
}

/// What other sites are told of where a user came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ReferrerPolicy {
    /// The origin, and the whole URL only within it.
    #[default]
    StrictOriginWhenCrossOrigin,
    /// Nothing, but the whole URL within the origin.
    SameOrigin,
    /// Nothing.
    NoReferrer,
    /// The header is not sent.
    Unset,
}

/// While this is there, every request but `GET /health` is answered with 503.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.retryAfter) >= duration('1s') && duration(self.retryAfter) <= duration('24h')")
        .message("`retryAfter` must be between 1s and 24h")
)]
pub struct Maintenance {
    /// When to come again: `Retry-After`.
    #[serde(default = "retry_after")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub retry_after: Duration,
}

fn retry_after() -> Duration {
    std::time::Duration::from_secs(300).into()
}
