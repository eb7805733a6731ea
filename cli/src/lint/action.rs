//! Acts: the rules that the schema has for them. Pure.

use stomaton_crds::v1alpha1::{Action, MigrationPlan, PlanActionSpec};

/// What is wrong with an act, with these plans beside it.
pub fn problems(act: &PlanActionSpec, plans: &[(String, MigrationPlan)]) -> Vec<String> {
    let action = act.action.as_str();
    let mut found = Vec::new();
    if act.action == Action::Halt && act.route.is_some() {
        found.push("Halt is for the whole plan: leave `route` out, or write Hold".to_owned());
    }
    if matches!(act.action, Action::Approve | Action::Promote | Action::Hold) && act.route.is_none() {
        found.push(format!("{action} is for a route: add `route`"));
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
    found
}
