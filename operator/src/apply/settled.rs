//! Objects that are known to be as wanted, or as near to it as a write brings them. Pure.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Objects remembered at most. Beyond that all are forgotten, which costs a look at each.
const REMEMBERED: usize = 50_000;

/// What was wanted of an object, and the version of the object that has it, by UID.
#[derive(Debug, Default)]
pub struct Settled(Mutex<BTreeMap<String, (String, String)>>);

impl Settled {
    /// Whether the object at this version is what has this `hash`.
    pub fn has(&self, uid: Option<&str>, hash: &str, version: Option<&str>) -> bool {
        self.at(uid, version, |settled| settled == hash)
    }

    /// Whether the object at this version is what was wanted when it was last looked at.
    pub fn knows(&self, uid: Option<&str>, version: Option<&str>) -> bool {
        self.at(uid, version, |_| true)
    }

    /// Notes that the object at this version is what has this `hash`.
    pub fn note(&self, uid: Option<String>, hash: String, version: Option<String>) {
        let (Some(uid), Some(version)) = (uid, version) else { return };
        let mut settled = self.lock();
        if settled.len() >= REMEMBERED {
            settled.clear();
        }
        settled.insert(uid, (hash, version));
    }

    fn at(&self, uid: Option<&str>, version: Option<&str>, is: impl Fn(&str) -> bool) -> bool {
        let (Some(uid), Some(version)) = (uid, version) else { return false };
        self.lock().get(uid).is_some_and(|(hash, at)| at == version && is(hash))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_or_another_wish_is_looked_at() {
        let settled = Settled::default();
        let note =
            |hash: &str, version: &str| settled.note(Some("u".into()), hash.into(), Some(version.into()));
        let has = |hash, version| settled.has(Some("u"), hash, Some(version));
        note("a", "1");
        assert!(has("a", "1") && !has("b", "1") && !has("a", "2"));
        assert!(settled.knows(Some("u"), Some("1")) && !settled.knows(Some("v"), Some("1")));
        note("b", "2");
        assert!(has("b", "2") && !has("a", "1"));
    }
}
