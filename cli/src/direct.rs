//! Rollback without the operator: latches in EdgeWeights, and nothing else there. Pure.

use crate::{error::Error, find};
use stomaton_crds::v1alpha1::{EdgeWeightsSpec, MigrationPlan};

/// A route, and its identity at the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its name.
    pub name: String,
    /// What the edge calls it.
    pub id: String,
    /// Whether nothing leads it back to the monolith any more.
    pub stays: bool,
}

/// What a write would do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latch {
    /// What to write; none: nothing would change.
    pub spec: Option<EdgeWeightsSpec>,
    /// Routes that it latches.
    pub latched: Vec<String>,
    /// Routes that are on their safe side as it is.
    pub safe: Vec<String>,
    /// Routes whose point of no return is behind them.
    pub stays: Vec<String>,
}

/// The route and those of its group, or all of the plan. Routes that the operator never saw are not at the edge. A route that
/// is named and has no way back is refused.
pub fn chosen(plan: &MigrationPlan, route: Option<&str>) -> Result<Vec<Chosen>, Error> {
    let names: Vec<&str> = match route {
        Some(name) => {
            let route = find::route(plan, name)?;
            let fellows = plan.spec.fellows(route).map(|fellow| fellow.name.as_str());
            std::iter::once(name).chain(fellows).collect()
        }
        // Those of status: a route that is no longer in the spec may still be at the edge.
        None => plan.status.iter().flat_map(|s| &s.routes).map(|r| r.name.as_str()).collect(),
    };
    let known = |name: &str| {
        let status = find::route_status(plan, name).filter(|status| !status.id.is_empty())?;
        Some(Chosen { name: name.to_owned(), id: status.id.clone(), stays: status.has_no_way_back() })
    };
    if let Some(name) = route.filter(|name| plan.has_no_way_back(name)) {
        return Err(Error::Refused(format!(
            "the point of no return of route {name} is behind it: nothing leads back to the monolith"
        )));
    }
    Ok(names.into_iter().filter_map(known).collect())
}

/// Latches the routes in `present`: weights 0, a higher revision, attempt and step as they are. A route without an entry
/// is on its safe side already.
pub fn latch(present: &EdgeWeightsSpec, chosen: &[Chosen]) -> Latch {
    let mut next = present.clone();
    let mut latch = Latch::default();
    for route in chosen {
        match next.routes.get_mut(&route.id) {
            _ if route.stays => latch.stays.push(route.name.clone()),
            Some(entry) if !entry.latched || entry.permille.values().any(|weight| *weight != 0) => {
                entry.latched = true;
                entry.permille.values_mut().for_each(|weight| *weight = 0);
                latch.latched.push(route.name.clone());
            }
            _ => latch.safe.push(route.name.clone()),
        }
    }
    if !latch.latched.is_empty() {
        next.revision += 1;
        latch.spec = Some(next);
    }
    latch
}

/// What was done, and how to see that the edge follows.
pub fn report(latch: &Latch, gateway: &str, namespace: &str) -> String {
    let mut lines = Vec::new();
    if let Some(spec) = &latch.spec {
        let routes = latch.latched.join(", ");
        lines.push(format!("latched in EdgeWeights {gateway}, revision {}: {routes}", spec.revision));
    }
    if !latch.safe.is_empty() {
        lines.push(format!("on the safe side already: {}", latch.safe.join(", ")));
    }
    if !latch.stays.is_empty() {
        let routes = latch.stays.join(", ");
        lines.push(format!("past the point of no return, with their services as before: {routes}"));
    }
    if latch.latched.is_empty() && latch.safe.is_empty() && latch.stays.is_empty() {
        lines.push("nothing to take back: no route of it was ever at the edge".to_owned());
    }
    lines.push(format!(
        "Edge pods follow as soon as they read it; nobody confirms that here. How to check:\n  \
         kubectl get edgeweights {gateway} -n {namespace} -o yaml            # it is written\n  \
         curl -si http://ADDRESS/PATH | grep -i x-stomaton-edge   # side=monolith, on each edge pod, with spec.diagnostics.responseHeader"
    ));
    lines.push(
        "An operator that comes back takes this for a rollback like any other: the next attempt follows the cooldown. \
         `kubectl stomaton rollback` then keeps it back until somebody resumes it."
            .to_owned(),
    );
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::json;

    fn present() -> EdgeWeightsSpec {
        let routes = json!({
            "c0": {"permille": {"public": 250, "internal": 1000}, "attempt": 2, "step": 3},
            "m0": {"latched": true, "attempt": 1, "step": 1},
            "else": {"permille": {"public": 100}, "attempt": 1, "step": 1},
        });
        serde_json::from_value(json!({"revision": 41, "routes": routes})).unwrap()
    }

    #[test]
    fn a_route_brings_its_group_and_all_means_all_that_are_known() {
        let names = |route| -> Vec<String> {
            chosen(&testing::plan(), route).unwrap().into_iter().map(|c| c.name).collect()
        };
        assert_eq!(names(Some("media")), ["media", "content"]);
        assert_eq!(names(Some("orders")), [""; 0]);
        assert_eq!(names(None), ["content", "media"]);
        assert!(chosen(&testing::plan(), Some("nothing")).is_err());
    }

    #[test]
    fn a_latch_lowers_weights_keeps_the_attempt_and_touches_nobody_else() {
        let all = chosen(&testing::plan(), None).unwrap();
        let latch = latch(&present(), &all);
        assert_eq!((latch.latched, latch.safe), (vec!["content".to_owned()], vec!["media".to_owned()]));
        let next = latch.spec.unwrap();
        let content = &next.routes["c0"];
        assert_eq!((next.revision, content.latched, content.attempt, content.step), (42, true, 2, 3));
        assert_eq!(content.permille.values().collect::<Vec<_>>(), [&0, &0]);
        assert_eq!(
            (&next.routes["m0"], &next.routes["else"]),
            (&present().routes["m0"], &present().routes["else"])
        );
    }

    #[test]
    fn what_has_no_way_back_is_left_alone_and_refused_by_name() {
        let mut plan = testing::plan();
        plan.status.as_mut().unwrap().routes[0].crossed = true;
        let latch = latch(&present(), &chosen(&plan, None).unwrap());
        assert_eq!((latch.spec, latch.stays.as_slice()), (None, ["content".to_owned()].as_slice()));
        let refused = chosen(&plan, Some("content")).unwrap_err().to_string();
        assert!(refused.contains("point of no return"), "{refused}");
        assert!(chosen(&plan, Some("media")).is_ok(), "the others of its group have one");
    }

    #[test]
    fn nothing_to_do_is_nothing_to_write() {
        let media = chosen(&testing::plan(), None).unwrap().split_off(1);
        let latch = latch(&present(), &media);
        assert_eq!(latch.spec, None);
        assert!(report(&latch, "edge", "fleet").starts_with("on the safe side already: media\n"));
    }
}
