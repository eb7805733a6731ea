//! An EdgeConfig of which every string was checked. One bad route is left out, the others keep working. Pure.

use super::RenderError;
use super::routing::{Route, Target};
use crate::names::{BackendKey, HostName, NameError, PathPrefix, RouteId, Salt};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use stomaton_crds::v1alpha1::{EdgeConfigSpec, EdgeRoute};

/// What may be rendered.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) revision: i64,
    pub(super) backends: BTreeMap<BackendKey, SocketAddr>,
    pub(super) default_backend: BackendKey,
    pub(super) routes: Vec<Route>,
    pub(super) diagnostics: bool,
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
    #[error("it has a target but no salt, so it stays on its safe side")]
    NoSalt,
}

pub(super) fn check(spec: &EdgeConfigSpec) -> Result<(Checked, Vec<Dropped>), RenderError> {
    let mut dropped = Vec::new();
    let mut note = |subject: &str, reason: String| {
        dropped.push(Dropped { subject: subject.chars().take(64).collect(), reason });
    };
    let mut backends = BTreeMap::new();
    for (key, address) in &spec.backends {
        match backend(key, address) {
            Ok((key, address)) => drop(backends.insert(key, address)),
            Err(reason) => note(key, reason),
        }
    }
    let default_backend = BackendKey::parse(&spec.default_backend)
        .map_err(|error| RenderError::DefaultBackend(error.to_string()))
        .and_then(|key| match backends.contains_key(&key) {
            true => Ok(key),
            false => Err(RenderError::DefaultBackend(format!("{key} is not among the usable backends"))),
        })?;

    let mut ids = BTreeSet::new();
    let mut routes = Vec::new();
    for given in &spec.routes {
        match route(given, &backends, &mut ids) {
            Ok(mut route) => {
                match target(given, &backends) {
                    Ok(target) => route.target = target,
                    Err(error) => note(&given.id, error.to_string()),
                }
                routes.push(route);
            }
            Err(error) => note(&given.id, error.to_string()),
        }
    }
    let diagnostics = spec.diagnostics;
    Ok((Checked { revision: spec.revision, backends, default_backend, routes, diagnostics }, dropped))
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
    ids: &mut BTreeSet<RouteId>,
) -> Result<Route, RouteError> {
    let route = Route {
        id: RouteId::parse(&given.id)?,
        hosts: given.hosts.iter().map(|host| HostName::parse(host)).collect::<Result<_, _>>()?,
        path: PathPrefix::parse(&given.path_prefix)?,
        methods: given.methods.iter().copied().collect(),
        safe: usable(&given.safe, backends)?,
        target: None,
    };
    if ids.insert(route.id.clone()) { Ok(route) } else { Err(RouteError::Twice) }
}

/// The target, apart from the rest: a route whose target cannot be used still has a safe side.
fn target(
    given: &EdgeRoute,
    backends: &BTreeMap<BackendKey, SocketAddr>,
) -> Result<Option<Target>, RouteError> {
    let Some(key) = &given.target else { return Ok(None) };
    let salt = given.salt.as_deref().ok_or(RouteError::NoSalt)?;
    Ok(Some(Target { backend: usable(key, backends)?, salt: Salt::parse(salt)? }))
}

fn usable(key: &str, backends: &BTreeMap<BackendKey, SocketAddr>) -> Result<BackendKey, RouteError> {
    let key = BackendKey::parse(key)?;
    if backends.contains_key(&key) { Ok(key) } else { Err(RouteError::NoBackend(key)) }
}
