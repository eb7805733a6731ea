//! Salts and identities of routes.

use super::*;

fn gateway() -> GatewaySpec {
    let routes = ["a", "b", "c", "d", "g"]
        .map(|name| serde_json::json!({"name": name, "match": {"pathPrefix": format!("/{name}")}}));
    serde_json::from_value(serde_json::json!({"defaultBackend": {"name": "m"}, "routes": routes})).unwrap()
}

/// A plan whose status has these epochs, of routes as they are now.
fn plan(routes: serde_json::Value, epochs: &[(&str, i64)]) -> MigrationPlan {
    let mut plan: MigrationPlan = serde_json::from_value(serde_json::json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan",
        "metadata": {"name": "p", "uid": "u"},
        "spec": {
            "gatewayRef": {"name": "edge"}, "routes": routes,
            "profiles": [{"name": "p", "ramp": [{"permille": 1000}]}],
        },
    }))
    .unwrap();
    let status = |(name, epoch): &(&str, i64)| {
        let route = plan.spec.routes.iter().find(|r| r.name == *name).unwrap();
        let matches = gateway().routes.iter().find(|r| r.name == *name).unwrap().matches.clone();
        RouteStatus {
            name: (*name).into(),
            id: plan.route_id(route, &matches),
            epoch: *epoch,
            ..RouteStatus::default()
        }
    };
    let routes = epochs.iter().map(status).collect();
    plan.status = Some(MigrationPlanStatus { routes, ..MigrationPlanStatus::default() });
    plan
}

fn route(name: &str, group: Option<&str>) -> serde_json::Value {
    serde_json::json!({"name": name, "target": {"name": "t"}, "profile": "p", "group": group})
}

#[test]
fn routes_of_a_group_have_one_point_of_no_return() {
    let mut plan =
        plan(serde_json::json!([route("a", Some("g")), route("b", Some("g")), route("c", None)]), &[]);
    assert!(plan.spec.routes.iter().all(|route| plan.spec.discord(route).is_none()));
    plan.spec.routes[0].point_of_no_return = Some(PointOfNoReturn::Done);
    let said: Vec<_> = plan.spec.routes.iter().map(|route| plan.spec.discord(route)).collect();
    assert!(said[1].as_ref().is_some_and(|said| said.contains("two points of no return")), "{said:?}");
    assert_eq!(said[2], None);
}

#[test]
fn routes_of_a_group_have_one_salt_and_others_their_own() {
    let routes = serde_json::json!([
        route("a", Some("g")),
        route("b", Some("g")),
        route("c", None),
        route("g", None),
        route("d", Some("h")),
    ]);
    let salts = |epochs: &[(&str, i64)]| {
        let plan = plan(routes.clone(), epochs);
        plan.spec.routes.iter().map(|route| plan.salt(route, &gateway())).collect::<Vec<_>>()
    };
    let before = salts(&[]);
    assert_eq!(before[0], before[1]);
    let distinct: std::collections::BTreeSet<_> = before.iter().collect();
    assert_eq!(distinct.len(), 4);
    assert_eq!(before[2], ids::salt("u", "c", 0));
    // A new epoch of one is one of all, and of nobody else.
    let after = salts(&[("b", 1)]);
    assert_eq!((&after[0], &after[2..]), (&after[1], &before[2..]));
    assert_ne!(after[0], before[0]);
    assert_eq!(salts(&[("a", 1), ("b", 1)]), after);
}

#[test]
fn who_joins_a_group_begins_anew_and_changes_nothing_for_the_others() {
    let routes = |group| serde_json::json!([route("a", Some("g")), route("b", group)]);
    let alone = plan(routes(None), &[("a", 1), ("b", 7)]);
    let mut joined = alone.clone();
    joined.spec.routes[1].group = Some("g".into());
    let gateway = gateway();
    let matches = &gateway.routes[1].matches;
    let id = |plan: &MigrationPlan| plan.route_id(&plan.spec.routes[1], matches);
    assert_ne!(id(&alone), id(&joined));
    let salt = |plan: &MigrationPlan, at: usize| plan.salt(&plan.spec.routes[at], &gateway);
    assert_eq!(salt(&joined, 0), salt(&alone, 0));
    assert_eq!(salt(&joined, 1), salt(&alone, 0));
    assert_eq!(id(&alone), ids::route_id("b", matches, Some(("u", &alone.spec.routes[1].target))));
}

#[test]
fn routes_of_a_group_agree() {
    let mut odd = route("b", Some("g"));
    odd["profile"] = "fast".into();
    let plan = plan(serde_json::json!([route("a", Some("g")), odd, route("c", None)]), &[]);
    let discords: Vec<_> = plan.spec.routes.iter().map(|route| plan.spec.discord(route)).collect();
    assert!(discords[0].as_ref().unwrap().contains("routes a and b"), "{discords:?}");
    assert!(discords[1].is_some() && discords[2].is_none());
}

#[test]
fn routes_that_wait_for_each_other_are_named() {
    let waits = |name: &str, group: Option<&str>, on: &[&str]| {
        let mut route = route(name, group);
        route["dependsOn"] = on.into();
        route
    };
    let cycle = |routes: Vec<serde_json::Value>| {
        let plan = plan(routes.into(), &[]);
        plan.spec.cycle().map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(cycle(vec![waits("a", None, &["b"]), waits("b", None, &["c"]), route("c", None)]), None);
    let round = cycle(vec![route("d", None), waits("a", None, &["b"]), waits("b", None, &["a"])]);
    assert_eq!(round.unwrap(), ["a", "b"]);
    // a begins with b, which waits for c, which waits for a.
    let through_a_group =
        cycle(vec![route("a", Some("g")), waits("b", Some("g"), &["c"]), waits("c", None, &["a"])]);
    assert_eq!(through_a_group.unwrap(), ["a", "c"]);
    assert!(cycle(vec![route("a", Some("g")), waits("b", Some("g"), &["a"])]).is_some());
}

#[test]
fn a_place_is_one_that_the_ramp_has_and_a_group_has_one() {
    let at = |name: &str, group: Option<&str>, start_at: serde_json::Value| {
        let mut route = route(name, group);
        route["startAt"] = start_at;
        route
    };
    let (first, second, done) =
        (serde_json::json!({"step": 1}), serde_json::json!({"step": 2}), serde_json::json!({"done": true}));
    let routes = [
        at("a", None, first.clone()),
        at("b", None, second),
        at("c", Some("g"), first),
        at("d", Some("g"), done),
    ];
    let plan = plan(routes.to_vec().into(), &[]);
    let said: Vec<_> = plan.spec.routes.iter().map(|route| plan.spec.misplaced(route)).collect();
    assert_eq!(said[0], None);
    assert!(said[1].as_ref().unwrap().contains("is step 2, but profile p ends with step 1"), "{said:?}");
    assert!(said[2].as_ref().unwrap().contains("routes c and d"), "{said:?}");
    assert!(said[3].is_some());
}

#[test]
fn stages_and_drills_are_an_order_too() {
    let staged = |name: &str, stage: &str, on: &[&str]| {
        let mut route = route(name, None);
        route["stage"] = stage.into();
        route["dependsOn"] = on.into();
        route
    };
    let cycle = |routes: Vec<serde_json::Value>| {
        let mut plan = plan(routes.into(), &[]);
        plan.spec.stages = serde_json::from_value(serde_json::json!([
            {"name": "first", "gates": [{"name": "drill", "drill": {"route": "a"}}]}, {"name": "second"},
        ]))
        .unwrap();
        plan.spec.cycle().map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let a = |on: &[&str]| staged("a", "first", on);
    let b = |on: &[&str]| staged("b", "second", on);
    assert_eq!(cycle(vec![a(&[]), b(&["a"]), staged("c", "first", &["a"])]), None);
    assert_eq!(cycle(vec![a(&["b"]), b(&[])]).unwrap(), ["a", "b"], "a later stage");
    let drilled = cycle(vec![a(&["c"]), staged("c", "first", &[])]);
    assert_eq!(drilled.unwrap(), ["a", "c"], "the one that is drilled goes first");
    let mut grouped = vec![staged("c", "first", &[]), b(&[])];
    grouped.iter_mut().for_each(|route| route["group"] = "g".into());
    assert!(cycle(grouped).is_some(), "they begin together");
}

#[test]
fn a_drill_needs_a_route_of_its_stage_for_itself() {
    let said = |change: serde_json::Value| {
        let mut routes = serde_json::json!([route("a", None)]);
        routes[0].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let mut plan = plan(routes, &[]);
        plan.spec.stages = serde_json::from_value(serde_json::json!([
            {"name": "first", "gates": [{"name": "drill", "drill": {"route": "a"}}]},
        ]))
        .unwrap();
        plan.spec.undrillable()
    };
    assert_eq!(said(serde_json::json!({"stage": "first"})), None);
    for change in [serde_json::json!({}), serde_json::json!({"stage": "first", "group": "g"})] {
        assert!(said(change).unwrap().contains("stage first drills route a"));
    }
}

#[test]
fn a_gate_is_another_one_when_it_was_edited() {
    let gate = |route: &str| -> Gate {
        serde_json::from_value(serde_json::json!({"name": "drill", "drill": {"route": route}})).unwrap()
    };
    assert_eq!(gate("a").hash(), gate("a").hash());
    assert_eq!(gate("a").hash().len(), 16);
    assert_ne!(gate("a").hash(), gate("b").hash());
}

#[test]
fn a_drill_uses_no_attempt_and_has_no_cooldown() {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    let rollback = Rollback::default();
    let asked = MicroTime(jiff::Timestamp::UNIX_EPOCH);
    let drill = Drill { asked, took_ms: Some(48), attempt: 1, drills: 1 };
    let drilled = RouteStatus { attempt: 1, drill: Some(drill), ..RouteStatus::default() };
    assert_eq!((rollback.attempts(&drilled), rollback.rest(&drilled).as_secs()), (4, 0));
    let broken = RouteStatus { attempt: 2, ..drilled };
    assert_eq!((rollback.attempts(&broken), rollback.rest(&broken).as_secs()), (4, 300));
}
