//! By what users are told apart, so that each stays on one side of a route.

use super::super::{NETWORK, NETWORK_SAYS};
use super::HeaderMatch;
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
    /// Parts of all users to whom a plan can give a service before everybody has it. A request is of the first one that
    /// it fits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub audiences: Vec<Audience>,
    /// Secret of the same namespace with tokens of testers under the keys `service` and `monolith`. Who sends one in the
    /// header `X-Stomaton-Side` or the cookie `stomaton_side` is on that side of every route that a plan moves; on the
    /// service only while an attempt is under way and not taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub testers_secret: Option<String>,
}

/// A part of all users: who fits any of what is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.networks) || has(self.header) || has(self.tokenSecret)")
        .message("say who is of this audience: `networks`, `header` or `tokenSecret`"),
    validation = Rule::new("!(self.name in ['public', 'testers'])")
        .message("`public` is everybody, and `testers` are those with a token of `testersSecret`")
)]
pub struct Audience {
    /// Name by which a plan's steps mean it.
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Networks of clients: `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(NETWORK).message(NETWORK_SAYS)
    )]
    pub networks: Vec<String>,
    /// What a hop of `trustedProxies` says in a header. From anybody else it means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderMatch>,
    /// Secret of the same namespace. Who sends the token under its key `token` in the header `X-Stomaton-Token` is of this
    /// audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub token_secret: Option<String>,
}

fn cookie() -> String {
    "stomaton_id".into()
}

fn yes() -> bool {
    true
}

impl Default for Cohort {
    fn default() -> Self {
        Self { header: None, cookie: cookie(), set_cookie: true, audiences: Vec::new(), testers_secret: None }
    }
}
