//! What is wrong with one route, and with two beside each other. Pure.

use crate::controllers::gateway::build::handling;
use std::{net::IpAddr, time::Duration};
use stomaton_crds::v1alpha1::{Auth, Cors, HeaderMatch, Rate, Route, RouteMatch, Timeouts};

/// What is wrong with a route by itself.
pub fn fault(route: &Route) -> Option<String> {
    None.or_else(|| fault_of_match(&route.matches))
        .or_else(|| fault_of_path("backend.rewrite", route.backend.as_ref()?.rewrite.as_ref()?))
        .or_else(|| fault_of_body(route.max_body.as_deref()?))
        .or_else(|| fault_of_timeouts(&route.timeouts))
        .or_else(|| fault_of_cors(route.cors.as_ref()?))
        .or_else(|| fault_of_rate(route.rate_limit.total?))
        .or_else(|| {
            let network = route.allow_from.iter().find(|network| !is_network(network))?;
            Some(format!("`allowFrom` has {network:?}: write a network such as 10.20.0.0/16"))
        })
}

fn fault_of_cors(cors: &Cors) -> Option<String> {
    let any = cors.allow_origins.iter().any(|origin| origin == "*");
    if any && (cors.allow_origins.len() > 1 || cors.allow_credentials) {
        return Some("`cors`: `*` stands alone, and not with `allowCredentials`".into());
    }
    if cors.allow_origins.is_empty() {
        return Some("`cors.allowOrigins` is empty: name an origin, or take `cors` out".into());
    }
    if let Some(origin) = cors.allow_origins.iter().find(|origin| !is_origin(origin)) {
        return Some(format!(
            "`cors.allowOrigins` has {origin:?}: write an origin such as https://app.example.com"
        ));
    }
    let header = cors.allow_headers.iter().chain(&cors.expose_headers).find(|name| !is_header(name))?;
    Some(format!("`cors` has the header {header:?}: lower case letters, digits and '-'"))
}

fn is_origin(origin: &str) -> bool {
    let Some(host) = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")) else {
        return origin == "*";
    };
    let (host, port) = host.split_once(':').unwrap_or((host, "443"));
    is_host(host) && port.len() <= 5 && port.parse::<u16>().is_ok() && !port.starts_with('+')
}

pub fn is_header(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(plain)
}

fn fault_of_rate(Rate { requests_per_second, burst }: Rate) -> Option<String> {
    let good = (1..=100_000).contains(&requests_per_second) && (0..=200_000).contains(&burst.unwrap_or(0));
    let words = "`rateLimit.total` must be 1 to 100000 requests in a second, with a burst of 0 to 200000";
    (!good).then(|| words.to_owned())
}

/// An address and the length of the part that counts.
pub fn is_network(network: &str) -> bool {
    let Some((address, length)) = network.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.bytes().all(|b| b.is_ascii_digit()) && length.parse::<u8>().is_ok_and(|length| length <= most)
}

fn fault_of_match(matches: &RouteMatch) -> Option<String> {
    let Some((path, exact)) = matches.place() else {
        return Some("`match`: name a `pathPrefix` or a `path`, one of the two".into());
    };
    None.or_else(|| fault_of_path(if exact { "path" } else { "pathPrefix" }, path))
        .or_else(|| {
            let host = matches.hosts.iter().find(|host| !is_host(host))?;
            Some(format!("`hosts` has {host:?}: write a name in lower case, without port or wildcard"))
        })
        .or_else(|| matches.headers.iter().find_map(fault_of_header))
}

/// What is wrong with a path that stands in `field`.
pub fn fault_of_path(field: &str, path: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._~/-".contains(c);
    if !path.starts_with('/') || path.len() > 256 {
        return Some(format!("`{field}` must begin with '/' and have at most 256 characters"));
    }
    if let Some(odd) = path.chars().find(|c| !plain(*c)) {
        return Some(format!("`{field}` has {odd:?}: letters, digits and . _ ~ - / are allowed"));
    }
    if path != "/" && path[1..].split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Some(format!(
            "`{field}` has an empty, '.' or '..' segment, or a '/' at its end: take it out"
        ));
    }
    None
}

/// A DNS name in lower case.
pub fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = label.as_bytes();
        bytes.first().is_some_and(|b| plain(*b))
            && bytes.last().is_some_and(|b| plain(*b))
            && bytes.iter().all(|b| plain(*b) || *b == b'-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

pub fn fault_of_header(HeaderMatch { name, value }: &HeaderMatch) -> Option<String> {
    if !is_header(name) {
        return Some(format!("`headers` has the name {name:?}: lower case letters, digits and '-'"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._~+/=:@-".contains(c);
    if value.is_empty() || value.len() > 128 || !value.chars().all(plain) {
        return Some(format!(
            "`headers` has the value {value:?}: 1 to 128 letters, digits and . _ ~ + / = : @ - are allowed"
        ));
    }
    None
}

fn fault_of_body(size: &str) -> Option<String> {
    match handling::bytes(size) {
        Some(_) => None,
        None => Some(format!("`maxBody` must be a size such as 64Ki, 10Mi or 2Gi, not {size:?}")),
    }
}

fn fault_of_timeouts(timeouts: &Timeouts) -> Option<String> {
    let (second, hour) = (1_000, 3_600_000);
    let fields = [
        ("connect", timeouts.connect, 10, 60 * second, "10ms and 1m"),
        ("response", timeouts.response, 10, hour, "10ms and 1h"),
        ("idle", timeouts.idle, second, 24 * hour, "1s and 24h"),
    ];
    let outside = |given: kube::core::Duration, least: u64, most: u64| {
        let time = Duration::from(given);
        given.is_negative() || time < Duration::from_millis(least) || time > Duration::from_millis(most)
    };
    let (field, .., words) =
        fields.into_iter().find(|(_, given, least, most, _)| outside(*given, *least, *most))?;
    Some(format!("`timeouts.{field}` must be between {words}"))
}

/// Which hidden path a route is in.
pub fn hidden(route: &Route, hidden: &[String]) -> Option<String> {
    let (path, _) = route.matches.place()?;
    let around = |hidden: &&String| {
        path.strip_prefix(hidden.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let around = hidden.iter().find(around)?;
    Some(format!("{path} is in `hiddenPaths` by {around}: take one of the two out"))
}

/// Which host of a route the Gateway does not answer for.
pub fn elsewhere(route: &Route, hosts: &[String]) -> Option<String> {
    let host = route.matches.hosts.iter().find(|host| !hosts.is_empty() && !hosts.contains(host))?;
    Some(format!(
        "the Gateway does not answer for {host}: add it to `spec.hosts`, or take it out of the route"
    ))
}

/// That nobody knows the users whom a route is for.
pub fn unknown(route: &Route, auth: Option<&Auth>) -> Option<String> {
    let missing = route.auth.is_some() && auth.is_none();
    missing.then(|| "`auth` needs the Gateway's `spec.auth`: say there who knows the users".to_owned())
}

/// Which earlier route of the same path has requests that `route` would match with equal right.
pub fn taken(route: &Route, same_path: &[&Route]) -> Option<String> {
    let own = &route.matches;
    let takes = |other: &&&Route| meet(&own.hosts, &other.matches.hosts) && alike(own, &other.matches);
    let earlier = same_path.iter().find(takes)?;
    Some(format!("route {} already has such requests: change the match of one of the two", earlier.name))
}

/// Whether two matches, host and path aside, take some of the same requests with equal right.
pub fn alike(a: &RouteMatch, b: &RouteMatch) -> bool {
    let same_headers = a.headers.len() == b.headers.len() && a.headers.iter().all(|x| b.headers.contains(x));
    same_headers && meet(&a.methods, &b.methods)
}

fn meet<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    (a.is_empty() && b.is_empty()) || a.iter().any(|x| b.contains(x))
}
