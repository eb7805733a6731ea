//! `PlanAction`: one act of a person or a pipeline on a MigrationPlan.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One act on a plan. It cannot be changed, and nobody can say that it was somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "fleet.stomaton.com",
    version = "v1alpha1",
    kind = "PlanAction",
    shortname = "pact",
    category = "stomaton",
    namespaced,
    status = "PlanActionStatus",
    derive = "PartialEq",
    doc = "One act of a person or a pipeline on a MigrationPlan: Approve, Hold, Resume, Promote, Rollback or Halt.",
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.plan"),
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Route", type_ = "string", json_path = ".spec.route"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".spec.stage"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("an act cannot be changed: make another one"),
    validation = Rule::new("self.action != 'Halt' || !has(self.route)")
        .message("Halt is for the whole plan: Hold stops one route"),
    validation = Rule::new("(self.action == 'Approve') == has(self.approves)")
        .message("`approves` belongs to Approve, and only there"),
    validation = Rule::new("!(self.action in ['Promote', 'Hold']) || has(self.route)")
        .message("Promote and Hold name a route"),
    validation = Rule::new("self.action != 'Approve' || has(self.route) || has(self.stage)")
        .message("Approve names a route or a stage"),
    validation = Rule::new("!has(self.stage) || (self.action in ['Approve', 'Resume'] && !has(self.route))")
        .message("only Approve and Resume are for a stage, and then for no route"),
    validation = Rule::new("!has(self.approves) || (has(self.approves.attempt) == has(self.route) && has(self.approves.step) == has(self.route))")
        .message("`approves` names attempt and step of a route, and neither of a stage")
)]
#[serde(rename_all = "camelCase")]
pub struct PlanActionSpec {
    /// Name of the plan, in the same namespace.
    #[schemars(length(min = 1, max = 63))]
    pub plan: String,
    /// What to do.
    pub action: Action,
    /// The route, and with it those of its group. Left out: all of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub route: Option<String>,
    /// Whose act it is: must be the name by which the API server knows whoever creates this.
    #[schemars(length(min = 1, max = 256))]
    pub user: String,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,
    /// What is approved. Approves nothing when the plan was edited meanwhile, or the route is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approves: Option<Approves>,
    /// The stage whose gates are approved, or asked anew where they failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub stage: Option<String>,
}

/// What somebody has looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approves {
    /// Attempt of the route, from 1. Not for a stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub attempt: Option<i32>,
    /// Step of the ramp that may be entered, from 1. Not for a stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub step: Option<i32>,
    /// `status.specHash` of the plan.
    #[schemars(length(min = 16, max = 64), regex(pattern = "^[0-9a-f]+$"))]
    pub spec_hash: String,
}

/// An act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Action {
    /// Lets a route enter a step that needs it, or passes the gates of a stage that need it.
    Approve,
    /// The route's weight does not rise until Resume.
    Hold,
    /// Ends Hold, Halt and Rollback of people; a route whose attempts are used begins another. Of a stage: asks the gates
    /// anew that failed.
    Resume,
    /// The route enters its next step now, without waiting for time, evidence or an approval. Guards and judges stay.
    Promote,
    /// The route goes back to the monolith, and stays there until Resume.
    Rollback,
    /// No weight of the plan rises until Resume.
    Halt,
}

impl Action {
    /// As it stands in an object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "Approve",
            Self::Hold => "Hold",
            Self::Resume => "Resume",
            Self::Promote => "Promote",
            Self::Rollback => "Rollback",
            Self::Halt => "Halt",
        }
    }
}

/// What became of an act. Written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanActionStatus {
    /// Whether it was done.
    pub outcome: Outcome,
    /// What was done, or why not.
    pub message: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<MicroTime>,
}

/// Whether an act was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Outcome {
    /// It was.
    Done,
    /// It was not: the message says why.
    #[default]
    Refused,
}
