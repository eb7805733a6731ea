//! The custom resources of Stomaton: types, CEL rules, names, conditions, and what operator and edge say to
//! each other. No client, no I/O: everything here can be tested without a cluster.
//!
//! - [`v1alpha1`]: the kinds, one file each
//! - [`conditions`]: condition types and reasons, a closed set
//! - [`edge_state`]: what an edge pod reports about itself
//! - [`guard`]: when a guard trips
//! - [`kill`]: how an edge pod is told to take a route back
//! - [`hex`]: bytes as text
//! - [`keys`]: every label, annotation and field manager
//! - [`ids`]: identities that must never be reused for something else

pub mod conditions;
pub mod edge_state;
pub mod guard;
pub mod hex;
pub mod ids;
pub mod keys;
pub mod kill;
pub mod v1alpha1;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of every kind.
pub const GROUP: &str = "fleet.stomaton.com";

/// Every definition, in the order in which `kubectl get crd` would list them.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    use v1alpha1::{EdgeConfig, EdgeWeights, Gateway, MigrationPlan, PlanAction, StomatonService};
    vec![
        EdgeConfig::crd(),
        EdgeWeights::crd(),
        Gateway::crd(),
        MigrationPlan::crd(),
        PlanAction::crd(),
        StomatonService::crd(),
    ]
}
