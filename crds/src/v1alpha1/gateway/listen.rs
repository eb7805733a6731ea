//! What the edge listens for: hosts, and TLS.

use super::super::is_default;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// HTTPS. Certificates are read from Secrets that the kubelet mounts into the edge pods: neither the operator nor an
/// agent may read them. A certificate that is renewed serves as soon as the kubelet brings it (a minute and a half at
/// most, as kubelets are set by default); one that is missing fails its own hosts only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.certificates.filter(c, !has(c.hosts)).size() <= 1")
        .message("only one certificate can be for all hosts that the others do not name")
)]
pub struct Tls {
    /// Which certificate is for which hosts.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["secret".into()]))]
    pub certificates: Vec<Certificate>,
    /// Port of the Service on which HTTPS is answered.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Oldest version that clients may use.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Whether plain HTTP is answered with a redirect to HTTPS (308), `GET /health` aside.
    #[serde(default, skip_serializing_if = "is_default")]
    pub redirect: bool,
}

fn default_port() -> i32 {
    443
}

/// A certificate and the hosts that it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Secret of the same namespace, of type `kubernetes.io/tls`: `tls.crt` and `tls.key`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret: String,
    /// Names that a client may ask for (SNI). Left out: all that no other certificate names.
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
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum TlsVersion {
    /// 1.2, and 1.3 with clients that know it.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}
