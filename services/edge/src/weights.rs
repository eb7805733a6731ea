//! Shares of routes as a directory that NGINX tests files in. Does I/O, on tmpfs.
//!
//! ```text
//! w/250/{0..249}                   the buckets of a weight: links to one empty file, made when first used
//! gen-7/<route>.<audience>         -> ../w/250; absent: the safe side
//! gen-7/revision                   what the probe reads back
//! cur                              -> gen-7
//! ```
//! One `rename` of `cur` moves every route and audience at once, for all workers, without a reload. The generation
//! before stays until the next switch, so a request that is resolving a path never meets half of one.

use crate::files::{self, FileError, fail};
use crate::names::{AudienceName, RouteId};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use stomaton_crds::{keys::AUDIENCE_TESTERS, v1alpha1::EdgeWeightsSpec};

/// The directory of all weights.
#[derive(Debug)]
pub struct Weights {
    dir: PathBuf,
    next: u64,
}

impl Weights {
    /// Opens `dir`, made if need be, and clears what a crash left half made. What is in force stays so.
    pub fn open(dir: PathBuf) -> Result<Self, FileError> {
        let buckets = dir.join("w");
        fs::create_dir_all(&buckets).map_err(fail("make", &buckets))?;
        let empty = dir.join("empty");
        fs::write(&empty, "").map_err(fail("make", &empty))?;
        let mut weights = Self { dir, next: 1 };
        weights.next = files::generations(&weights.dir)?.last().unwrap_or(&0) + 1;
        weights.tidy()?;
        Ok(weights)
    }

    /// Revision that is in force on disk, if any. The probe says what NGINX sees.
    pub fn revision(&self) -> Option<i64> {
        fs::read_to_string(self.dir.join("cur/revision")).ok()?.trim().parse().ok()
    }

    /// Puts `spec` in force; gives the entries that were ignored because they cannot be right. What is ignored is
    /// on the safe side.
    pub fn switch(&mut self, spec: &EdgeWeightsSpec) -> Result<Vec<String>, FileError> {
        let name = format!("gen-{}", self.next);
        let generation = self.dir.join(&name);
        fs::create_dir(&generation).map_err(fail("make", &generation))?;
        self.next += 1;
        let mut ignored = Vec::new();
        for (id, route) in &spec.routes {
            let Ok(id) = RouteId::parse(id) else {
                ignored.push(id.chars().take(64).collect());
                continue;
            };
            let named = route.permille.keys().map(String::as_str);
            for audience in named.chain([AUDIENCE_TESTERS]).collect::<BTreeSet<_>>() {
                match route.effective(audience) {
                    0 => {}
                    permille @ 1..=1000 if AudienceName::parse(audience).is_ok() => {
                        self.buckets(permille)?;
                        let link = generation.join(format!("{id}.{audience}"));
                        symlink(format!("../w/{permille}"), &link).map_err(fail("link", &link))?;
                    }
                    _ => ignored.push(format!("{id}.{}", audience.chars().take(64).collect::<String>())),
                }
            }
        }
        let revision = generation.join("revision");
        fs::write(&revision, spec.revision.to_string()).map_err(fail("write", &revision))?;
        files::replace_link(&self.dir.join("cur"), &name)?;
        Ok(ignored)
    }

    /// Removes generations before the previous one, and buckets that none of the rest uses.
    pub fn tidy(&self) -> Result<(), FileError> {
        let kept = files::keep_two_generations(&self.dir, &self.dir.join("cur"))?;
        let mut used = BTreeSet::new();
        for generation in kept {
            used.extend(files::entries(&generation)?.into_iter().filter_map(|name| {
                fs::read_link(generation.join(name)).ok()?.file_name().map(OsString::from)
            }));
        }
        let buckets = self.dir.join("w");
        for unused in files::entries(&buckets)?.into_iter().filter(|name| !used.contains(name)) {
            files::remove_dir(&buckets.join(unused))?;
        }
        Ok(())
    }

    /// Makes `w/N` with files `0..N-1`, whole or not at all.
    fn buckets(&self, permille: i32) -> Result<(), FileError> {
        let dir = self.dir.join(format!("w/{permille}"));
        if dir.exists() {
            return Ok(());
        }
        let unfinished = self.dir.join(format!("w/.{permille}"));
        files::remove_dir(&unfinished)?;
        fs::create_dir(&unfinished).map_err(fail("make", &unfinished))?;
        let empty = self.dir.join("empty");
        for bucket in 0..permille {
            let file = unfinished.join(bucket.to_string());
            fs::hard_link(&empty, &file).map_err(fail("link", &file))?;
        }
        fs::rename(&unfinished, &dir).map_err(fail("rename", &unfinished))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use stomaton_crds::v1alpha1::RouteWeights;

    const ROUTE: &str = "00000000000000aa";

    fn spec(revision: i64, route: RouteWeights) -> EdgeWeightsSpec {
        EdgeWeightsSpec { revision, routes: BTreeMap::from([(ROUTE.to_owned(), route)]) }
    }

    fn weight(permille: i32) -> RouteWeights {
        RouteWeights {
            permille: BTreeMap::from([("public".to_owned(), permille)]),
            ..RouteWeights::default()
        }
    }

    /// What NGINX would find, for every bucket.
    fn on_service(weights: &Weights) -> Vec<i32> {
        let flag = |bucket: &i32| weights.dir.join(format!("cur/{ROUTE}.public/{bucket}")).is_file();
        (0..1000).filter(flag).collect()
    }

    fn empty() -> (tempfile::TempDir, Weights) {
        let dir = tempfile::tempdir().unwrap();
        let weights = Weights::open(dir.path().join("weights")).unwrap();
        (dir, weights)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn exactly_the_buckets_below_the_weight_are_on_the_service(steps in prop::collection::vec(0..=1000_i32, 1..4)) {
            let (_dir, mut weights) = empty();
            for (revision, permille) in (1..).zip(steps) {
                prop_assert!(weights.switch(&spec(revision, weight(permille))).unwrap().is_empty());
                weights.tidy().unwrap();
                prop_assert_eq!(on_service(&weights), (0..permille).collect::<Vec<_>>());
                prop_assert_eq!(weights.revision(), Some(revision));
            }
        }
    }

    #[test]
    fn a_latch_beats_any_weight() {
        let (_dir, mut weights) = empty();
        weights.switch(&spec(1, RouteWeights { latched: true, ..weight(1000) })).unwrap();
        assert!(on_service(&weights).is_empty());
    }

    #[test]
    fn every_audience_has_a_weight_of_its_own() {
        let (_dir, mut weights) = empty();
        let permille = [("public", 10), ("internal", 1000), ("testers", 5)];
        let permille = permille.into_iter().map(|(name, permille)| (name.to_owned(), permille)).collect();
        let route = RouteWeights { permille, ..RouteWeights::default() };
        assert!(weights.switch(&spec(1, route)).unwrap().is_empty());
        let is_on =
            |audience: &str, bucket| weights.dir.join(format!("cur/{ROUTE}.{audience}/{bucket}")).is_file();
        assert!(
            is_on("public", 9) && !is_on("public", 10) && is_on("internal", 999) && is_on("testers", 999)
        );
        let evil = [("../../w/1000".to_owned(), 1000)].into();
        let route = RouteWeights { permille: evil, ..RouteWeights::default() };
        assert_eq!(weights.switch(&spec(2, route)).unwrap(), [format!("{ROUTE}.../../w/1000")]);
    }

    #[test]
    fn what_cannot_be_right_is_on_the_safe_side_and_named() {
        let (_dir, mut weights) = empty();
        for permille in [-1, 1001] {
            assert_eq!(weights.switch(&spec(1, weight(permille))).unwrap(), [format!("{ROUTE}.public")]);
            assert!(on_service(&weights).is_empty());
        }
        let evil = BTreeMap::from([("../../w/1000".to_owned(), weight(1000))]);
        assert_eq!(weights.switch(&EdgeWeightsSpec { revision: 2, routes: evil }).unwrap(), ["../../w/1000"]);
    }

    #[test]
    fn what_a_crash_left_is_cleared_and_what_is_in_force_stays() {
        let (dir, mut weights) = empty();
        for revision in 1..=4 {
            weights.switch(&spec(revision, weight(100 * i32::try_from(revision).unwrap()))).unwrap();
        }
        let root = dir.path().join("weights");
        fs::create_dir(root.join("gen-9")).unwrap();
        fs::create_dir(root.join("w/.700")).unwrap();
        let weights = Weights::open(root.clone()).unwrap();
        assert_eq!(files::generations(&root).unwrap(), [3, 4]);
        assert_eq!(files::entries(&root.join("w")).unwrap().len(), 3, "two weights, and that of testers");
        assert_eq!((weights.revision(), on_service(&weights).len()), (Some(4), 400));
    }
}
