//! Who users are: the edge asks, before a backend is asked.

use super::super::{BackendRef, DURATION, ONE_MEANING, ONE_MEANING_SAYS, PATH};
use kube::{KubeSchema, core::Duration};
use serde::{Deserialize, Serialize};

/// Who knows the users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// A service that checks the token of a request.
    pub jwt: Jwt,
}

/// A service that is asked about each request of a route with `auth`. It gets the request's headers, `X-Original-Method`
/// and `X-Original-URI`, and no body. It answers 204 without a body (anything longer costs a connection each time), 401
/// or 403.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.backend.rewrite)").message("say where to ask with `path`: `rewrite` goes with the backend of a route"),
    validation = Rule::new("duration(self.timeout) >= duration('10ms') && duration(self.timeout) <= duration('30s')")
        .message("`timeout` must be between 10ms and 30s")
)]
pub struct Jwt {
    /// The service.
    pub backend: BackendRef,
    /// Where it is asked.
    #[serde(default = "path")]
    #[schemars(length(min = 1, max = 256), regex(pattern = PATH))]
    #[x_kube(validation = Rule::new(ONE_MEANING).message(ONE_MEANING_SAYS))]
    pub path: String,
    /// Headers of its answer that backends get with the request. What a client sends in them never arrives, on any
    /// route.
    #[serde(default = "identity_headers")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(h, h.startsWith('x-') && !(h in ['x-real-ip', 'x-forwarded-for', 'x-forwarded-proto', 'x-correlation-id', 'x-stomaton-edge', 'x-stomaton-token', 'x-stomaton-side']))")
            .message("a header of identity begins with `x-`, and is none of the edge's own")
    )]
    pub identity_headers: Vec<String>,
    /// How long it may take.
    #[serde(default = "timeout")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub timeout: Duration,
}

fn path() -> String {
    "/internal/auth/verify".into()
}

fn identity_headers() -> Vec<String> {
    vec!["x-user-id".into(), "x-user-roles".into()]
}

fn timeout() -> Duration {
    std::time::Duration::from_secs(1).into()
}

/// That a route is for users who are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteAuth {
    /// What happens while the service that knows the users does not answer.
    #[serde(default)]
    pub on_outage: OnOutage,
}

/// What happens while nobody can say who a user is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnOutage {
    /// Requests are answered with 503.
    #[default]
    FailClosed,
    /// Requests go through, without headers of identity: for what anybody may see.
    FailOpen,
}
