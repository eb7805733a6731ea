//! Takes what happens to StomatonServices; gives those that must look again because of it: whoever depends on one
//! whose readiness or address changed, and whoever an edge leads to that came or went. Pure.

use super::gather::neighbours::{Key, edges, is_ready, key};
use crate::watch::Guarded;
use kube::{ResourceExt, runtime::watcher::Event};
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::v1alpha1::StomatonService;

/// What others see of a service.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    face: (Option<i64>, bool, bool, Option<String>),
    edges: Vec<Key>,
}

/// What was seen last, and who waits to be told.
#[derive(Debug, Default)]
pub struct Ripples {
    seen: BTreeMap<Key, Seen>,
    /// During a list: what it had so far.
    listed: BTreeSet<Key>,
    /// During a list: whom to tell when the store has it too.
    waiting: BTreeSet<Key>,
}

impl Ripples {
    /// Notes an event; gives those to wake.
    pub fn heard(&mut self, event: &Event<Guarded<StomatonService>>) -> BTreeSet<Key> {
        match event {
            Event::Apply(object) => self.changed(object),
            Event::Delete(object) => self.gone(&named(object)),
            Event::Init => {
                (self.listed, self.waiting) = Default::default();
                BTreeSet::new()
            }
            Event::InitApply(object) => {
                self.listed.insert(named(object));
                let woken = self.changed(object);
                self.waiting.extend(woken);
                BTreeSet::new()
            }
            Event::InitDone => {
                let gone: Vec<_> =
                    self.seen.keys().filter(|key| !self.listed.contains(*key)).cloned().collect();
                for key in gone {
                    let woken = self.gone(&key);
                    self.waiting.extend(woken);
                }
                std::mem::take(&mut self.waiting)
            }
        }
    }

    fn changed(&mut self, object: &Guarded<StomatonService>) -> BTreeSet<Key> {
        let Ok(service) = &object.0 else { return self.gone(&named(object)) };
        let (key, now) = (key(service), seen(service));
        let mut woken = BTreeSet::new();
        let before = self.seen.get(&key).cloned();
        if before.as_ref() == Some(&now) {
            return woken;
        }
        if before.as_ref().is_none_or(|before| before.edges != now.edges) {
            // The far end of an edge too: it may be in a circle now, or no longer.
            self.reach(&key, &mut woken);
            self.seen.insert(key.clone(), now);
            self.reach(&key, &mut woken);
        } else {
            self.seen.insert(key.clone(), now);
        }
        self.callers(&key, &mut woken);
        woken.remove(&key);
        woken
    }

    fn gone(&mut self, key: &Key) -> BTreeSet<Key> {
        let mut woken = BTreeSet::new();
        self.reach(key, &mut woken);
        self.seen.remove(key);
        self.callers(key, &mut woken);
        woken.remove(key);
        woken
    }

    /// Adds all that `from` depends on, near and far.
    fn reach(&self, from: &Key, woken: &mut BTreeSet<Key>) {
        let mut waiting = vec![from.clone()];
        while let Some(at) = waiting.pop() {
            for next in self.seen.get(&at).iter().flat_map(|seen| &seen.edges) {
                if woken.insert(next.clone()) {
                    waiting.push(next.clone());
                }
            }
        }
    }

    /// Adds all that depend on `callee`.
    fn callers(&self, callee: &Key, woken: &mut BTreeSet<Key>) {
        let callers = self.seen.iter().filter(|(_, seen)| seen.edges.contains(callee));
        woken.extend(callers.map(|(key, _)| key.clone()));
    }
}

fn named(object: &Guarded<StomatonService>) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn seen(service: &StomatonService) -> Seen {
    let leaving = service.metadata.deletion_timestamp.is_some();
    let url = service.status.as_ref().and_then(|status| status.url.clone());
    Seen {
        face: (service.metadata.generation, is_ready(service), leaving, url),
        edges: edges(service).map(|(key, _)| key).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(name: &str, ready: bool, dependencies: &[&str]) -> Guarded<StomatonService> {
        let dependencies: Vec<_> = dependencies.iter().map(|d| json!({"name": d})).collect();
        let ready = json!({
            "type": "Ready", "status": if ready { "True" } else { "False" }, "reason": "X", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
            "metadata": {"name": name, "namespace": "fleet", "uid": "u", "generation": 1},
            "spec": {"image": "i", "dependsOn": dependencies}, "status": {"conditions": [ready]},
        }))
        .unwrap()
    }

    fn names(woken: BTreeSet<Key>) -> Vec<String> {
        woken.into_iter().map(|(_, name)| name).collect()
    }

    fn fleet() -> Ripples {
        let mut ripples = Ripples::default();
        let events = [
            Event::Init,
            Event::InitApply(service("a", false, &["b"])),
            Event::InitApply(service("b", false, &["c"])),
            Event::InitApply(service("c", false, &[])),
            Event::InitDone,
        ];
        for event in events {
            ripples.heard(&event);
        }
        ripples
    }

    #[test]
    fn who_depends_on_it_hears_of_readiness_and_of_nothing_else() {
        let mut ripples = fleet();
        assert_eq!(names(ripples.heard(&Event::Apply(service("b", true, &["c"])))), ["a"]);
        assert!(ripples.heard(&Event::Apply(service("b", true, &["c"]))).is_empty());
        assert_eq!(names(ripples.heard(&Event::Delete(service("c", false, &[])))), ["b"]);
    }

    #[test]
    fn an_edge_that_closes_a_circle_is_heard_by_all_of_it_and_so_is_its_end() {
        let mut ripples = fleet();
        assert_eq!(names(ripples.heard(&Event::Apply(service("c", false, &["a"])))), ["a", "b"]);
        assert_eq!(names(ripples.heard(&Event::Apply(service("c", false, &[])))), ["a", "b"]);
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let mut ripples = fleet();
        ripples.heard(&Event::Init);
        ripples.heard(&Event::InitApply(service("a", false, &["b"])));
        ripples.heard(&Event::InitApply(service("c", false, &[])));
        assert_eq!(names(ripples.heard(&Event::InitDone)), ["a", "c"]);
    }
}
