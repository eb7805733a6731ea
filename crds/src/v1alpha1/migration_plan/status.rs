//! Where a migration stands.

use super::StartAt;
use crate::keys::AUDIENCE_PUBLIC;
use crate::v1alpha1::{Action, Outcome};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a migration stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationPlanStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, and while it applies Reconciling or Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The plan in a few words.
    #[serde(default)]
    pub summary: PlanSummary,
    /// Names the spec that this status speaks of, for approvals.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub spec_hash: String,
    /// Who stopped the plan by an act, until Resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<Held>,
    /// The last acts that were looked at, oldest first, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<Acted>,
    /// Every route of the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub routes: Vec<RouteStatus>,
    /// What happened, oldest first, at most 100 entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Transition>,
    /// Every stage of the plan, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub stages: Vec<StageStatus>,
}

/// Where a stage stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Name of the stage.
    pub name: String,
    /// Whether its routes may begin.
    #[serde(default)]
    pub phase: StagePhase,
    /// The gates before it; as they were when it opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub gates: Vec<GateStatus>,
    /// The gates after it; as they were when it was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub exit: Vec<GateStatus>,
}

/// Whether the routes of a stage may begin. It never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum StagePhase {
    /// Not yet: the stage before it is not done, or a gate has not passed.
    #[default]
    Waiting,
    /// They may.
    Open,
    /// They are done, and so is the stage.
    Done,
}

/// Where a gate stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// Name of the gate.
    pub name: String,
    /// Whether it has passed.
    #[serde(default)]
    pub state: GateState,
    /// How often a Job was made or a drill asked for, from 1; 0 before, and for all others.
    #[serde(default, skip_serializing_if = "crate::v1alpha1::is_default")]
    pub attempt: i32,
    /// What was asked, as a hash: an edit asks anew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// When it came to this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<MicroTime>,
    /// What it waits for, or what came of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Whether a gate has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum GateState {
    /// Not asked yet: something comes before it.
    #[default]
    Waiting,
    /// Asked, and not answered yet.
    Asked,
    /// It has. A Job, an approval and a drill stay so; services and objects may change until the stage opens.
    Passed,
    /// It has failed: mend it, or resume the stage.
    Failed,
}

impl StagePhase {
    /// As it stands in an object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Open => "Open",
            Self::Done => "Done",
        }
    }
}

impl GateState {
    /// As it stands in an object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Asked => "Asked",
            Self::Passed => "Passed",
            Self::Failed => "Failed",
        }
    }
}

/// A plan in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanSummary {
    /// Routes done, of all: `1/3`.
    #[serde(default)]
    pub done: String,
    /// What goes on: `content 25.0 %`.
    #[serde(default)]
    pub now: String,
}

/// Where a route is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Phase {
    /// Not begun: the monolith answers.
    #[default]
    Pending,
    /// The weight of an audience goes up, nobody else's.
    Cohort,
    /// The weight of everybody goes up, step by step.
    Ramp,
    /// The service answers everything, and is watched.
    Soak,
    /// The service answers everything.
    Done,
    /// Being taken back: not every edge pod has acknowledged it.
    RollingBack,
    /// Taken back; the next attempt follows the cooldown, if one is left.
    RolledBack,
    /// Users are hurt, and the point of no return is behind it: it stays with the service until a person resumes it.
    Frozen,
}

impl Phase {
    /// Whether the service answers, or may answer, some of the requests.
    pub fn has_weight(self) -> bool {
        matches!(self, Self::Cohort | Self::Ramp | Self::Soak | Self::Done | Self::Frozen)
    }

    /// Whether the way goes on from here without a person.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Cohort | Self::Ramp | Self::Soak)
    }

    /// As it stands in an object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Cohort => "Cohort",
            Self::Ramp => "Ramp",
            Self::Soak => "Soak",
            Self::Done => "Done",
            Self::RollingBack => "RollingBack",
            Self::RolledBack => "RolledBack",
            Self::Frozen => "Frozen",
        }
    }
}

/// Where a route stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// Name of the route.
    pub name: String,
    /// Its identity at the edge; changes when the route or its target is edited, and the route then begins anew.
    #[serde(default)]
    pub id: String,
    /// Where it is on its way.
    #[serde(default)]
    pub phase: Phase,
    /// Step of the ramp, from 1; 0 before it.
    #[serde(default)]
    pub step: i32,
    /// Attempt, from 1; 0 before the first.
    #[serde(default)]
    pub attempt: i32,
    /// Changes before every further attempt, so that other users go first.
    #[serde(default)]
    pub epoch: i64,
    /// Revision of EdgeWeights that the present step was written as.
    #[serde(default)]
    pub revision: i64,
    /// Weights of everybody, in per mille.
    #[serde(default)]
    pub weights: Weights,
    /// Weights of audiences that have one of their own, in per mille.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub audiences: BTreeMap<String, i32>,
    /// When every edge pod had acknowledged the present step, or the phase began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<MicroTime>,
    /// Who holds it by an act, until Resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Who took it back by an act, until Resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recalled: Option<Held>,
    /// The attempt that an act allows beyond those of the spec; 0: none.
    #[serde(default, skip_serializing_if = "crate::v1alpha1::is_default")]
    pub granted: i32,
    /// The step that a person has approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<i32>,
    /// The step that a person wants entered without waiting; those after the ramp are Soak and Done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<i32>,
    /// What the route waits for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waits_for: String,
    /// What was counted in the present step.
    #[serde(default)]
    pub evidence: Evidence,
    /// What each judge says of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub judges: Vec<JudgeStatus>,
    /// The pods that evidence is of, by what made them: when either side is replaced, judges begin anew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revisions: String,
    /// It is about to cross its point of no return: nothing leads back any more, and the edge pods are being told.
    #[serde(default, skip_serializing_if = "crate::v1alpha1::is_default")]
    pub crossing: bool,
    /// The point of no return is behind it.
    #[serde(default, skip_serializing_if = "crate::v1alpha1::is_default")]
    pub crossed: bool,
    /// The phase in which it froze, and to which Resume leads back; absent unless it is Frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_in: Option<Phase>,
    /// Where its first attempt begins, since the plan was new when it said so; gone with that attempt, or with an edit of
    /// the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<StartAt>,
    /// The weights at which it was taken back last, in per mille by audience; `public` is everybody. Gone when the next
    /// attempt begins.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 9))]
    pub fell_from: BTreeMap<String, i32>,
    /// The last time it was taken back for a drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
}

impl RouteStatus {
    /// Whether nothing may lead the route back to the monolith any more.
    pub fn has_no_way_back(&self) -> bool {
        self.crossing || self.crossed
    }

    /// Whether its last attempt was taken back for a drill, or is being.
    pub fn is_drilled(&self) -> bool {
        self.drill.as_ref().is_some_and(|drill| drill.attempt == self.attempt)
    }

    /// The weights that the plan wants now, in per mille by audience; `public` is everybody.
    pub fn permille(&self) -> BTreeMap<String, i32> {
        let mut permille = self.audiences.clone();
        permille.insert(AUDIENCE_PUBLIC.to_owned(), self.weights.desired);
        permille
    }
}

/// A rollback on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drill {
    /// When it was decided.
    pub asked: MicroTime,
    /// After how many milliseconds every edge pod had acknowledged it; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<i64>,
    /// The attempt that was taken back.
    pub attempt: i32,
    /// Attempts of the route that drills have taken: they do not count against `rollback.maxAttempts`.
    pub drills: i32,
}

/// What a judge says of the present step, and of what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JudgeStatus {
    /// Its name.
    pub name: String,
    /// What it says.
    #[serde(default)]
    pub verdict: Verdict,
    /// What it has counted: `bad` are the answers that are bad to this judge.
    #[serde(default)]
    pub counted: Evidence,
    /// What came before it began, in the present step: warm-up, or pods that are gone.
    #[serde(default, skip_serializing_if = "crate::v1alpha1::is_default")]
    pub left_out: Evidence,
    /// Share of answers of the monolith that were bad when it last gave a hundred, in per mille: what the service is measured
    /// by when the monolith answers nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monolith_permille: Option<i32>,
    /// Evidence that the service is worse, in thousandths of a nat (natural logarithm of the e-value).
    #[serde(default)]
    pub harm_millinats: i64,
    /// Evidence that it is not worse than the margin, or below the absolute bound: the greater of the two.
    #[serde(default)]
    pub safe_millinats: i64,
    /// What is still missing, with the numbers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub missing: String,
    /// From when on Prometheus counts; of a judge of Prometheus only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<MicroTime>,
}

/// What a judge says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Verdict {
    /// Too little is known.
    #[default]
    NotYet,
    /// The service is good enough.
    Safe,
    /// The service hurts users.
    Harm,
}

/// Who stopped something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Whose act it was.
    pub by: String,
    /// Why, as they say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it was done.
    pub at: MicroTime,
}

/// An act that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acted {
    /// Name of the PlanAction.
    pub name: String,
    /// Its UID: none is done twice.
    pub uid: String,
    /// What it was.
    pub action: Action,
    /// The route it was for; absent: the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Whose.
    pub user: String,
    /// Whether it was done.
    pub outcome: Outcome,
    /// What was done, or why not.
    pub message: String,
    /// When.
    pub at: MicroTime,
    /// The stage it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

/// Weights of a route, in per mille.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Weights {
    /// What the plan wants now.
    #[serde(default)]
    pub desired: i32,
    /// What every running edge pod acknowledged.
    #[serde(default)]
    pub applied: i32,
    /// What was counted in the present step; absent before anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<i32>,
}

/// Answers of the service that were counted in the present step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// All answers of the service.
    #[serde(default)]
    pub requests: i64,
    /// Those that were bad.
    #[serde(default)]
    pub bad: i64,
    /// All answers of the monolith.
    #[serde(default)]
    pub monolith_requests: i64,
    /// Those that were bad.
    #[serde(default)]
    pub monolith_bad: i64,
}

/// One thing that happened to a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// When it was decided.
    pub at: MicroTime,
    /// Name of the route.
    pub route: String,
    /// Phase after it.
    pub phase: Phase,
    /// Weight of everybody after it, in per mille.
    pub permille: i32,
    /// Revision of EdgeWeights that carries it.
    pub revision: i64,
    /// When every running edge pod had acknowledged it; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<MicroTime>,
    /// What was counted in the step that ended with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// Why, with the numbers.
    pub message: String,
}
