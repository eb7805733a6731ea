//! Names of what belongs to a Gateway. Pure.

/// EdgeConfig and EdgeWeights: that of the Gateway itself, since agents find them by it.
pub fn edge_config(gateway: &str) -> String {
    gateway.to_owned()
}

/// The headless Service under which agents of the edge find each other.
pub fn agents(gateway: &str) -> String {
    format!("{gateway}-agents")
}

/// The Secret with the key of kills.
pub fn kill_key(gateway: &str) -> String {
    format!("{gateway}-kill")
}

/// Deployment, Service, ServiceAccount, Role and RoleBinding of the edge.
pub fn edge(gateway: &str) -> String {
    format!("{gateway}-edge")
}
