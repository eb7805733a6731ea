//! Takes what a service depends on and what was found; gives URLs for its environment, the condition on it, and whether
//! its pods can start. Pure.

use super::wiring::url_variable;
use crate::controllers::stomaton_service::gather::{
    Gathered,
    neighbours::{Key, Neighbour},
};
use kube::ResourceExt;
use std::collections::BTreeSet;
use stomaton_crds::{
    conditions::{Finding, Reason, State, Summary, Truth, Type},
    v1alpha1::{Dependency, EnvValue, StomatonService},
};

/// What is known of the dependencies of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Variables with URLs.
    pub urls: Vec<EnvValue>,
    /// Those it may call.
    pub callees: Vec<(Key, Neighbour)>,
    /// Those that may call it.
    pub callers: Vec<Key>,
    /// What the condition says; none without dependencies.
    pub finding: Option<Finding>,
    /// Why the first pods cannot start now.
    pub hold: Option<Summary>,
    /// Whether pods that run are to be left as they are too.
    pub hold_running: bool,
}

impl Judged {
    /// Says which dependencies the NetworkPolicy of the service cannot name.
    pub fn say_nameless(&mut self, own: &str, nameless: &[&Key]) {
        if let (Some(finding), false) = (&mut self.finding, nameless.is_empty()) {
            let names: Vec<_> = nameless.iter().map(|key| shown(own, key)).collect();
            finding.message += &format!(
                "; no NetworkPolicy can name what is behind {}: say it in `networkPolicy.egressTo`",
                names.join(", ")
            );
        }
    }
}

/// What is wrong with one dependency.
enum Trouble {
    Refused,
    Missing,
    Waiting,
}

/// Judges what was found; `explicit` are the variables that have a value already.
pub fn judge(service: &StomatonService, gathered: &Gathered, explicit: &BTreeSet<String>) -> Judged {
    let own = service.namespace().unwrap_or_default();
    let name = service.name_any();
    let allowed = |from: &str, to: &Key| gathered.grants.allow(from, &to.0, &to.1);
    let me = (own.clone(), name);
    let callers = &gathered.neighbours.callers;
    let mut judged = Judged {
        callers: callers.iter().filter(|caller| allowed(&caller.0, &me)).cloned().collect(),
        ..Judged::default()
    };
    let (mut troubles, mut blocked) = (Vec::new(), false);
    for dependency in &service.spec.depends_on {
        let key = (dependency.namespace.clone().unwrap_or_else(|| own.clone()), dependency.name.clone());
        let found = gathered.neighbours.known.get(&key);
        let trouble = match found {
            _ if !allowed(&own, &key) => Some(Trouble::Refused),
            None => Some(Trouble::Missing),
            Some(neighbour) if !neighbour.ready => Some(Trouble::Waiting),
            Some(_) => None,
        };
        if allowed(&own, &key) {
            judged.urls.extend(variable(dependency, found, gathered, explicit));
            judged.callees.extend(found.map(|neighbour| (key.clone(), neighbour.clone())));
        }
        if let Some(trouble) = trouble {
            // What it can start without is only worth a word when nobody lets it be called.
            if !dependency.optional || matches!(trouble, Trouble::Refused) {
                blocked |= !dependency.optional;
                troubles.push((trouble, key));
            }
        }
    }
    if let Some(cycle) = &gathered.neighbours.cycle {
        cyclic(&mut judged, &own, cycle);
    } else if !service.spec.depends_on.is_empty() {
        said(&mut judged, &own, &troubles, blocked);
    }
    judged
}

/// The variable of a dependency, unless it has a value already.
fn variable(
    dependency: &Dependency,
    neighbour: Option<&Neighbour>,
    gathered: &Gathered,
    explicit: &BTreeSet<String>,
) -> Option<EnvValue> {
    let name = url_variable(dependency);
    // Nobody may know at the moment where it answers, because an External one refers to what is not there, or because
    // it is gone itself and may come back; that is no reason to replace running pods.
    let known = neighbour.and_then(|neighbour| neighbour.url.clone());
    let value = known.or_else(|| gathered.pod_variable(&name))?;
    (!explicit.contains(&name)).then_some(EnvValue { name, value })
}

fn cyclic(judged: &mut Judged, own: &str, cycle: &[Key]) {
    let names: Vec<_> = cycle.iter().map(|key| shown(own, key)).collect();
    let message = format!(
        "services depend on each other in a circle: {}; make one of these dependencies `optional`, or take it out",
        names.join(" -> ")
    );
    let reason = Reason::DependencyCycle;
    judged.hold = Some(Summary { state: State::Stalled, reason, message: message.clone() });
    // Whoever is not of this namespace must not be able to stop its rollouts.
    judged.hold_running = cycle.iter().all(|(namespace, _)| namespace == own);
    judged.finding = Some(Finding { kind: Type::DependenciesReady, truth: Truth::False, reason, message });
}

fn said(judged: &mut Judged, own: &str, troubles: &[(Trouble, Key)], blocked: bool) {
    let words = troubles.iter().map(|(trouble, key)| words(own, trouble, key)).collect::<Vec<_>>().join("; ");
    let has = |wanted: fn(&Trouble) -> bool| troubles.iter().any(|(trouble, _)| wanted(trouble));
    let (truth, reason, message) = if troubles.is_empty() {
        (Truth::True, Reason::AsSpecified, "every service that it depends on is ready".to_owned())
    } else if has(|t| matches!(t, Trouble::Refused)) {
        (Truth::False, Reason::NotAllowed, words)
    } else if has(|t| matches!(t, Trouble::Missing)) {
        (Truth::False, Reason::NotFound, words)
    } else {
        (Truth::False, Reason::WaitingForDependency, words)
    };
    if blocked {
        // A missing grant is for a person; the rest may come by itself, and its coming brings the next pass.
        let state = if reason == Reason::NotAllowed { State::Stalled } else { State::Reconciling };
        judged.hold = Some(Summary { state, reason, message: format!("no pod starts yet: {message}") });
    }
    judged.finding = Some(Finding { kind: Type::DependenciesReady, truth, reason, message });
}

fn words(own: &str, trouble: &Trouble, key: &Key) -> String {
    let (namespace, name) = key;
    let shown = shown(own, key);
    match trouble {
        Trouble::Refused => format!(
            "{shown} is in another namespace, and no ReferenceGrant there allows it: create one in namespace \
             {namespace} from StomatonServices (group {group}) of namespace {own} to StomatonService {name}",
            group = stomaton_crds::GROUP
        ),
        Trouble::Missing => {
            format!("there is no StomatonService {shown}: create it, or correct `dependsOn`")
        }
        Trouble::Waiting => format!("{shown} is not ready"),
    }
}

/// A service as people of the namespace `own` would call it.
fn shown(own: &str, (namespace, name): &Key) -> String {
    if namespace == own { name.clone() } else { format!("{namespace}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::stomaton_service::gather::neighbours::Neighbours;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use serde_json::{Value, json};
    use stomaton_crds::v1alpha1::Role;

    fn caller(dependencies: Value) -> StomatonService {
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
            "metadata": {"name": "shop", "namespace": "fleet", "uid": "u"},
            "spec": {"image": "i", "dependsOn": dependencies},
        }))
        .unwrap()
    }

    fn gathered(known: &[(&str, &str, bool)]) -> Gathered {
        let neighbour = |name: &str, ready| Neighbour {
            role: Role::Shared,
            ready,
            url: Some(format!("http://{name}")),
            ports: vec![IntOrString::Int(80)],
            external: None,
            asks_for_tokens: false,
        };
        let known = known
            .iter()
            .map(|(namespace, name, ready)| (((*namespace).into(), (*name).into()), neighbour(name, *ready)))
            .collect();
        Gathered { neighbours: Neighbours { known, ..Neighbours::default() }, ..Gathered::default() }
    }

    fn judged(
        dependencies: Value,
        known: &[(&str, &str, bool)],
    ) -> (Reason, String, Option<State>, Vec<String>) {
        let judged = judge(&caller(dependencies), &gathered(known), &["MINE_SERVICE_URL".to_owned()].into());
        let finding = judged.finding.unwrap();
        let urls = judged.urls.iter().map(|e| format!("{}={}", e.name, e.value)).collect();
        (finding.reason, finding.message, judged.hold.map(|h| h.state), urls)
    }

    #[test]
    fn a_dependency_that_is_ready_is_a_url() {
        let (reason, _, hold, urls) = judged(
            json!([{"name": "db"}, {"name": "mine"}]),
            &[("fleet", "db", true), ("fleet", "mine", true)],
        );
        assert_eq!((reason, hold), (Reason::AsSpecified, None));
        assert_eq!(urls, ["DB_SERVICE_URL=http://db"], "an explicit value wins");
    }

    #[test]
    fn the_first_pods_wait_and_the_condition_says_for_what() {
        let (reason, message, hold, urls) = judged(json!([{"name": "db"}]), &[("fleet", "db", false)]);
        assert_eq!((reason, hold), (Reason::WaitingForDependency, Some(State::Reconciling)));
        assert_eq!((message.as_str(), urls.len()), ("db is not ready", 1));
        let (reason, message, hold, urls) = judged(json!([{"name": "db"}]), &[]);
        assert_eq!((reason, hold, urls.len()), (Reason::NotFound, Some(State::Reconciling), 0));
        assert_eq!(message, "there is no StomatonService db: create it, or correct `dependsOn`");
    }

    #[test]
    fn an_optional_dependency_holds_nothing_up() {
        let optional = json!([{"name": "db", "optional": true}]);
        assert_eq!(judged(optional.clone(), &[]).2, None);
        let (reason, _, hold, urls) = judged(optional, &[("fleet", "db", false)]);
        assert_eq!((reason, hold, urls.len()), (Reason::AsSpecified, None, 1));
    }

    #[test]
    fn another_namespace_needs_a_grant() {
        let (reason, message, hold, urls) =
            judged(json!([{"name": "db", "namespace": "shared"}]), &[("shared", "db", true)]);
        assert_eq!((reason, hold, urls.len()), (Reason::NotAllowed, Some(State::Stalled), 0));
        assert!(message.starts_with("shared/db is in another namespace"), "{message}");
        assert!(message.contains("create one in namespace shared"), "{message}");
    }
}
