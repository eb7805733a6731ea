//! Changes that only the status of an object has had. An autoscaler's is written every few seconds, and says nothing to a
//! controller that keeps the autoscaler as it should be. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, runtime::watcher::Event};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

/// Tells whether an event is worth passing on: everything but a change of a status alone.
pub fn beside_status<K: Resource>() -> impl FnMut(&Event<K>) -> bool + Send {
    let mut seen = BTreeMap::new();
    move |event| match event {
        Event::Apply(object) => {
            let now = fingerprint(object.meta());
            seen.insert(object.meta().uid.clone(), now) != Some(now)
        }
        Event::InitApply(object) => {
            seen.insert(object.meta().uid.clone(), fingerprint(object.meta()));
            true
        }
        Event::Delete(object) => {
            seen.remove(&object.meta().uid);
            true
        }
        Event::Init => {
            seen.clear();
            true
        }
        Event::InitDone => true,
    }
}

/// What changes when anything but a status does: who set which field when is written down for each subresource apart.
fn fingerprint(meta: &ObjectMeta) -> u64 {
    let mut hash = DefaultHasher::new();
    (&meta.labels, &meta.annotations, &meta.finalizers).hash(&mut hash);
    meta.deletion_timestamp.is_some().hash(&mut hash);
    meta.owner_references.iter().flatten().for_each(|owner| owner.uid.hash(&mut hash));
    for entry in meta.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none()) {
        (&entry.manager, entry.time.as_ref().map(|time| time.0)).hash(&mut hash);
        entry.fields_v1.as_ref().map(|fields| fields.0.to_string()).hash(&mut hash);
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    fn object(label: &str, spec: i64, status: i64) -> ConfigMap {
        let entry = |second: i64, subresource: Option<&str>| {
            let time = jiff::Timestamp::from_second(second).unwrap();
            json!({"manager": "m", "operation": "Apply", "time": time, "subresource": subresource, "fieldsV1": {"f:x": {}}})
        };
        serde_json::from_value(json!({"metadata": {
            "name": "x", "uid": "u", "labels": {"l": label},
            "managedFields": [entry(spec, None), entry(status, Some("status"))],
        }}))
        .unwrap()
    }

    #[test]
    fn only_a_status_that_changes_is_no_news() {
        let mut news = beside_status();
        assert!(news(&Event::InitApply(object("a", 1, 1))));
        assert!(!news(&Event::Apply(object("a", 1, 2))), "a status");
        assert!(news(&Event::Apply(object("a", 2, 2))), "a spec");
        assert!(news(&Event::Apply(object("b", 2, 2))), "a label");
        assert!(news(&Event::Delete(object("b", 2, 2))));
        assert!(news(&Event::Apply(object("b", 2, 2))), "made anew");
    }
}
