//! An act as an object, and what an approval is bound to. Pure.

use crate::{error::Error, find};
use kube::{Resource as _, ResourceExt as _};
use stomaton_crds::v1alpha1::{
    Action, Approves, MigrationPlan, Phase, PlanAction, PlanActionSpec, RouteStatus,
};

/// Longest name of an object.
const NAME: usize = 253;

/// What somebody wants done.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The act.
    pub action: Action,
    /// The route; none: the plan.
    pub route: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// The act of `user` on `plan`. `token` makes its name one that nobody has.
pub fn action(plan: &MigrationPlan, wish: Wish, user: String, token: u32) -> Result<PlanAction, Error> {
    let Wish { action, route, reason } = wish;
    if let Some(route) = &route {
        find::route(plan, route)?;
    }
    let approves = match (&route, action) {
        (Some(route), Action::Approve) => Some(approves(plan, route)?),
        _ => None,
    };
    let spec = PlanActionSpec { plan: plan.name_any(), action, route, user, reason, approves };
    let mut object = PlanAction::new(&name(&spec.plan, action, token), spec);
    // Gone with the plan. Without `blockOwnerDeletion`: that would need a right on the plan.
    object.metadata.owner_references = plan.owner_ref(&()).map(|owner| vec![owner]);
    Ok(object)
}

fn name(plan: &str, action: Action, token: u32) -> String {
    let end = format!("-{}-{token:08x}", action.as_str().to_lowercase());
    // Names of objects are ASCII.
    let plan: String = plan.chars().take(NAME - end.len()).collect();
    format!("{plan}{end}")
}

/// What an approval of the route's next step is bound to.
fn approves(plan: &MigrationPlan, route: &str) -> Result<Approves, Error> {
    let status = find::current(plan)?;
    let nothing = |why: String| Error::NothingToApprove { route: route.to_owned(), why };
    let (attempt, first) = next(find::route_status(plan, route)).map_err(nothing)?;
    // An attempt after a rollback may begin further up: then it enters all steps up to there.
    let step = if first == 1 { find::first_step(plan, route) } else { first };
    let profile = find::profile(plan, route);
    let mut entered = (first..=step).filter_map(|number| find::step(profile?, number)).peekable();
    if entered.peek().is_none() {
        return Err(nothing(format!("its ramp has no step {step}.")));
    }
    if !entered.any(|step| step.approval) {
        return Err(nothing(format!(
            "step {step} needs no approval. `kubectl stomaton explain {route}` says what it waits for; `promote` enters the step now."
        )));
    }
    Ok(Approves { attempt, step, spec_hash: status.spec_hash.clone() })
}

/// Attempt and step that a route would enter next.
fn next(status: Option<&RouteStatus>) -> Result<(i32, i32), String> {
    let Some(status) = status else { return Ok((1, 1)) };
    match status.phase {
        Phase::Pending | Phase::RolledBack => Ok((status.attempt + 1, 1)),
        Phase::Cohort | Phase::Ramp => Ok((status.attempt, status.step + 1)),
        Phase::RollingBack => Err("it is being taken back. Wait until it is RolledBack.".to_owned()),
        Phase::Frozen => Err("it is frozen. Mend the service, then resume it.".to_owned()),
        Phase::Soak | Phase::Done => Err("it went through its whole ramp.".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use stomaton_crds::v1alpha1::RestartAt;

    fn wish(action: Action, route: Option<&str>) -> Wish {
        Wish { action, route: route.map(Into::into), reason: None }
    }

    #[test]
    fn an_act_has_a_name_of_its_own_and_goes_with_its_plan() {
        let act = action(&testing::plan(), wish(Action::Rollback, None), "alice".into(), 0xbeef).unwrap();
        assert_eq!(act.name_any(), "shop-rollback-0000beef");
        let owner = &act.owner_references()[0];
        assert_eq!((owner.uid.as_str(), owner.block_owner_deletion), ("plan-uid", None));
        assert_eq!(
            (act.spec.plan.as_str(), act.spec.user.as_str(), act.spec.approves),
            ("shop", "alice", None)
        );
        assert_eq!(name(&"p".repeat(253), Action::Halt, 1).len(), 253);
    }

    #[test]
    fn an_approval_names_what_was_looked_at() {
        let act = action(&testing::plan(), wish(Action::Approve, Some("content")), "a".into(), 1).unwrap();
        let approves = act.spec.approves.unwrap();
        assert_eq!(
            (approves.attempt, approves.step, approves.spec_hash.as_str()),
            (1, 3, "0123456789abcdef")
        );
    }

    #[test]
    fn what_cannot_be_approved_is_said_before_it_is_written() {
        let refused =
            |plan: &MigrationPlan, route: &str| approves(plan, route).map(|_| ()).unwrap_err().to_string();
        let mut plan = testing::plan();
        assert!(refused(&plan, "media").contains("whole ramp"));
        assert!(refused(&plan, "orders").contains("step 1 needs no approval"));
        plan.metadata.generation = Some(5);
        assert!(refused(&plan, "content").contains("generation 5, status speaks of 4"));
        let error = action(&plan, wish(Action::Hold, Some("contents")), "a".into(), 1).unwrap_err();
        assert!(error.to_string().contains("no route contents\nIts routes are: content, media, orders."));
    }

    #[test]
    fn a_lower_restart_is_approved_as_one_step() {
        let mut plan = testing::plan();
        plan.spec.rollback.restart_at = RestartAt::LowerStep;
        plan.spec.routes.retain(|route| route.name == "media");
        plan.spec.profiles[0].ramp[0].approval = true;
        let status = &mut plan.status.as_mut().unwrap().routes[1];
        (status.phase, status.fell_from) = (Phase::RolledBack, [("public".to_owned(), 1000)].into());
        let approved = approves(&plan, "media").unwrap();
        assert_eq!((approved.attempt, approved.step), (2, 2));
    }

    #[test]
    fn the_next_attempt_begins_at_its_first_step() {
        let at = |phase, attempt, step| RouteStatus { phase, attempt, step, ..RouteStatus::default() };
        assert_eq!(next(None), Ok((1, 1)));
        assert_eq!(next(Some(&at(Phase::Pending, 0, 0))), Ok((1, 1)));
        assert_eq!(next(Some(&at(Phase::RolledBack, 2, 3))), Ok((3, 1)));
        assert_eq!(next(Some(&at(Phase::Cohort, 2, 1))), Ok((2, 2)));
        assert!(next(Some(&at(Phase::RollingBack, 2, 1))).is_err());
    }
}
