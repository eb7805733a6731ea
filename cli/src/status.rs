//! `status`: where every route of a plan is. Pure.

use crate::{
    find,
    table::table,
    words::{cut, moment, percent, plain},
};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use stomaton_crds::v1alpha1::{
    GateState, GateStatus, Halt, Held, MigrationPlan, Mode, PlanRoute, RouteStatus, Stage, StagePhase,
    StageStatus,
};

/// Longest text of the last column, unless it is asked for.
const WAITS: usize = 60;

const HEAD: [&str; 8] = ["ROUTE", "PHASE", "STEP", "DESIRED", "APPLIED", "OBSERVED", "JUDGES", "WAITS FOR"];

const STAGES: [&str; 4] = ["STAGE", "PHASE", "GATES", "WAITS FOR"];

/// The plan in a few lines, a line for each stage if it has some, and a line for each route.
pub fn text(plan: &MigrationPlan, wide: bool) -> String {
    let rows: Vec<_> = plan.spec.routes.iter().map(|route| row(plan, route, wide)).collect();
    let staged: Vec<_> = plan.spec.stages.iter().map(|stage| stage_row(plan, stage, wide)).collect();
    let stages = if staged.is_empty() { String::new() } else { format!("{}\n", table(STAGES, &staged)) };
    format!("{}\n\n{stages}{}", summary(plan).join("\n"), table(HEAD, &rows))
}

/// The same for programs.
pub fn object(plan: &MigrationPlan) -> Value {
    let spec = &plan.spec;
    json!({
        "plan": plan.name_any(), "namespace": plan.namespace(), "gateway": spec.gateway_ref.name,
        "generation": plan.metadata.generation, "mode": spec.mode, "halt": spec.halt, "budget": spec.budget,
        "status": plan.status,
    })
}

fn summary(plan: &MigrationPlan) -> Vec<String> {
    let spec = &plan.spec;
    let name = format!("{}/{}", plan.namespace().unwrap_or_default(), plan.name_any());
    let mut lines = vec![format!("Plan {name} on Gateway {}: {}", spec.gateway_ref.name, ready(plan))];
    if let Err(error) = find::current(plan) {
        lines.push(error.to_string());
    }
    lines.push(bounds(plan));
    if let Some(halted) = plan.status.as_ref().and_then(|status| status.halted.as_ref()) {
        lines.push(format!("Halted {}; `kubectl stomaton resume` ends it", held(halted)));
    }
    lines
}

fn ready(plan: &MigrationPlan) -> String {
    let mut conditions = plan.status.iter().flat_map(|status| &status.conditions);
    match conditions.find(|condition| condition.type_ == "Ready") {
        Some(ready) => {
            let word = if ready.status == "True" { "Ready" } else { "NOT READY" };
            format!("{word}, {}: {}", ready.reason, plain(&ready.message))
        }
        None => "nothing is known of it yet".to_owned(),
    }
}

fn bounds(plan: &MigrationPlan) -> String {
    let spec = &plan.spec;
    let mode = match spec.mode {
        Mode::Enforce => "Enforce",
        Mode::Observe => "Observe (no weight rises)",
    };
    let halt = match spec.halt {
        Halt::None => "None",
        Halt::HoldAll => "HoldAll (no weight rises)",
        Halt::RollbackAll => "RollbackAll (every route goes back to the monolith)",
    };
    let statuses = plan.status.iter().flat_map(|status| &status.routes);
    let moving = statuses.filter(|route| route.phase.is_under_way()).count();
    let routes = match spec.budget.moving_routes {
        Some(most) => format!("{moving} of at most {most} routes moving"),
        None => format!("{moving} of any number of routes moving"),
    };
    let bad = spec.budget.bad_per_day.map(|bad| format!(", at most {bad} bad answers a day"));
    format!("Mode {mode}, halt {halt}, budget: {routes}{}", bad.unwrap_or_default())
}

/// Who stopped something, when and why: stands after what was done.
pub fn held(held: &Held) -> String {
    let reason = if held.reason.is_empty() { String::new() } else { format!(": {}", plain(&held.reason)) };
    format!("by {} at {}{reason}", plain(&held.by), moment(held.at.0))
}

fn row(plan: &MigrationPlan, route: &PlanRoute, wide: bool) -> [String; 8] {
    let unknown = RouteStatus { name: route.name.clone(), ..RouteStatus::default() };
    let status = find::route_status(plan, &route.name).unwrap_or(&unknown);
    let held = if status.held.is_some() || status.recalled.is_some() { " (Held)" } else { "" };
    let steps = find::profile(plan, &route.name).map_or(0, |profile| profile.ramp.len());
    let waits = if wide { status.waits_for.clone() } else { cut(&status.waits_for, WAITS) };
    [
        route.name.clone(),
        format!("{}{held}", status.phase.as_str()),
        format!("{}/{steps}", status.step),
        desired(status),
        percent(status.weights.applied),
        status.weights.observed.map(percent).unwrap_or_default(),
        judges(status),
        waits,
    ]
}

fn stage_row(plan: &MigrationPlan, stage: &Stage, wide: bool) -> [String; 4] {
    let unknown = StageStatus { name: stage.name.clone(), ..StageStatus::default() };
    let status = find::stage_status(plan, &stage.name).unwrap_or(&unknown);
    let gates = match status.phase {
        StagePhase::Waiting => &status.gates,
        StagePhase::Open | StagePhase::Done => &status.exit,
    };
    let each = gates.iter().map(|gate| format!("{} {}", gate.name, gate.state.as_str()));
    // What has failed is what a person has to know of first.
    let calm = |gate: &&GateStatus| gate.state != GateState::Failed;
    let open = gates.iter().filter(|gate| gate.state != GateState::Passed).min_by_key(calm);
    let waits = open.map(|gate| format!("{}: {}", gate.name, gate.message)).unwrap_or_default();
    [
        stage.name.clone(),
        status.phase.as_str().to_owned(),
        each.collect::<Vec<_>>().join(", "),
        if wide { waits } else { cut(&waits, WAITS) },
    ]
}

/// What everybody is to have, or an audience while nobody else has any.
fn desired(status: &RouteStatus) -> String {
    match status.audiences.iter().max_by_key(|(_, permille)| **permille) {
        Some((audience, permille)) if status.weights.desired == 0 => {
            format!("{audience} {}", percent(*permille))
        }
        _ => percent(status.weights.desired),
    }
}

fn judges(status: &RouteStatus) -> String {
    let judges = status.judges.iter().map(|judge| format!("{} {:?}", judge.name, judge.verdict));
    judges.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn every_route_has_a_line() {
        let expected = "\
Plan fleet/shop on Gateway edge: Ready, Migrating: route content waits for evidence
Mode Enforce, halt None, budget: 1 of at most 2 routes moving

ROUTE     PHASE         STEP   DESIRED   APPLIED   OBSERVED   JUDGES                     WAITS FOR
content   Ramp (Held)   2/3    25.0 %    25.0 %    24.8 %     errors Safe, slow NotYet   Resume
media     Done          3/3    100.0 %   100.0 %   -          -                          -
orders    Pending       0/3    0.0 %     0.0 %     -          -                          -
";
        assert_eq!(text(&testing::plan(), false), expected);
    }

    #[test]
    fn every_stage_has_a_line_with_its_gates() {
        let expected = "
STAGE    PHASE     GATES                      WAITS FOR
shared   Done      -                          -
domain   Waiting   dry-run Passed, go Asked   go: kubectl stomaton approve --stage domain

ROUTE ";
        let said = text(&testing::staged(), false);
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn what_needs_a_person_stands_on_top() {
        let mut plan = testing::plan();
        plan.metadata.generation = Some(5);
        plan.spec.halt = Halt::HoldAll;
        let status = plan.status.as_mut().unwrap();
        status.halted = status.routes[0].held.clone();
        status.conditions[0].status = "False".into();
        status.routes[0].waits_for = "x".repeat(80);
        let said = text(&plan, false);
        for part in [
            "NOT READY, Migrating",
            "generation 5, status speaks of 4",
            "halt HoldAll (no weight rises)",
            "Halted by alice at 2026-01-02T03:04:05Z: sale; `kubectl stomaton resume` ends it",
            "xxx...\n",
        ] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        assert!(text(&plan, true).contains(&"x".repeat(80)));
    }

    #[test]
    fn a_plan_that_nobody_looked_at_is_said_to_be_one() {
        let plan = MigrationPlan { status: None, ..testing::plan() };
        let said = text(&plan, false);
        assert!(said.contains("nothing is known of it yet") && said.contains("status speaks of none"));
        assert_eq!(object(&plan)["status"], Value::Null);
    }

    #[test]
    fn an_audience_shows_while_nobody_else_has_any() {
        let mut status =
            RouteStatus { audiences: [("internal".into(), 100)].into(), ..RouteStatus::default() };
        assert_eq!(desired(&status), "internal 10.0 %");
        status.weights.desired = 50;
        assert_eq!(desired(&status), "5.0 %");
    }
}
