//! Compiles the structure of an edge: who answers what, by address. Pure.
//!
//! The rule for what cannot be resolved: a route never goes silently where it was not told to go. A safe side that
//! vanished keeps its last known address; a target that vanished leaves the route on its safe side. Both are said. A route
//! that a plan has taken past its point of no return has its target as its safe side, and no other.

use super::super::{Problems, gather::Gathered, validate::Valid};
use super::handling::{auth, fallback, handling, limits, maintenance, tls};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};
use stomaton_crds::{
    conditions::{Reason, State, Summary},
    hex::hex,
    ids,
    v1alpha1::{
        BackendRef, DroppedRoute, EdgeAuth, EdgeConfigSpec, EdgeFallback, EdgeGuard, EdgeHandling, EdgeRoute,
        GatewaySpec, Guard, Jwt, MigrationPlan, PlanRoute, Route,
    },
};

/// Why a Service cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum Unusable {
    #[error("there is no Service {0}: create it, or name another one")]
    Missing(String),
    #[error("Service {0} has no cluster IP (headless or ExternalName): name one that has")]
    NoAddress(String),
    #[error("Service {name} has no TCP port {port}, only {ports:?}: correct `port`")]
    NoSuchPort { name: String, port: i32, ports: Vec<i32> },
    #[error("Service {name} has the TCP ports {ports:?}: say which with `port`")]
    WhichPort { name: String, ports: Vec<i32> },
}

impl Unusable {
    /// Whether a person is needed. A Service that is not there may just not have been made yet.
    fn stuck(&self) -> bool {
        !matches!(self, Self::Missing(_))
    }

    fn summary(&self, message: String) -> Summary {
        let reason = match self {
            Self::Missing(_) => Reason::NotFound,
            Self::NoAddress(_) | Self::NoSuchPort { .. } | Self::WhichPort { .. } => Reason::NoPort,
        };
        Summary { state: State::Stalled, reason, message }
    }
}

/// Where nobody answers: the discard port of the edge pod itself. An error is better than an answer of a side that does not
/// have the data.
const NOBODY: &str = "127.0.0.1:9";

/// What is compiled so far.
struct Compiler<'a> {
    gateway: &'a GatewaySpec,
    gathered: &'a Gathered,
    claims: HashMap<&'a str, Claim<'a>>,
    backends: BTreeMap<String, String>,
    problems: Problems,
}

/// The plan that moves a route.
#[derive(Clone, Copy)]
struct Claim<'a> {
    plan: &'a MigrationPlan,
    route: &'a PlanRoute,
}

/// The structure of the edge, of whose limits each of `pods` has its share, its revision left at 0, and what of the spec
/// it leaves out. No structure while the default backend was never there: an edge that answers nothing must not say that
/// it is ready.
pub fn compile(valid: &Valid<'_>, gathered: &Gathered, pods: i32) -> (Option<EdgeConfigSpec>, Problems) {
    let spec = &valid.gateway.spec;
    let mut compiler = Compiler {
        gateway: spec,
        gathered,
        claims: claims(&gathered.plans),
        backends: BTreeMap::new(),
        problems: Problems {
            stuck: !valid.dropped.is_empty(),
            conflicted: valid.conflicted,
            dropped: valid.dropped.clone(),
            ..Problems::default()
        },
    };
    let Some(default_backend) = compiler.default_backend(&spec.default_backend) else {
        return (None, compiler.problems);
    };
    let auth = spec.auth.as_ref().map(|auth| compiler.auth(&auth.jwt, &valid.routes));
    let routes =
        valid.routes.iter().filter_map(|route| compiler.route(route, &default_backend, pods)).collect();
    let content = EdgeConfigSpec {
        revision: 0,
        backends: compiler.backends,
        default_backend,
        hosts: spec.hosts.clone(),
        tls: spec.tls.as_ref().map(tls),
        auth,
        cohort: valid.cohort.clone(),
        limits: limits(&spec.rate_limits),
        trusted_proxies: valid.trusted_proxies.clone(),
        security_headers: spec.security_headers.clone(),
        maintenance_seconds: spec.maintenance.as_ref().map(maintenance),
        hidden_paths: valid.hidden.iter().map(|path| (*path).to_owned()).collect(),
        routes,
        diagnostics: spec.diagnostics.response_header,
        access_log_to_stdout: spec.access_log.stdout,
    };
    (Some(content), compiler.problems)
}

/// Who moves which route. A route that two plans want belongs to the older one.
fn claims(oldest_first: &[MigrationPlan]) -> HashMap<&str, Claim<'_>> {
    let mut claims = HashMap::new();
    for plan in oldest_first {
        for route in &plan.spec.routes {
            claims.entry(route.name.as_str()).or_insert(Claim { plan, route });
        }
    }
    claims
}

impl<'a> Compiler<'a> {
    fn default_backend(&mut self, backend: &BackendRef) -> Option<String> {
        let (key, unusable) = self.safe(backend);
        if let Some(unusable) = unusable {
            let kept = if key.is_some() { "; until then its last known address stays in use" } else { "" };
            self.problems.default_backend =
                Some(unusable.summary(format!("`defaultBackend`: {unusable}{kept}")));
        }
        key
    }

    /// Who knows the users. While that backend was never there, routes that need it do as in an outage.
    fn auth(&mut self, jwt: &Jwt, routes: &[&Route]) -> EdgeAuth {
        let (key, unusable) = self.safe(&jwt.backend);
        if let Some(unusable) = unusable {
            let until_then = match key {
                Some(_) => "its last known address stays in use",
                None => "the route does as in an outage",
            };
            for route in routes.iter().filter(|route| route.auth.is_some()) {
                let message = format!("`auth.jwt.backend`: {unusable}; until then {until_then}");
                self.drop(route, &unusable, message);
            }
        }
        auth(jwt, key)
    }

    fn route(&mut self, route: &Route, default_backend: &str, pods: i32) -> Option<EdgeRoute> {
        let (path, exact) = route.matches.place()?;
        let claim = self.claims.get(route.name.as_str()).copied();
        let crossed = claim.filter(|claim| claim.plan.has_no_way_back(&route.name));
        let (safe, safe_rewrite) = match (crossed, &route.backend) {
            (Some(claim), _) => (self.only_side(route, claim), claim.route.target.rewrite.clone()),
            (None, None) => (default_backend.to_owned(), None),
            (None, Some(backend)) => (self.own_backend(route, backend)?, backend.rewrite.clone()),
        };
        let moving = claim.filter(|_| crossed.is_none());
        let target = moving.and_then(|claim| self.target(route, claim));
        let rewrite = claim.filter(|_| target.is_some()).and_then(|c| c.route.target.rewrite.clone());
        let salt = claim.filter(|_| target.is_some()).map(|claim| claim.plan.salt(claim.route, self.gateway));
        let guards = claim.filter(|_| target.is_some()).map_or(&[][..], |c| &c.plan.spec.guards);
        let fallback = claim.filter(|_| target.is_some()).and_then(|claim| self.fallback(route, claim));
        let id = match claim {
            Some(claim) => claim.plan.route_id(claim.route, &route.matches),
            None => ids::route_id(&route.name, &route.matches, None),
        };
        Some(EdgeRoute {
            id,
            name: route.name.clone(),
            hosts: route.matches.hosts.clone(),
            path_prefix: path.to_owned(),
            exact,
            methods: route.matches.methods.clone(),
            headers: route.matches.headers.clone(),
            handling: EdgeHandling { fallback, ..handling(route, pods) },
            safe,
            safe_rewrite,
            target,
            target_rewrite: rewrite,
            salt,
            guards: guards.iter().map(guard).collect(),
            crossed: crossed.is_some(),
        })
    }

    /// The safe side of a route that names one. A route whose backend was never there is left out: it is then as
    /// if it had not been written yet.
    fn own_backend(&mut self, route: &Route, backend: &BackendRef) -> Option<String> {
        let (key, unusable) = self.safe(backend);
        if let Some(unusable) = unusable {
            let until_then = match key {
                Some(_) => "until then its last known address stays in use",
                None => "until then the route is as if it were not written",
            };
            self.drop(route, &unusable, format!("`backend`: {unusable}; {until_then}"));
        }
        key
    }

    /// The service of a route without a way back: at its address, or at its last known one, but never the monolith.
    fn only_side(
        &mut self,
        route: &Route,
        Claim { plan, route: PlanRoute { target, .. } }: Claim<'_>,
    ) -> String {
        let (key, unusable) = self.safe(target);
        if let Some(unusable) = unusable {
            let until_then =
                if key.is_some() { "its last known address stays in use" } else { "nobody answers" };
            let message = format!(
                "target of MigrationPlan {}: {unusable}; the point of no return is behind it, so until then {until_then}",
                plan.name_any()
            );
            self.drop(route, &unusable, message);
        }
        key.unwrap_or_else(|| self.backend(target, NOBODY.to_owned()))
    }

    fn target(
        &mut self,
        route: &Route,
        Claim { plan, route: PlanRoute { target, .. } }: Claim<'_>,
    ) -> Option<String> {
        match resolve(target, &self.gathered.services) {
            Ok(address) => Some(self.backend(target, address.to_string())),
            Err(unusable) => {
                let message = format!(
                    "target of MigrationPlan {}: {unusable}; until then the safe side answers",
                    plan.name_any()
                );
                self.drop(route, &unusable, message);
                None
            }
        }
    }

    /// The monolith can stand in for the service only where both know the same path.
    fn fallback(&mut self, route: &Route, Claim { plan, route: moving }: Claim<'_>) -> Option<EdgeFallback> {
        let given = moving.fallback.as_ref()?;
        let safe_rewrite = route.backend.as_ref().and_then(|backend| backend.rewrite.as_ref());
        if moving.target.rewrite.is_none() && safe_rewrite.is_none() {
            return Some(fallback(given, moving.class));
        }
        let message = format!(
            "`fallback` of MigrationPlan {}: the request was made for a path that only one side knows: take \
             `fallback` or `rewrite` out; until then there is no fallback",
            plan.name_any()
        );
        self.problems.stuck = true;
        self.problems.dropped.push(DroppedRoute { name: route.name.clone(), message });
        None
    }

    /// The key of a backend that must not go away: at its address, or at its last known one.
    fn safe(&mut self, backend: &BackendRef) -> (Option<String>, Option<Unusable>) {
        match resolve(backend, &self.gathered.services) {
            Ok(address) => (Some(self.backend(backend, address.to_string())), None),
            Err(unusable) => {
                let present = self.gathered.present.as_ref().map(|p| &p.spec.backends);
                let last_known = present.and_then(|backends| backends.get(&key(backend))).cloned();
                (last_known.map(|address| self.backend(backend, address)), Some(unusable))
            }
        }
    }

    fn backend(&mut self, backend: &BackendRef, address: String) -> String {
        let key = key(backend);
        self.backends.insert(key.clone(), address);
        key
    }

    fn drop(&mut self, route: &Route, unusable: &Unusable, message: String) {
        self.problems.stuck |= unusable.stuck();
        self.problems.dropped.push(DroppedRoute { name: route.name.clone(), message });
    }
}

/// A guard of a plan in whole numbers. What an edge pod keeps is bounded, and so is how far back it can look.
fn guard(Guard { min_bad, bad_permille, window, .. }: &Guard) -> EdgeGuard {
    let window = std::time::Duration::from(*window).as_millis();
    let window_millis = i64::try_from(window).unwrap_or(i64::MAX).clamp(1, 600_000);
    EdgeGuard { min_bad: *min_bad, bad_permille: *bad_permille, window_millis }
}

/// Key of a backend at the edge: a hash, so that no name of a user's stands in NGINX' configuration.
fn key(backend: &BackendRef) -> String {
    let port = backend.port.map_or_else(String::new, |port| port.to_string());
    let hash = Sha256::digest(format!("{}:{port}", backend.name));
    hex(&hash[..8])
}

/// Where a backend answers: address and port of its Service, which never change while the Service lives.
fn resolve(backend: &BackendRef, services: &BTreeMap<String, Service>) -> Result<SocketAddr, Unusable> {
    let name = || backend.name.clone();
    let service = services.get(&backend.name).and_then(|s| s.spec.as_ref());
    let service = service.ok_or_else(|| Unusable::Missing(name()))?;
    let ip: Option<IpAddr> = service.cluster_ip.as_ref().and_then(|ip| ip.parse().ok());
    let ip = ip.ok_or_else(|| Unusable::NoAddress(name()))?;
    let tcp = service.ports.iter().flatten().filter(|p| p.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let ports: Vec<i32> = tcp.map(|p| p.port).collect();
    let port = match (backend.port, ports.as_slice()) {
        (Some(port), _) if ports.contains(&port) => port,
        (Some(port), _) => return Err(Unusable::NoSuchPort { name: name(), port, ports }),
        (None, [only]) => *only,
        (None, _) => return Err(Unusable::WhichPort { name: name(), ports }),
    };
    match u16::try_from(port) {
        Ok(port) => Ok(SocketAddr::new(ip, port)),
        Err(_) => Err(Unusable::NoSuchPort { name: name(), port, ports }),
    }
}
