mod crossed;

use super::*;
use crate::{
    controllers::gateway::{gather::Gathered, validate::validate},
    edges::{EdgePod, EdgeView},
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use stomaton_crds::{
    conditions::{Reason, State},
    edge_state::{Applied, EdgeState},
    ids,
    v1alpha1::{BackendRef, Class, EdgeGuard, EdgeRoute, Gateway, MigrationPlan},
};

/// A Gateway with the monolith `mono` behind it and these routes.
fn gateway(routes: Value) -> Gateway {
    serde_json::from_value(json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": "fleet", "uid": "gw"},
        "spec": {"defaultBackend": {"name": "mono"}, "routes": routes},
    }))
    .unwrap()
}

/// The Service `name` at `10.0.0.last`.
fn service(name: &str, last: u8, ports: &[i32]) -> Service {
    let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"clusterIP": format!("10.0.0.{last}"), "ports": ports},
    }))
    .unwrap()
}

fn plan(name: &str, routes: &[(&str, &str)]) -> MigrationPlan {
    let routes: Vec<Value> = routes
        .iter()
        .map(|(route, target)| json!({"name": route, "target": {"name": target}, "profile": "p"}))
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan",
        "metadata": {"name": name, "namespace": "fleet", "uid": format!("uid-{name}")},
        "spec": {
            "gatewayRef": {"name": "edge"}, "routes": routes,
            "profiles": [{"name": "p", "ramp": [{"permille": 1000}]}],
        },
    }))
    .unwrap()
}

fn gathered(services: Vec<Service>, plans: Vec<MigrationPlan>) -> Gathered {
    let named = services.into_iter().map(|s| (s.metadata.name.clone().unwrap(), s));
    Gathered { services: named.collect(), plans, ..Gathered::default() }
}

fn compiled(gateway: &Gateway, gathered: &Gathered) -> (EdgeConfigSpec, Problems) {
    let (prepared, problems) = build(&validate(gateway).unwrap(), gathered, "edge:1");
    (prepared.config.unwrap().wanted.spec, problems)
}

fn route<'a>(config: &'a EdgeConfigSpec, name: &str) -> &'a EdgeRoute {
    config.routes.iter().find(|r| r.name == name).unwrap()
}

/// Where a route's sides answer.
fn sides<'a>(config: &'a EdgeConfigSpec, name: &str) -> (&'a str, Option<&'a str>) {
    let address = |key: &String| config.backends[key].as_str();
    let route = route(config, name);
    (address(&route.safe), route.target.as_ref().map(address))
}

fn messages(problems: &Problems) -> Vec<(&str, &str)> {
    problems.dropped.iter().map(|d| (d.name.as_str(), d.message.as_str())).collect()
}

/// What the agents have seen.
fn edges_that_saw(config: i64) -> EdgeView {
    let seen = Applied { config, weights: 0 };
    let state = Some(EdgeState { seen, ..EdgeState::default() });
    EdgeView {
        pods: vec![EdgePod { name: "p".into(), ready: true, terminating: false, state, silent_for: None }],
    }
}

#[test]
fn the_children_of_a_gateway() {
    let gateway = gateway(json!([{"name": "content", "match": {"pathPrefix": "/api/content"}}]));
    let found = gathered(
        vec![service("mono", 1, &[8000]), service("content", 2, &[80])],
        vec![plan("shop", &[("content", "content")])],
    );
    let (prepared, problems) = build(&validate(&gateway).unwrap(), &found, "edge:1");
    assert_eq!(problems, Problems::default());
    insta::assert_yaml_snapshot!("account", prepared.account);
    insta::assert_yaml_snapshot!("role", prepared.role);
    insta::assert_yaml_snapshot!("binding", prepared.binding);
    insta::assert_yaml_snapshot!("service", prepared.service);
    insta::assert_yaml_snapshot!("deployment", prepared.deployment);
    insta::assert_yaml_snapshot!("config", prepared.config.unwrap().wanted);
}

#[test]
fn pods_are_as_many_and_where_the_spec_says() {
    let mut gateway = gateway(json!([]));
    let found = gathered(vec![service("mono", 1, &[8000])], vec![]);
    let (prepared, _) = build(&validate(&gateway).unwrap(), &found, "edge:1");
    assert_eq!(prepared.replicas, Replicas { held: Some(2), ..Replicas::default() });
    assert_eq!(prepared.optional(), [("PodDisruptionBudget".to_owned(), "edge-edge".to_owned())].into());
    let selector = prepared.budget.unwrap().spec.unwrap().selector.unwrap().match_labels;
    assert_eq!(selector, prepared.deployment.spec.unwrap().selector.match_labels);

    gateway.spec.replicas = 1;
    gateway.spec.access_log.stdout = true;
    let (prepared, _) = build(&validate(&gateway).unwrap(), &found, "edge:1");
    assert!(prepared.optional().is_empty(), "a single pod holds no drain up");
    assert!(prepared.config.unwrap().wanted.spec.access_log_to_stdout);

    let more = json!({
        "defaultBackend": {"name": "mono"}, "replicas": 9,
        "scaling": {"min": 2, "max": 6, "cpuPercent": 60},
        "disruption": {"maxUnavailable": "25%"},
        "resources": {"requests": {"cpu": "1"}},
        "placement": {
            "spread": "None", "priorityClassName": "edge", "nodeSelector": {"edge": "yes"},
            "tolerations": [{"key": "edge", "operator": "Exists", "effect": "NoSchedule"}],
        },
        "service": {
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "annotations": {"example.com/internal": "true"},
        },
    });
    gateway.spec = serde_json::from_value(more).unwrap();
    let (prepared, _) = build(&validate(&gateway).unwrap(), &found, "edge:1");
    assert_eq!(prepared.replicas, Replicas { held: None, begin: Some(6), wake: Some(2) });
    assert_eq!(prepared.optional().len(), 2);
    let hpa = serde_json::to_value(prepared.autoscaler.unwrap().spec).unwrap();
    assert_eq!((&hpa["minReplicas"], &hpa["maxReplicas"]), (&json!(2), &json!(6)));
    assert_eq!(hpa["scaleTargetRef"]["name"], "edge-edge");
    let away = prepared.budget.unwrap().spec.unwrap().max_unavailable;
    assert_eq!(away, Some(IntOrString::String("25%".into())));

    let pod = serde_json::to_value(prepared.deployment.spec.unwrap().template.spec).unwrap();
    assert_eq!((&pod["priorityClassName"], &pod["nodeSelector"]), (&json!("edge"), &json!({"edge": "yes"})));
    assert_eq!(pod["tolerations"][0]["effect"], "NoSchedule");
    assert_eq!(pod["topologySpreadConstraints"], json!(null));
    assert_eq!(pod["containers"][0]["resources"], json!({"requests": {"cpu": "1"}}));
    assert_eq!(pod["containers"][1]["resources"]["limits"], json!({"memory": "128Mi"}));

    assert_eq!(prepared.service.metadata.annotations.unwrap()["example.com/internal"], "true");
    let service = serde_json::to_value(prepared.service.spec).unwrap();
    let reached = (&service["type"], &service["externalTrafficPolicy"], &service["sessionAffinity"]);
    assert_eq!(reached, (&json!("LoadBalancer"), &json!("Local"), &json!("ClientIP")));
}

#[test]
fn a_route_that_no_plan_names_has_one_side() {
    let gateway = gateway(json!([
        {"name": "a", "match": {"pathPrefix": "/a"}},
        {"name": "b", "match": {"pathPrefix": "/b"}, "backend": {"name": "blog", "port": 81}},
    ]));
    let (config, problems) = compiled(
        &gateway,
        &gathered(vec![service("mono", 1, &[8000]), service("blog", 2, &[80, 81])], vec![]),
    );
    assert_eq!(problems, Problems::default());
    assert_eq!(sides(&config, "a"), ("10.0.0.1:8000", None));
    assert_eq!(sides(&config, "b"), ("10.0.0.2:81", None));
    assert_eq!(route(&config, "a").id, ids::route_id("a", &gateway.spec.routes[0].matches, None));
    assert_eq!(route(&config, "a").salt, None);
}

#[test]
fn a_plan_gives_a_route_its_target_its_identity_and_its_salt() {
    let gateway = gateway(json!([{"name": "a", "match": {"pathPrefix": "/a"}}]));
    let services = || vec![service("mono", 1, &[8000]), service("content", 2, &[80])];
    let mut plan = plan("shop", &[("a", "content")]);
    let (config, _) = compiled(&gateway, &gathered(services(), vec![plan.clone()]));
    assert_eq!(sides(&config, "a"), ("10.0.0.1:8000", Some("10.0.0.2:80")));
    let target = BackendRef { name: "content".into(), port: None, rewrite: None };
    let id = ids::route_id("a", &gateway.spec.routes[0].matches, Some(("uid-shop", &target)));
    assert_eq!(route(&config, "a").id, id);
    assert_eq!(route(&config, "a").salt, Some(ids::salt("uid-shop", "a", 0)));

    let status = |id: &str| {
        Some(serde_json::from_value(json!({"routes": [{"name": "a", "id": id, "epoch": 3}]})).unwrap())
    };
    plan.status = status("of-another-target");
    let (config, _) = compiled(&gateway, &gathered(services(), vec![plan.clone()]));
    assert_eq!(route(&config, "a").salt, Some(ids::salt("uid-shop", "a", 0)));
    plan.status = status(&id);
    let (config, _) = compiled(&gateway, &gathered(services(), vec![plan]));
    assert_eq!(route(&config, "a").salt, Some(ids::salt("uid-shop", "a", 3)));
    assert_eq!(route(&config, "a").id, id, "an epoch is no new route");
}

#[test]
fn a_fallback_needs_one_path_on_both_sides() {
    let gateway = gateway(json!([
        {"name": "a", "match": {"pathPrefix": "/a"}},
        {"name": "b", "match": {"pathPrefix": "/b"}},
        {"name": "c", "match": {"pathPrefix": "/c"}, "backend": {"name": "mono", "rewrite": "/old/c"}},
        {"name": "d", "match": {"pathPrefix": "/d"}},
    ]));
    let mut plan = plan("shop", &[("a", "content"), ("b", "content"), ("c", "content"), ("d", "content")]);
    for route in &mut plan.spec.routes {
        route.fallback = Some(serde_json::from_value(json!({"alsoFor": ["PUT"], "within": "2s"})).unwrap());
    }
    plan.spec.routes[1].target.rewrite = Some("/new/b".into());
    plan.spec.routes[3].class = Class::Write;
    let found = gathered(vec![service("mono", 1, &[80]), service("content", 2, &[80])], vec![plan]);
    let (config, problems) = compiled(&gateway, &found);
    let fallback = |name: &str| serde_json::to_value(&route(&config, name).handling.fallback).unwrap();
    assert_eq!(fallback("a"), json!({"alsoFor": ["PUT"], "withinMillis": 2000}));
    assert_eq!((fallback("b"), fallback("c")), (json!(null), json!(null)));
    assert_eq!(fallback("d"), json!({"withinMillis": 2000}), "a request that writes is not made twice");
    assert_eq!(problems.dropped.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    // Without its target a route has nothing to fall back from.
    let (config, _) = compiled(&gateway, &gathered(vec![service("mono", 1, &[80])], found.plans));
    assert_eq!(route(&config, "a").handling.fallback, None);
}

#[test]
fn routes_of_a_group_have_the_salt_of_the_group() {
    let gateway = gateway(json!([
        {"name": "a", "match": {"pathPrefix": "/a"}},
        {"name": "b", "match": {"pathPrefix": "/b"}},
        {"name": "c", "match": {"pathPrefix": "/c"}},
    ]));
    let mut plan = plan("shop", &[("a", "content"), ("b", "content"), ("c", "content")]);
    for route in &mut plan.spec.routes[..2] {
        route.group = Some("g".into());
    }
    let found = gathered(vec![service("mono", 1, &[80]), service("content", 2, &[80])], vec![plan]);
    let (config, _) = compiled(&gateway, &found);
    let salt = |name: &str| route(&config, name).salt.clone().unwrap();
    assert_eq!(salt("a"), salt("b"));
    assert_ne!(salt("a"), salt("c"));
}

#[test]
fn tokens_are_mounted_by_the_kubelet_and_stand_in_no_object() {
    let mut gateway = gateway(json!([]));
    gateway.spec.cohort = serde_json::from_value(json!({
        "testersSecret": "testers",
        "audiences": [
            {"name": "team", "tokenSecret": "team"},
            {"name": "both", "tokenSecret": "testers", "networks": ["10.0.0.0/8"]},
        ],
    }))
    .unwrap();
    let (prepared, problems) =
        build(&validate(&gateway).unwrap(), &gathered(vec![service("mono", 1, &[80])], vec![]), "edge:1");
    assert_eq!(problems, Problems::default());
    let pod = serde_json::to_value(prepared.deployment.spec.unwrap().template.spec.unwrap()).unwrap();
    let volume = pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == "tokens").unwrap();
    let items = |secret: &str, keys: &[&str]| {
        let directory = ids::secret_dir(secret);
        let items: Vec<_> =
            keys.iter().map(|key| json!({"key": key, "path": format!("{directory}/{key}")})).collect();
        json!({"secret": {"name": secret, "optional": true, "items": items}})
    };
    let sources = json!([items("team", &["token"]), items("testers", &["monolith", "service", "token"])]);
    assert_eq!(volume["projected"]["sources"], sources);
    let mounts = |container: usize| {
        let mounts = pod["containers"][container]["volumeMounts"].as_array().unwrap();
        mounts.iter().any(|mount| mount["name"] == "tokens")
    };
    assert_eq!((mounts(0), mounts(1)), (true, false), "the agent does not see them");
    let config = serde_json::to_value(&prepared.config.unwrap().wanted.spec).unwrap();
    let audiences = json!([
        {"name": "team", "token": ids::secret_dir("team")},
        {"name": "both", "networks": ["10.0.0.0/8"], "token": ids::secret_dir("testers")},
    ]);
    assert_eq!(config["cohort"]["audiences"], audiences);
}

#[test]
fn certificates_are_mounted_by_the_kubelet_and_named_by_hashes() {
    let mut gateway = gateway(json!([]));
    let tls = json!({"certificates": [{"secret": "shop-tls", "hosts": ["a.example"]}], "port": 8443, "redirect": true});
    gateway.spec.tls = Some(serde_json::from_value(tls).unwrap());
    gateway.spec.hosts = vec!["a.example".into()];
    let found = gathered(vec![service("mono", 1, &[8000])], vec![]);
    let (prepared, _) = build(&validate(&gateway).unwrap(), &found, "edge:1");
    let directory = ids::secret_dir("shop-tls");

    let config = serde_json::to_value(prepared.config.unwrap().wanted.spec).unwrap();
    let certificates = json!([{"id": directory, "hosts": ["a.example"]}]);
    assert_eq!(config["tls"], json!({"minVersion": "1.2", "redirectTo": 8443, "certificates": certificates}));
    assert_eq!(config["hosts"], json!(["a.example"]));

    let pod = prepared.deployment.spec.unwrap().template.spec.unwrap();
    let volume = pod.volumes.unwrap().into_iter().find(|v| v.name == "tls").unwrap();
    let secret = volume.projected.unwrap().sources.unwrap().remove(0).secret.unwrap();
    assert_eq!((secret.name.as_str(), secret.optional), ("shop-tls", Some(true)));
    let paths: Vec<_> = secret.items.unwrap().into_iter().map(|item| item.path).collect();
    assert_eq!(paths, [format!("{directory}/tls.crt"), format!("{directory}/tls.key")]);
    let mounted = |c: &k8s_openapi::api::core::v1::Container| {
        c.volume_mounts.iter().flatten().any(|m| m.name == "tls" && m.read_only == Some(true))
    };
    assert_eq!(
        pod.containers.iter().map(mounted).collect::<Vec<_>>(),
        [true, false],
        "the agent has none of it"
    );

    let ports = prepared.service.spec.unwrap().ports.unwrap();
    let ports: Vec<_> = ports.into_iter().map(|p| (p.name.unwrap(), p.port)).collect();
    assert_eq!(ports, [("http".to_owned(), 80), ("https".to_owned(), 8443)]);
}

#[test]
fn a_service_that_knows_the_users_and_is_not_there_is_said_on_the_routes_that_need_it() {
    let routes = json!([
        {"name": "mine", "match": {"pathPrefix": "/mine"}, "auth": {}},
        {"name": "all", "match": {"pathPrefix": "/all"}},
    ]);
    let mut gateway = gateway(routes);
    let auth = json!({"jwt": {"backend": {"name": "auth"}, "path": "/verify", "timeout": "250ms"}});
    gateway.spec.auth = Some(serde_json::from_value(auth).unwrap());
    let (config, problems) = compiled(&gateway, &gathered(vec![service("mono", 1, &[8000])], vec![]));
    assert_eq!(config.auth.as_ref().unwrap().backend, None);
    let message = "`auth.jwt.backend`: there is no Service auth: create it, or name another one; until then the \
                   route does as in an outage";
    assert_eq!(messages(&problems), [("mine", message)]);

    let both = vec![service("mono", 1, &[8000]), service("auth", 2, &[8007])];
    let (config, problems) = compiled(&gateway, &gathered(both, vec![]));
    assert_eq!(problems, Problems::default());
    let auth = config.auth.clone().unwrap();
    assert_eq!(config.backends[&auth.backend.unwrap()], "10.0.0.2:8007");
    assert_eq!((auth.path.as_str(), auth.timeout_millis), ("/verify", 250));
    assert!(route(&config, "mine").handling.auth.is_some() && route(&config, "all").handling.auth.is_none());
}

#[test]
fn a_route_is_compiled_whole() {
    let gateway = gateway(json!([{
        "name": "rag", "match": {"path": "/api/v1/rag", "headers": [{"name": "x-version", "value": "2"}]},
        "backend": {"name": "mono", "rewrite": "/api/v1/stomaton/rag"}, "gzip": true,
    }]));
    let mut plan = plan("shop", &[("rag", "rag")]);
    plan.spec.routes[0].target.rewrite = Some("/internal/rag".into());
    let services = vec![service("mono", 1, &[8000]), service("rag", 2, &[80])];
    let (config, problems) = compiled(&gateway, &gathered(services, vec![plan.clone()]));
    assert_eq!(problems, Problems::default());
    let route = route(&config, "rag");
    assert_eq!((route.path_prefix.as_str(), route.exact), ("/api/v1/rag", true));
    assert_eq!((route.headers.len(), route.handling.gzip), (1, true));
    let rewrites = (route.safe_rewrite.as_deref(), route.target_rewrite.as_deref());
    assert_eq!(rewrites, (Some("/api/v1/stomaton/rag"), Some("/internal/rag")));
    assert_eq!(config.backends.len(), 2, "a rewrite is no other backend");

    let (without, _) = compiled(&gateway, &gathered(vec![service("mono", 1, &[8000])], vec![plan]));
    assert_eq!(without.routes[0].target_rewrite, None);
    assert_eq!(without.routes[0].id, config.routes[0].id);
}

#[test]
fn the_key_of_kills_is_for_agents_only_and_stays_the_same() {
    let gateway = gateway(json!([]));
    let key = stomaton_crds::kill::Key::new([7; 32]);
    let mut found = gathered(vec![service("mono", 1, &[8000])], vec![]);
    let (without, _) = build(&validate(&gateway).unwrap(), &found, "edge:1");
    assert_eq!(without.kill_key, None, "where the operator may not have Secrets");
    found.kill_key = Some(key.clone());
    let (prepared, _) = build(&validate(&gateway).unwrap(), &found, "edge:1");
    let secret = prepared.kill_key.unwrap();
    assert_eq!(secret.metadata.name.as_deref(), Some("edge-kill"));
    assert_eq!(kill::key_of(&secret), Some(key));
    assert_eq!(without.deployment, prepared.deployment, "pods are the same, and wait for no Secret");

    let pod = prepared.deployment.spec.unwrap().template.spec.unwrap();
    let volume = pod.volumes.unwrap().into_iter().find(|v| v.name == "kill").unwrap().secret.unwrap();
    assert_eq!((volume.secret_name.as_deref(), volume.optional), (Some("edge-kill"), Some(true)));
    let mounted = |c: &k8s_openapi::api::core::v1::Container| {
        c.volume_mounts.iter().flatten().any(|m| m.name == "kill" && m.read_only == Some(true))
    };
    assert_eq!(pod.containers.iter().map(mounted).collect::<Vec<_>>(), [false, true]);

    let agents = prepared.agents.spec.unwrap();
    assert_eq!(
        (agents.cluster_ip.as_deref(), agents.publish_not_ready_addresses),
        (Some("None"), Some(true))
    );
    assert_eq!(agents.selector, prepared.service.spec.unwrap().selector);
}

#[test]
fn a_route_that_two_plans_want_belongs_to_the_older() {
    let gateway = gateway(json!([{"name": "a", "match": {"pathPrefix": "/a"}}]));
    let services = vec![service("mono", 1, &[1]), service("old", 2, &[2]), service("new", 3, &[3])];
    let plans = vec![plan("older", &[("a", "old")]), plan("newer", &[("a", "new")])];
    let (config, _) = compiled(&gateway, &gathered(services, plans));
    assert_eq!(sides(&config, "a").1, Some("10.0.0.2:2"));
}

#[test]
fn a_target_that_is_not_there_leaves_the_route_on_its_safe_side_as_the_same_route() {
    let gateway = gateway(json!([{"name": "a", "match": {"pathPrefix": "/a"}}]));
    let plans = || vec![plan("shop", &[("a", "content")])];
    let (without, problems) = compiled(&gateway, &gathered(vec![service("mono", 1, &[8000])], plans()));
    assert_eq!(sides(&without, "a"), ("10.0.0.1:8000", None));
    assert_eq!((route(&without, "a").salt.as_ref(), route(&without, "a").guards.len()), (None, 0));
    let message = "target of MigrationPlan shop: there is no Service content: create it, or name another one; \
                   until then the safe side answers";
    assert_eq!(messages(&problems), [("a", message)]);
    assert!(!problems.stuck, "it may come by itself");
    let both = vec![service("mono", 1, &[8000]), service("content", 2, &[80])];
    let (with, _) = compiled(&gateway, &gathered(both, plans()));
    assert_eq!(route(&with, "a").id, route(&without, "a").id);
    let guard = EdgeGuard { min_bad: 5, bad_permille: 200, window_millis: 10_000 };
    assert_eq!(route(&with, "a").guards, [guard], "what the plan says by default");
}

#[test]
fn a_service_that_cannot_be_used_is_said_with_what_to_do() {
    let gateway =
        gateway(json!([{"name": "a", "match": {"pathPrefix": "/a"}, "backend": {"name": "s", "port": 5}}]));
    let headless = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "None", "ports": [{"port": 5}]}});
    let udp = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.9", "ports": [{"port": 5, "protocol": "UDP"}]}});
    let cases = [
        (None, "there is no Service s: create it, or name another one", false),
        (Some(headless), "Service s has no cluster IP (headless or ExternalName): name one that has", true),
        (Some(udp), "Service s has no TCP port 5, only []: correct `port`", true),
    ];
    for (unusable, words, stuck) in cases {
        let mut services = vec![service("mono", 1, &[8000])];
        services.extend(unusable.map(|s| serde_json::from_value::<Service>(s).unwrap()));
        let (config, problems) = compiled(&gateway, &gathered(services, vec![]));
        assert_eq!(config.routes, [], "nowhere known to send it: as if it were not written");
        let message = format!("`backend`: {words}; until then the route is as if it were not written");
        assert_eq!(messages(&problems), [("a", message.as_str())]);
        assert_eq!(problems.stuck, stuck);
    }
}

#[test]
fn a_safe_side_that_vanished_keeps_its_last_known_address() {
    let gateway = gateway(json!([{"name": "a", "match": {"pathPrefix": "/a"}, "backend": {"name": "blog"}}]));
    let all = gathered(vec![service("mono", 1, &[8000]), service("blog", 2, &[80])], vec![]);
    let before = build(&validate(&gateway).unwrap(), &all, "edge:1").0.config.unwrap().wanted;
    let nothing = Gathered { present: Some(before.clone()), ..Gathered::default() };
    let (config, problems) = compiled(&gateway, &nothing);
    assert_eq!(config, before.spec, "not even a new revision");
    let words = "there is no Service blog: create it, or name another one; until then its last known address stays in use";
    assert_eq!(messages(&problems), [("a", format!("`backend`: {words}").as_str())]);
    let default = problems.default_backend.unwrap();
    assert_eq!((default.state, default.reason), (State::Stalled, Reason::NotFound));
}

#[test]
fn without_a_default_backend_there_is_no_structure() {
    let gateway = gateway(json!([]));
    let (prepared, problems) = build(&validate(&gateway).unwrap(), &Gathered::default(), "edge:1");
    assert!(prepared.config.is_none());
    let message = "`defaultBackend`: there is no Service mono: create it, or name another one";
    assert_eq!(problems.default_backend.unwrap().message, message);
    let two = gathered(vec![service("mono", 1, &[80, 81])], vec![]);
    let (prepared, problems) = build(&validate(&gateway).unwrap(), &two, "edge:1");
    assert!(prepared.config.is_none());
    let problem = problems.default_backend.unwrap();
    assert_eq!(
        problem.message,
        "`defaultBackend`: Service mono has the TCP ports [80, 81]: say which with `port`"
    );
    assert_eq!(problem.reason, Reason::NoPort);
}

#[test]
fn addresses_of_both_families_are_written_as_the_schema_wants_them() {
    let mut six = service("mono", 1, &[8000]);
    six.spec.as_mut().unwrap().cluster_ip = Some("FD00::1".into());
    let (config, _) = compiled(&gateway(json!([])), &gathered(vec![six], vec![]));
    assert_eq!(config.backends.values().collect::<Vec<_>>(), ["[fd00::1]:8000"]);
}

#[test]
fn a_revision_is_new_when_the_content_is_and_above_all_that_was_seen() {
    let monolith = |last| vec![service("mono", last, &[8000])];
    let first = gathered(monolith(1), vec![]);
    let (config, _) = compiled(&gateway(json!([])), &first);
    assert_eq!(config.revision, 1);
    let present = EdgeConfig::new("edge", config);
    // What is there, where the monolith is now, what the agents saw, and the revision that is due.
    let cases =
        [(1, 1, 0, 1), (1, 1, 1, 1), (1, 2, 1, 2), (1, 2, 7, 8), (1, 1, 7, 8), (5, 1, 3, 5), (5, 2, 3, 6)];
    for (there, monolith_at, seen, due) in cases {
        let mut present = present.clone();
        present.spec.revision = there;
        let now = Gathered {
            present: Some(present),
            edges: edges_that_saw(seen),
            ..gathered(monolith(monolith_at), vec![])
        };
        let (config, _) = compiled(&gateway(json!([])), &now);
        assert_eq!(config.revision, due, "{there} is there, {monolith_at}, seen {seen}");
    }
}
