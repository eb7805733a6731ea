//! Acts: the rules that the schema has for them. Pure.

use stomaton_crds::v1alpha1::{Action, MigrationPlan, PlanActionSpec};

/// What is wrong with an act, with these plans beside it.
pub fn problems(act: &PlanActionSpec, plans: &[(String, MigrationPlan)]) -> Vec<String> {
    let action = act.action.as_str();
    let mut found = Vec::new();
    if act.action == Action::Halt && act.route.is_some() {
        found.push("Halt is for the whole plan: leave `route` out, or write Hold".to_owned());
    }
    if matches!(act.action, Action::Promote | Action::Hold) && act.route.is_none() {
        found.push(format!("{action} is for a route: add `route`"));
    }
    if act.action == Action::Approve && act.route.is_none() && act.stage.is_none() {
        found.push(format!("{action} is for a route or a stage: add `route`, or `stage`"));
    }
    if act.stage.is_some() && (act.route.is_some() || !matches!(act.action, Action::Approve | Action::Resume))
    {
        found.push("only Approve and Resume are for a stage, and then for no route: take one out".to_owned());
    }
    if let Some(approves) = &act.approves
        && [approves.attempt, approves.step].iter().any(|number| number.is_some() != act.route.is_some())
    {
        found.push("`approves` names attempt and step of a route, and neither of a stage".to_owned());
    }
    match (act.action == Action::Approve, act.approves.is_some()) {
        (true, false) => found.push("what is approved is not said: add `approves`".to_owned()),
        (false, true) => found.push(format!("`approves` does not belong to {action}: take it out")),
        _ => {}
    }
    let plan = plans.iter().find(|(name, _)| *name == act.plan);
    if let (Some((name, plan)), Some(route)) = (plan, &act.route)
        && !plan.spec.routes.iter().any(|r| r.name == *route)
    {
        found.push(format!("route {route} is not in plan {name}: mend its name"));
    }
    if let (Some((name, plan)), Some(stage)) = (plan, &act.stage)
        && !plan.spec.stages.iter().any(|s| s.name == *stage)
    {
        found.push(format!("stage {stage} is not in plan {name}: mend its name"));
    }
    found
}
