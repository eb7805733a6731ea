//! `EdgeWeights`: how much of each route its service answers, now. Written by the operator only (break-glass may
//! latch), read by the agents of that edge. Small, and the only thing a rollback has to write.

use crate::hex::hex;
use crate::keys::{AUDIENCE_PUBLIC, AUDIENCE_TESTERS};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Weights of one edge. Has the name of its Gateway. What is not in here is answered by the safe side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "fleet.stomaton.com",
    version = "v1alpha1",
    kind = "EdgeWeights",
    plural = "edgeweights",
    namespaced,
    derive = "PartialEq",
    doc = "Written by the operator only: the weights of one edge.",
    printcolumn(name = "Revision", type_ = "integer", json_path = ".spec.revision"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.spec.revision > oldSelf.spec.revision || self.spec == oldSelf.spec")
        .message("a changed spec needs a higher revision")
)]
#[x_kube(validation = Rule::new("self.revision >= oldSelf.revision").message("revision never decreases"))]
#[serde(rename_all = "camelCase")]
pub struct EdgeWeightsSpec {
    /// Never decreases; the same revision always has the same content.
    #[schemars(range(min = 1))]
    pub revision: i64,
    /// By route id. Maps, not lists: what an admission policy has to compare stays cheap.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1024))]
    pub routes: BTreeMap<String, RouteWeights>,
}

/// Weight of one route, with the intent behind it: a controller that crashed between this write and its status
/// finds here what it was about to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteWeights {
    /// Share of keys that the service answers, in per mille, by audience. `public` is everybody: no audience has less.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 9,
        "additionalProperties" = {"type": "integer", "format": "int32", "minimum": 0, "maximum": 1000}
    ))]
    pub permille: BTreeMap<String, i32>,
    /// The route was taken back and stays on its safe side, whatever `permille` says, until an attempt of a higher
    /// number begins.
    #[serde(default)]
    pub latched: bool,
    /// Attempt these weights belong to, from 1.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub attempt: i32,
    /// Step of the ramp these weights belong to, from 1; 0 before the ramp.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub step: i32,
}

impl EdgeWeightsSpec {
    /// What tells these weights from others of the same revision: 32 hex digits.
    pub fn digest(&self) -> String {
        // A type that was read from JSON can be written as such.
        let spec = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(spec)[..16])
    }
}

impl RouteWeights {
    /// What the edge does with `audience`: 0 when latched, else its own weight or everybody's, whichever is more.
    /// Testers who chose the service have it as long as there is no latch.
    pub fn effective(&self, audience: &str) -> i32 {
        let of = |audience: &str| self.permille.get(audience).copied().unwrap_or(0);
        match audience {
            _ if self.latched => 0,
            AUDIENCE_TESTERS => 1000,
            _ => of(audience).max(of(AUDIENCE_PUBLIC)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_audience_has_less_than_everybody_and_a_latch_beats_all() {
        let permille = [("public", 50), ("internal", 1000), ("suppliers", 10)];
        let permille = permille.into_iter().map(|(name, permille)| (name.to_owned(), permille)).collect();
        let weights = RouteWeights { permille, ..RouteWeights::default() };
        let names = ["public", "internal", "suppliers", "others", "testers"];
        assert_eq!(names.map(|name| weights.effective(name)), [50, 1000, 50, 50, 1000]);
        let latched = RouteWeights { latched: true, ..weights };
        assert_eq!(names.map(|name| latched.effective(name)), [0; 5]);
    }
}
