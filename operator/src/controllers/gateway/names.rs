//! Names of what belongs to a Gateway. Pure.

/// EdgeConfig and EdgeWeights: that of the Gateway itself, since agents find them by it.
pub fn edge_config(gateway: &str) -> String {
    gateway.to_owned()
}

/// Deployment, Service, ServiceAccount, Role and RoleBinding of the edge.
pub fn edge(gateway: &str) -> String {
    format!("{gateway}-edge")
}
