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

/// Annotation on children: hash of what the operator wanted when it last wrote the child, so that a field which is
/// no longer wanted is noticed.
pub const APPLIED: &str = "fleet.stomaton.com/applied";

/// Field manager of a controller for the children it makes: one per kind, so that ownership of a field says
/// which controller set it.
pub mod field_managers {
    /// Children of a StomatonService.
    pub const SERVICE: &str = "stomaton-service";
    /// Children of a Gateway, EdgeConfig included.
    pub const GATEWAY: &str = "stomaton-gateway";
    /// EdgeWeights.
    pub const PLAN: &str = "stomaton-plan";
    /// Status of all three kinds: apart from the children's managers, so that neither drops the other's fields.
    pub const STATUS: &str = "stomaton-status";
}

/// Port of an edge pod on which it answers users, in the pod.
pub const EDGE_HTTP_PORT: u16 = 8080;
/// Port of an edge pod on which the agent reports its state.
pub const EDGE_STATE_PORT: u16 = 9901;
/// The audience of everyone who is not in another one.
pub const AUDIENCE_PUBLIC: &str = "public";
