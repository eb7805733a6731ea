//! Routes that share their fate: what the others of its group mean for a route. Pure.
//!
//! All routes are looked at as they were before the pass, so each of them comes to the same conclusion: they begin, rise
//! and come back in the same pass, and the edge gets it in one revision.

use super::machine::{Route, acknowledged, breach, obstacle, patience};
use super::ramp::{place, remaining};
use jiff::Timestamp;
use std::cmp::Ordering;
use stomaton_crds::v1alpha1::{Phase, Rollback, RouteStatus};

/// The other routes of a group, with their states before this pass.
pub struct Fellows<'a, 'r> {
    routes: Vec<(&'a Route<'r>, RouteStatus)>,
}

impl<'a, 'r> Fellows<'a, 'r> {
    /// Those of `route`; none if it is for itself.
    pub fn of(route: &Route<'r>, routes: &'a [Route<'r>], states: &[RouteStatus]) -> Self {
        let is_fellow =
            |r: &&Route<'_>| route.group.is_some() && r.group == route.group && r.name != route.name;
        let state = |r: &Route<'_>| states.iter().find(|s| s.name == r.name).cloned().unwrap_or_default();
        Self { routes: routes.iter().filter(is_fellow).map(|r| (r, state(r))).collect() }
    }

    /// Why a route that moves has to come back with another one.
    pub fn harm(&self) -> Option<String> {
        self.routes.iter().find_map(|(route, status)| {
            let latched = route.entry.as_ref().is_some_and(|e| e.latched && e.attempt >= status.attempt);
            let why = match status.phase {
                Phase::RollingBack => "is taken back".to_owned(),
                Phase::Ramp | Phase::Done => {
                    let empty =
                        || (!route.target_ready).then(|| "its target has no ready endpoint".to_owned());
                    let latched = || latched.then(|| "found latched at the edge".to_owned());
                    breach(route, status).or_else(empty).or_else(latched)?
                }
                Phase::Pending | Phase::RolledBack => return None,
            };
            Some(format!("route {} of its group: {why}", route.name))
        })
    }

    /// Why an attempt cannot begin yet: the others have to begin in the same pass, or be on their way.
    pub fn obstacle(&self, rollback: &Rollback, now: Timestamp) -> Option<String> {
        self.first(|route, status| match status.phase {
            Phase::Ramp | Phase::Done => None,
            Phase::RollingBack => Some("to be taken back".to_owned()),
            Phase::RolledBack if status.attempt >= rollback.max_attempts => {
                Some("a person: all of its attempts are used".to_owned())
            }
            Phase::RolledBack if !remaining(status, rollback.cooldown.into(), now).is_zero() => {
                Some("its cooldown".to_owned())
            }
            Phase::Pending | Phase::RolledBack if route.id.is_none() => {
                Some(route.problem.clone().unwrap_or_default())
            }
            Phase::Pending | Phase::RolledBack => obstacle(route),
        })
    }

    /// Why the next step has to wait: nobody goes ahead of the others, and those at one place go on together.
    pub fn not_yet(&self, own: &Route<'_>, own_status: &RouteStatus, now: Timestamp) -> Option<String> {
        let own_place = place(own.profile, own_status);
        self.first(|route, status| match place(route.profile, status).cmp(&own_place) {
            Ordering::Greater => None,
            Ordering::Less => Some("to come as far as this one".to_owned()),
            Ordering::Equal if status.phase == Phase::Done => None,
            Ordering::Equal if !acknowledged(route, status) || status.since.is_none() => {
                Some("every edge pod to acknowledge its weight".to_owned())
            }
            Ordering::Equal => patience(route, status, now),
        })
    }

    /// Whether one of them still has weight.
    pub fn moving(&self) -> Option<String> {
        self.first(|_, status| match status.phase {
            Phase::Ramp | Phase::Done => Some("to be taken back".to_owned()),
            _ => None,
        })
    }

    /// The highest epoch of those that were not edited.
    pub fn epoch(&self) -> i64 {
        let present = self.routes.iter().filter(|(route, status)| route.id.as_ref() == Some(&status.id));
        present.map(|(_, status)| status.epoch).max().unwrap_or(0)
    }

    fn first(&self, what: impl Fn(&Route<'_>, &RouteStatus) -> Option<String>) -> Option<String> {
        self.routes.iter().find_map(|(route, status)| {
            Some(format!("route {} of its group: {}", route.name, what(route, status)?))
        })
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
