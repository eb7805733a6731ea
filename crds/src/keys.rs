//! Every name that objects are found or owned by. A name lives here once, so that it can be searched for.

/// Recommended label: which tool manages the object. Value: [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Recommended label: the name of the application.
pub const NAME: &str = "app.kubernetes.io/name";
/// Recommended label: the role of the object within the fleet.
pub const COMPONENT: &str = "app.kubernetes.io/component";

/// Value of [`MANAGED_BY`] on everything the operator makes.
pub const MANAGER: &str = "stomaton";

/// Label on children: the StomatonService they belong to.
pub const SERVICE: &str = "fleet.stomaton.com/service";
/// Label on children: the Gateway they belong to. Edge pods are found by it.
pub const GATEWAY: &str = "fleet.stomaton.com/gateway";
/// Label on Jobs of gates: the MigrationPlan they belong to.
pub const PLAN: &str = "fleet.stomaton.com/plan";
/// Annotation on Jobs of gates: hash of the template that the Job was made from.
pub const ASKED: &str = "fleet.stomaton.com/asked";

/// Annotation on children: hash of what the operator wanted when it last wrote the child, so that a field which is
/// no longer wanted is noticed.
pub const APPLIED: &str = "fleet.stomaton.com/applied";

/// Finalizer of a StomatonService whose children go in order, and not under traffic.
pub const FINALIZER: &str = "fleet.stomaton.com/children";
/// Finalizer of a MigrationPlan: it stays until no traffic is where only the plan says so.
pub const TRAFFIC_FINALIZER: &str = "fleet.stomaton.com/traffic";
/// Annotation on a StomatonService's Service: which further children the operator may have made for it, so that those
/// which are no longer wanted are found.
pub const CHILDREN: &str = "fleet.stomaton.com/children";
/// Annotation on a PersistentVolumeClaim that stays when its service goes: the StomatonService whose data it has, which
/// takes it up again when it is made anew.
pub const DATA_OF: &str = "fleet.stomaton.com/data-of";
/// Annotation on pods: hash of the Secrets they were started with. Another value, another hash, new pods.
pub const SECRETS_HASH: &str = "fleet.stomaton.com/secrets-hash";
/// Annotation on pods: hash of the files and ConfigMaps they were started with.
pub const CONFIG_HASH: &str = "fleet.stomaton.com/config-hash";

/// Annotation on Secrets of tokens: how far the rotation of each is. No token, and nothing to guess one from.
pub const TOKENS: &str = "fleet.stomaton.com/tokens";

/// Field manager of a controller for the children it makes: one per kind, so that ownership of a field says
/// which controller set it.
pub mod field_managers {
    /// Children of a StomatonService.
    pub const SERVICE: &str = "stomaton-service";
    /// The number of pods of a StomatonService, while no autoscaler has it.
    pub const REPLICAS: &str = "stomaton-replicas";
    /// The finalizer of a StomatonService or a MigrationPlan.
    pub const FINALIZER: &str = "stomaton-finalizer";
    /// Children of a Gateway, EdgeConfig included.
    pub const GATEWAY: &str = "stomaton-gateway";
    /// EdgeWeights, and Jobs of gates.
    pub const PLAN: &str = "stomaton-plan";
    /// Status of all three kinds: apart from the children's managers, so that neither drops the other's fields.
    pub const STATUS: &str = "stomaton-status";
}

/// Port of an edge pod on which it answers users, in the pod.
pub const EDGE_HTTP_PORT: u16 = 8080;
/// Port of an edge pod on which it answers users over TLS, in the pod.
pub const EDGE_HTTPS_PORT: u16 = 8443;
/// Directory of an edge pod with a directory for each certificate.
pub const EDGE_TLS_DIR: &str = "/run/tls";
/// Port of an edge pod on which the agent reports its state.
pub const EDGE_STATE_PORT: u16 = 9901;
/// Directory of an edge pod with a directory for each Secret of tokens, in NGINX' container only.
pub const EDGE_TOKENS_DIR: &str = "/run/tokens";
/// Directory of an edge pod in which the supervisor writes tokens as tables for NGINX, in its container only.
pub const EDGE_TOKEN_TABLES_DIR: &str = "/tmp/tokens";
/// Keys of Secrets of tokens: who has one is of an audience, or a tester of one side.
pub const TOKEN_KEYS: [&str; 3] = [TOKEN_OF_AUDIENCE, TOKEN_OF_MONOLITH, TOKEN_OF_SERVICE];
/// Key of the token of an audience.
pub const TOKEN_OF_AUDIENCE: &str = "token";
/// Key of the token of testers of the monolith.
pub const TOKEN_OF_MONOLITH: &str = "monolith";
/// Key of the token of testers of services.
pub const TOKEN_OF_SERVICE: &str = "service";
/// The audience of everyone.
pub const AUDIENCE_PUBLIC: &str = "public";
/// The audience of those who chose a side with a token. What they are answered is evidence of nothing.
pub const AUDIENCE_TESTERS: &str = "testers";
