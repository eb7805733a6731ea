//! Everything that is in a namespace, in a form that is the same for two namespaces in which the same was done.
//!
//! Every kind that discovery lists is in it, so a kind that is added later is compared without a word here. What
//! differs by nature is replaced: UIDs, times, generated names, addresses, and identities made of them. Left out are
//! Events (what was said on the way, not how things are) and numbers of answers that the edge counted.

use crate::world::World;
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
    discovery::{ApiResource, Discovery, Scope, verbs},
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::OnceLock};

/// Keys whose values are counts of answers, or words about them.
const COUNTED: [&str; 3] = ["evidence", "observed", "waitsFor"];
/// Keys whose values are of one object and one moment.
const MOMENTARY: [&str; 6] =
    ["uid", "resourceVersion", "creationTimestamp", "managedFields", "clusterIPs", "selfLink"];
/// Annotations that are made of UIDs or times, or of how often the deployment controller came by.
const MADE: [&str; 3] =
    ["fleet.stomaton.com/applied", "fleet.stomaton.com/secrets-hash", "fleet.stomaton.com/tokens"];

/// The objects of a namespace by kind and name.
pub type Snapshot = BTreeMap<String, Vec<Value>>;

/// What is in the namespace now.
pub async fn take(world: &World) -> Snapshot {
    let mut objects = Vec::new();
    for resource in kinds(&world.client).await {
        let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, resource);
        let list = match api.list(&ListParams::default()).await {
            Ok(list) => list,
            // A kind of another project that is served no longer.
            Err(kube::Error::Api(status)) if status.is_not_found() => continue,
            Err(error) => panic!("{error}"),
        };
        for object in list {
            let mut object = serde_json::to_value(object).unwrap();
            object["kind"] = json!(resource.kind);
            objects.push(object);
        }
    }
    let names = Names::of(&world.namespace, &objects);
    let mut snapshot = Snapshot::new();
    for mut object in objects {
        let managers = managers(&object);
        if !text(&object["apiVersion"]).starts_with("fleet.stomaton.com/") {
            // How often a child was written is how it came to be what it is; people's own objects are written by them.
            for (part, count) in [("metadata", "generation"), ("status", "observedGeneration")] {
                object[part].as_object_mut().map(|fields| fields.remove(count));
            }
        }
        names.apply(&mut object);
        object["metadata"]["managers"] = managers;
        let key = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
        snapshot.entry(key).or_default().push(object);
    }
    for same in snapshot.values_mut() {
        same.sort_by_key(Value::to_string);
    }
    snapshot
}

/// What differs, one line for each field.
pub fn differences(wanted: &Snapshot, found: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for key in wanted.keys().chain(found.keys().filter(|key| !wanted.contains_key(*key))) {
        let side = |snapshot: &Snapshot| json!(snapshot.get(key).cloned().unwrap_or_default());
        compare(key, &side(wanted), &side(found), &mut lines);
    }
    lines
}

fn compare(path: &str, wanted: &Value, found: &Value, lines: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let side = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&format!("{path}.{key}"), &side(a), &side(b), lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{i}]"), a, b, lines);
            }
        }
        _ if wanted == found => {}
        _ => lines.push(format!("{path}: wanted {wanted}, found {found}")),
    }
}

/// Every kind of object that a namespace can hold and that can be listed, each once.
async fn kinds(client: &Client) -> &'static [ApiResource] {
    static KINDS: OnceLock<Vec<ApiResource>> = OnceLock::new();
    if let Some(kinds) = KINDS.get() {
        return kinds;
    }
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    let all = discovery.groups().flat_map(|group| group.recommended_resources());
    let listed = all.filter(|(resource, can)| {
        can.scope == Scope::Namespaced && can.supports_operation(verbs::LIST) && resource.kind != "Event"
    });
    KINDS.get_or_init(|| listed.map(|(resource, _)| resource).collect())
}

/// Who wrote which kind of fields, without when.
fn managers(object: &Value) -> Value {
    let fields = object["metadata"]["managedFields"].as_array();
    let mut managers: Vec<String> = fields
        .into_iter()
        .flatten()
        .map(|f| format!("{} {} {}", text(&f["manager"]), text(&f["operation"]), text(&f["subresource"])))
        .collect();
    managers.sort();
    managers.dedup();
    json!(managers)
}

/// What stands for what, the longest first.
struct Names(Vec<(String, String)>);

impl Names {
    fn of(namespace: &str, objects: &[Value]) -> Self {
        let mut names = vec![(namespace.to_owned(), "NAMESPACE".to_owned())];
        for object in objects {
            let (kind, meta) = (text(&object["kind"]), &object["metadata"]);
            let name = text(&meta["name"]);
            names.push((text(&meta["uid"]), format!("UID-of-{kind}-{name}")));
            if let Some(generated) = meta["generateName"].as_str() {
                names.push((name.clone(), format!("{generated}GENERATED")));
            }
            // Two ReplicaSets of a Deployment are told apart by their order.
            if let Some(hash) = meta["labels"]["pod-template-hash"].as_str().filter(|_| kind == "ReplicaSet")
            {
                let revision = text(&meta["annotations"]["deployment.kubernetes.io/revision"]);
                names.push((hash.to_owned(), format!("TEMPLATE{revision}")));
            }
            if let Some(address) = object["spec"]["clusterIP"].as_str() {
                names.push((address.to_owned(), format!("ADDRESS-of-{name}")));
            }
            if let Some(address) = object["status"]["podIP"].as_str() {
                names.push((address.to_owned(), "ADDRESS-of-a-pod".to_owned()));
            }
            // Its name is a hash of pods whose variables name the namespace.
            if kind == "ControllerRevision"
                && let Some(service) = meta["labels"]["fleet.stomaton.com/service"].as_str()
            {
                names.push((name.clone(), format!("REVISION-{}-of-{service}", object["revision"])));
            }
            if kind == "Secret" {
                for (key, value) in object["data"].as_object().into_iter().flatten() {
                    names.push((text(value), format!("SECRET-for-{key}")));
                }
            }
            if kind == "EdgeConfig" {
                for route in object["spec"]["routes"].as_array().into_iter().flatten() {
                    let route_name = text(&route["name"]);
                    names.push((text(&route["id"]), format!("ID-of-{route_name}")));
                    names.push((text(&route["salt"]), format!("SALT-of-{route_name}")));
                }
            }
        }
        // Weights of a route whose plan is gone stay until the next write, and nothing names them any more.
        for weights in objects.iter().filter(|object| object["kind"] == "EdgeWeights") {
            for id in weights["spec"]["routes"].as_object().into_iter().flat_map(Map::keys) {
                if names.iter().all(|(from, _)| from != id) {
                    names.push((id.clone(), "ID-of-a-route-that-is-gone".to_owned()));
                }
            }
        }
        names.retain(|(from, _)| !from.is_empty() && from != "None");
        names.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Self(names)
    }

    fn apply(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for key in MOMENTARY.iter().chain(&COUNTED).chain(&MADE) {
                    map.remove(*key);
                }
                let entries = std::mem::take(map);
                for (key, mut value) in entries {
                    if key == "history" {
                        // Who finds a write whose record was lost says so; what happened is the same.
                        value.as_array_mut().into_iter().flatten().for_each(|entry| {
                            entry.as_object_mut().map(|entry| entry.remove("message"));
                        });
                    }
                    if key == "conditions" {
                        // They are told apart by their types; their order is that in which they first came.
                        value
                            .as_array_mut()
                            .into_iter()
                            .for_each(|all| all.sort_by_key(|c| text(&c["type"])));
                    }
                    self.apply(&mut value);
                    map.insert(self.replaced(&key), value);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.apply(item)),
            Value::String(text) => *text = self.replaced(text),
            _ => {}
        }
    }

    fn replaced(&self, text: &str) -> String {
        let text = without_moments(text);
        self.0.iter().fold(text, |text, (from, to)| text.replace(from, to))
    }
}

/// A text, or a sentence in it, without the times and the numbers of answers that it names.
fn without_moments(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for i in 0..words.len() {
        if words[i].parse::<jiff::Timestamp>().is_ok() {
            words[i] = "TIME";
        } else if words.get(i + 1).is_some_and(|next| next.starts_with("answers")) {
            words[i] = "SOME";
        }
    }
    words.join(" ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
