//! An EdgeConfig of which every string was checked. One bad route is left out, the others keep working. Pure.

mod answers;
mod auth;
mod listen;

pub(super) use answers::{CheckedCors, CheckedSecurity};
pub(super) use auth::CheckedAuth;
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

    // Not one by one: an edge without a host that it was given would answer for others, or for all.
    let hosts = listen::hosts(&spec.hosts).map_err(RenderError::Listen)?;
    let tls = spec.tls.as_ref().map(listen::tls).transpose().map_err(RenderError::Listen)?;
    let auth = spec.auth.as_ref().map(|given| auth::auth(given, &backends)).transpose();
    let auth = auth.map_err(RenderError::Auth)?.unwrap_or_default();
    let limits = spec.limits.clone().filter(|limits| {
        let good = in_range(&limits.client) && in_range(&limits.client_auth);
        if !good {
            note("limits", RouteError::Range("a rate").to_string());
        }
        good
    });
    let mut trusted = Trusted::default();
    if let Some(given) = &spec.trusted_proxies {
        trusted.address_from = given.address_from;
        for network in &given.networks {
            match Network::parse(network) {
                Ok(network) => trusted.networks.push(network),
                Err(error) => note(network, error.to_string()),
            }
        }
    }
    let mut security = CheckedSecurity::default();
    if let Some(given) = &spec.security_headers {
        let (checked, error) = answers::security(given);
        security = checked;
        if let Some(error) = error {
            note("securityHeaders", error.to_string());
        }
    }
    let mut hidden = BTreeSet::new();
    for path in &spec.hidden_paths {
        match PathPrefix::parse(path) {
            Ok(path) if path.as_str() == "/" => note(path.as_str(), "everything cannot be hidden".into()),
            Ok(path) => drop(hidden.insert(path)),
            Err(error) => note(path, error.to_string()),
        }
    }

    let mut ids = BTreeSet::new();
    let mut routes = Vec::new();
    for given in &spec.routes {
        match route(given, &backends, &hidden, &mut ids) {
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
    let checked = Checked {
        revision: spec.revision,
        backends,
        default_backend,
        hosts,
        tls,
        auth,
        limits,
        trusted,
        security,
        maintenance: spec.maintenance_seconds.map(|seconds| seconds.clamp(1, 86_400)),
        hidden,
        routes,
        diagnostics: spec.diagnostics,
    };
    Ok((checked, dropped))
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
    let Some(key) = &given.target else { return Ok(None) };
    let salt = given.salt.as_deref().ok_or(RouteError::NoSalt)?;
    Ok(Some(Target {
        backend: usable(key, backends)?,
        salt: Salt::parse(salt)?,
        rewrite: rewrite(given.target_rewrite.as_deref())?,
    }))
}

fn usable(key: &str, backends: &BTreeMap<BackendKey, SocketAddr>) -> Result<BackendKey, RouteError> {
    let key = BackendKey::parse(key)?;
    if backends.contains_key(&key) { Ok(key) } else { Err(RouteError::NoBackend(key)) }
}
