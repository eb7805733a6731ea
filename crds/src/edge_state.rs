//! What an edge pod reports about itself, once a line (JSON, newline-delimited) on `GET /v1/state`.
//!
//! A line is complete: it replaces everything the reader knew of that pod, so a lost connection costs nothing but
//! time. Counters only grow while `boot` stays the same. A line is sent at once when a bad answer was counted, a
//! revision was applied or a latch set, when counters moved (at most every 200 ms), and as a heartbeat each second.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of the state stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeState {
    /// Name of the edge pod.
    pub pod: String,
    /// Identity of this run of the agent: counters of different boots cannot be compared.
    pub boot: String,
    /// Number of this line within the boot, from 1.
    pub sequence: u64,
    /// When the line was made, microseconds since the epoch, by the pod's clock.
    pub at_micros: i64,
    /// What NGINX really serves, read back through NGINX itself.
    pub applied: Applied,
    /// What the weights in force say: [`crate::v1alpha1::EdgeWeightsSpec::digest`]. A revision alone is no acknowledgement: a
    /// store that came back from the past may give the same one to something else. Empty: there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub weights_digest: String,
    /// The highest revisions this agent has ever seen, and one more where weights came under the same revision that said
    /// something else. A new revision is minted above them, so that an object that was restored from an older snapshot
    /// cannot mute a rollback.
    pub seen: Applied,
    /// Why the newest revision is not applied, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Routes, by id, that this pod holds on their safe side and of which no EdgeWeights has said so yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latches: BTreeMap<String, Latch>,
    /// The last attempt of each route, by id, that is over by the weights in force: taken back by them, or before theirs. A
    /// store that came back from the past may have forgotten it; this pod has not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taken: BTreeMap<String, i32>,
    /// Log lines counted in this boot.
    pub lines: u64,
    /// Stretches of the log that were lost unread. A gap voids a verdict of Safe, never one of Harm.
    pub gaps: u64,
    /// Reloads of NGINX in this boot: structure costs one, weights none.
    pub reloads: u64,
    /// Certificates that the newest structure names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateState>,
    /// Answers by route id, audience and side.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, BTreeMap<String, Sides>>,
}

/// Revisions of the two objects an agent reads. 0: none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Revision of EdgeConfig.
    pub config: i64,
    /// Revision of EdgeWeights.
    pub weights: i64,
}

/// A route that an edge pod has put on its safe side, whatever its weight. It takes back one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latch {
    /// The attempt it takes back.
    pub attempt: i32,
    /// Revision of EdgeWeights it was set at: what is older says nothing about it.
    pub revision: i64,
    /// What set it.
    pub why: Why,
    /// When, microseconds since the epoch, by the pod's clock.
    pub at_micros: i64,
    /// What was counted, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Stretch>,
}

/// What set a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Why {
    /// It was asked to.
    Kill,
    /// Too many answers of the service hurt.
    BadShare,
    /// Nobody takes connections for the service.
    NoEndpoints,
    /// Far fewer answers come from the service than its weight says.
    MissingAnswers,
}

impl Why {
    /// As it stands on a line and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "Kill",
            Self::BadShare => "BadShare",
            Self::NoEndpoints => "NoEndpoints",
            Self::MissingAnswers => "MissingAnswers",
        }
    }
}

/// Answers that were counted over a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stretch {
    /// Those that hurt, or that should have come and did not.
    pub bad: u64,
    /// All of them, or all that should have come.
    pub requests: u64,
    /// Length of the stretch.
    pub over_millis: i64,
}

/// What a pod has of a certificate. NGINX serves it 10 s after it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateState {
    /// Directory in which it is mounted: see [`crate::ids::secret_dir`].
    pub id: String,
    /// SHA-256 of the certificate, in hex; none: there is none that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Beginning of its validity, seconds since the epoch.
    #[serde(default)]
    pub not_before: i64,
    /// End of its validity, seconds since the epoch.
    #[serde(default)]
    pub not_after: i64,
    /// Why it cannot be served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<CertificateFault>,
    /// Hosts that it should be for and is not: clients refuse it there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncovered: Vec<String>,
}

/// Why a certificate cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CertificateFault {
    /// The pod has none: there is no such Secret, or the kubelet has not brought it yet.
    Missing,
    /// Certificate or key is not there, or is not PEM.
    Unusable,
    /// The key is that of another certificate.
    KeyMismatch,
}

/// Counters of both sides of a route for one audience.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sides {
    /// Answered by the safe side.
    pub monolith: Counts,
    /// Answered by the target.
    pub service: Counts,
}

/// Answers counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// All answers.
    pub requests: u64,
    /// Answers that hurt: the backend's own status was 5xx, or it did not answer.
    pub bad: u64,
    /// What they were like.
    #[serde(flatten)]
    pub mix: Mix,
}

impl Counts {
    /// What came since `earlier`, or all of it when `earlier` is of another boot.
    pub fn since(self, earlier: Self) -> Self {
        if earlier.requests > self.requests || earlier.bad > self.bad {
            return self;
        }
        Self {
            requests: self.requests - earlier.requests,
            bad: self.bad - earlier.bad,
            mix: self.mix.with(earlier.mix, u64::saturating_sub),
        }
    }
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            bad: self.bad + other.bad,
            mix: self.mix.with(other.mix, u64::saturating_add),
        }
    }
}

/// Upper bounds of [`Mix::latency`], in milliseconds; what took longer than the last one is counted after it.
pub const LATENCY_BOUNDS_MS: [u64; 10] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000];

/// What answers were like. On a line, zeros at the end of a list are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mix {
    /// By class of the status that the backend answered with, or else the user got: 1xx to 5xx.
    #[serde(default, with = "trimmed", skip_serializing_if = "is_empty")]
    pub classes: [u64; 5],
    /// By time until the head of the answer was there, not more than each of [`LATENCY_BOUNDS_MS`]; the last are all
    /// others.
    #[serde(default, with = "trimmed", skip_serializing_if = "is_empty")]
    pub latency: [u64; 11],
    /// The same time, all together.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub latency_millis: u64,
}

impl Mix {
    /// Counts one answer. A status that is none is of no class.
    pub fn count(&mut self, status: u64, millis: u64) {
        let class = (status / 100).checked_sub(1).and_then(|class| usize::try_from(class).ok());
        if let Some(class) = class.and_then(|class| self.classes.get_mut(class)) {
            *class += 1;
        }
        let bound = LATENCY_BOUNDS_MS.iter().position(|bound| millis <= *bound);
        self.latency[bound.unwrap_or(LATENCY_BOUNDS_MS.len())] += 1;
        self.latency_millis += millis;
    }

    fn with(self, other: Self, both: impl Fn(u64, u64) -> u64) -> Self {
        let mut mix = self;
        let theirs = other.classes.iter().chain(&other.latency).chain([&other.latency_millis]);
        let ours = mix.classes.iter_mut().chain(&mut mix.latency).chain([&mut mix.latency_millis]);
        ours.zip(theirs).for_each(|(ours, theirs)| *ours = both(*ours, *theirs));
        mix
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_empty<const N: usize>(counters: &[u64; N]) -> bool {
    counters.iter().all(is_zero)
}

/// A list of fixed length without the zeros at its end.
mod trimmed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer, const N: usize>(
        counters: &[u64; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let length = counters.iter().rposition(|n| *n > 0).map_or(0, |last| last + 1);
        counters[..length].serialize(serializer)
    }

    /// What is too much for us, of a newer agent, is left out.
    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u64; N], D::Error> {
        let given = Vec::<u64>::deserialize(deserializer)?;
        let mut counters = [0; N];
        counters.iter_mut().zip(given).for_each(|(counter, given)| *counter = given);
        Ok(counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        let mut mix = Mix::default();
        for (status, millis) in [(200, 5), (200, 6), (404, 0), (504, 30_000), (0, 7)] {
            mix.count(status, millis);
        }
        Counts { requests: 5, bad: 1, mix }
    }

    #[test]
    fn an_answer_is_in_one_bucket_and_one_class() {
        let Mix { classes, latency, latency_millis } = counts().mix;
        assert_eq!(classes, [0, 2, 0, 1, 1]);
        assert_eq!(latency, [2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(latency_millis, 30_018);
    }

    #[test]
    fn a_line_has_no_zeros_to_spare() {
        let mut mix = Mix::default();
        mix.count(200, 3);
        let counts = Counts { requests: 1, bad: 0, mix };
        let line = serde_json::to_string(&counts).unwrap();
        assert_eq!(line, r#"{"requests":1,"bad":0,"classes":[0,1],"latency":[1],"latencyMillis":3}"#);
        assert_eq!(serde_json::from_str::<Counts>(&line).unwrap(), counts);
        assert_eq!(serde_json::to_string(&Counts::default()).unwrap(), r#"{"requests":0,"bad":0}"#);
        let older: Counts = serde_json::from_str(r#"{"requests":7,"bad":1}"#).unwrap();
        assert_eq!((older.requests, older.mix), (7, Mix::default()));
    }

    #[test]
    fn differences_and_sums_take_all_of_it() {
        let twice = counts() + counts();
        assert_eq!(twice.requests, 10);
        assert_eq!(twice.since(counts()), counts());
        assert_eq!(Counts::default().since(counts()), Counts::default(), "another boot");
    }
}
