//! Collects what is known about a plan's routes from caches and edge pods (no API calls of its own). Takes the plan;
//! gives [`Observed`], which owns everything the pure steps need.

use super::{acts::Act, evict, gates, machine::Route};
use crate::{
    edges::{
        EdgeView, Edges, Key,
        tally::{Breach, ByAudience, sum},
    },
    watch::Guarded,
};
use k8s_openapi::api::{
    batch::v1::Job,
    discovery::v1::{Endpoint, EndpointSlice},
};
use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use stomaton_crds::{
    edge_state::Sides,
    keys::AUDIENCE_PUBLIC,
    v1alpha1::{
        BackendRef, EdgeConfig, EdgeRoute, EdgeWeights, Gateway, MigrationPlan, PlanAction, PlanRoute,
        Profile, RouteStatus, RouteWeights, StomatonService,
    },
};

/// Label of an EndpointSlice: the Service it belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The caches a plan is judged from.
#[derive(Clone)]
pub struct Caches {
    /// All plans, for claims on the same route.
    pub plans: Store<Guarded<MigrationPlan>>,
    /// Gateways.
    pub gateways: Store<Gateway>,
    /// Compiled structure.
    pub configs: Store<EdgeConfig>,
    /// Present weights.
    pub weights: Store<EdgeWeights>,
    /// Endpoints of Services.
    pub slices: Store<EndpointSlice>,
    /// What people want.
    pub actions: Store<PlanAction>,
    /// Services, for gates that wait for them.
    pub services: Store<StomatonService>,
    /// Jobs of gates.
    pub jobs: Store<Job>,
    /// What gates read a moment ago.
    pub gates: gates::Memory,
}

impl Caches {
    /// The plans of a namespace, of one Gateway only if it is named.
    pub fn plans_of(
        &self,
        namespace: Option<&str>,
        gateway: Option<&str>,
    ) -> Vec<ObjectRef<Guarded<MigrationPlan>>> {
        let of = |plan: &MigrationPlan| gateway.is_none_or(|name| plan.spec.gateway_ref.name == name);
        let wanted =
            self.plans.state_filter(|p| p.namespace().as_deref() == namespace && p.0.as_ref().is_ok_and(of));
        wanted.iter().map(|plan| ObjectRef::from_obj(&**plan)).collect()
    }
}

/// What is known of a plan's surroundings.
pub struct Observed {
    gateway: Option<Arc<Gateway>>,
    /// Its weights as cached, if there are any.
    pub weights: Option<Arc<EdgeWeights>>,
    /// Its edge pods.
    pub view: EdgeView,
    /// Identities that the structure knows.
    pub known: BTreeSet<String>,
    routes: Vec<RouteFacts>,
}

struct RouteFacts {
    id: Option<String>,
    problem: Option<String>,
    structured: bool,
    entry: Option<RouteWeights>,
    target_ready: bool,
    safe_ready: bool,
    counted: ByAudience,
    breach: Option<(i32, Breach)>,
    revisions: String,
    behind: Vec<String>,
}

impl Observed {
    /// The Gateway, if there is one.
    pub fn gateway(&self) -> Option<&Gateway> {
        self.gateway.as_deref()
    }

    /// The revision of the weights as cached, if all edge pods serve exactly those.
    fn acknowledged(&self) -> Option<i64> {
        let spec = &self.weights.as_ref()?.spec;
        self.view.acknowledges(spec).then_some(spec.revision)
    }

    /// The machine's input.
    pub fn routes<'a>(&'a self, plan: &'a MigrationPlan) -> Vec<Route<'a>> {
        let weights_revision = self.weights.as_ref().map_or(0, |w| w.spec.revision);
        let (acknowledged, seen) = (self.acknowledged(), self.view.weights_seen());
        let of = |(spec, facts): (&'a PlanRoute, &'a RouteFacts)| {
            // The schema holds that every route names a profile; a stored plan may be older than the rule.
            let profile = plan.spec.profiles.iter().find(|p| p.name == spec.profile)?;
            Some(Route {
                name: &spec.name,
                group: spec.group.as_deref(),
                id: facts.id.clone(),
                profile,
                problem: facts.problem.clone(),
                structured: facts.structured,
                entry: facts.entry.clone(),
                weights_revision,
                seen,
                taken: facts.id.as_deref().map_or(0, |id| self.view.taken(id)),
                acknowledged,
                target_ready: facts.target_ready,
                safe_ready: facts.safe_ready,
                counted: facts.counted.values().copied().fold(Sides::default(), sum),
                judged: facts.counted.get(judged_audience(plan, spec, profile)).copied().unwrap_or_default(),
                breach: facts.breach.clone(),
                depends_on: &spec.depends_on,
                revisions: facts.revisions.clone(),
                behind: facts.behind.clone(),
                readings: BTreeMap::new(),
                point_of_no_return: spec.point_of_no_return,
                start_at: spec.start_at,
                stage: spec.stage.as_deref(),
            })
        };
        plan.spec.routes.iter().zip(&self.routes).filter_map(of).collect()
    }
}

/// The Gateway of a plan.
pub fn gateway_of(plan: &MigrationPlan) -> Key {
    Key::new(&plan.spec.gateway_ref.name).within(&plan.namespace().unwrap_or_default())
}

/// Collects everything.
pub fn gather(plan: &MigrationPlan, caches: &Caches, edges: &Edges) -> Observed {
    let key = gateway_of(plan);
    let namespace = key.namespace.clone().unwrap_or_default();
    let config = caches.configs.get(&ObjectRef::new(&key.name).within(&namespace));
    let weights = caches.weights.get(&ObjectRef::new(&key.name).within(&namespace));
    let mut observed = Observed {
        gateway: caches.gateways.get(&key),
        weights,
        view: edges.view(&key),
        known: config.iter().flat_map(|c| c.spec.routes.iter().map(|r| r.id.clone())).collect(),
        routes: Vec::with_capacity(plan.spec.routes.len()),
    };
    let around = Around { plan, key: &key, namespace: &namespace, caches, edges, config: config.as_deref() };
    observed.routes = plan.spec.routes.iter().map(|route| around.facts(route, &observed)).collect();
    observed
}

/// Whom a judge looks at: those whom the present step is for. Others have another weight, and may be other people; both
/// together would compare these and not the sides.
fn judged_audience<'a>(plan: &MigrationPlan, route: &PlanRoute, profile: &'a Profile) -> &'a str {
    let status = plan.status.as_ref().and_then(|s| s.routes.iter().find(|r| r.name == route.name));
    let at = status.and_then(|status| usize::try_from(status.step - 1).ok());
    let step = at.and_then(|at| profile.ramp.get(at));
    step.and_then(|step| step.audience.as_deref()).unwrap_or(AUDIENCE_PUBLIC)
}

/// What people want of a plan and nobody has answered yet.
pub fn acts(plan: &MigrationPlan, caches: &Caches) -> Vec<Act> {
    let (name, namespace) = (plan.name_any(), plan.namespace());
    let actions = caches.actions.state_filter(|action| action.namespace() == namespace);
    let open = actions.iter().filter(|action| action.spec.plan == name && action.status.is_none());
    let act = |action: &Arc<PlanAction>| {
        let at = action.metadata.creation_timestamp.as_ref()?.0;
        Some(Act { name: action.name_any(), uid: action.uid()?, spec: action.spec.clone(), at })
    };
    open.filter_map(act).collect()
}

fn ready(slices: &[Arc<EndpointSlice>]) -> impl Iterator<Item = &Endpoint> {
    let is_ready = |e: &&Endpoint| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(false);
    slices.iter().flat_map(|slice| &slice.endpoints).filter(is_ready)
}

/// What made the ready pods, each once: evidence is of these.
fn makers(slices: &[Arc<EndpointSlice>]) -> String {
    let pods = ready(slices).filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.as_deref());
    pods.map(maker).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}

/// What made a pod: the name of a ReplicaSet is that of its pods without their last part.
fn maker(pod: &str) -> &str {
    pod.rsplit_once('-').map_or(pod, |(maker, _)| maker)
}

struct Around<'a> {
    plan: &'a MigrationPlan,
    key: &'a Key,
    namespace: &'a str,
    caches: &'a Caches,
    edges: &'a Edges,
    config: Option<&'a EdgeConfig>,
}

/// Edge pods that do not do what the route's last weights say.
fn behind(id: Option<&str>, status: Option<&RouteStatus>, observed: &Observed) -> Vec<String> {
    let (Some(id), Some(status)) = (id, status) else { return Vec::new() };
    let lagging = observed.view.pods.iter().filter(|pod| !evict::follows(pod, id, status));
    lagging.map(|pod| pod.name.clone()).collect()
}

impl Around<'_> {
    fn facts(&self, route: &PlanRoute, observed: &Observed) -> RouteFacts {
        let gateway = observed.gateway();
        let entry = gateway.and_then(|g| g.spec.routes.iter().find(|r| r.name == route.name));
        let id = entry.map(|r| self.plan.route_id(route, &r.matches));
        let safe = gateway.map(|g| entry.and_then(|r| r.backend.as_ref()).unwrap_or(&g.spec.default_backend));
        let status = self.status(&route.name, id.as_deref());
        let salt = gateway.map(|g| self.plan.salt(route, &g.spec));
        let (targets, safes) = (self.slices(Some(&route.target)), self.slices(safe));
        let compiled = id.as_ref().and_then(|id| self.config?.spec.routes.iter().find(|r| r.id == *id));
        let stays = self.plan.has_no_way_back(&route.name);
        let as_wanted = |r: &EdgeRoute| if stays { r.crossed } else { r.target.is_some() && r.salt == salt };
        RouteFacts {
            problem: self.problem(route, observed, id.is_some(), compiled),
            structured: compiled.is_some_and(as_wanted)
                && observed.view.config_acknowledged() >= self.config.map(|c| c.spec.revision),
            entry: id.as_ref().and_then(|id| observed.weights.as_ref()?.spec.routes.get(id).cloned()),
            target_ready: ready(&targets).next().is_some(),
            safe_ready: ready(&safes).next().is_some(),
            counted: self.counted(id.as_deref(), status, observed),
            breach: id.as_ref().and_then(|id| self.edges.breach(self.key, id)),
            revisions: format!("{}/{}", makers(&targets), makers(&safes)),
            behind: behind(id.as_deref(), status, observed),
            id,
        }
    }

    /// The route's status, unless it speaks of the route as it was before an edit.
    fn status(&self, name: &str, id: Option<&str>) -> Option<&RouteStatus> {
        self.plan.status.as_ref()?.routes.iter().find(|r| r.name == name && Some(r.id.as_str()) == id)
    }

    fn problem(
        &self,
        route: &PlanRoute,
        observed: &Observed,
        in_gateway: bool,
        compiled: Option<&EdgeRoute>,
    ) -> Option<String> {
        let gateway = &self.key.name;
        if observed.gateway.is_none() {
            return Some(format!("Gateway {gateway} does not exist: create it, or correct spec.gatewayRef"));
        }
        if !in_gateway {
            return Some(format!(
                "Gateway {gateway} has no route named {}: add it there, or correct the name",
                route.name
            ));
        }
        if let Some(discord) = self.plan.spec.discord(route) {
            return Some(discord);
        }
        if let Some(misplaced) = self.plan.spec.misplaced(route) {
            return Some(misplaced);
        }
        if let Some(audience) = self.unknown_audience(route, observed.gateway()) {
            return Some(format!(
                "profile {} names the audience {audience}, which Gateway {gateway} does not have: add it to \
                 spec.cohort there, or correct the name",
                route.profile
            ));
        }
        if let Some(other) = self.older_claim(&route.name) {
            return Some(format!(
                "plan {other} moves this route already: take the route out of one of the two"
            ));
        }
        match compiled {
            None => Some(format!("Gateway {gateway} to compile this route: see its status if this lasts")),
            Some(compiled) if compiled.target.is_none() && !compiled.crossed => Some(format!(
                "Service {} to exist with a usable port: see status.droppedRoutes of Gateway {gateway}",
                route.target.name
            )),
            Some(_) => None,
        }
    }

    /// An audience of the route's profile that the Gateway does not have.
    fn unknown_audience(&self, route: &PlanRoute, gateway: Option<&Gateway>) -> Option<&str> {
        let profile = self.plan.spec.profiles.iter().find(|p| p.name == route.profile)?;
        let known =
            |name: &str| gateway.is_some_and(|g| g.spec.cohort.audiences.iter().any(|a| a.name == name));
        profile.ramp.iter().filter_map(|step| step.audience.as_deref()).find(|name| !known(name))
    }

    /// The plan that named the route first, if that is not this one.
    fn older_claim(&self, route: &str) -> Option<String> {
        let age = |p: &MigrationPlan| (p.creation_timestamp(), p.name_any());
        let mine = age(self.plan);
        let rival = |p: &MigrationPlan| {
            p.meta().uid != self.plan.meta().uid
                && gateway_of(p) == *self.key
                && p.spec.routes.iter().any(|r| r.name == route)
                && age(p) < mine
        };
        let plans = self.caches.plans.state();
        let valid = plans.iter().filter_map(|p| p.0.as_ref().ok());
        valid.filter(|p| rival(p)).min_by_key(|p| age(p)).map(|p| p.name_any())
    }

    /// What is known of a Service's endpoints.
    fn slices(&self, service: Option<&BackendRef>) -> Vec<Arc<EndpointSlice>> {
        let Some(BackendRef { name: service, .. }) = service else { return Vec::new() };
        self.caches.slices.state_filter(|slice| {
            slice.namespace().as_deref() == Some(self.namespace)
                && slice.labels().get(SERVICE_NAME).is_some_and(|name| name == service)
        })
    }

    /// Only answers given under an acknowledged weight are evidence.
    fn counted(&self, id: Option<&str>, status: Option<&RouteStatus>, observed: &Observed) -> ByAudience {
        match (id, status) {
            (Some(id), Some(s)) if s.revision > 0 && observed.acknowledged() >= Some(s.revision) => {
                self.edges.counted_since(self.key, id, s.revision)
            }
            _ => ByAudience::default(),
        }
    }
}
