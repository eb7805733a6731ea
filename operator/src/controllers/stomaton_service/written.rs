//! Statuses that were written and that the cache may not have heard of yet, so that no pass decides from what an earlier
//! one has overcome. Pure.

use kube::ResourceExt;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use stomaton_crds::v1alpha1::{StomatonService, StomatonServiceStatus};

/// The last status written of each service, by UID, with the version of the object that has it.
#[derive(Debug, Default)]
pub struct Written(Mutex<BTreeMap<String, (u64, StomatonServiceStatus)>>);

impl Written {
    /// Notes the object as it is after a write of its status.
    pub fn note(&self, object: &StomatonService) {
        if let (Some(uid), Some(version), Some(status)) = (object.uid(), version(object), &object.status) {
            self.lock().insert(uid, (version, status.clone()));
        }
    }

    /// `object` as the cache has it, with the newest status that is known.
    pub fn newest(&self, object: &StomatonService) -> StomatonService {
        let (mut newest, uid) = (object.clone(), object.uid().unwrap_or_default());
        let mut written = self.lock();
        let Some((version_then, status)) = written.get(&uid) else { return newest };
        if version(object).is_some_and(|now| now < *version_then) {
            newest.status = Some(status.clone());
        } else {
            written.remove(&uid);
        }
        newest
    }

    /// Drops what is known of an object that is gone.
    pub fn forget(&self, object: &StomatonService) {
        self.lock().remove(&object.uid().unwrap_or_default());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (u64, StomatonServiceStatus)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Versions of one object grow. One that is no number tells nothing, and the cache is believed.
fn version(object: &StomatonService) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(version: &str, good: &str) -> StomatonService {
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
            "metadata": {"name": "shop", "namespace": "ns", "uid": "u", "resourceVersion": version},
            "spec": {"image": "i"},
            "status": {"lastGoodRevision": good},
        }))
        .unwrap()
    }

    fn good(written: &Written, object: &StomatonService) -> String {
        written.newest(object).status.unwrap().last_good_revision.unwrap()
    }

    #[test]
    fn what_was_written_counts_until_the_cache_has_it() {
        let written = Written::default();
        written.note(&object("9", "b"));
        assert_eq!(good(&written, &object("8", "a")), "b", "the cache is behind");
        assert_eq!(good(&written, &object("10", "c")), "c", "somebody else wrote since");
        assert_eq!(good(&written, &object("8", "a")), "a", "what the cache once had is forgotten");
    }
}
