//! Writes EdgeWeights: compare-and-swap on the object, a revision that never decreases (I/O; [`merged`] is pure).
//!
//! Many plans and the rollback path share one object per Gateway. Each changes the entry of its own route only, on
//! what is there at that moment; the API server refuses whoever was not the first.

use crate::metrics::{Metrics, Verb};
use jiff::Timestamp;
use kube::{Api, Resource, ResourceExt, api::PostParams};
use std::{collections::BTreeSet, time::Duration};
use stomaton_crds::{
    keys::field_managers::PLAN,
    v1alpha1::{EdgeWeights, EdgeWeightsSpec, Gateway, RouteWeights},
};
use tokio::time::timeout;

/// An API call that takes longer is given up and made again.
const CALL: Duration = Duration::from_secs(5);
/// Tries to be first before giving up: every lost race means that somebody else made progress.
const TRIES: usize = 8;

/// Why a weight was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The route was taken back meanwhile: only a further attempt may lift a latch.
    #[error("the route is latched in attempt {attempt}")]
    Latched {
        /// The attempt that was taken back.
        attempt: i32,
    },
    /// Somebody wrote a later attempt or step: this write is of the past.
    #[error("the edge is already at attempt {attempt}, step {step}")]
    Overtaken {
        /// Attempt at the edge.
        attempt: i32,
        /// Step at the edge.
        step: i32,
    },
    /// An API call failed.
    #[error("{0}")]
    Api(#[from] Box<kube::Error>),
    /// An API call took too long.
    #[error("no answer from the API server within {} s", CALL.as_secs())]
    Timeout,
    /// The object changed each time it was about to be written.
    #[error("lost {TRIES} races for the object")]
    Contended,
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

/// Entries to write, all in one revision.
pub struct Write<'a> {
    /// The Gateway whose edge it is: becomes the owner of a new object.
    pub gateway: &'a Gateway,
    /// What the entries of routes should be, by their identity at the edge.
    pub entries: &'a [(&'a str, &'a RouteWeights)],
    /// Revisions up to this one were seen by edge pods: a new one must be above, whatever the object says.
    pub above: i64,
    /// Identities that the structure knows: entries of others are dropped. None: all are kept.
    pub known: Option<&'a BTreeSet<String>>,
}

/// Makes EdgeWeights say so, and gives the revision that does. Begins with `cached`, so that in the common case
/// one request is all it takes; reads anew after a lost race.
pub async fn write(
    api: &Api<EdgeWeights>,
    cached: Option<EdgeWeights>,
    write: &Write<'_>,
    metrics: &Metrics,
) -> Result<i64, Error> {
    let name = write.gateway.name_any();
    let mut present = cached;
    for tried in 0..TRIES {
        if tried > 0 || present.is_none() {
            present = timeout(CALL, api.get_opt(&name)).await.map_err(|_| Error::Timeout)??;
        }
        // A cached object that already says so, or forbids it, may be stale: only a live one is believed.
        let next = match merged(present.as_ref().map(|w| &w.spec), write) {
            Err(_) | Ok(None) if tried == 0 => continue,
            Err(error) => return Err(error),
            Ok(None) => return Ok(present.map_or(0, |w| w.spec.revision)),
            Ok(Some(next)) => next,
        };
        let revision = next.revision;
        metrics.wrote(if present.is_some() { Verb::Replace } else { Verb::Create }, "EdgeWeights");
        match timeout(CALL, put(api, &name, present.as_ref(), write.gateway, next))
            .await
            .map_err(|_| Error::Timeout)?
        {
            Ok(_) => return Ok(revision),
            Err(kube::Error::Api(status))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Contended)
}

async fn put(
    api: &Api<EdgeWeights>,
    name: &str,
    present: Option<&EdgeWeights>,
    gateway: &Gateway,
    spec: EdgeWeightsSpec,
) -> kube::Result<EdgeWeights> {
    let params = PostParams { field_manager: Some(PLAN.to_owned()), ..PostParams::default() };
    match present {
        Some(present) => {
            let mut object = EdgeWeights { spec, ..present.clone() };
            object.metadata.managed_fields = None;
            api.replace(name, &params, &object).await
        }
        None => {
            let mut object = EdgeWeights::new(name, spec);
            object.metadata.owner_references = gateway.controller_owner_ref(&()).map(|owner| vec![owner]);
            api.create(&params, &object).await
        }
    }
}

/// The object with these entries, at a higher revision; nothing if it already says so and edge pods can hear it.
fn merged(present: Option<&EdgeWeightsSpec>, write: &Write<'_>) -> Result<Option<EdgeWeightsSpec>, Error> {
    let Write { entries, above, known, .. } = *write;
    let mut spec = present.cloned().unwrap_or(EdgeWeightsSpec { revision: 0, routes: Default::default() });
    let news: Vec<_> = entries.iter().filter(|(id, entry)| spec.routes.get(*id) != Some(entry)).collect();
    // Edge pods take no revision that they are past. Only a store that came back from the past is behind them.
    let muted = present.is_some_and(|present| present.revision < above);
    if news.is_empty() && !muted {
        return Ok(None);
    }
    for (id, entry) in &news {
        may_follow(spec.routes.get(*id), entry)?;
    }
    if let Some(known) = known {
        spec.routes.retain(|id, _| known.contains(id));
    }
    spec.routes.extend(news.into_iter().map(|(id, entry)| ((*id).to_owned(), (*entry).clone())));
    spec.revision = spec.revision.max(above) + 1;
    Ok(Some(spec))
}

/// Whether `entry` may take the place of what is there.
fn may_follow(there: Option<&RouteWeights>, entry: &RouteWeights) -> Result<(), Error> {
    let Some(there) = there else { return Ok(()) };
    if there.latched && !entry.latched && entry.attempt <= there.attempt {
        return Err(Error::Latched { attempt: there.attempt });
    }
    let past = (entry.attempt, entry.step) < (there.attempt, there.step);
    if past && !(entry.latched && entry.attempt == there.attempt) {
        return Err(Error::Overtaken { attempt: there.attempt, step: there.step });
    }
    Ok(())
}

/// Milliseconds from `earlier` to now, for the log.
pub fn millis_since(earlier: Timestamp) -> i64 {
    Timestamp::now().duration_since(earlier).as_millis().try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stomaton_crds::v1alpha1::{BackendRef, GatewaySpec};

    fn gateway() -> Gateway {
        let spec = serde_json::json!({ "defaultBackend": BackendRef { name: "monolith".into(), port: None, rewrite: None } });
        Gateway::new("edge", serde_json::from_value::<GatewaySpec>(spec).unwrap())
    }

    fn entry(attempt: i32, step: i32, latched: bool) -> RouteWeights {
        RouteWeights { permille: [("public".to_owned(), step * 100)].into(), latched, attempt, step }
    }

    fn put(
        present: Option<(i32, i32, bool)>,
        next: (i32, i32, bool),
    ) -> Result<Option<EdgeWeightsSpec>, Error> {
        let present = present.map(|(a, s, l)| EdgeWeightsSpec {
            revision: 7,
            routes: [("r".to_owned(), entry(a, s, l)), ("other".to_owned(), entry(1, 1, false))].into(),
        });
        let entry = entry(next.0, next.1, next.2);
        let write = Write { gateway: &gateway(), entries: &[("r", &entry)], above: 3, known: None };
        merged(present.as_ref(), &write)
    }

    #[test]
    fn a_revision_is_above_the_object_and_above_what_any_pod_has_seen() {
        assert_eq!(put(None, (1, 1, false)).unwrap().unwrap().revision, 4);
        let next = put(Some((1, 1, false)), (1, 2, false)).unwrap().unwrap();
        assert_eq!(next.revision, 8);
        assert!(next.routes.contains_key("other"), "the entries of others stay");
    }

    #[test]
    fn nothing_to_say_is_not_said() {
        assert_eq!(put(Some((1, 1, false)), (1, 1, false)).unwrap(), None);
    }

    #[test]
    fn what_edge_pods_cannot_hear_is_said_again() {
        let present = EdgeWeightsSpec { revision: 7, routes: [("r".to_owned(), entry(1, 1, false))].into() };
        let again = |above| {
            merged(Some(&present), &Write { gateway: &gateway(), entries: &[], above, known: None }).unwrap()
        };
        assert_eq!(again(7), None);
        let said = again(9).unwrap();
        assert_eq!((said.revision, &said.routes), (10, &present.routes));
    }

    #[test]
    fn a_latch_is_lifted_only_by_a_further_attempt() {
        assert!(matches!(put(Some((1, 2, true)), (1, 3, false)), Err(Error::Latched { attempt: 1 })));
        assert!(put(Some((1, 2, true)), (2, 1, false)).unwrap().is_some());
    }

    #[test]
    fn a_write_of_the_past_is_refused() {
        assert!(matches!(
            put(Some((2, 1, false)), (1, 5, false)),
            Err(Error::Overtaken { attempt: 2, step: 1 })
        ));
        assert!(matches!(put(Some((1, 3, false)), (1, 2, false)), Err(Error::Overtaken { .. })));
    }

    #[test]
    fn a_rollback_decided_at_an_earlier_step_still_counts_in_its_attempt() {
        assert!(put(Some((1, 3, false)), (1, 2, true)).unwrap().is_some());
        assert!(matches!(put(Some((2, 1, false)), (1, 2, true)), Err(Error::Overtaken { .. })));
    }

    #[test]
    fn entries_that_the_structure_does_not_know_are_dropped() {
        let present =
            EdgeWeightsSpec { revision: 1, routes: [("gone".to_owned(), entry(1, 1, false))].into() };
        let known = ["r".to_owned()].into();
        let entry = entry(1, 1, false);
        let write = Write { gateway: &gateway(), entries: &[("r", &entry)], above: 0, known: Some(&known) };
        let next = merged(Some(&present), &write).unwrap().unwrap();
        assert_eq!(next.routes.keys().collect::<Vec<_>>(), ["r"]);
    }

    #[test]
    fn a_group_is_written_whole_or_not_at_all() {
        let routes = [("a".to_owned(), entry(1, 1, false)), ("b".to_owned(), entry(1, 1, true))].into();
        let present = EdgeWeightsSpec { revision: 1, routes };
        let (up, again) = (entry(1, 2, false), entry(2, 1, false));
        let put = |entries: &[(&str, &RouteWeights)]| {
            merged(Some(&present), &Write { gateway: &gateway(), entries, above: 0, known: None })
        };
        assert!(matches!(put(&[("a", &up), ("b", &up)]), Err(Error::Latched { .. })));
        let next = put(&[("a", &up), ("b", &again)]).unwrap().unwrap();
        assert_eq!((next.revision, &next.routes["a"], &next.routes["b"]), (2, &up, &again));
    }
}
