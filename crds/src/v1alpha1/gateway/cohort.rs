//! By what users are told apart, so that each stays on one side of a route.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// By what users are told apart. A user's key is the first of these that a request has: `header`, `cookie`, and the
/// client's address, which every request has. The same key is on the same side of a route, as long as its weight and its
/// salt stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cohort {
    /// Header in which a hop of `trustedProxies` says who the user is: `x-user-id`. From anybody else it means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub header: Option<String>,
    /// Cookie that tells browsers apart.
    #[serde(default = "cookie")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z][a-z0-9_]*$"))]
    pub cookie: String,
    /// Whether a browser without the cookie gets one, for 30 days, on routes that a plan moves. It stands for what the
    /// address said, so the user stays on the side that was just given, wherever they go next.
    #[serde(default = "yes")]
    pub set_cookie: bool,
}

fn cookie() -> String {
    "stomaton_id".into()
}

fn yes() -> bool {
    true
}

impl Default for Cohort {
    fn default() -> Self {
        Self { header: None, cookie: cookie(), set_cookie: true }
    }
}
