//! Which route answers a request: compiled to tables, one for each path, and in each exactly one route (or none) for
//! every host, method and set of headers. Pure.
//!
//! Of all routes that fit a request, one with an exact path wins over one with a prefix, and the longest prefix over the
//! others; then one with hosts over one without, one with methods over one without, one with more headers over one
//! with fewer, and what stands first.

use super::build::{MONOLITH, SERVICE};
use super::checked::CheckedCors;
use crate::names::{BackendKey, HeaderName, HeaderValue, HostName, Network, PathPrefix, RouteId, Salt};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::v1alpha1::{EdgeHandling, Method};

/// A route of which every part was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) id: RouteId,
    pub(super) hosts: BTreeSet<HostName>,
    pub(super) path: PathPrefix,
    /// Nothing below the path.
    pub(super) exact: bool,
    pub(super) methods: BTreeSet<Method>,
    pub(super) headers: BTreeMap<HeaderName, HeaderValue>,
    pub(super) handling: EdgeHandling,
    /// Who may ask; empty: everybody.
    pub(super) allow_from: Vec<Network>,
    pub(super) cors: Option<CheckedCors>,
    pub(super) safe: BackendKey,
    /// Path that the safe side has in place of the route's.
    pub(super) rewrite: Option<PathPrefix>,
    pub(super) target: Option<Target>,
    /// The safe side is the service, and there is no other.
    pub(super) crossed: bool,
}

/// Where a route may move to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) backend: BackendKey,
    pub(super) salt: Salt,
    /// Path that the target has in place of the route's.
    pub(super) rewrite: Option<PathPrefix>,
}

impl Route {
    /// The side that answers without weights.
    pub(super) fn resting_side(&self) -> &'static str {
        if self.crossed { SERVICE } else { MONOLITH }
    }

    fn rank(&self) -> impl Ord + use<> {
        let path = (!self.exact, Reverse(self.path.as_str().len()));
        (path, self.hosts.is_empty(), self.methods.is_empty(), Reverse(self.headers.len()))
    }

    fn fits(&self, host: Option<&HostName>, method: Option<Method>) -> bool {
        let fits_host = self.hosts.is_empty() || host.is_some_and(|h| self.hosts.contains(h));
        let fits_method = self.methods.is_empty() || method.is_some_and(|m| self.methods.contains(&m));
        fits_host && fits_method
    }
}

/// Which requests a table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The path and everything below it.
    Whole,
    /// The path alone.
    Exact,
    /// What is below it.
    Below,
}

/// The routes of one path: by host (`None`: any that is not named), then by method (`None`: any not named).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table<'a> {
    pub(super) path: &'a PathPrefix,
    pub(super) scope: Scope,
    pub(super) others: ByMethod<'a>,
    pub(super) hosts: BTreeMap<&'a HostName, ByMethod<'a>>,
}

/// The routes of one path and host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ByMethod<'a> {
    pub(super) others: Choice<'a>,
    pub(super) methods: BTreeMap<Method, Choice<'a>>,
}

/// The routes of one path, host and method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice<'a> {
    /// The first of these whose headers a request has.
    pub(super) by_headers: Vec<&'a Route>,
    /// Else this one. No route: the default backend answers.
    pub(super) otherwise: Option<&'a Route>,
}

impl<'a> Table<'a> {
    /// Everything that this table can choose.
    pub(super) fn choices(&self) -> impl Iterator<Item = Option<&'a Route>> {
        let of_choice = |choice: &Choice<'a>| {
            let by_headers = choice.by_headers.iter().copied().map(Some);
            by_headers.chain([choice.otherwise]).collect::<Vec<_>>()
        };
        let of = move |by: &ByMethod<'a>| {
            by.methods.values().chain([&by.others]).flat_map(of_choice).collect::<Vec<_>>()
        };
        std::iter::once(&self.others).chain(self.hosts.values()).flat_map(of)
    }
}

/// The tables of all paths, in the order of these; a request belongs to the longest path that fits it.
pub(super) fn compile(routes: &[Route]) -> Vec<Table<'_>> {
    let mut by_path: BTreeMap<&str, Vec<&Route>> = BTreeMap::new();
    for route in routes {
        by_path.entry(route.path.as_str()).or_default().push(route);
    }
    let mut tables = Vec::new();
    for own in by_path.values() {
        let Some(first) = own.first().copied() else { continue };
        let path = &first.path;
        for scope in scopes(own) {
            let fits = |route: &&Route| !route.exact || (*scope == Scope::Exact && route.path == *path);
            let above = path.ancestors().filter_map(|prefix| by_path.get(prefix)).flatten();
            let mut fitting: Vec<&Route> = above.copied().filter(fits).collect();
            // Stable: among equals, what stands first.
            fitting.sort_by_key(|route| route.rank());
            tables.push(table(path, *scope, &fitting));
        }
    }
    tables
}

/// One table does for a path and what is below it, unless a route wants the path alone.
fn scopes(own: &[&Route]) -> &'static [Scope] {
    match (own.iter().any(|r| r.exact), own.iter().any(|r| !r.exact)) {
        (false, _) => &[Scope::Whole],
        (true, false) => &[Scope::Exact],
        (true, true) => &[Scope::Exact, Scope::Below],
    }
}

fn table<'a>(path: &'a PathPrefix, scope: Scope, ranked: &[&'a Route]) -> Table<'a> {
    let others = by_method(ranked, None);
    let hosts: BTreeSet<&HostName> = ranked.iter().flat_map(|route| &route.hosts).collect();
    let hosts = hosts.into_iter().map(|host| (host, by_method(ranked, Some(host))));
    // A host that is treated like any other needs no entry.
    let hosts = hosts.filter(|(_, by)| *by != others).collect();
    Table { path, scope, others, hosts }
}

fn by_method<'a>(ranked: &[&'a Route], host: Option<&HostName>) -> ByMethod<'a> {
    let others = choice(ranked, host, None);
    let methods: BTreeSet<Method> = ranked.iter().flat_map(|route| &route.methods).copied().collect();
    let methods = methods.into_iter().map(|method| (method, choice(ranked, host, Some(method))));
    let methods = methods.filter(|(_, choice)| *choice != others).collect();
    ByMethod { others, methods }
}

fn choice<'a>(ranked: &[&'a Route], host: Option<&HostName>, method: Option<Method>) -> Choice<'a> {
    let fitting = || ranked.iter().copied().filter(|route| route.fits(host, method));
    let otherwise = fitting().find(|route| route.headers.is_empty());
    // What ranks below a route that takes everything is never asked.
    let by_headers = fitting().take_while(|route| !route.headers.is_empty()).collect();
    Choice { by_headers, otherwise }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: u8, hosts: &[&str], path: &str, methods: &[Method]) -> Route {
        Route {
            id: RouteId::parse(&format!("{id:016x}")).unwrap(),
            hosts: hosts.iter().map(|h| HostName::parse(h).unwrap()).collect(),
            path: PathPrefix::parse(path).unwrap(),
            exact: false,
            methods: methods.iter().copied().collect(),
            headers: BTreeMap::new(),
            handling: EdgeHandling::default(),
            allow_from: Vec::new(),
            cors: None,
            safe: BackendKey::parse("m").unwrap(),
            rewrite: None,
            target: None,
            crossed: false,
        }
    }

    fn with_header(route: Route, name: &str, value: &str) -> Route {
        let header = (HeaderName::parse(name).unwrap(), HeaderValue::parse(value).unwrap());
        Route { headers: route.headers.into_iter().chain([header]).collect(), ..route }
    }

    /// What the compiled tables answer, looked up as NGINX does it.
    fn chosen(routes: &[Route], host: &str, path: &str, method: Method) -> Option<u64> {
        chosen_with(routes, host, path, method, &[])
    }

    fn chosen_with(
        routes: &[Route],
        host: &str,
        path: &str,
        method: Method,
        headers: &[(&str, &str)],
    ) -> Option<u64> {
        let tables = compile(routes);
        let takes = |table: &&Table<'_>, prefix: &str| {
            let itself = prefix == path;
            table.path.as_str() == prefix
                && match table.scope {
                    Scope::Whole => true,
                    Scope::Exact => itself,
                    Scope::Below => !itself || prefix == "/",
                }
        };
        let request = PathPrefix::parse(path).unwrap();
        // NGINX looks for an exact location before all others.
        let exact = tables.iter().find(|t| t.scope == Scope::Exact && takes(t, path));
        let table = exact.or_else(|| {
            request.ancestors().find_map(|prefix| tables.iter().find(|table| takes(table, prefix)))
        })?;
        let by = table.hosts.get(&HostName::parse(host).unwrap()).unwrap_or(&table.others);
        let choice = by.methods.get(&method).unwrap_or(&by.others);
        let has =
            |route: &&&Route| route.headers.iter().all(|(n, v)| headers.contains(&(n.as_str(), v.as_str())));
        let route = choice.by_headers.iter().find(has).copied().or(choice.otherwise)?;
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

    #[test]
    fn an_exact_path_is_itself_only_and_comes_first() {
        let exact = |id, path| Route { exact: true, ..route(id, &[], path, &[]) };
        let routes = [route(1, &[], "/a", &[]), exact(2, "/a"), exact(3, "/a/b"), exact(4, "/")];
        let chosen = |path| chosen(&routes, "h", path, Method::GET);
        assert_eq!(chosen("/a"), Some(2));
        assert_eq!(chosen("/a/x"), Some(1));
        assert_eq!(chosen("/a/b"), Some(3));
        assert_eq!(chosen("/a/b/c"), Some(1));
        assert_eq!(chosen("/"), Some(4));
        assert_eq!(chosen("/x"), None);
    }

    #[test]
    fn an_exact_path_for_one_method_leaves_the_others_to_the_prefix() {
        let exact = Route { exact: true, ..route(2, &[], "/a", &[Method::POST]) };
        let routes = [route(1, &[], "/a", &[]), exact];
        assert_eq!(chosen(&routes, "h", "/a", Method::POST), Some(2));
        assert_eq!(chosen(&routes, "h", "/a", Method::GET), Some(1));
        assert_eq!(chosen(&routes, "h", "/a/x", Method::POST), Some(1));
    }

    #[test]
    fn more_headers_come_before_fewer_and_what_stands_first_before_the_rest() {
        let base = |id| route(id, &[], "/a", &[]);
        let routes = [
            base(1),
            with_header(base(2), "x-a", "1"),
            with_header(base(3), "x-b", "1"),
            with_header(with_header(base(4), "x-a", "1"), "x-b", "1"),
            with_header(route(5, &["h"], "/a", &[]), "x-c", "1"),
        ];
        let with = |host, headers: &[(&str, &str)]| chosen_with(&routes, host, "/a", Method::GET, headers);
        assert_eq!(with("x", &[]), Some(1));
        assert_eq!(with("x", &[("x-a", "2")]), Some(1));
        assert_eq!(with("x", &[("x-a", "1")]), Some(2));
        assert_eq!(with("x", &[("x-b", "1")]), Some(3));
        assert_eq!(with("x", &[("x-a", "1"), ("x-b", "1")]), Some(4));
        assert_eq!(with("x", &[("x-c", "1")]), Some(1));
        assert_eq!(with("h", &[("x-a", "1"), ("x-c", "1")]), Some(5));
        assert_eq!(with("h", &[("x-a", "1")]), Some(2));
    }
}
