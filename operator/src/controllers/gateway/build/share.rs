//! Among how many edge pods a limit for all clients is shared. Pure.
//!
//! Each pod allows the rate over a number that all of them were told, so a new number costs every pod a reload. More
//! ready pods than that number allow too much: it follows at once. Fewer allow too little, which only costs answers:
//! it follows when it has lasted, so that a pod that is replaced or fails for a moment costs nothing. A difference of a
//! tenth is left as it is: with many pods, one more or less is no reason.

use super::super::{gather::Gathered, validate::Valid};
use crate::edges::ready::Lately;
use stomaton_crds::v1alpha1::{EdgeConfigSpec, LimitsStatus, TotalShare};

/// Among how many pods the limits of `valid` are shared from now on.
pub fn pods(valid: &Valid<'_>, gathered: &Gathered) -> i32 {
    let (spec, status) = (&valid.gateway.spec, valid.gateway.status.as_ref());
    let wanted = spec.scaling.as_ref().map_or(spec.replicas, |s| spec.replicas.clamp(s.min, s.max));
    let before = status.and_then(|status| status.limits.as_ref()).map(|limits| limits.shared_by);
    next(before, wanted, gathered.ready)
}

/// The number after `before`; `wanted` is what there will be while nothing is known.
fn next(before: Option<i32>, wanted: i32, ready: Lately) -> i32 {
    let Some(before) = before.filter(|before| *before > 0) else {
        return ready.most.filter(|most| *most > 0).unwrap_or(wanted).max(ready.now).max(1);
    };
    let is_far = |pods: i32| (pods - before).abs() * 10 > before;
    match ready {
        Lately { now, .. } if now > before && is_far(now) => now,
        // Without any pod nobody answers, and nobody needs to be told.
        Lately { most: Some(most), .. } if most > 0 && most < before && is_far(most) => most,
        _ => before,
    }
}

/// What to say about `content`, whose limits are shared among `pods`; none when nothing is shared.
pub fn status(valid: &Valid<'_>, content: &EdgeConfigSpec, pods: i32) -> Option<LimitsStatus> {
    content.limits.as_ref()?;
    let share = |route: &stomaton_crds::v1alpha1::EdgeRoute| {
        let total = route.handling.total?;
        Some(TotalShare { route: route.name.clone(), per_minute: total.per_minute, burst: total.burst })
    };
    let totals: Vec<_> = content.routes.iter().filter_map(share).collect();
    let mode = valid.gateway.spec.rate_limits.mode;
    (!totals.is_empty()).then_some(LimitsStatus { mode, shared_by: pods, totals })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lately(now: i32, most: i32) -> Lately {
        Lately { now, most: Some(most) }
    }

    #[test]
    fn more_pods_count_at_once_and_fewer_when_it_lasts() {
        assert_eq!(next(Some(2), 2, lately(3, 3)), 3);
        assert_eq!(next(Some(3), 2, lately(2, 3)), 3, "one of three was there a moment ago");
        assert_eq!(next(Some(3), 2, lately(2, 2)), 2);
        assert_eq!(next(Some(3), 2, lately(1, 2)), 2, "the most of lately, since they may come back");
        assert_eq!(next(Some(3), 2, lately(0, 0)), 3);
    }

    #[test]
    fn a_restarted_operator_that_has_seen_no_pod_yet_changes_nothing() {
        for now in 0..=4 {
            assert_eq!(next(Some(4), 2, Lately { now, most: None }), 4);
        }
        assert_eq!(next(Some(4), 2, Lately { now: 5, most: None }), 5);
    }

    #[test]
    fn a_new_edge_begins_with_what_is_wanted() {
        assert_eq!(next(None, 2, Lately::default()), 2);
        assert_eq!(next(None, 2, Lately { now: 3, most: None }), 3);
        assert_eq!(next(None, 5, lately(2, 2)), 2);
        assert_eq!(next(None, 0, lately(0, 0)), 1);
    }

    /// What all ready pods together allow, once things are quiet: never further off than a tenth.
    #[test]
    fn what_is_allowed_stays_near_what_is_written_with_any_number_of_pods() {
        for before in 1..=32 {
            for ready in 1..=32 {
                let used = next(Some(before), 2, lately(ready, ready));
                let permille = ready * 1000 / used;
                assert!((900..=1100).contains(&permille), "{ready} pods, {used} counted: {permille}");
                assert_eq!(next(Some(used), 2, lately(ready, ready)), used, "and stays");
            }
            let few = next(Some(before), 2, lately(before.min(4), before.min(4)));
            assert!(before > 4 || few == before, "exact with few pods");
        }
    }

    #[test]
    fn a_roll_of_all_pods_costs_two_changes() {
        // One more, then one less, pod by pod: as a Deployment that surges by one replaces four.
        let mut used = 4;
        let mut changes = 0;
        for ready in [5, 4, 5, 4, 5, 4, 5, 4] {
            let now = next(Some(used), 4, Lately { now: ready, most: Some(5) });
            changes += i32::from(now != used);
            used = now;
        }
        assert_eq!((changes, used), (1, 5));
        assert_eq!(next(Some(used), 4, lately(4, 4)), 4);
    }
}
