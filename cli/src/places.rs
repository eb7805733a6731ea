//! Where routes are, as a plan that is made anew has to know it. Pure.

use crate::{find, words::plain};
use stomaton_crds::v1alpha1::{Held, MigrationPlan, Phase, PlanRoute, Profile, RouteStatus, StartAt};

/// Where the route is; none at the beginning. Routes of a group are at one place, the lowest of theirs.
pub fn start_at(plan: &MigrationPlan, route: &PlanRoute) -> Option<StartAt> {
    let profile = find::profile(plan, &route.name)?;
    let group = std::iter::once(route).chain(plan.spec.fellows(route));
    let places: Option<Vec<usize>> =
        group.map(|route| place(profile, find::route_status(plan, &route.name)?)).collect();
    let place = places?.into_iter().min()?;
    let done = place > profile.ramp.len();
    Some(StartAt { step: i32::try_from(place).ok().filter(|_| !done), done })
}

/// The step that the route has reached; one more than there are is the end. By its weights: the ramp may have been edited
/// since, and a place never has more of them than the route has now.
fn place(profile: &Profile, status: &RouteStatus) -> Option<usize> {
    match status.frozen_in.unwrap_or(status.phase) {
        Phase::Done => Some(profile.ramp.len() + 1),
        Phase::Cohort | Phase::Ramp | Phase::Soak => {
            Some(profile.reached(&status.permille())).filter(|steps| *steps > 0)
        }
        // It was on its way back to there.
        Phase::Pending => status.start_at.map(|at| at.place(profile)),
        Phase::RollingBack | Phase::RolledBack | Phase::Frozen => None,
    }
}

/// What a plan that is made anew does not know, a line each.
pub fn lost(plan: &MigrationPlan) -> Vec<String> {
    let Some(status) = &plan.status else { return Vec::new() };
    let act = |what: &str, held: &Held, again: &str| {
        format!("{what} by {}: that is not in here, so {again} again.", plain(&held.by))
    };
    let mut lines: Vec<String> =
        status.halted.iter().map(|held| act("The plan is halted", held, "halt it")).collect();
    for route in &status.routes {
        let name = &route.name;
        lines.extend(route.held.iter().map(|held| act(&format!("Route {name} is held"), held, "hold it")));
        let recalled = route.recalled.iter();
        lines.extend(recalled.map(|held| act(&format!("Route {name} was taken back"), held, "take it back")));
        if matches!(route.phase, Phase::RollingBack | Phase::RolledBack) {
            lines.push(format!(
                "Route {name} came back in attempt {}: made anew it begins with the first.",
                route.attempt
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Where a route for itself is, after `change`.
    fn of(name: &str, change: impl Fn(&mut RouteStatus)) -> Option<StartAt> {
        let mut plan = testing::plan();
        plan.spec.routes.iter_mut().for_each(|route| route.group = None);
        plan.status.as_mut().unwrap().routes.iter_mut().filter(|r| r.name == name).for_each(change);
        start_at(&plan, plan.spec.routes.iter().find(|route| route.name == name).unwrap())
    }

    fn step(step: i32) -> Option<StartAt> {
        Some(StartAt { step: Some(step), done: false })
    }

    #[test]
    fn a_route_is_at_the_step_whose_weight_it_has() {
        assert_eq!(of("content", |_| {}), step(2));
        assert_eq!(of("content", |r| r.step = 3), step(2), "weights decide, not the number");
        assert_eq!(of("content", |r| r.weights.desired = 249), step(1));
        assert_eq!(of("content", |r| r.weights.desired = 49), None);
        let soaked = |r: &mut RouteStatus| (r.phase, r.weights.desired) = (Phase::Soak, 1000);
        assert_eq!(of("content", soaked), step(3));
        assert_eq!(of("media", |_| {}), Some(StartAt { step: None, done: true }));
        assert_eq!(of("orders", |_| {}), None);
    }

    #[test]
    fn a_route_that_is_not_there_yet_keeps_its_place_and_one_that_came_back_has_none() {
        let waits = |r: &mut RouteStatus| {
            (r.phase, r.weights.desired) = (Phase::Pending, 0);
            r.start_at = step(2);
        };
        assert_eq!(of("content", waits), step(2));
        for phase in [Phase::RollingBack, Phase::RolledBack] {
            assert_eq!(of("content", |r| r.phase = phase), None);
        }
    }

    #[test]
    fn a_group_is_where_its_last_one_is() {
        let plan = testing::plan();
        let places: Vec<_> = plan.spec.routes.iter().map(|route| start_at(&plan, route)).collect();
        assert_eq!(places, [step(2), step(2), None]);
    }

    #[test]
    fn what_people_did_and_what_was_tried_is_said_to_be_lost() {
        let mut plan = testing::plan();
        let media = &mut plan.status.as_mut().unwrap().routes[1];
        (media.phase, media.attempt) = (Phase::RolledBack, 2);
        assert_eq!(
            lost(&plan),
            [
                "Route content is held by alice: that is not in here, so hold it again.",
                "Route media came back in attempt 2: made anew it begins with the first.",
            ]
        );
    }
}
