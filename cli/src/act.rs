//! An act as an object, and what an approval is bound to. Pure.

use crate::{error::Error, find};
use kube::{Resource as _, ResourceExt as _};
use stomaton_crds::v1alpha1::{
    Action, Approves, GateState, MigrationPlan, Phase, PlanAction, PlanActionSpec, RouteStatus, StagePhase,
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
    /// The stage, and then no route.
    pub stage: Option<String>,
}

/// The act of `user` on `plan`. `token` makes its name one that nobody has.
pub fn action(plan: &MigrationPlan, wish: Wish, user: String, token: u32) -> Result<PlanAction, Error> {
    let Wish { action, route, reason, stage } = wish;
    if let Some(route) = &route {
        find::route(plan, route)?;
    }
    if let Some(stage) = &stage {
        find::stage(plan, stage)?;
    }
    let approves = match (&route, &stage, action) {
        (Some(route), _, Action::Approve) => Some(approves(plan, route)?),
        (None, Some(stage), Action::Approve) => Some(approves_stage(plan, stage)?),
        _ => None,
    };
    let spec = PlanActionSpec { plan: plan.name_any(), action, route, user, reason, approves, stage };
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
    Ok(Approves { attempt: Some(attempt), step: Some(step), spec_hash: status.spec_hash.clone() })
}

/// What an approval of the stage's gates is bound to.
fn approves_stage(plan: &MigrationPlan, name: &str) -> Result<Approves, Error> {
    let status = find::current(plan)?;
    let stage = find::stage(plan, name)?;
    let known = status.stages.iter().find(|known| known.name == name);
    let phase = known.map(|known| known.phase).unwrap_or_default();
    let (gates, states) = match phase {
        StagePhase::Waiting => (&stage.gates, known.map(|known| &known.gates)),
        StagePhase::Open | StagePhase::Done => (&stage.exit, known.map(|known| &known.exit)),
    };
    let is_approval = |name: &str| gates.iter().any(|gate| gate.name == name && gate.approval.is_some());
    let waits = states.into_iter().flatten().any(|s| s.state == GateState::Asked && is_approval(&s.name));
    if waits {
        Ok(Approves { attempt: None, step: None, spec_hash: status.spec_hash.clone() })
    } else {
        Err(Error::NoGateToApprove { stage: name.to_owned() })
    }
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
        Wish { action, route: route.map(Into::into), reason: None, stage: None }
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
            (Some(1), Some(3), "0123456789abcdef")
        );
    }

    #[test]
    fn an_approval_of_a_stage_is_for_gates_that_wait_for_it() {
        let of = |plan: &MigrationPlan, stage: &str| {
            let stage = Some(stage.to_owned());
            let wish = Wish { action: Action::Approve, route: None, reason: None, stage };
            action(plan, wish, "a".into(), 1)
        };
        let mut plan = testing::staged();
        let act = of(&plan, "domain").unwrap();
        assert_eq!(act.spec.stage.as_deref(), Some("domain"));
        let approves = act.spec.approves.unwrap();
        assert_eq!((approves.attempt, approves.step), (None, None));
        assert_eq!(approves.spec_hash, "0123456789abcdef");
        assert!(of(&plan, "shared").unwrap_err().to_string().contains("no gate of stage shared waits"));
        let unknown = of(&plan, "production").unwrap_err().to_string();
        assert!(unknown.contains("no stage production\nIts stages are: shared, domain."), "{unknown}");
        plan.status.as_mut().unwrap().stages[1].gates[1].state = GateState::Waiting;
        assert!(of(&plan, "domain").is_err());
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
        assert_eq!((approved.attempt, approved.step), (Some(2), Some(2)));
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
