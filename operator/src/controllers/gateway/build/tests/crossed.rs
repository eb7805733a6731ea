//! The structure of a route whose point of no return is behind it, or about to be.

use super::*;

fn to_content() -> Gateway {
    gateway(json!([{"name": "a", "match": {"pathPrefix": "/a"}}]))
}

/// A plan with a fallback, whose status says this of its route.
fn plan_with(status: Value) -> MigrationPlan {
    let mut plan = serde_json::to_value(plan("shop", &[("a", "content")])).unwrap();
    plan["spec"]["routes"][0]["fallback"] = json!({});
    plan["spec"]["routes"][0]["pointOfNoReturn"] = json!("FullWeight");
    plan["status"] = json!({"routes": [status]});
    serde_json::from_value(plan).unwrap()
}

fn both() -> Vec<Service> {
    vec![service("mono", 1, &[8000]), service("content", 2, &[80])]
}

#[test]
fn every_way_back_is_compiled_out_from_crossing_on() {
    let before = plan_with(json!({"name": "a"}));
    let (config, _) = compiled(&to_content(), &gathered(both(), vec![before]));
    let id = route(&config, "a").id.clone();
    assert_eq!(sides(&config, "a"), ("10.0.0.1:8000", Some("10.0.0.2:80")));
    assert!(route(&config, "a").handling.fallback.is_some() && !route(&config, "a").guards.is_empty());
    for standing in ["crossing", "crossed"] {
        // Whatever identity it had: an edit leads nothing back.
        let plan = plan_with(json!({"name": "a", "id": "of-another-target", standing: true}));
        let (config, problems) = compiled(&to_content(), &gathered(both(), vec![plan]));
        assert_eq!(problems, Problems::default());
        assert_eq!(sides(&config, "a"), ("10.0.0.2:80", None), "{standing}");
        let route = route(&config, "a");
        assert_eq!((&route.id, &route.salt, &route.handling.fallback), (&id, &None, &None));
        assert!(route.guards.is_empty() && route.crossed);
    }
}

#[test]
fn a_service_that_is_gone_leaves_no_route_to_the_monolith() {
    let only_mono = || vec![service("mono", 1, &[8000])];
    let plan = || plan_with(json!({"name": "a", "crossed": true}));
    let (present, _) = compiled(&to_content(), &gathered(both(), vec![plan()]));
    let mut found = gathered(only_mono(), vec![plan()]);
    found.present = Some(EdgeConfig::new("edge", present));
    let (config, problems) = compiled(&to_content(), &found);
    assert_eq!(sides(&config, "a"), ("10.0.0.2:80", None), "its last known address");
    assert!(messages(&problems)[0].1.contains("last known address"), "{problems:?}");
    let (config, problems) = compiled(&to_content(), &gathered(only_mono(), vec![plan()]));
    assert_eq!(sides(&config, "a"), ("127.0.0.1:9", None), "nobody");
    assert!(messages(&problems)[0].1.contains("nobody answers"), "{problems:?}");
}
