//! Takes a StomatonService and all others; gives those it depends on, those that depend on it, and the circle it is in.
//! Pure.

use crate::controllers::stomaton_service::validate;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use stomaton_crds::{
    conditions::Type,
    v1alpha1::{External, Role, StomatonService},
};

/// Namespace and name.
pub type Key = (String, String);

/// What others need to know of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// What it is to the fleet.
    pub role: Role,
    /// Whether it is Ready and to stay.
    pub ready: bool,
    /// Where it answers; none while nobody knows.
    pub url: Option<String>,
    /// All ports it answers on, the main one first: those of its pods by name.
    pub ports: Vec<IntOrString>,
    /// What it refers to, if it is External.
    pub external: Option<External>,
    /// Whether its callers need tokens.
    pub asks_for_tokens: bool,
}

/// Those around a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neighbours {
    /// Those it depends on, of those that exist.
    pub known: BTreeMap<Key, Neighbour>,
    /// Those that depend on it.
    pub callers: BTreeSet<Key>,
    /// The services that depend on each other in a circle, this one among them; in order, the first one last again.
    pub cycle: Option<Vec<Key>>,
}

/// Namespace and name of `service`.
pub fn key(service: &StomatonService) -> Key {
    (service.namespace().unwrap_or_default(), service.name_any())
}

/// Those that `service` depends on, with those that it can start without or not.
pub fn edges(service: &StomatonService) -> impl Iterator<Item = (Key, bool)> + '_ {
    let own = service.namespace().unwrap_or_default();
    service.spec.depends_on.iter().map(move |dependency| {
        let namespace = dependency.namespace.clone().unwrap_or_else(|| own.clone());
        ((namespace, dependency.name.clone()), dependency.optional)
    })
}

/// Looks around `service`.
pub fn look<'a>(service: &StomatonService, all: impl Iterator<Item = &'a StomatonService>) -> Neighbours {
    let me = key(service);
    let wanted: BTreeSet<Key> = edges(service).map(|(key, _)| key).collect();
    let mut neighbours = Neighbours::default();
    let mut required = BTreeMap::<Key, Vec<Key>>::new();
    for other in all {
        let key = key(other);
        if wanted.contains(&key) {
            neighbours.known.insert(key.clone(), neighbour(other));
        }
        if key != me && other.metadata.deletion_timestamp.is_none() {
            if edges(other).any(|(callee, _)| callee == me) {
                neighbours.callers.insert(key.clone());
            }
            let needs: Vec<_> = needs(other).collect();
            if !needs.is_empty() {
                required.insert(key, needs);
            }
        }
    }
    // As it is in this pass, which may be newer than what the others are taken from.
    required.insert(me.clone(), needs(service).collect());
    neighbours.cycle = cycle(&me, &required);
    neighbours
}

/// Those that must be Ready before `service` starts.
fn needs(service: &StomatonService) -> impl Iterator<Item = Key> + '_ {
    edges(service).filter(|(_, optional)| !optional).map(|(key, _)| key)
}

/// Whether `service` says that it is Ready.
pub fn is_ready(service: &StomatonService) -> bool {
    let conditions = service.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|c| c.type_ == Type::Ready.as_str() && c.status == "True")
}

fn neighbour(service: &StomatonService) -> Neighbour {
    let (spec, namespace) = (&service.spec, service.namespace().unwrap_or_default());
    let status = service.status.as_ref();
    Neighbour {
        role: spec.role,
        ready: is_ready(service) && service.metadata.deletion_timestamp.is_none(),
        url: match spec.role {
            Role::External => status.and_then(|s| s.url.clone()),
            _ => Some(validate::url(&service.name_any(), &namespace, spec.port)),
        },
        ports: match spec.role {
            Role::External => vec![IntOrString::Int(spec.port)],
            _ => {
                let further = spec.ports.iter().map(|port| port.name.as_str());
                let names = std::iter::once("http").chain(further);
                names.map(|name| IntOrString::String(name.to_owned())).collect()
            }
        },
        external: spec.external.clone(),
        asks_for_tokens: spec.service_auth.is_some(),
    }
}

/// The shortest way from `me` back to `me`, told from the member whose name comes first: the same words, whoever tells.
fn cycle(me: &Key, needs: &BTreeMap<Key, Vec<Key>>) -> Option<Vec<Key>> {
    let mut came_from = BTreeMap::<&Key, &Key>::new();
    let mut waiting = VecDeque::from([me]);
    while let Some(at) = waiting.pop_front() {
        for next in needs.get(at).into_iter().flatten() {
            if next == me {
                let mut way = vec![at];
                while let Some(before) = came_from.get(way[way.len() - 1]) {
                    way.push(before);
                }
                way.reverse();
                return Some(told_from_first(way));
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, at);
                waiting.push_back(next);
            }
        }
    }
    None
}

fn told_from_first(mut way: Vec<&Key>) -> Vec<Key> {
    let first = (0..way.len()).min_by_key(|i| way[*i]).unwrap_or(0);
    way.rotate_left(first);
    let again = way.first().copied();
    way.into_iter().chain(again).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(name: &str, dependencies: &[&str]) -> StomatonService {
        let dependencies: Vec<Value> = dependencies
            .iter()
            .map(|d| match d.strip_suffix('?') {
                Some(optional) => json!({"name": optional, "optional": true}),
                None => json!({"name": d}),
            })
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
            "metadata": {"name": name, "namespace": "fleet", "uid": "u"},
            "spec": {"image": "i", "dependsOn": dependencies},
        }))
        .unwrap()
    }

    /// The circle that the first service of the fleet is in.
    fn circle(fleet: &[(&str, &[&str])]) -> Option<String> {
        let fleet: Vec<_> = fleet.iter().map(|(name, dependencies)| service(name, dependencies)).collect();
        let cycle = look(&fleet[0], fleet.iter()).cycle?;
        Some(cycle.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(" -> "))
    }

    #[test]
    fn a_circle_is_told_the_same_by_each_member() {
        let (a, b, c) = (("a", &["b"][..]), ("b", &["c", "x"][..]), ("c", &["a"][..]));
        for fleet in [[a, b, c], [b, c, a], [c, a, b]] {
            assert_eq!(circle(&fleet).as_deref(), Some("a -> b -> c -> a"));
        }
        assert_eq!(circle(&[("a", &["a"])]).as_deref(), Some("a -> a"));
    }

    #[test]
    fn what_leads_into_a_circle_is_not_in_it_and_an_optional_edge_makes_none() {
        let (b, c) = (("b", &["c"][..]), ("c", &["b"][..]));
        assert_eq!(circle(&[("a", &["b"]), b, c]), None);
        assert_eq!(circle(&[("a", &["b"]), ("b", &["a?"])]), None);
    }

    #[test]
    fn callers_and_callees_are_seen() {
        let fleet = [service("a", &["b", "gone"]), service("b", &[]), service("c", &["a?"])];
        let neighbours = look(&fleet[0], fleet.iter());
        let key = |name: &str| ("fleet".to_owned(), name.to_owned());
        assert_eq!(neighbours.known.keys().cloned().collect::<Vec<_>>(), [key("b")]);
        assert_eq!(neighbours.callers, [key("c")].into());
        let b = &neighbours.known[&key("b")];
        assert_eq!((b.ready, b.url.as_deref()), (false, Some("http://b.fleet.svc:8080")));
    }
}
