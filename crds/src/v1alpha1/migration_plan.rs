//! `MigrationPlan`: moves routes of a Gateway to services, step by step, and back by itself.

use super::{BackendRef, DURATION, GatewaySpec, Method, RouteMatch};
use crate::ids;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
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
    validation = Rule::new("self.gatewayRef.name == oldSelf.gatewayRef.name")
        .message("a plan stays with its Gateway: make another plan")
)]
#[serde(rename_all = "camelCase")]
pub struct MigrationPlanSpec {
    /// The Gateway, in the same namespace.
    pub gateway_ref: GatewayRef,
    /// Routes to move. What a route matches is said in the Gateway only.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub routes: Vec<PlanRoute>,
    /// How fast.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub profiles: Vec<Profile>,
    /// What takes a route back at once, from what the edge counts itself.
    #[serde(default = "default_guards")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub guards: Vec<Guard>,
    /// What happens after a route was taken back.
    #[serde(default)]
    pub rollback: Rollback,
}

/// Names a Gateway of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    /// Name of the Gateway.
    #[schemars(length(min = 1, max = 53))]
    pub name: String,
}

/// One route to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanRoute {
    /// Name of a route of the Gateway.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Who takes over.
    pub target: BackendRef,
    /// Name of a profile of this plan.
    #[schemars(length(min = 1, max = 63))]
    pub profile: String,
    /// Routes of one group share their fate: they go up together, one that is taken back takes the others with it, and a
    /// user is on the same side of all of them. Left out: the route is for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub group: Option<String>,
    /// Lets the monolith answer where the service could not. Left out: a user gets what the service did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

/// The monolith answers a request that the service could not: for every method but PUT and DELETE when no connection could
/// be made; for GET, HEAD and OPTIONS also when the service broke off, was silent for too long, or answered 502, 503 or
/// 504. Each time counts as a bad answer of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.within) >= duration('10ms') && duration(self.within) <= duration('1m')")
        .message("`within` must be between 10ms and 1m")
)]
pub struct Fallback {
    /// PUT and DELETE, if a request that is made twice does no more than one that is made once. They are then like GET.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(m, m in ['PUT', 'DELETE'])")
            .message("only PUT and DELETE can be added: the others are, or never can be")
    )]
    pub also_for: Vec<Method>,
    /// A service that failed later than this is not helped out: the user has waited long enough.
    #[serde(default = "default_within")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub within: Duration,
}

fn default_within() -> Duration {
    Duration::from(std::time::Duration::from_secs(5))
}

impl MigrationPlanSpec {
    /// The other routes of its group.
    pub fn fellows<'a>(&'a self, route: &'a PlanRoute) -> impl Iterator<Item = &'a PlanRoute> {
        let is_fellow =
            |r: &&PlanRoute| route.group.is_some() && r.group == route.group && r.name != route.name;
        self.routes.iter().filter(is_fellow)
    }

    /// Why the route cannot move with its group.
    pub fn discord(&self, route: &PlanRoute) -> Option<String> {
        let other = self.fellows(route).find(|fellow| fellow.profile != route.profile)?;
        Some(format!(
            "routes {} and {} are of one group and have two profiles: give them the same",
            route.name, other.name
        ))
    }
}

impl MigrationPlan {
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

/// How fast a route moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Name by which routes mean this profile.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Weights to go through, ascending for each audience; the last is 1000 for everybody.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self[size(self) - 1].permille == 1000 && !has(self[size(self) - 1].audience)").message("the last step must be 1000 per mille, all of the traffic, for everybody"),
        validation = Rule::new("self.all(a, self.filter(b, has(a.audience) == has(b.audience) && (!has(a.audience) || a.audience == b.audience)).map(b, b.permille).isSorted())").message("weights must ascend, those of each audience for themselves"),
        validation = Rule::new("self.all(a, self.exists_one(b, a.permille == b.permille && has(a.audience) == has(b.audience) && (!has(a.audience) || a.audience == b.audience)))").message("two steps have the same weight")
    )]
    pub ramp: Vec<RampStep>,
    /// Answers of the service that must have been counted in a step before the next one: no evidence, no promotion.
    #[serde(default = "default_min_requests")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_requests: i64,
}

fn default_min_requests() -> i64 {
    20
}

/// One step of a ramp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.audience) || !(self.audience in ['public', 'testers'])")
        .message("leave `audience` out to mean everybody; testers need no step")
)]
pub struct RampStep {
    /// An audience of the Gateway's `cohort`, which gets this weight; everybody else keeps theirs. Left out: everybody, and
    /// no audience has less than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub audience: Option<String>,
    /// Share of keys that the service answers, in per mille.
    #[schemars(range(min = 1, max = 1000))]
    pub permille: i32,
    /// How long the step lasts at least, from the moment every edge pod acknowledged it.
    #[serde(default = "default_hold")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub min_hold: Duration,
}

fn default_hold() -> Duration {
    Duration::from(std::time::Duration::from_secs(60))
}

/// A hard guard: no statistics, no waiting. It trips when, looking back from now over no more than `window`, there is
/// a stretch in which the service gave at least `minBad` bad answers and they were at least `badPermille` of all it
/// gave. Bad is a 5xx, or no answer at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    /// Name, for the record.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Bad answers it takes at least.
    #[serde(default = "default_min_bad")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_bad: i64,
    /// Share of bad answers it takes, in per mille.
    #[serde(default = "default_bad_permille")]
    #[schemars(range(min = 1, max = 1000))]
    pub bad_permille: i64,
    /// How far back it looks.
    #[serde(default = "default_window")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub window: Duration,
}

fn default_min_bad() -> i64 {
    5
}

fn default_bad_permille() -> i64 {
    200
}

fn default_window() -> Duration {
    Duration::from(std::time::Duration::from_secs(10))
}

fn default_guards() -> Vec<Guard> {
    vec![Guard {
        name: "bad-answers".into(),
        min_bad: default_min_bad(),
        bad_permille: default_bad_permille(),
        window: default_window(),
    }]
}

/// What happens after a route was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// How long a route rests before the next attempt. Other users go first then.
    #[serde(default = "default_cooldown")]
    #[schemars(with = "String", length(max = 16), regex(pattern = DURATION))]
    pub cooldown: Duration,
    /// Attempts in all; after the last one a person is needed.
    #[serde(default = "default_attempts")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: i32,
}

fn default_cooldown() -> Duration {
    Duration::from(std::time::Duration::from_secs(300))
}

fn default_attempts() -> i32 {
    3
}

impl Default for Rollback {
    fn default() -> Self {
        Self { cooldown: default_cooldown(), max_attempts: default_attempts() }
    }
}

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
    /// Every route of the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub routes: Vec<RouteStatus>,
    /// What happened, oldest first, at most 100 entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Transition>,
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
    /// The weight goes up, step by step.
    Ramp,
    /// The service answers everything.
    Done,
    /// Being taken back: not every edge pod has acknowledged it.
    RollingBack,
    /// Taken back; the next attempt follows the cooldown, if one is left.
    RolledBack,
}

impl Phase {
    /// As it stands in an object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Ramp => "Ramp",
            Self::Done => "Done",
            Self::RollingBack => "RollingBack",
            Self::RolledBack => "RolledBack",
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
    /// What the route waits for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waits_for: String,
    /// What was counted in the present step.
    #[serde(default)]
    pub evidence: Evidence,
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
    /// Why, with the numbers.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> GatewaySpec {
        let routes = ["a", "b", "c", "d", "g"]
            .map(|name| serde_json::json!({"name": name, "match": {"pathPrefix": format!("/{name}")}}));
        serde_json::from_value(serde_json::json!({"defaultBackend": {"name": "m"}, "routes": routes}))
            .unwrap()
    }

    /// A plan whose status has these epochs, of routes as they are now.
    fn plan(routes: serde_json::Value, epochs: &[(&str, i64)]) -> MigrationPlan {
        let mut plan: MigrationPlan = serde_json::from_value(serde_json::json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan",
            "metadata": {"name": "p", "uid": "u"},
            "spec": {
                "gatewayRef": {"name": "edge"}, "routes": routes,
                "profiles": [{"name": "p", "ramp": [{"permille": 1000}]}],
            },
        }))
        .unwrap();
        let status = |(name, epoch): &(&str, i64)| {
            let route = plan.spec.routes.iter().find(|r| r.name == *name).unwrap();
            let matches = gateway().routes.iter().find(|r| r.name == *name).unwrap().matches.clone();
            RouteStatus {
                name: (*name).into(),
                id: plan.route_id(route, &matches),
                epoch: *epoch,
                ..RouteStatus::default()
            }
        };
        let routes = epochs.iter().map(status).collect();
        plan.status = Some(MigrationPlanStatus { routes, ..MigrationPlanStatus::default() });
        plan
    }

    fn route(name: &str, group: Option<&str>) -> serde_json::Value {
        serde_json::json!({"name": name, "target": {"name": "t"}, "profile": "p", "group": group})
    }

    #[test]
    fn routes_of_a_group_have_one_salt_and_others_their_own() {
        let routes = serde_json::json!([
            route("a", Some("g")),
            route("b", Some("g")),
            route("c", None),
            route("g", None),
            route("d", Some("h")),
        ]);
        let salts = |epochs: &[(&str, i64)]| {
            let plan = plan(routes.clone(), epochs);
            plan.spec.routes.iter().map(|route| plan.salt(route, &gateway())).collect::<Vec<_>>()
        };
        let before = salts(&[]);
        assert_eq!(before[0], before[1]);
        let distinct: std::collections::BTreeSet<_> = before.iter().collect();
        assert_eq!(distinct.len(), 4);
        assert_eq!(before[2], ids::salt("u", "c", 0));
        // A new epoch of one is one of all, and of nobody else.
        let after = salts(&[("b", 1)]);
        assert_eq!((&after[0], &after[2..]), (&after[1], &before[2..]));
        assert_ne!(after[0], before[0]);
        assert_eq!(salts(&[("a", 1), ("b", 1)]), after);
    }

    #[test]
    fn who_joins_a_group_begins_anew_and_changes_nothing_for_the_others() {
        let routes = |group| serde_json::json!([route("a", Some("g")), route("b", group)]);
        let alone = plan(routes(None), &[("a", 1), ("b", 7)]);
        let mut joined = alone.clone();
        joined.spec.routes[1].group = Some("g".into());
        let gateway = gateway();
        let matches = &gateway.routes[1].matches;
        let id = |plan: &MigrationPlan| plan.route_id(&plan.spec.routes[1], matches);
        assert_ne!(id(&alone), id(&joined));
        let salt = |plan: &MigrationPlan, at: usize| plan.salt(&plan.spec.routes[at], &gateway);
        assert_eq!(salt(&joined, 0), salt(&alone, 0));
        assert_eq!(salt(&joined, 1), salt(&alone, 0));
        assert_eq!(id(&alone), ids::route_id("b", matches, Some(("u", &alone.spec.routes[1].target))));
    }

    #[test]
    fn routes_of_a_group_agree() {
        let mut odd = route("b", Some("g"));
        odd["profile"] = "fast".into();
        let plan = plan(serde_json::json!([route("a", Some("g")), odd, route("c", None)]), &[]);
        let discords: Vec<_> = plan.spec.routes.iter().map(|route| plan.spec.discord(route)).collect();
        assert!(discords[0].as_ref().unwrap().contains("routes a and b"), "{discords:?}");
        assert!(discords[1].is_some() && discords[2].is_none());
    }
}
