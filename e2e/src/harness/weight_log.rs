//! Every revision of an edge's weights while they are followed. A plan's history says when a revision was decided and when
//! it was acknowledged; what it meant for each audience stands in the revision itself. I/O: a watch.

use super::{Error, fleet::EDGE, namespace::Namespace, wait};
use crate::load::judge::WeightChange;
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};
use stomaton_crds::{
    keys::AUDIENCE_PUBLIC,
    v1alpha1::{EdgeWeights, EdgeWeightsSpec, MigrationPlanStatus},
};
use tokio::task::JoinHandle;

type Revisions = Arc<Mutex<BTreeMap<i64, EdgeWeightsSpec>>>;

/// The revisions so far; followed until this is dropped.
pub struct WeightLog {
    seen: Revisions,
    following: JoinHandle<()>,
}

impl WeightLog {
    /// Follows the weights of the fleet's edge from now on.
    pub fn follow(namespace: &Namespace<'_>) -> Self {
        let states = wait::watch(&namespace.api::<EdgeWeights>(), EDGE);
        let seen = Revisions::default();
        let log = Arc::clone(&seen);
        let following = tokio::spawn(async move {
            let mut states = pin!(states);
            while let Some(state) = states.next().await {
                // A watch that broke is begun anew.
                let Ok(Some(EdgeWeights { spec, .. })) = state else { continue };
                log.lock().unwrap_or_else(PoisonError::into_inner).insert(spec.revision, spec);
            }
        });
        Self { seen, following }
    }

    /// What the transitions of a plan meant for one audience; `None`: for everybody who is of no other.
    pub fn changes(
        &self,
        status: &MigrationPlanStatus,
        audience: Option<&str>,
    ) -> Result<Vec<WeightChange>, Error> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = |MicroTime(at): &MicroTime| u64::try_from(at.as_microsecond()).unwrap_or(0);
        let id = |name: &str| status.routes.iter().find(|r| r.name == name).map(|r| r.id.clone());
        let mut changes = Vec::new();
        for transition in &status.history {
            let revision = transition.revision;
            let missing = || Error::Broken(format!("revision {revision} of the weights was not seen"));
            let weights = seen.get(&revision).ok_or_else(missing)?;
            let Some(route) = id(&transition.route) else { continue };
            let entry = weights.routes.get(&route);
            let permille = entry.map_or(0, |entry| entry.effective(audience.unwrap_or(AUDIENCE_PUBLIC)));
            changes.push(WeightChange {
                route,
                audience: audience.map(str::to_owned),
                permille: u16::try_from(permille).unwrap_or(0),
                begun_micros: micros(&transition.at),
                acknowledged_micros: transition.acknowledged.as_ref().map(micros),
            });
        }
        Ok(changes)
    }
}

impl Drop for WeightLog {
    fn drop(&mut self) {
        self.following.abort();
    }
}
