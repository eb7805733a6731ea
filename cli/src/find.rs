//! The parts of a plan that belong to a route. Pure.

use crate::error::Error;
use kube::ResourceExt as _;
use stomaton_crds::v1alpha1::{
    MigrationPlan, MigrationPlanStatus, PlanRoute, Profile, RampStep, RouteStatus, Stage, StageStatus,
};

/// The route of a plan by its name.
pub fn route<'a>(plan: &'a MigrationPlan, name: &str) -> Result<&'a PlanRoute, Error> {
    plan.spec.routes.iter().find(|r| r.name == name).ok_or_else(|| Error::NoRoute {
        plan: plan.name_any(),
        route: name.to_owned(),
        routes: plan.spec.routes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// The stage of a plan by its name.
pub fn stage<'a>(plan: &'a MigrationPlan, name: &str) -> Result<&'a Stage, Error> {
    plan.spec.stages.iter().find(|s| s.name == name).ok_or_else(|| Error::NoStage {
        plan: plan.name_any(),
        stage: name.to_owned(),
        stages: plan.spec.stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// What is known of the stage of this name.
pub fn stage_status<'a>(plan: &'a MigrationPlan, name: &str) -> Option<&'a StageStatus> {
    plan.status.as_ref()?.stages.iter().find(|s| s.name == name)
}

/// What is known of the route of this name.
pub fn route_status<'a>(plan: &'a MigrationPlan, name: &str) -> Option<&'a RouteStatus> {
    plan.status.as_ref()?.routes.iter().find(|r| r.name == name)
}

/// The profile by which a route moves.
pub fn profile<'a>(plan: &'a MigrationPlan, name: &str) -> Option<&'a Profile> {
    let route = plan.spec.routes.iter().find(|r| r.name == name)?;
    plan.spec.profiles.iter().find(|p| p.name == route.profile)
}

/// Step `number` of a ramp, from 1.
pub fn step(profile: &Profile, number: i32) -> Option<&RampStep> {
    profile.ramp.get(usize::try_from(number).ok()?.checked_sub(1)?)
}

/// The status, if it speaks of the plan as it is now.
pub fn current(plan: &MigrationPlan) -> Result<&MigrationPlanStatus, Error> {
    let observed = plan.status.as_ref().and_then(|status| status.observed_generation);
    let current = observed.is_some() && observed == plan.metadata.generation;
    plan.status.as_ref().filter(|_| current).ok_or_else(|| Error::Stale {
        plan: plan.name_any(),
        generation: plan.metadata.generation.unwrap_or_default(),
        observed: observed.map_or_else(|| "none".to_owned(), |generation| generation.to_string()),
    })
}

/// The step with which the next attempt of a route begins.
pub fn first_step(plan: &MigrationPlan, name: &str) -> i32 {
    let first = || {
        let (route, profile) = (plan.spec.routes.iter().find(|r| r.name == name)?, profile(plan, name)?);
        let group = std::iter::once(route).chain(plan.spec.fellows(route));
        let statuses = group.filter_map(|route| route_status(plan, &route.name));
        i32::try_from(plan.spec.rollback.first_step(profile, statuses)).ok()
    };
    first().unwrap_or(1)
}
