//! Routes that share their fate: what the others of its group mean for a route. Pure.
//!
//! All routes are looked at as they were before the pass, so each of them comes to the same conclusion: they begin, rise
//! and come back in the same pass, and the edge gets it in one revision.

use super::brakes::{harm, obstacle, patience, rest};
use super::machine::{Route, State, Terms, acknowledged, unmet};
use super::ramp::place;
use super::start::Start;
use jiff::Timestamp;
use std::cmp::Ordering;
use stomaton_crds::v1alpha1::{Phase, RouteStatus};

/// The other routes of a group, with their states before this pass.
pub struct Fellows<'a, 'r> {
    terms: &'a Terms<'a>,
    routes: Vec<(&'a Route<'r>, &'a RouteStatus)>,
    before: &'a State,
}

impl<'a, 'r> Fellows<'a, 'r> {
    /// Those of `route`; none if it is for itself. `before` has the states of `routes`, in their order.
    pub fn of(terms: &'a Terms<'a>, route: &Route<'r>, routes: &'a [Route<'r>], before: &'a State) -> Self {
        let is_fellow = |(r, _): &(&Route<'_>, &RouteStatus)| {
            route.group.is_some() && r.group == route.group && r.name != route.name
        };
        Self { terms, routes: routes.iter().zip(&before.routes).filter(is_fellow).collect(), before }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.routes.len()
    }

    /// Why a route that moves has to come back with another one.
    pub fn harm(&self) -> Option<String> {
        self.routes.iter().find_map(|(route, status)| {
            let latched = route.entry.as_ref().is_some_and(|e| e.latched && e.attempt >= status.attempt);
            let latched = latched && !status.has_no_way_back();
            let why = match status.phase {
                Phase::RollingBack => "is taken back".to_owned(),
                phase if phase.has_weight() => {
                    let latched = || latched.then(|| "found latched at the edge".to_owned());
                    harm(self.terms, route, status).or_else(latched)?
                }
                _ => return None,
            };
            Some(format!("route {} of its group: {why}", route.name))
        })
    }

    /// What is known of them.
    pub fn statuses(&self) -> impl Iterator<Item = &'a RouteStatus> {
        self.routes.iter().map(|(_, status)| *status)
    }

    /// Why an attempt cannot begin so yet: the others have to begin in the same pass, or be on their way.
    pub fn obstacle(&self, start: Start, now: Timestamp) -> Option<String> {
        self.first(|route, status| match status.phase {
            phase if phase.has_weight() => None,
            Phase::RollingBack => Some("to be taken back".to_owned()),
            Phase::RolledBack if rest(self.terms, status, now).is_some() => rest(self.terms, status, now),
            _ if route.id.is_none() => Some(route.problem.clone().unwrap_or_default()),
            _ => obstacle(route, status, unmet(self.terms, route, status, self.before), start),
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
            Ordering::Equal => patience(self.terms, route, status, now),
        })
    }

    /// Whether one of them still has weight.
    pub fn moving(&self) -> Option<String> {
        // One without a way back has no salt that could change.
        self.first(|_, status| match status.phase {
            phase if phase.has_weight() && !status.has_no_way_back() => Some("to be taken back".to_owned()),
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
