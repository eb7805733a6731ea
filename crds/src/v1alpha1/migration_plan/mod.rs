//! `MigrationPlan`: moves routes of a Gateway to services, step by step, and back by itself.

mod guard;
mod judge;
mod limits;
mod profile;
mod route;
mod stage;
mod start;
mod status;

pub use guard::{Guard, RestartAt, Rollback};
pub use judge::{Bad, Certainty, Judge, PrometheusCounts};
pub use limits::{AdvanceWindow, Budget, Day, DeletionPolicy, Freeze, Halt, Mode, Windows};
pub use profile::{Profile, RampStep};
pub use route::{Class, Fallback, PlanRoute, PointOfNoReturn};
pub use stage::{ApprovalGate, DrillGate, Gate, JobGate, ObjectGate, ServicesGate, Stage};
pub use start::StartAt;
pub use status::{
    Acted, Drill, Evidence, GateState, GateStatus, Held, JudgeStatus, MigrationPlanStatus, Phase,
    PlanSummary, RouteStatus, StagePhase, StageStatus, Transition, Verdict, Weights,
};

use super::{GatewaySpec, RouteMatch, is_default};
use crate::hex::hex;
use crate::ids;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A migration: which routes of a Gateway go to which services, how fast, and what takes them back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "fleet.stomaton.com",
    version = "v1alpha1",
    kind = "MigrationPlan",
    shortname = "mplan",
    category = "stomaton",
    namespaced,
    status = "MigrationPlanStatus",
    derive = "PartialEq",
    doc = "Moves routes of a Gateway to services in steps, and takes them back when users would be hurt.",
    printcolumn(name = "Gateway", type_ = "string", json_path = ".spec.gatewayRef.name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Done", type_ = "string", json_path = ".status.summary.done"),
    printcolumn(name = "Now", type_ = "string", json_path = ".status.summary.now"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.routes.all(r, self.profiles.exists(p, p.name == r.profile))")
        .message("every route names a profile of this plan"),
    validation = Rule::new("self.routes.all(a, !has(a.group) || self.routes.all(b, !has(b.group) || a.group != b.group || a.profile == b.profile))")
        .message("routes of a group move together: give them the same profile"),
    validation = Rule::new("self.routes.all(r, !has(r.dependsOn) || (!(r.name in r.dependsOn) && sets.contains(self.routes.map(o, o.name), r.dependsOn)))")
        .message("`dependsOn` names other routes of this plan"),
    validation = Rule::new("self.routes.all(r, !has(r.stage) || (has(self.stages) && self.stages.exists(s, s.name == r.stage)))")
        .message("`stage` of a route names a stage of this plan"),
    validation = Rule::new("self.gatewayRef.name == oldSelf.gatewayRef.name")
        .message("a plan stays with its Gateway: make another plan")
)]
#[serde(rename_all = "camelCase")]
pub struct MigrationPlanSpec {
    /// The Gateway, in the same namespace.
    pub gateway_ref: GatewayRef,
    /// Whether weights rise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// The emergency brake. It works at any time, and whatever else is said here.
    #[serde(default, skip_serializing_if = "is_default")]
    pub halt: Halt,
    /// How much may be at risk at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub budget: Budget,
    /// When weights may rise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub windows: Windows,
    /// Routes to move. What a route matches is said in the Gateway only.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub routes: Vec<PlanRoute>,
    /// How fast.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub profiles: Vec<Profile>,
    /// What takes a route back at once, from what the edge counts itself.
    #[serde(default = "guard::default_guards")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub guards: Vec<Guard>,
    /// What has to be shown before a weight rises. Left out: that errors, answers slower than a second and client errors
    /// are not more than the monolith's. Empty: nothing is compared, and `minRequests` alone decides.
    #[serde(default = "judge::default_judges")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub judges: Vec<Judge>,
    /// How sure judges have to be.
    #[serde(default)]
    pub certainty: Certainty,
    /// What happens after a route was taken back.
    #[serde(default)]
    pub rollback: Rollback,
    /// What happens to the traffic when this plan is deleted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deletion_policy: DeletionPolicy,
    /// Parts of the migration, in their order: each opens when the one before it is done and its gates have passed. Left out:
    /// routes begin when nothing else keeps them. Routes that name no stage are bound by none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub stages: Vec<Stage>,
}

/// Names a Gateway of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    /// Name of the Gateway.
    #[schemars(length(min = 1, max = 53))]
    pub name: String,
}

impl MigrationPlanSpec {
    /// The other routes of its group.
    pub fn fellows<'a>(&'a self, route: &'a PlanRoute) -> impl Iterator<Item = &'a PlanRoute> {
        let is_fellow =
            |r: &&PlanRoute| route.group.is_some() && r.group == route.group && r.name != route.name;
        self.routes.iter().filter(is_fellow)
    }

    /// What an approval is bound to: changes with every edit of the spec.
    pub fn hash(&self) -> String {
        // A type that was read from JSON can be written as such.
        let spec = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(spec)[..8])
    }

    /// Routes that wait for each other, if there are any. Those of a group begin together, so that what one of them waits
    /// for, all of them wait for. Those of a stage wait for all of the stages before it, and for the drill of their own.
    pub fn cycle(&self) -> Option<Vec<&str>> {
        let places: BTreeMap<&str, usize> =
            self.stages.iter().enumerate().map(|(at, stage)| (stage.name.as_str(), at)).collect();
        let place = |route: &PlanRoute| places.get(route.stage.as_deref()?).copied();
        let drilled = |at: usize| Some(self.stages.get(at)?.drill()?.route.as_str());
        let staged = |route: &PlanRoute, other: &PlanRoute| match (place(route), place(other)) {
            (Some(at), Some(before)) if before < at => true,
            (Some(at), Some(same)) if at == same => {
                route.name != other.name && drilled(at) == Some(other.name.as_str())
            }
            _ => false,
        };
        let needs = |route: &PlanRoute, other: &PlanRoute| {
            let waits = |r: &PlanRoute| r.depends_on.contains(&other.name) || staged(r, other);
            std::iter::once(route).chain(self.fellows(route)).any(waits)
        };
        let mut left: Vec<&PlanRoute> = self.routes.iter().collect();
        loop {
            let waits = |r: &&PlanRoute| left.iter().any(|other| needs(r, other));
            let stuck: Vec<&PlanRoute> = left.iter().copied().filter(waits).collect();
            if stuck.len() == left.len() {
                break;
            }
            left = stuck;
        }
        let mut chain = vec![*left.first()?];
        loop {
            let next = *left.iter().find(|other| chain.last().is_some_and(|last| needs(last, other)))?;
            if let Some(at) = chain.iter().position(|route| route.name == next.name) {
                return Some(chain[at..].iter().map(|route| route.name.as_str()).collect());
            }
            chain.push(next);
        }
    }

    /// Why a stage cannot have its drill. A rule of the schema would cost too much.
    pub fn undrillable(&self) -> Option<String> {
        let is_of = |route: &PlanRoute, stage: &Stage| {
            route.stage.as_ref() == Some(&stage.name) && route.group.is_none()
        };
        self.stages.iter().find_map(|stage| {
            let name = &stage.drill()?.route;
            let can = self.routes.iter().any(|route| route.name == *name && is_of(route, stage));
            (!can).then(|| {
                format!(
                    "stage {} drills route {name}: name a route of this stage that is in no group",
                    stage.name
                )
            })
        })
    }

    /// Why the route cannot move with its group.
    pub fn discord(&self, route: &PlanRoute) -> Option<String> {
        let discord = |fellow: &PlanRoute| {
            let profiles = (fellow.profile != route.profile).then_some("profiles");
            let points =
                (fellow.point_of_no_return != route.point_of_no_return).then_some("points of no return");
            Some((fellow.name.clone(), profiles.or(points)?))
        };
        let (other, what) = self.fellows(route).find_map(discord)?;
        let name = &route.name;
        Some(format!("routes {name} and {other} are of one group and have two {what}: give them the same"))
    }
}

impl MigrationPlan {
    /// Whether nothing may lead the route of this name back to the monolith any more. An edit of it changes nothing of that, so
    /// its identity does not matter.
    pub fn has_no_way_back(&self, route: &str) -> bool {
        let routes = self.status.iter().flat_map(|status| &status.routes);
        routes.filter(|status| status.name == route).any(RouteStatus::has_no_way_back)
    }

    /// Identity at the edge of a route that moves as `route` says. In another group it is another route, which begins at 0:
    /// its salt would change under those who are on the service.
    pub fn route_id(&self, route: &PlanRoute, matches: &RouteMatch) -> String {
        let uid = self.metadata.uid.as_deref().unwrap_or_default();
        let mover = route.group.as_ref().map_or_else(|| uid.to_owned(), |group| format!("{uid}/{group}"));
        ids::route_id(&route.name, matches, Some((&mover, &route.target)))
    }

    /// Salt of a route: that of its group, at the highest epoch that any route of it has. What status says of a route as
    /// it was before an edit does not count.
    pub fn salt(&self, route: &PlanRoute, gateway: &GatewaySpec) -> String {
        let epoch = |route: &PlanRoute| {
            let matches = &gateway.routes.iter().find(|r| r.name == route.name)?.matches;
            let id = self.route_id(route, matches);
            let status = self.status.as_ref()?.routes.iter().find(|r| r.name == route.name && r.id == id)?;
            Some(status.epoch)
        };
        let epoch = std::iter::once(route).chain(self.spec.fellows(route)).filter_map(epoch).max();
        // No route can have this name.
        let group = route.group.as_ref().map(|group| format!("group:{group}"));
        let uid = self.metadata.uid.as_deref().unwrap_or_default();
        ids::salt(uid, group.as_ref().unwrap_or(&route.name), epoch.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
