//! Takes a StomatonService; gives who sends traffic to it, and what the cluster has that its children may need. I/O:
//! three lists, only for a service that is to be taken down or to nothing.

use crate::{api, args::ServiceAccounts, context::Context, finalizer, optional::Served, watch::Guarded};
use kube::{ResourceExt, api::ListParams};
use stomaton_crds::{
    keys,
    v1alpha1::{
        BackendRef, EdgeWeights, Gateway, MigrationPlan, Phase, PlanRoute, Role, Route, StomatonService,
    },
};

/// Names that a message tells; of more than these it says how many there are.
const NAMED: usize = 5;

/// What is around a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Around {
    /// Who refers to it and would lose it: `Gateway edge (route content)`. Known only where it matters.
    pub holders: Vec<String>,
    /// By which routes users get to it now: `route content of Gateway edge`. Known only where it matters.
    pub weighted: Vec<String>,
    /// Kinds of other projects that the cluster serves.
    pub served: Served,
    /// ServiceAccounts that pods may run as.
    pub accounts: ServiceAccounts,
}

/// Whether it matters to `service` who sends traffic to it: it is to be taken down, or to nothing.
pub fn matters(service: &StomatonService) -> bool {
    let spec = &service.spec;
    service.metadata.deletion_timestamp.is_some()
        || (spec.role == Role::External && finalizer::is_on(service, keys::FINALIZER))
        || spec.replicas == Some(0)
        || spec.scaling.as_ref().is_some_and(|s| s.min == 0)
}

/// Reads what is around `service`.
pub async fn gather(ctx: &Context, service: &StomatonService) -> Result<Around, api::Error> {
    let mut around = Around { accounts: ctx.settings.service_accounts.clone(), ..Around::default() };
    let spec = &service.spec;
    if spec.monitoring.is_some() || spec.scaling.as_ref().is_some_and(|s| !s.triggers.is_empty()) {
        around.served = ctx.kinds.served().await?;
    }
    if !matters(service) {
        return Ok(around);
    }
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    let all = ListParams::default();
    let gateways = ctx.namespaced::<Guarded<Gateway>>(&namespace);
    let plans = ctx.namespaced::<Guarded<MigrationPlan>>(&namespace);
    let weights = ctx.namespaced::<EdgeWeights>(&namespace);
    let (gateways, plans, weights) = tokio::try_join!(
        api::read(|| format!("list Gateways of {namespace}"), gateways.list(&all)),
        api::read(|| format!("list MigrationPlans of {namespace}"), plans.list(&all)),
        api::read(|| format!("list EdgeWeights of {namespace}"), weights.list(&all)),
    )?;
    // What does not fit its kind routes nothing: its own controller says so.
    let gateways: Vec<_> = gateways.items.into_iter().filter_map(|gateway| gateway.0.ok()).collect();
    let plans: Vec<_> = plans.items.into_iter().filter_map(|plan| plan.0.ok()).collect();
    around.holders = holders(&name, &gateways, &plans);
    around.weighted = weighted(&name, &gateways, &plans, &weights.items);
    Ok(around)
}

/// Pure: who refers to the service `name`. What is being deleted itself holds nobody.
fn holders(name: &str, gateways: &[Gateway], plans: &[MigrationPlan]) -> Vec<String> {
    let gateways = gateways.iter().filter(|g| g.metadata.deletion_timestamp.is_none());
    let of_gateway = gateways.flat_map(|gateway| {
        let by = |what: String| format!("Gateway {} ({what})", gateway.name_any());
        let default = is(&gateway.spec.default_backend, name).then(|| by("default backend".into()));
        let routes = gateway.spec.routes.iter().filter(|r| r.backend.as_ref().is_some_and(|b| is(b, name)));
        let users = knows_users(gateway, name).then(|| by("`auth`".into()));
        default.into_iter().chain(users).chain(routes.map(move |r| by(format!("route {}", r.name))))
    });
    let plans = plans.iter().filter(|p| p.metadata.deletion_timestamp.is_none());
    let of_plan = plans
        .filter(|plan| plan.spec.routes.iter().any(|r| is(&r.target, name)))
        .map(|plan| format!("MigrationPlan {}", plan.name_any()));
    few(of_gateway.chain(of_plan).collect())
}

/// Pure: by which routes users get to the service `name`, or may at any moment.
fn weighted(
    name: &str,
    gateways: &[Gateway],
    plans: &[MigrationPlan],
    weights: &[EdgeWeights],
) -> Vec<String> {
    let routes = gateways.iter().flat_map(|gateway| {
        let own = gateway.name_any();
        let default = is(&gateway.spec.default_backend, name);
        let default = default.then(|| format!("the default backend of Gateway {own}"));
        let users = knows_users(gateway, name).then(|| format!("`auth` of Gateway {own}"));
        let weights = weights.iter().find(|w| w.name_any() == own);
        let routes = gateway.spec.routes.iter().filter(move |route| {
            route.backend.as_ref().is_some_and(|backend| is(backend, name))
                || moved(name, gateway, route, plans, weights)
        });
        let own = gateway.name_any();
        let routes = routes.map(move |r| format!("route {} of Gateway {own}", r.name));
        default.into_iter().chain(users).chain(routes)
    });
    few(routes.collect())
}

/// Whether a plan gives the service any share of `route`: as the edge was told, or as it still does.
fn moved(
    name: &str,
    gateway: &Gateway,
    route: &Route,
    plans: &[MigrationPlan],
    weights: Option<&EdgeWeights>,
) -> bool {
    let of_gateway = plans.iter().filter(|p| p.spec.gateway_ref.name == gateway.name_any());
    let mut moves = of_gateway.flat_map(|plan| {
        plan.spec
            .routes
            .iter()
            .filter(|r| r.name == route.name && is(&r.target, name))
            .map(move |r| (plan, r))
    });
    moves.any(|(plan, planned)| told(plan, planned, route, weights) || answering(plan, planned))
}

fn told(plan: &MigrationPlan, planned: &PlanRoute, route: &Route, weights: Option<&EdgeWeights>) -> bool {
    let id = plan.route_id(planned, &route.matches);
    let entry = weights.and_then(|w| w.spec.routes.get(&id));
    entry.is_some_and(|entry| entry.permille.keys().any(|audience| entry.effective(audience) > 0))
}

/// After a rollback was decided, until every edge pod has acknowledged it.
fn answering(plan: &MigrationPlan, planned: &PlanRoute) -> bool {
    let routes = plan.status.iter().flat_map(|status| &status.routes);
    routes.filter(|r| r.name == planned.name).any(|route| {
        route.weights.desired > 0
            || !route.audiences.is_empty()
            || route.weights.applied > 0
            || route.phase == Phase::RollingBack
            || route.has_no_way_back()
    })
}

/// Whether the Gateway asks the service `name` who users are.
fn knows_users(gateway: &Gateway, name: &str) -> bool {
    gateway.spec.auth.as_ref().is_some_and(|auth| is(&auth.jwt.backend, name))
}

fn is(backend: &BackendRef, name: &str) -> bool {
    backend.name == name
}

/// The first of them, and how many more there are.
fn few(mut names: Vec<String>) -> Vec<String> {
    let more = names.len().saturating_sub(NAMED);
    if more > 0 {
        names.truncate(NAMED);
        names.push(format!("{more} more"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn gateway(body: Value) -> Gateway {
        let mut object = json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "fleet", "uid": "g"},
        });
        object["spec"] = body;
        serde_json::from_value(object).unwrap()
    }

    fn plan(status: Value) -> MigrationPlan {
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan",
            "metadata": {"name": "shop", "namespace": "fleet", "uid": "p"},
            "spec": {
                "gatewayRef": {"name": "edge"},
                "routes": [{"name": "content", "target": {"name": "content"}, "profile": "fast"}],
                "profiles": [{"name": "fast", "ramp": [{"permille": 1000}]}],
            },
            "status": status,
        }))
        .unwrap()
    }

    fn edge() -> Gateway {
        gateway(json!({
            "defaultBackend": {"name": "mono"},
            "auth": {"jwt": {"backend": {"name": "auth"}}},
            "routes": [
                {"name": "content", "match": {"pathPrefix": "/content"}},
                {"name": "old", "match": {"pathPrefix": "/old"}, "backend": {"name": "legacy"}},
            ],
        }))
    }

    #[test]
    fn who_refers_to_a_service_holds_it() {
        let (gateways, plans) = ([edge()], [plan(json!({}))]);
        assert_eq!(holders("mono", &gateways, &plans), ["Gateway edge (default backend)"]);
        assert_eq!(holders("legacy", &gateways, &plans), ["Gateway edge (route old)"]);
        assert_eq!(holders("auth", &gateways, &plans), ["Gateway edge (`auth`)"]);
        assert_eq!(holders("content", &gateways, &plans), ["MigrationPlan shop"]);
        assert!(holders("other", &gateways, &plans).is_empty());
    }

    #[test]
    fn what_is_being_deleted_holds_nobody() {
        let (mut gateway, mut plan) = (edge(), plan(json!({})));
        let now = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        gateway.metadata.deletion_timestamp = Some(now);
        plan.metadata.deletion_timestamp = gateway.metadata.deletion_timestamp.clone();
        assert!(holders("mono", &[gateway], &[]).is_empty());
        assert!(holders("content", &[], &[plan]).is_empty());
    }

    #[test]
    fn weight_is_what_the_edge_was_told_or_still_does() {
        let (gateways, name) = ([edge()], "content");
        let of = |plan: MigrationPlan, weights: &[EdgeWeights]| weighted(name, &gateways, &[plan], weights);
        assert!(of(plan(json!({})), &[]).is_empty());

        let planned = plan(json!({}));
        let id = planned.route_id(&planned.spec.routes[0], &gateways[0].spec.routes[0].matches);
        let weights = |latched: bool| -> EdgeWeights {
            serde_json::from_value(json!({
                "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "EdgeWeights", "metadata": {"name": "edge"},
                "spec": {"revision": 1, "routes": {&id: {"permille": {"public": 10}, "latched": latched}}},
            }))
            .unwrap()
        };
        assert_eq!(of(plan(json!({})), &[weights(false)]), ["route content of Gateway edge"]);
        assert!(of(plan(json!({})), &[weights(true)]).is_empty());

        let applied = json!({"routes": [{"name": "content", "weights": {"applied": 10}}]});
        assert_eq!(of(plan(applied), &[weights(true)]).len(), 1, "not every edge pod knows of the rollback");
        assert_eq!(weighted("mono", &gateways, &[], &[]), ["the default backend of Gateway edge"]);
        assert_eq!(weighted("legacy", &gateways, &[], &[]), ["route old of Gateway edge"]);
        assert_eq!(weighted("auth", &gateways, &[], &[]), ["`auth` of Gateway edge"]);
    }

    #[test]
    fn a_message_names_a_few() {
        let many: Vec<String> = (0..8).map(|i| i.to_string()).collect();
        assert_eq!(few(many), ["0", "1", "2", "3", "4", "3 more"]);
    }
}
