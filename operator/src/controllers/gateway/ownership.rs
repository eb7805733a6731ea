//! Takes a checked Gateway and all others; takes out of it the routes that an older one has claimed. Pure.
//!
//! Only names are claimed: what a Gateway answers for every host, it answers at its own address alone. The age is the
//! Gateway's, since nothing else about a route has one; of two that are equally old, the one whose namespace and name
//! come first has it, so that all passes agree.

use super::validate::{Valid, route::alike, validate};
use kube::ResourceExt;
use std::collections::HashMap;
use stomaton_crds::v1alpha1::{DroppedRoute, Gateway, Route};

/// Takes the routes that an older of `all` has out of `valid`.
pub fn settle(valid: &mut Valid<'_>, all: &[&Gateway]) {
    let own = valid.gateway;
    let older =
        all.iter().filter(|other| age(other) < age(own) && other.metadata.deletion_timestamp.is_none());
    // What is wrong by itself claims nothing.
    let older: Vec<Valid<'_>> = older.filter_map(|other| validate(other).ok()).collect();
    let mut claims: HashMap<_, Vec<(&Gateway, &Route)>> = HashMap::new();
    for other in &older {
        for route in &other.routes {
            claims.entry(route.matches.place()).or_default().push((other.gateway, route));
        }
    }
    for route in std::mem::take(&mut valid.routes) {
        let same_place = claims.get(&route.matches.place()).map_or(&[][..], Vec::as_slice);
        let claim = same_place.iter().find_map(|(other, theirs)| {
            let host = hosts(own, route).iter().find(|host| hosts(other, theirs).contains(host))?;
            alike(&route.matches, &theirs.matches).then_some((other, theirs, host))
        });
        match claim {
            None => valid.routes.push(route),
            Some((other, theirs, host)) => {
                let (namespace, name) = (other.namespace().unwrap_or_default(), other.name_any());
                let message = format!(
                    "{host}{} is claimed by route {} of the older Gateway {namespace}/{name}: take it out of one of the two",
                    route.matches.place().map_or("", |(path, _)| path),
                    theirs.name,
                );
                valid.dropped.push(DroppedRoute { name: route.name.clone(), message });
                valid.conflicted = true;
            }
        }
    }
}

fn age(gateway: &Gateway) -> impl Ord + use<> {
    (gateway.creation_timestamp(), gateway.namespace(), gateway.name_any())
}

/// The names that a route is for.
fn hosts<'a>(gateway: &'a Gateway, route: &'a Route) -> &'a [String] {
    match route.matches.hosts.as_slice() {
        [] => &gateway.spec.hosts,
        own => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A Gateway of that second, with these hosts and routes.
    fn gateway(name: &str, second: u32, hosts: &[&str], routes: Value) -> Gateway {
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway",
            "metadata": {
                "name": name, "namespace": format!("of-{name}"), "uid": name,
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            },
            "spec": {"defaultBackend": {"name": "mono"}, "hosts": hosts, "routes": routes},
        }))
        .unwrap()
    }

    fn prefix(name: &str, path: &str) -> Value {
        json!({"name": name, "match": {"pathPrefix": path}})
    }

    /// Names of the routes that `gateway` has, and why it has not the others.
    fn settled(gateway: &Gateway, all: &[&Gateway]) -> (Vec<String>, Vec<String>) {
        let mut valid = validate(gateway).unwrap();
        settle(&mut valid, all);
        assert_eq!(valid.conflicted, !valid.dropped.is_empty());
        let kept = valid.routes.iter().map(|r| r.name.clone()).collect();
        (kept, valid.dropped.into_iter().map(|d| d.message).collect())
    }

    #[test]
    fn the_oldest_has_what_it_claimed_and_the_rest_goes_on() {
        let old = gateway("old", 1, &["a.example"], json!([prefix("cart", "/cart")]));
        let new =
            gateway("new", 2, &["a.example"], json!([prefix("basket", "/cart"), prefix("blog", "/blog")]));
        let all = [&new, &old];
        assert_eq!(settled(&old, &all), (vec!["cart".to_owned()], vec![]));
        let message = "a.example/cart is claimed by route cart of the older Gateway of-old/old: take it out of one of the two";
        assert_eq!(settled(&new, &all), (vec!["blog".to_owned()], vec![message.to_owned()]));
    }

    #[test]
    fn only_the_same_host_and_path_are_the_same_claim() {
        let old = |hosts: &[&str], route: Value| gateway("old", 1, hosts, json!([route]));
        let new = |hosts: &[&str], route: Value| gateway("new", 2, hosts, json!([route]));
        let exact = |path: &str| json!({"name": "r", "match": {"path": path}});
        let of = |host: &str| json!({"name": "r", "match": {"pathPrefix": "/", "hosts": [host]}});
        let only = |method: &str| json!({"name": "r", "match": {"pathPrefix": "/", "methods": [method]}});
        let (a, b, none): (&[&str], &[&str], &[&str]) = (&["a.example"], &["b.example"], &[]);
        let cases = [
            (old(a, prefix("r", "/")), new(b, prefix("r", "/")), false),
            (old(none, prefix("r", "/")), new(none, prefix("r", "/")), false),
            (old(a, prefix("r", "/")), new(none, prefix("r", "/")), false),
            (old(a, prefix("r", "/")), new(a, prefix("r", "/x")), false),
            (old(a, prefix("r", "/x")), new(a, exact("/x")), false),
            (old(a, exact("/x")), new(a, exact("/x")), true),
            (old(a, only("GET")), new(a, only("POST")), false),
            (old(a, only("GET")), new(a, only("GET")), true),
            (old(none, of("a.example")), new(a, prefix("r", "/")), true),
            (old(none, of("a.example")), new(none, of("a.example")), true),
        ];
        for (at, (old, new, conflict)) in cases.iter().enumerate() {
            assert_eq!(settled(new, &[old, new]).1.len(), usize::from(*conflict), "case {at}");
            assert_eq!(settled(old, &[old, new]).1, Vec::<String>::new(), "case {at}");
        }
    }

    #[test]
    fn what_goes_or_is_wrong_by_itself_claims_nothing() {
        let new = gateway("new", 2, &["a.example"], json!([prefix("r", "/a")]));
        let mut going = gateway("old", 1, &["a.example"], json!([prefix("r", "/a")]));
        going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
        assert_eq!(settled(&new, &[&going, &new]).1.len(), 0);
        let mut wrong = gateway("old", 1, &["a.example"], json!([prefix("r", "/a")]));
        wrong.spec.routes[0].max_body = Some("much".into());
        assert_eq!(settled(&new, &[&wrong, &new]).1.len(), 0);
    }

    #[test]
    fn of_the_equally_old_every_pass_finds_the_same() {
        let (a, b) = (
            gateway("a", 1, &["h.example"], json!([prefix("r", "/")])),
            gateway("b", 1, &["h.example"], json!([prefix("r", "/")])),
        );
        assert_eq!(settled(&a, &[&b, &a]).1.len(), 0);
        assert_eq!(settled(&b, &[&a, &b]).1.len(), 1);
    }
}
