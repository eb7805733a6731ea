//! `history`: what happened to the routes of a plan, and who did what. Pure.

use crate::{
    table::table,
    words::{between, moment, percent},
};
use serde_json::{Value, json};
use stomaton_crds::v1alpha1::{Acted, MigrationPlan, Transition};

/// Two tables: what happened, oldest first, and the acts of people.
pub fn text(plan: &MigrationPlan, route: Option<&str>) -> String {
    let (history, acts) = (transitions(plan, route), acts(plan, route));
    let mut text = if history.is_empty() { "nothing happened yet\n".to_owned() } else { happened(&history) };
    if !acts.is_empty() {
        let rows: Vec<_> = acts.into_iter().map(act).collect();
        text.push('\n');
        text.push_str(&table(["TIME", "USER", "ACTION", "ROUTE", "OUTCOME", "MESSAGE"], &rows));
    }
    text
}

/// The same for programs.
pub fn object(plan: &MigrationPlan, route: Option<&str>) -> Value {
    json!({"history": transitions(plan, route), "acts": acts(plan, route)})
}

/// What happened, as a table.
pub fn happened(history: &[&Transition]) -> String {
    let rows: Vec<_> = history.iter().map(|transition| row(transition)).collect();
    table(["TIME", "ROUTE", "PHASE", "WEIGHT", "ACKNOWLEDGED", "MESSAGE"], &rows)
}

/// What happened to a route, or to all.
pub fn transitions<'a>(plan: &'a MigrationPlan, route: Option<&str>) -> Vec<&'a Transition> {
    let all = plan.status.iter().flat_map(|status| &status.history);
    all.filter(|transition| route.is_none_or(|name| transition.route == name)).collect()
}

/// Acts on a route, or on all; those on the plan are on every route.
fn acts<'a>(plan: &'a MigrationPlan, route: Option<&str>) -> Vec<&'a Acted> {
    let all = plan.status.iter().flat_map(|status| &status.acts);
    let wanted = |act: &&Acted| match (route, act.route.as_deref()) {
        (Some(wanted), Some(of)) => wanted == of,
        _ => true,
    };
    all.filter(wanted).collect()
}

fn row(transition: &Transition) -> [String; 6] {
    let Transition { at, route, phase, permille, acknowledged, message, .. } = transition;
    let after = acknowledged.as_ref().map(|then| format!("{} ms", between(at.0, then.0).as_millis()));
    [
        moment(at.0),
        route.clone(),
        phase.as_str().to_owned(),
        percent(*permille),
        after.unwrap_or_default(),
        message.clone(),
    ]
}

fn act(act: &Acted) -> [String; 6] {
    [
        moment(act.at.0),
        act.user.clone(),
        act.action.as_str().to_owned(),
        act.route.clone().or(act.stage.as_ref().map(|stage| format!("stage {stage}"))).unwrap_or_default(),
        format!("{:?}", act.outcome),
        act.message.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const HAPPENED: &str = "\
TIME                   ROUTE     PHASE   WEIGHT   ACKNOWLEDGED   MESSAGE
2026-01-02T03:04:05Z   content   Ramp    25.0 %   120 ms         enough was counted
";
    const ACTS: &str = "
TIME                   USER    ACTION   ROUTE     OUTCOME   MESSAGE
2026-01-02T03:04:05Z   alice   Hold     content   Done      held
";

    #[test]
    fn what_happened_comes_first_and_then_who_did_what() {
        let plan = testing::plan();
        let all = format!("{HAPPENED}{ACTS}");
        assert_eq!((text(&plan, None), text(&plan, Some("content"))), (all.clone(), all));
        assert_eq!(text(&plan, Some("media")), "nothing happened yet\n");
    }

    #[test]
    fn an_act_on_the_plan_is_one_on_each_route() {
        let mut plan = testing::plan();
        plan.status.as_mut().unwrap().acts[0].route = None;
        assert_eq!(object(&plan, Some("media"))["acts"].as_array().unwrap().len(), 1);
    }
}
