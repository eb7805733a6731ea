//! Stages: parts of a migration that come one after the other, and the gates between them.

use crate::hex::hex;
use crate::v1alpha1::DURATION;
use kube::KubeSchema;
use kube::core::Duration;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A part of the migration as people plan it: shared services first, then domain services, then production. Its routes
/// begin when the stage before it is done and all of its `gates` have passed. It is done when all of its routes are, and all
/// of its `exit` has passed. Once open it stays so: no edit and no rollback closes it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.exit) || self.exit.all(g, !has(g.drill))")
        .message("a drill is a gate before a stage: after it no route is at its first step"),
    validation = Rule::new("!has(self.gates) || self.gates.filter(g, has(g.drill)).size() <= 1")
        .message("a stage has one drill")
)]
pub struct Stage {
    /// Name by which routes mean this stage.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What has to pass before any route of this stage begins. All are asked at once when the stage before it is done, but
    /// approvals after all others have passed, and the drill last. Left out: the stage opens when it is its turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub gates: Vec<Gate>,
    /// What has to pass before the next stage is asked, once every route of this one is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub exit: Vec<Gate>,
}

/// One thing that has to pass. It says exactly one of what it may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.services), has(self.job), has(self.object), has(self.approval), has(self.drill)].exists_one(x, x)")
        .message("a gate is exactly one of `services`, `job`, `object`, `approval` and `drill`")
)]
pub struct Gate {
    /// Its name in status, Events and approvals.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Passes while StomatonServices are Ready. `{}` means those that the routes of this stage have as target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServicesGate>,
    /// Passes when a Job has completed: a dry run of a data migration, a backfill, a smoke or a load test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobGate>,
    /// Passes while a condition of any object of this namespace is as said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectGate>,
    /// `{}`: passes when a person has approved it: `kubectl stomaton approve --stage NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalGate>,
    /// Passes when a route was taken back on purpose at its first weight, and every edge pod followed in time. No other route
    /// of the stage begins before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillGate>,
}

/// Services that have to be Ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicesGate {
    /// Names of StomatonServices of this namespace. Empty: those that routes of this stage have as target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,
}

/// A Job that has to complete. One that failed is made anew when its template is mended, or when a person resumes the stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.within) >= duration('1s') && duration(self.within) <= duration('168h')")
        .message("`within` must be between 1s and 168h")
)]
pub struct JobGate {
    /// A CronJob of this namespace whose template the Job is made from; give it `suspend: true`. The last lines of a Job that
    /// failed stand in the status of the plan, so it must not print secrets.
    #[schemars(length(min = 1, max = 52))]
    pub cron_job: String,
    /// How long the Job may take; then it has failed.
    #[serde(default = "default_job_within")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub within: Duration,
}

fn default_job_within() -> Duration {
    Duration::from(std::time::Duration::from_secs(3600))
}

/// A condition that an object of this namespace has to have. The operator needs the right to get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectGate {
    /// API version of the object, as `apps/v1`.
    #[schemars(length(min = 1, max = 128))]
    pub api_version: String,
    /// Kind of the object, as `Deployment`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Type of the condition, as `Available`.
    #[schemars(length(min = 1, max = 316))]
    pub condition: String,
    /// What the condition has to be: True, False or Unknown.
    #[serde(default = "default_status")]
    #[schemars(length(max = 7), regex(pattern = "^(True|False|Unknown)$"))]
    pub status: String,
}

fn default_status() -> String {
    "True".to_owned()
}

/// An approval by a person. It says nothing more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ApprovalGate {}

/// A rollback on purpose: the route begins, fulfils everything that its first step asks for, is taken back, and begins anew.
/// It uses none of the route's attempts and has no cooldown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.within) >= duration('10ms') && duration(self.within) <= duration('1m')")
        .message("`within` must be between 10ms and 1m")
)]
pub struct DrillGate {
    /// A route of this stage that is in no group.
    #[schemars(length(min = 1, max = 63))]
    pub route: String,
    /// How long it may take from the decision until every edge pod has acknowledged it.
    #[serde(default = "default_drill_within")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub within: Duration,
}

fn default_drill_within() -> Duration {
    Duration::from(std::time::Duration::from_millis(250))
}

impl Gate {
    /// What is asked, in 16 digits: changes with every edit of the gate.
    pub fn hash(&self) -> String {
        // A type that was read from JSON can be written as such.
        let gate = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(gate)[..8])
    }
}

impl Stage {
    /// The route that has to be taken back once before the others of the stage begin.
    pub fn drill(&self) -> Option<&DrillGate> {
        self.gates.iter().find_map(|gate| gate.drill.as_ref())
    }
}
