//! An EdgeConfig of which every string was checked. One bad route is left out, the others keep working. Pure.

mod answers;
mod auth;
mod cohort;
mod listen;

pub(super) use answers::{CheckedCors, CheckedSecurity};
pub(super) use auth::CheckedAuth;
pub(super) use cohort::{CheckedAudience, CheckedCohort};
pub(super) use listen::CheckedTls;

use super::RenderError;
use super::routing::{Route, Target};
use crate::names::{
    BackendKey, HeaderName, HeaderValue, HostName, NameError, Network, PathPrefix, RouteId, Salt,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use stomaton_crds::v1alpha1::{
    AddressFrom, EdgeConfigSpec, EdgeHandling, EdgeLimits, EdgeRate, EdgeRoute, HeaderMatch,
};

/// What may be rendered.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) revision: i64,
    pub(super) backends: BTreeMap<BackendKey, SocketAddr>,
    pub(super) default_backend: BackendKey,
    /// Answered for; empty: all.
    pub(super) hosts: Vec<HostName>,
    pub(super) tls: Option<CheckedTls>,
    pub(super) auth: CheckedAuth,
    pub(super) cohort: CheckedCohort,
    pub(super) limits: Option<EdgeLimits>,
    pub(super) trusted: Trusted,
    pub(super) security: CheckedSecurity,
    /// Everything is answered with 503, and told to come again after so many seconds.
    pub(super) maintenance: Option<i32>,
    /// Answered with 404, with everything below.
    pub(super) hidden: BTreeSet<PathPrefix>,
    pub(super) routes: Vec<Route>,
    pub(super) diagnostics: bool,
}

/// Hops that are believed when they say who the client is.
#[derive(Clone, Debug, Default)]
pub(super) struct Trusted {
    pub(super) networks: Vec<Network>,
    pub(super) address_from: AddressFrom,
}

/// Something that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Id of the route, or key of the backend, as it stood in the object.
    pub subject: String,
    /// Why, for a person.
    pub reason: String,
}

/// Why a route, or its target, was left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum RouteError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("backend {0} does not exist or cannot be used")]
    NoBackend(BackendKey),
    #[error("another route has the same id")]
    Twice,
    #[error("its path is hidden")]
    Hidden,
    #[error("{0} is out of range")]
    Range(&'static str),
    #[error("it has no fallback: its sides do not know the same path")]
    TwoPaths,
    #[error("it has a target but no salt, so it stays on its safe side")]
    NoSalt,
}

/// What was left out so far.
#[derive(Default)]
struct Notes(Vec<Dropped>);

impl Notes {
    fn add(&mut self, subject: &str, reason: String) {
        self.0.push(Dropped { subject: subject.chars().take(64).collect(), reason });
    }
}

pub(super) fn check(spec: &EdgeConfigSpec) -> Result<(Checked, Vec<Dropped>), RenderError> {
    let mut notes = Notes::default();
    let backends = backends(spec, &mut notes);
    let default_backend = BackendKey::parse(&spec.default_backend)
        .map_err(|error| RenderError::DefaultBackend(error.to_string()))
        .and_then(|key| match backends.contains_key(&key) {
            true => Ok(key),
            false => Err(RenderError::DefaultBackend(format!("{key} is not among the usable backends"))),
        })?;
    let auth = spec.auth.as_ref().map(|given| auth::auth(given, &backends)).transpose();
    let hidden = hidden(spec, &mut notes);
    let routes = routes(spec, &backends, &hidden, &mut notes);
    let checked = Checked {
        revision: spec.revision,
        default_backend,
        // Not one by one: an edge without a host that it was given would answer for others, or for all.
        hosts: listen::hosts(&spec.hosts).map_err(RenderError::Listen)?,
        tls: spec.tls.as_ref().map(listen::tls).transpose().map_err(RenderError::Listen)?,
        auth: auth.map_err(RenderError::Auth)?.unwrap_or_default(),
        cohort: cohort::cohort(&spec.cohort, &mut notes)?,
        limits: limits(spec, &mut notes),
        trusted: trusted(spec, &mut notes),
        security: security(spec, &mut notes),
        maintenance: spec.maintenance_seconds.map(|seconds| seconds.clamp(1, 86_400)),
        diagnostics: spec.diagnostics,
        backends,
        hidden,
        routes,
    };
    Ok((checked, notes.0))
}

fn backends(spec: &EdgeConfigSpec, notes: &mut Notes) -> BTreeMap<BackendKey, SocketAddr> {
    let mut backends = BTreeMap::new();
    for (key, address) in &spec.backends {
        match backend(key, address) {
            Ok((key, address)) => drop(backends.insert(key, address)),
            Err(reason) => notes.add(key, reason),
        }
    }
    backends
}

fn limits(spec: &EdgeConfigSpec, notes: &mut Notes) -> Option<EdgeLimits> {
    let limits = spec.limits.clone()?;
    if in_range(&limits.client) && in_range(&limits.client_auth) {
        return Some(limits);
    }
    notes.add("limits", RouteError::Range("a rate").to_string());
    None
}

fn trusted(spec: &EdgeConfigSpec, notes: &mut Notes) -> Trusted {
    let Some(given) = &spec.trusted_proxies else { return Trusted::default() };
    let mut trusted = Trusted { networks: Vec::new(), address_from: given.address_from };
    for network in &given.networks {
        match Network::parse(network) {
            Ok(network) => trusted.networks.push(network),
            Err(error) => notes.add(network, error.to_string()),
        }
    }
    trusted
}

fn security(spec: &EdgeConfigSpec, notes: &mut Notes) -> CheckedSecurity {
    let Some(given) = &spec.security_headers else { return CheckedSecurity::default() };
    let (checked, error) = answers::security(given);
    if let Some(error) = error {
        notes.add("securityHeaders", error.to_string());
    }
    checked
}

fn hidden(spec: &EdgeConfigSpec, notes: &mut Notes) -> BTreeSet<PathPrefix> {
    let mut hidden = BTreeSet::new();
    for path in &spec.hidden_paths {
        match PathPrefix::parse(path) {
            Ok(path) if path.as_str() == "/" => notes.add(path.as_str(), "not all can be hidden".into()),
            Ok(path) => drop(hidden.insert(path)),
            Err(error) => notes.add(path, error.to_string()),
        }
    }
    hidden
}

fn routes(
    spec: &EdgeConfigSpec,
    backends: &BTreeMap<BackendKey, SocketAddr>,
    hidden: &BTreeSet<PathPrefix>,
    notes: &mut Notes,
) -> Vec<Route> {
    let mut ids = BTreeSet::new();
    let mut routes = Vec::new();
    for given in &spec.routes {
        match route(given, backends, hidden, &mut ids) {
            Ok(mut route) => {
                match target(given, backends) {
                    Ok(target) => route.target = target,
                    Err(error) => notes.add(&given.id, error.to_string()),
                }
                if let Err(error) = keep_fallback(&mut route) {
                    notes.add(&given.id, error.to_string());
                }
                routes.push(route);
            }
            Err(error) => notes.add(&given.id, error.to_string()),
        }
    }
    routes
}

fn backend(key: &str, address: &str) -> Result<(BackendKey, SocketAddr), String> {
    let key = BackendKey::parse(key).map_err(|error| error.to_string())?;
    match address.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Ok((key, address)),
        _ => Err("its address is not IP:port".to_owned()),
    }
}

fn route(
    given: &EdgeRoute,
    backends: &BTreeMap<BackendKey, SocketAddr>,
    hidden: &BTreeSet<PathPrefix>,
    ids: &mut BTreeSet<RouteId>,
) -> Result<Route, RouteError> {
    let route = Route {
        id: RouteId::parse(&given.id)?,
        hosts: given.hosts.iter().map(|host| HostName::parse(host)).collect::<Result<_, _>>()?,
        path: PathPrefix::parse(&given.path_prefix)?,
        exact: given.exact,
        methods: given.methods.iter().copied().collect(),
        headers: given.headers.iter().map(header).collect::<Result<_, _>>()?,
        handling: handling(&given.handling)?,
        allow_from: given.handling.allow_from.iter().map(|n| Network::parse(n)).collect::<Result<_, _>>()?,
        cors: given.handling.cors.as_ref().map(answers::cors).transpose()?,
        safe: usable(&given.safe, backends)?,
        rewrite: rewrite(given.safe_rewrite.as_deref())?,
        target: None,
        crossed: given.crossed,
    };
    if route.path.ancestors().any(|path| hidden.iter().any(|hidden| hidden.as_str() == path)) {
        return Err(RouteError::Hidden);
    }
    if ids.insert(route.id.clone()) { Ok(route) } else { Err(RouteError::Twice) }
}

fn header(given: &HeaderMatch) -> Result<(HeaderName, HeaderValue), NameError> {
    Ok((HeaderName::parse(&given.name)?, HeaderValue::parse(&given.value)?))
}

fn rewrite(given: Option<&str>) -> Result<Option<PathPrefix>, NameError> {
    given.map(PathPrefix::parse).transpose()
}

fn handling(given: &EdgeHandling) -> Result<EdgeHandling, RouteError> {
    let within = [
        ("connectMillis", i64::from(given.connect_millis), 60_000),
        ("silentMillis", i64::from(given.silent_millis), 86_400_000),
        ("maxBodyBytes", given.max_body_bytes, 10_i64 << 30),
    ];
    match within.into_iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
        Some((field, ..)) => Err(RouteError::Range(field)),
        None if given.total.is_some_and(|total| !in_range(&total)) => Err(RouteError::Range("total")),
        None => Ok(given.clone()),
    }
}

fn in_range(rate: &EdgeRate) -> bool {
    (1..=6_000_000).contains(&rate.per_minute) && (0..=200_000).contains(&rate.burst)
}

/// The target, apart from the rest: a route whose target cannot be used still has a safe side.
fn target(
    given: &EdgeRoute,
    backends: &BTreeMap<BackendKey, SocketAddr>,
) -> Result<Option<Target>, RouteError> {
    // What has no way back has one side, whatever else is said.
    let Some(key) = given.target.as_ref().filter(|_| !given.crossed) else { return Ok(None) };
    let salt = given.salt.as_deref().ok_or(RouteError::NoSalt)?;
    Ok(Some(Target {
        backend: usable(key, backends)?,
        salt: Salt::parse(salt)?,
        rewrite: rewrite(given.target_rewrite.as_deref())?,
    }))
}

/// Takes the fallback off a route that cannot have one.
fn keep_fallback(route: &mut Route) -> Result<(), RouteError> {
    let Some(fallback) = &route.handling.fallback else { return Ok(()) };
    let in_range = (1..=60_000).contains(&fallback.within_millis);
    let has_one_path = route.rewrite.is_none() && route.target.as_ref().is_none_or(|t| t.rewrite.is_none());
    if in_range && has_one_path && route.target.is_some() {
        return Ok(());
    }
    route.handling.fallback = None;
    match route.target {
        // Already said.
        None => Ok(()),
        Some(_) if in_range => Err(RouteError::TwoPaths),
        Some(_) => Err(RouteError::Range("withinMillis")),
    }
}

fn usable(key: &str, backends: &BTreeMap<BackendKey, SocketAddr>) -> Result<BackendKey, RouteError> {
    let key = BackendKey::parse(key)?;
    if backends.contains_key(&key) { Ok(key) } else { Err(RouteError::NoBackend(key)) }
}
