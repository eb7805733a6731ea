//! Which route answers a request: compiled to one table for each path, exactly one route (or none) for every host
//! and method. Pure.
//!
//! Of all routes whose host, path and method fit, the longest prefix wins; among equal prefixes one with hosts
//! before one without, then one with methods before one without, then the smaller id.

use crate::names::{BackendKey, HostName, PathPrefix, RouteId, Salt};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::v1alpha1::Method;

/// A route of which every part was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) id: RouteId,
    pub(super) hosts: BTreeSet<HostName>,
    pub(super) path: PathPrefix,
    pub(super) methods: BTreeSet<Method>,
    pub(super) safe: BackendKey,
    pub(super) target: Option<Target>,
}

/// Where a route may move to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) backend: BackendKey,
    pub(super) salt: Salt,
}

impl Route {
    fn rank(&self) -> impl Ord {
        let (path, id) = (Reverse(self.path.as_str().len()), self.id.clone());
        (path, self.hosts.is_empty(), self.methods.is_empty(), id)
    }

    fn fits(&self, host: Option<&HostName>, method: Option<Method>) -> bool {
        let fits_host = self.hosts.is_empty() || host.is_some_and(|h| self.hosts.contains(h));
        let fits_method = self.methods.is_empty() || method.is_some_and(|m| self.methods.contains(&m));
        fits_host && fits_method
    }
}

/// The routes of one path: by host (`None`: any that is not named), then by method (`None`: any not named).
/// No route: the default backend answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table<'a> {
    pub(super) others: ByMethod<'a>,
    pub(super) hosts: BTreeMap<&'a HostName, ByMethod<'a>>,
}

/// The routes of one path and host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ByMethod<'a> {
    pub(super) others: Option<&'a Route>,
    pub(super) methods: BTreeMap<Method, Option<&'a Route>>,
}

impl<'a> Table<'a> {
    /// Every route that this table can choose.
    pub(super) fn routes(&self) -> impl Iterator<Item = &'a Route> {
        let of = |by: &ByMethod<'a>| by.methods.values().copied().chain([by.others]).collect::<Vec<_>>();
        std::iter::once(&self.others).chain(self.hosts.values()).flat_map(of).flatten()
    }
}

/// One table for every prefix that a route has; a request belongs to the longest that fits it.
pub(super) fn compile(routes: &[Route]) -> BTreeMap<&PathPrefix, Table<'_>> {
    let mut by_path: BTreeMap<&str, Vec<&Route>> = BTreeMap::new();
    for route in routes {
        by_path.entry(route.path.as_str()).or_default().push(route);
    }
    let table = |path: &'_ PathPrefix| {
        let mut fitting: Vec<&Route> =
            path.ancestors().filter_map(|p| by_path.get(p)).flatten().copied().collect();
        fitting.sort_by_key(|route| route.rank());
        table(&fitting)
    };
    routes.iter().map(|route| (&route.path, table(&route.path))).collect()
}

fn table<'a>(ranked: &[&'a Route]) -> Table<'a> {
    let others = by_method(ranked, None);
    let hosts: BTreeSet<&HostName> = ranked.iter().flat_map(|route| &route.hosts).collect();
    let hosts = hosts.into_iter().map(|host| (host, by_method(ranked, Some(host))));
    // A host that is treated like any other needs no entry.
    let hosts = hosts.filter(|(_, by)| *by != others).collect();
    Table { others, hosts }
}

fn by_method<'a>(ranked: &[&'a Route], host: Option<&HostName>) -> ByMethod<'a> {
    let first = |method| ranked.iter().find(|route| route.fits(host, method)).copied();
    let others = first(None);
    let methods: BTreeSet<Method> = ranked.iter().flat_map(|route| &route.methods).copied().collect();
    let methods = methods.into_iter().map(|method| (method, first(Some(method))));
    ByMethod { others, methods: methods.filter(|(_, route)| *route != others).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: u8, hosts: &[&str], path: &str, methods: &[Method]) -> Route {
        Route {
            id: RouteId::parse(&format!("{id:016x}")).unwrap(),
            hosts: hosts.iter().map(|h| HostName::parse(h).unwrap()).collect(),
            path: PathPrefix::parse(path).unwrap(),
            methods: methods.iter().copied().collect(),
            safe: BackendKey::parse("m").unwrap(),
            target: None,
        }
    }

    /// What the compiled tables answer, looked up as NGINX does it.
    fn chosen(routes: &[Route], host: &str, path: &str, method: Method) -> Option<u64> {
        let tables = compile(routes);
        let request = PathPrefix::parse(path).unwrap();
        let table = request.ancestors().find_map(|p| tables.get(&PathPrefix::parse(p).unwrap()))?;
        let by = table.hosts.get(&HostName::parse(host).unwrap()).unwrap_or(&table.others);
        let route = by.methods.get(&method).copied().unwrap_or(by.others)?;
        u64::from_str_radix(route.id.as_str(), 16).ok()
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let routes = [route(1, &[], "/a", &[]), route(2, &[], "/a/b", &[])];
        let chosen = |path| chosen(&routes, "h", path, Method::GET);
        assert_eq!(chosen("/a"), Some(1));
        assert_eq!(chosen("/a/b/c"), Some(2));
        assert_eq!(chosen("/a/bc"), Some(1));
        assert_eq!(chosen("/ab"), None);
    }

    #[test]
    fn hosts_come_before_methods_and_both_before_neither() {
        let routes = [
            route(1, &[], "/a", &[]),
            route(2, &[], "/a", &[Method::GET]),
            route(3, &["h"], "/a", &[]),
            route(4, &["h"], "/a", &[Method::POST]),
        ];
        assert_eq!(chosen(&routes, "other", "/a", Method::PUT), Some(1));
        assert_eq!(chosen(&routes, "other", "/a", Method::GET), Some(2));
        assert_eq!(chosen(&routes, "h", "/a", Method::GET), Some(3));
        assert_eq!(chosen(&routes, "h", "/a", Method::POST), Some(4));
    }

    #[test]
    fn a_method_that_the_longer_prefix_lacks_falls_to_the_shorter() {
        let routes = [route(1, &[], "/", &[]), route(2, &["h"], "/a", &[Method::GET])];
        assert_eq!(chosen(&routes, "h", "/a/x", Method::POST), Some(1));
        assert_eq!(chosen(&routes, "h", "/a/x", Method::GET), Some(2));
        assert_eq!(chosen(&routes, "other", "/a/x", Method::GET), Some(1));
    }
}
