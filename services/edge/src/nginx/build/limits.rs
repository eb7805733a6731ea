//! How many requests are answered. Pure.
//!
//! A zone keeps its counts across reloads and changes of its rate; one whose size or key changed under the same name
//! would make NGINX refuse the reload. So the size is part of the name, and the key of a name never changes.

use crate::nginx::routing::Route;
use crate::nginx::tree::{Arg, DataError, Head, Node, Text, Variable, line};
use stomaton_crds::v1alpha1::{EdgeLimits, EdgeRate, LimitClass};

/// The client, in 4 or 16 bytes.
const CLIENT: Variable = Variable::named("binary_remote_addr");
/// Of one client on all routes; 10 MiB are 160,000 of them.
const ALL: &str = "client-10m";
/// Of one client on routes of the class `Auth`.
const AUTH: &str = "client-auth-10m";

/// The zones, for the whole of HTTP.
pub(super) fn zones(limits: Option<&EdgeLimits>, routes: &[Route]) -> Result<Vec<Node>, DataError> {
    let mut nodes = Vec::new();
    if let Some(limits) = limits {
        nodes.push(zone(CLIENT.into(), Text::fixed(ALL), "10m", limits.client)?);
        nodes.push(zone(CLIENT.into(), Text::fixed(AUTH), "10m", limits.client_auth)?);
        if limits.dry_run {
            nodes.push(line("limit_req_dry_run", ["on".into()]));
        }
        for route in routes {
            if let Some(total) = route.handling.total {
                // One key for all: the route itself.
                nodes.push(zone(super::ROUTE.into(), of_route(route)?, "32k", total)?);
            }
        }
        nodes.push(line("limit_req_status", ["429".into()]));
    }
    Ok(nodes)
}

fn zone(key: Text, name: Text, size: &'static str, rate: EdgeRate) -> Result<Node, DataError> {
    let zone = Text::fixed("zone=").join(name).and(":")?.and(size)?;
    let rate = Text::fixed("rate=").join(Text::number(rate.per_minute)).and("r/m")?;
    Ok(line("limit_req_zone", [key.into(), zone.into(), rate.into()]))
}

fn of_route(route: &Route) -> Result<Text, DataError> {
    Text::fixed("total-").and(route.id.as_str())?.and("-32k")
}

/// The limits of `route`, or of what no route matches, for its location.
pub(super) fn nodes(limits: Option<&EdgeLimits>, route: Option<&Route>) -> Result<Vec<Node>, DataError> {
    let Some(limits) = limits else { return Ok(Vec::new()) };
    let class = route.map_or(LimitClass::General, |route| route.handling.limit);
    let mut nodes = Vec::new();
    if class != LimitClass::Unlimited {
        nodes.push(limit(Text::fixed(ALL), limits.client));
    }
    if class == LimitClass::Auth {
        nodes.push(limit(Text::fixed(AUTH), limits.client_auth));
    }
    if let Some((route, total)) = route.and_then(|route| Some((route, route.handling.total?))) {
        nodes.push(limit(of_route(route)?, total));
    }
    Ok(nodes)
}

fn limit(zone: Text, rate: EdgeRate) -> Node {
    let mut args: Vec<Arg> = vec![Text::fixed("zone=").join(zone).into()];
    // No burst is said by saying nothing: NGINX refuses a 0.
    if rate.burst > 0 {
        args.push(Text::fixed("burst=").join(Text::number(rate.burst)).into());
    }
    args.push("nodelay".into());
    Node { head: Head::Name("limit_req"), args, block: None }
}
