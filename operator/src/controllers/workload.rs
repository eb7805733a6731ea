//! What pods have in common, whoever wants them: how many there are, where they run, what a drain may take away, and
//! how children go that are no longer wanted.
//!
//! - [`scaling`]: who decides how many there are (pure)
//! - [`replicas`]: makes it so (I/O)
//! - [`placement`]: where they run (pure)
//! - [`disruption`]: what a drain of nodes may take away (pure)
//! - [`children`]: what is known of children, and the end of those that are no longer wanted (I/O)

pub mod children;
pub mod disruption;
pub mod placement;
pub mod replicas;
pub mod scaling;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};
use kube::{Resource, ResourceExt};

/// Kind and name of a child: so it is told apart from the others.
pub fn name<K: Resource<DynamicType = ()>>(child: &K) -> (String, String) {
    (K::kind(&()).into_owned(), child.name_any())
}

/// The resources that are `given`, or these: requested CPU and memory, and the limit of memory.
pub fn resources(
    given: Option<&ResourceRequirements>,
    [cpu, memory, limit]: [&str; 3],
) -> ResourceRequirements {
    let amounts = |amounts: &[(&str, &str)]| {
        Some(amounts.iter().map(|(what, much)| ((*what).to_owned(), Quantity((*much).to_owned()))).collect())
    };
    let says = |given: &&ResourceRequirements| {
        [&given.requests, &given.limits].into_iter().flatten().any(|amounts| !amounts.is_empty())
    };
    let claims = given.and_then(|given| given.claims.clone()).filter(|claims| !claims.is_empty());
    let Some(given) = given.filter(says) else {
        return ResourceRequirements {
            requests: amounts(&[("cpu", cpu), ("memory", memory)]),
            limits: amounts(&[("memory", limit)]),
            claims,
        };
    };
    // The API server drops empty maps; wanting them would look like drift for ever.
    ResourceRequirements {
        requests: given.requests.clone().filter(|r| !r.is_empty()),
        limits: given.limits.clone().filter(|l| !l.is_empty()),
        claims,
    }
}
