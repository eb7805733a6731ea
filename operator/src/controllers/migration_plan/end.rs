//! The end of a plan: what keeps a deleted one. Pure.
//!
//! It stays until no traffic is where only it says so: routes are back at the monolith, or the Gateway itself names who
//! answers them. A Gateway that is gone, or going, carries no traffic that could be lost.

use super::machine::State;
use crate::finalizer;
use stomaton_crds::{
    keys,
    v1alpha1::{DeletionPolicy, Gateway, MigrationPlan, Phase, RouteStatus},
};

/// Whether the plan is deleted and has been let go of.
pub fn is_over(plan: &MigrationPlan) -> bool {
    plan.metadata.deletion_timestamp.is_some() && !finalizer::is_on(plan, keys::TRAFFIC_FINALIZER)
}

/// What keeps a plan that is being deleted; none if it may go.
pub fn kept(plan: &MigrationPlan, gateway: Option<&Gateway>, state: &State) -> Option<String> {
    let gateway = gateway.filter(|gateway| gateway.metadata.deletion_timestamp.is_none())?;
    state.routes.iter().find_map(|status| match status.phase {
        // There is nowhere to bring it back to, whatever the policy.
        _ if status.has_no_way_back() => not_taken_over(plan, gateway, status),
        Phase::Pending | Phase::RolledBack => None,
        Phase::Done if plan.spec.deletion_policy == DeletionPolicy::KeepDone => {
            not_taken_over(plan, gateway, status)
        }
        _ => Some(format!("route {} to be back at the monolith: {}", status.name, status.waits_for)),
    })
}

/// A route that is done, or has no way back, goes on at the service only if the Gateway says so too.
fn not_taken_over(plan: &MigrationPlan, gateway: &Gateway, status: &RouteStatus) -> Option<String> {
    let target = &plan.spec.routes.iter().find(|route| route.name == status.name)?.target;
    let route = gateway.spec.routes.iter().find(|route| route.name == status.name)?;
    let taken_over = route.backend.as_ref() == Some(target);
    (!taken_over).then(|| {
        format!(
            "Gateway {} to say of route {} what the plan said: set its `backend` to {} (kubectl stomaton export \
             --retire prints it)",
            plan.spec.gateway_ref.name, status.name, target.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use stomaton_crds::v1alpha1::MigrationPlanStatus;

    fn plan(policy: &str, phase: &str) -> MigrationPlan {
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan",
            "metadata": {"name": "p", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "gatewayRef": {"name": "edge"}, "deletionPolicy": policy,
                "routes": [{"name": "a", "target": {"name": "t"}, "profile": "p"}],
                "profiles": [{"name": "p", "ramp": [{"permille": 1000}]}],
            },
            "status": {"routes": [{"name": "a", "phase": phase, "waitsFor": "its turn"}]},
        }))
        .unwrap()
    }

    fn gateway(backend: Option<&str>) -> Gateway {
        let backend = backend.map(|name| json!({"name": name}));
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway", "metadata": {"name": "edge"},
            "spec": {
                "defaultBackend": {"name": "m"},
                "routes": [{"name": "a", "match": {"pathPrefix": "/a"}, "backend": backend}],
            },
        }))
        .unwrap()
    }

    fn keeps(policy: &str, phase: &str, gateway: Option<&Gateway>) -> Option<String> {
        let plan = plan(policy, phase);
        let MigrationPlanStatus { routes, .. } = plan.status.clone().unwrap();
        kept(&plan, gateway, &State { routes, ..State::default() })
    }

    #[test]
    fn a_plan_goes_when_its_routes_are_back() {
        let gateway = gateway(None);
        for (phase, kept) in
            [("Pending", false), ("RolledBack", false), ("Ramp", true), ("RollingBack", true)]
        {
            assert_eq!(keeps("Monolith", phase, Some(&gateway)).is_some(), kept, "{phase}");
            assert_eq!(keeps("KeepDone", phase, Some(&gateway)).is_some(), kept, "{phase}");
        }
        assert!(keeps("Monolith", "Done", Some(&gateway)).is_some());
    }

    #[test]
    fn a_route_that_is_done_stays_where_the_gateway_says_so_too() {
        let why = keeps("KeepDone", "Done", Some(&gateway(None))).unwrap();
        assert!(why.contains("set its `backend` to t"), "{why}");
        assert_eq!(keeps("KeepDone", "Done", Some(&gateway(Some("t")))), None);
    }

    #[test]
    fn a_route_without_a_way_back_has_to_be_taken_over_whatever_the_policy() {
        for policy in ["Monolith", "KeepDone"] {
            let plan = plan(policy, "Ramp");
            let mut routes = plan.status.clone().unwrap().routes;
            routes[0].crossing = true;
            let state = State { routes, ..State::default() };
            let why = kept(&plan, Some(&gateway(None)), &state).unwrap();
            assert!(why.contains("set its `backend` to t"), "{policy}: {why}");
            assert_eq!(kept(&plan, Some(&gateway(Some("t"))), &state), None, "{policy}");
        }
    }

    #[test]
    fn where_no_gateway_is_left_nothing_is_kept() {
        assert_eq!(keeps("Monolith", "Ramp", None), None);
        let mut going = gateway(None);
        going.metadata.deletion_timestamp = plan("Monolith", "Ramp").metadata.deletion_timestamp;
        assert_eq!(keeps("Monolith", "Ramp", Some(&going)), None);
    }
}
