//! What must be shown before a weight rises, and what shows that users are hurt although no guard trips.

use crate::v1alpha1::DURATION;
use kube::KubeSchema;
use kube::core::Duration;
use serde::{Deserialize, Serialize};

/// Compares the service with the monolith, by what the edge, or Prometheus, counts of both in the present step. It says
/// Harm when the service is worse beyond chance and beyond `tolerablePermille`: the route is taken back. It says Safe when
/// the service is no more than `safeMarginPermille` times as bad as the monolith, or its share of bad answers is below
/// `absolutePermille`: the weight may rise. Until then it says NotYet, and the weight stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.of == 'Slow') == has(self.slowerThan)")
        .message("`slowerThan` belongs to a judge of Slow, and only there"),
    validation = Rule::new("!has(self.slowerThan) || self.slowerThan in ['5ms', '10ms', '25ms', '50ms', '100ms', '250ms', '500ms', '1s', '2500ms', '5s']")
        .message("the edge counts by these bounds: 5ms, 10ms, 25ms, 50ms, 100ms, 250ms, 500ms, 1s, 2500ms, 5s"),
    validation = Rule::new("(self.of == 'Prometheus') == has(self.prometheus)")
        .message("`prometheus` belongs to a judge of Prometheus, and only there")
)]
pub struct Judge {
    /// Name, for the record.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Which answers are bad.
    pub of: Bad,
    /// What takes longer than this is slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 16), regex(pattern = DURATION))]
    pub slower_than: Option<Duration>,
    /// Share of bad answers that is tolerable, in per mille: below it nothing is Harm.
    #[serde(default = "default_tolerable")]
    #[schemars(range(min = 0, max = 1000))]
    pub tolerable_permille: i32,
    /// How much worse than the monolith is still safe: 2000 is twice as bad.
    #[serde(default = "default_safe_margin")]
    #[schemars(range(min = 1100, max = 100_000))]
    pub safe_margin_permille: i32,
    /// A share of bad answers that is surely below this is safe whatever the monolith does, in per mille.
    #[serde(default = "default_absolute")]
    #[schemars(range(min = 1, max = 500))]
    pub absolute_permille: i32,
    /// What counts, where Prometheus does and not the edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusCounts>,
}

/// Two queries, each asked of either side. Each gives one number: how many answers that side gave since counting began.
/// Where Prometheus is, is the operator's to say (`--prometheus-url`).
///
/// Put in their places: `{{route}}`, the name of the route; `{{side}}`, `service` or `monolith`; `{{target}}`, the name of
/// the Service that answers on that side; `{{namespace}}`; `{{window}}`, how long counting has lasted, as in `37s`. All of
/// them are names of Kubernetes or a number of seconds, so none can end a string or begin another selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusCounts {
    /// Counts the bad answers. A query that gives nothing means none.
    #[schemars(length(min = 1, max = 1024), regex(pattern = QUERY))]
    pub bad: String,
    /// Counts all answers. A query that gives nothing means that nothing is known: the judge waits.
    #[schemars(length(min = 1, max = 1024), regex(pattern = QUERY))]
    pub all: String,
}

/// Pattern of a query: two braces begin one of the known placeholders, and nothing else.
const QUERY: &str = r"^([^{]|\{[^{]|\{\{(route|side|target|namespace|window)\}\})*$";

/// Answers that a judge counts as bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Bad {
    /// 5xx, or no answer at all; also where the monolith helped out.
    Errors,
    /// Slower than a bound.
    Slow,
    /// 4xx: a service that answers 404 or 401 where the monolith answers 200.
    ClientErrors,
    /// 3xx.
    Redirects,
    /// What a query to Prometheus counts.
    Prometheus,
}

fn default_tolerable() -> i32 {
    1
}

fn default_safe_margin() -> i32 {
    2000
}

fn default_absolute() -> i32 {
    20
}

/// Errors, what is slower than a second, and client errors.
pub(super) fn default_judges() -> Vec<Judge> {
    let judge = |name: &str, of, slower_than: Option<u64>| Judge {
        name: name.into(),
        of,
        slower_than: slower_than.map(|seconds| std::time::Duration::from_secs(seconds).into()),
        tolerable_permille: default_tolerable(),
        safe_margin_permille: default_safe_margin(),
        absolute_permille: default_absolute(),
        prometheus: None,
    };
    vec![
        judge("errors", Bad::Errors, None),
        judge("slow", Bad::Slow, Some(1)),
        judge("client-errors", Bad::ClientErrors, None),
    ]
}

/// How sure the judges of a plan have to be, in each step. Judges share these among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certainty {
    /// How likely a service that is as good as the monolith may be taken for harmful, in per mille.
    #[serde(default = "default_certainty")]
    #[schemars(range(min = 1, max = 200))]
    pub false_harm_permille: i32,
    /// How likely a service that is worse than its margin may be taken for safe, in per mille.
    #[serde(default = "default_certainty")]
    #[schemars(range(min = 1, max = 200))]
    pub false_safe_permille: i32,
    /// What is counted before a step has lasted so long is left out: caches are cold.
    #[serde(default = "default_warm_up")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub warm_up: Duration,
}

fn default_certainty() -> i32 {
    10
}

fn default_warm_up() -> Duration {
    Duration::from(std::time::Duration::from_secs(2))
}

impl Default for Certainty {
    fn default() -> Self {
        Self {
            false_harm_permille: default_certainty(),
            false_safe_permille: default_certainty(),
            warm_up: default_warm_up(),
        }
    }
}
