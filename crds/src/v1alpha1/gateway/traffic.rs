//! What the edge does to traffic before a backend sees it: limits, and whom it believes.

use super::super::{NETWORK, NETWORK_SAYS, is_default};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How many requests are answered; the rest get 429. A client is an address, and meets one edge pod, so what is allowed
/// to a client is allowed in full at each pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimits {
    /// Whether limits hold.
    #[serde(default)]
    pub mode: LimitMode,
    /// Of one client, on all routes together.
    #[serde(default = "general")]
    pub per_client: Rate,
    /// Of one client, on routes of the class `Auth`, beside `perClient`.
    #[serde(default = "auth")]
    pub per_client_auth: Rate,
}

fn general() -> Rate {
    Rate { requests_per_second: 100, burst: None }
}

fn auth() -> Rate {
    Rate { requests_per_second: 10, burst: None }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { mode: LimitMode::default(), per_client: general(), per_client_auth: auth() }
    }
}

/// Whether limits hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum LimitMode {
    /// What is too much is answered with 429.
    #[default]
    Enforce,
    /// What is too much is marked in the access log, and answered all the same.
    DryRun,
    /// Nothing is too much.
    Disabled,
}

/// A number of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Requests in each second, in the long run.
    #[schemars(range(min = 1, max = 100_000))]
    pub requests_per_second: i32,
    /// Requests that may come at once before the rate counts. Left out: those of two seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 200_000))]
    pub burst: Option<i32>,
}

impl Rate {
    /// Requests that may come at once.
    pub fn burst(&self) -> i32 {
        self.burst.unwrap_or_else(|| self.requests_per_second.saturating_mul(2))
    }
}

/// Which limits a route has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteLimit {
    /// Which of the Gateway's limits for a client count here.
    #[serde(default)]
    pub class: LimitClass,
    /// Of all clients together. Each edge pod allows its share of it, the rate over the number of
    /// ready pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Rate>,
}

/// Which of the Gateway's limits for a client count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum LimitClass {
    /// `perClient`.
    #[default]
    General,
    /// `perClient` and `perClientAuth`: logins, and whatever else invites guessing.
    Auth,
    /// None.
    Unlimited,
}

/// Hops in front of the edge that are believed when they say who the client is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustedProxies {
    /// Their networks: `10.0.0.0/8`. From hops that speak HTTP, `X-Forwarded-Proto` and `X-Correlation-ID` are believed
    /// too.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(NETWORK).message(NETWORK_SAYS)
    )]
    pub networks: Vec<String>,
    /// Where they say it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub address_from: AddressFrom,
}

/// Where a hop says who the client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum AddressFrom {
    /// In `X-Forwarded-For`: the last address that is not a hop's own.
    #[default]
    XForwardedFor,
    /// In `X-Real-IP`.
    XRealIp,
    /// In front of each connection, by the PROXY protocol: then every connection must begin with it.
    ProxyProtocol,
}
