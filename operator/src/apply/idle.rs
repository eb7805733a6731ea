//! Writes that changed nothing. Pure.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Objects remembered at most. Beyond that all are forgotten, which costs a write for each.
const REMEMBERED: usize = 10_000;

/// What was wanted, and the version of the object to which it made no difference, by UID.
#[derive(Debug, Default)]
pub struct Idle(Mutex<BTreeMap<String, (String, String)>>);

impl Idle {
    /// Whether writing what has this `hash` changed nothing, with the object at `version` as it is now.
    pub fn has(&self, uid: Option<&str>, hash: &str, version: Option<&str>) -> bool {
        let (Some(uid), Some(version)) = (uid, version) else { return false };
        self.lock().get(uid).is_some_and(|(idle, at)| idle == hash && at == version)
    }

    /// Notes a write that changed nothing.
    pub fn note(&self, uid: String, hash: String, version: String) {
        let mut idle = self.lock();
        if idle.len() >= REMEMBERED {
            idle.clear();
        }
        idle.insert(uid, (hash, version));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
