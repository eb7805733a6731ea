//! The CEL rules of the schema, evaluated offline: what is refused, and in which words.
#![allow(clippy::unwrap_used)] // a helper may stop at the first surprise like the tests it serves

use kube::CustomResourceExt;
use kube_cel::{ValidationErrors, Validator};
use serde::Serialize;
use serde_json::{Value, json};
use stomaton_crds::v1alpha1::{EdgeConfig, EdgeWeights, Gateway, MigrationPlan, PlanAction, StomatonService};

fn object<K: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value) -> K {
    let object = json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": "shop" }, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

fn plan(ramp: Value, profile: &str) -> MigrationPlan {
    let spec = json!({
        "gatewayRef": { "name": "edge" },
        "routes": [{ "name": "content", "target": { "name": "content" }, "profile": profile }],
        "profiles": [{ "name": "standard", "ramp": ramp }],
    });
    object("MigrationPlan", "plan", spec)
}

fn gateway(path: &str) -> Gateway {
    let routes = json!([{ "name": "r", "match": { "pathPrefix": path } }]);
    object("Gateway", "edge", json!({ "defaultBackend": { "name": "monolith" }, "routes": routes }))
}

fn service(spec: Value) -> StomatonService {
    object("StomatonService", "content", spec)
}

fn weights(revision: i64, permille: i32) -> EdgeWeights {
    let routes = json!({ "0123456789abcdef": { "permille": { "public": permille } } });
    object("EdgeWeights", "edge", json!({ "revision": revision, "routes": routes }))
}

fn config(revision: i64, backend: &str) -> EdgeConfig {
    let spec = json!({ "revision": revision, "backends": { "a": "10.0.0.1:80" }, "defaultBackend": backend });
    object("EdgeConfig", "edge", spec)
}

fn validate_cel<K: CustomResourceExt + Serialize>(object: &K) -> Result<(), ValidationErrors> {
    validate(object, None)
}

fn validate_cel_update<K: CustomResourceExt + Serialize>(new: &K, old: &K) -> Result<(), ValidationErrors> {
    validate(new, Some(old))
}

fn validate<K: CustomResourceExt + Serialize>(new: &K, old: Option<&K>) -> Result<(), ValidationErrors> {
    let schema = serde_json::to_value(&K::crd().spec.versions[0].schema).unwrap();
    let (new, old) = (serde_json::to_value(new).unwrap(), old.map(|old| serde_json::to_value(old).unwrap()));
    Validator::new().validate(&schema["openAPIV3Schema"], &new, old.as_ref())
}

/// The words of the first broken rule.
fn words<E: std::fmt::Display>(result: Result<(), E>) -> String {
    result.err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn a_ramp_ascends_without_repeats_and_ends_at_all_of_it() {
    let steps = |permilles: &[i32]| Value::from_iter(permilles.iter().map(|p| json!({ "permille": p })));
    assert_eq!(words(validate_cel(&plan(steps(&[50, 250, 1000]), "standard"))), "");
    for (ramp, says) in
        [(&[500, 50, 1000][..], "ascend"), (&[50, 500], "1000"), (&[50, 50, 1000], "same weight")]
    {
        let refused = words(validate_cel(&plan(steps(ramp), "standard")));
        assert!(refused.contains(says), "{ramp:?}: {refused}");
    }
}

#[test]
fn each_audience_has_a_ramp_of_its_own_and_everybody_is_last() {
    let said = |ramp: Value| words(validate_cel(&plan(ramp, "standard")));
    let step = |audience: &str, permille: i32| json!({ "audience": audience, "permille": permille });
    let (all, half) = (json!({ "permille": 1000 }), json!({ "permille": 500 }));
    assert_eq!(
        said(json!([step("internal", 1000), step("suppliers", 50), half, step("suppliers", 1000), all])),
        ""
    );
    for (ramp, says) in [
        (json!([half, step("internal", 1000)]), "for everybody"),
        (json!([step("internal", 500), half, step("internal", 50), all]), "ascend"),
        (json!([step("internal", 50), step("internal", 50), all]), "same weight"),
        (json!([step("public", 50), all]), "leave `audience` out"),
    ] {
        let refused = said(ramp.clone());
        assert!(refused.contains(says), "{ramp}: {refused}");
    }
}

#[test]
fn a_fallback_says_what_may_be_sent_twice() {
    let with = |fallback: Value| {
        let mut plan = plan(json!([{ "permille": 1000 }]), "standard");
        plan.spec.routes[0].fallback = Some(serde_json::from_value(fallback).unwrap());
        words(validate_cel(&plan))
    };
    assert_eq!(with(json!({})), "");
    assert_eq!(with(json!({ "alsoFor": ["PUT", "DELETE"], "within": "500ms" })), "");
    assert!(with(json!({ "alsoFor": ["POST"] })).contains("only PUT and DELETE"));
    assert!(with(json!({ "within": "2m" })).contains("`within` must be"));
}

#[test]
fn a_request_that_writes_is_not_made_twice() {
    let with = |class: &str, fallback: Value| {
        let mut plan = serde_json::to_value(plan(json!([{ "permille": 1000 }]), "standard")).unwrap();
        plan["spec"]["routes"][0]["class"] = json!(class);
        plan["spec"]["routes"][0]["fallback"] = fallback;
        words(validate_cel(&serde_json::from_value::<MigrationPlan>(plan).unwrap()))
    };
    let twice = json!({ "alsoFor": ["PUT"] });
    assert_eq!(with("Read", twice.clone()), "");
    assert_eq!(with("Write", json!({})), "");
    assert!(with("Write", twice).contains("not made twice"));
}

#[test]
fn a_place_to_start_at_is_one_place() {
    let with = |start_at: Value| {
        let mut plan = plan(json!([{ "permille": 1000 }]), "standard");
        plan.spec.routes[0].start_at = Some(serde_json::from_value(start_at).unwrap());
        words(validate_cel(&plan))
    };
    assert_eq!((with(json!({ "step": 1 })), with(json!({ "done": true }))), (String::new(), String::new()));
    for wrong in [json!({}), json!({ "step": 1, "done": true }), json!({ "done": false })] {
        assert!(with(wrong.clone()).contains("and not both"), "{wrong}");
    }
}

#[test]
fn routes_of_a_group_have_one_profile() {
    let grouped = |profile: &str| {
        let route = |name: &str, profile: &str| json!({ "name": name, "target": { "name": "t" }, "profile": profile, "group": "g" });
        let ramp = json!([{ "permille": 1000 }]);
        let spec = json!({
            "gatewayRef": { "name": "edge" }, "routes": [route("a", "slow"), route("b", profile)],
            "profiles": [{ "name": "slow", "ramp": ramp }, { "name": "fast", "ramp": ramp }],
        });
        words(validate_cel(&object::<MigrationPlan>("MigrationPlan", "plan", spec)))
    };
    assert_eq!(grouped("slow"), "");
    assert!(grouped("fast").contains("move together"));
}

/// What is said of a plan with the stage `first`, whose route `a` is as `route` says beside its name.
fn staged(stage: Value, route: Value) -> String {
    let merged = |mut whole: Value, more: Value| {
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        whole
    };
    let spec = json!({
        "gatewayRef": { "name": "edge" },
        "routes": [merged(json!({ "name": "a", "target": { "name": "t" }, "profile": "p" }), route)],
        "profiles": [{ "name": "p", "ramp": [{ "permille": 1000 }] }],
        "stages": [merged(json!({ "name": "first" }), stage)],
    });
    words(validate_cel(&object::<MigrationPlan>("MigrationPlan", "plan", spec)))
}

#[test]
fn every_kind_of_gate_is_accepted() {
    let gates = json!([
        { "name": "services", "services": {} },
        { "name": "named", "services": { "names": ["auth"] } },
        { "name": "dry-run", "job": { "cronJob": "data-dry-run", "within": "30m" } },
        { "name": "schema", "object": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "db", "condition": "Available" } },
        { "name": "go", "approval": {} },
        { "name": "drill", "drill": { "route": "a" } },
    ]);
    let exit = json!([{ "name": "load", "job": { "cronJob": "load-test" } }]);
    assert_eq!(staged(json!({ "gates": gates, "exit": exit }), json!({ "stage": "first" })), "");
}

#[test]
fn every_rule_of_a_stage_refuses_and_says_why() {
    let drill = |within: &str| json!({ "name": "d", "drill": { "route": "a", "within": within } });
    let inside = json!({ "stage": "first" });
    for (stage, route, says) in [
        (json!({ "gates": [{ "name": "g" }] }), inside.clone(), "exactly one of"),
        (
            json!({ "gates": [{ "name": "g", "approval": {}, "services": {} }] }),
            inside.clone(),
            "exactly one of",
        ),
        (json!({ "exit": [drill("250ms")] }), inside.clone(), "a gate before a stage"),
        (
            json!({ "gates": [drill("250ms"), { "name": "e", "drill": { "route": "a" } }] }),
            inside.clone(),
            "a stage has one drill",
        ),
        (json!({ "gates": [drill("9ms")] }), inside.clone(), "between 10ms and 1m"),
        (
            json!({ "gates": [{ "name": "j", "job": { "cronJob": "c", "within": "169h" } }] }),
            inside.clone(),
            "between 1s and 168h",
        ),
        (json!({}), json!({ "stage": "second" }), "names a stage of this plan"),
    ] {
        let refused = staged(stage.clone(), route);
        assert!(refused.contains(says), "{stage}: {refused}");
    }
}

#[test]
fn an_act_is_for_a_route_or_for_a_stage() {
    let said = |action: &str, more: Value| {
        let mut spec = json!({ "plan": "p", "action": action, "user": "alice" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        words(validate_cel(&object::<PlanAction>("PlanAction", "act", spec)))
    };
    let hash = "0123456789abcdef";
    let whole = json!({ "attempt": 1, "step": 1, "specHash": hash });
    for (action, right) in [
        ("Approve", json!({ "route": "a", "approves": whole })),
        ("Approve", json!({ "stage": "s", "approves": { "specHash": hash } })),
        ("Resume", json!({ "stage": "s" })),
        ("Resume", json!({})),
    ] {
        assert_eq!(said(action, right.clone()), "", "{action} {right}");
    }
    for (action, wrong, says) in [
        ("Approve", json!({ "approves": whole }), "a route or a stage"),
        ("Approve", json!({ "stage": "s", "approves": whole }), "neither of a stage"),
        ("Approve", json!({ "route": "a", "approves": { "specHash": hash } }), "attempt and step of a route"),
        ("Approve", json!({ "stage": "s" }), "`approves` belongs to Approve"),
        ("Resume", json!({ "route": "a", "stage": "s" }), "for no route"),
        ("Rollback", json!({ "stage": "s" }), "only Approve and Resume"),
        ("Hold", json!({ "stage": "s" }), "name a route"),
    ] {
        let refused = said(action, wrong.clone());
        assert!(refused.contains(says), "{action} {wrong}: {refused}");
    }
}

#[test]
fn a_judge_of_prometheus_says_what_to_ask_and_no_other_does() {
    let said = |judge: Value| {
        let mut plan = plan(json!([{"permille": 1000}]), "standard");
        plan.spec.judges = vec![serde_json::from_value(judge).unwrap()];
        words(validate_cel(&plan))
    };
    let counts = json!({"bad": "sum(bad)", "all": "sum(all)"});
    assert_eq!(said(json!({"name": "j", "of": "Prometheus", "prometheus": counts})), "");
    for wrong in
        [json!({"name": "j", "of": "Prometheus"}), json!({"name": "j", "of": "Errors", "prometheus": counts})]
    {
        let refused = said(wrong);
        assert!(refused.contains("belongs to a judge of Prometheus"), "{refused}");
    }
}

#[test]
fn a_route_names_a_profile_of_its_plan() {
    let refused = words(validate_cel(&plan(json!([{ "permille": 1000 }]), "fast")));
    assert!(refused.contains("names a profile"), "{refused}");
}

#[test]
fn a_plan_stays_with_its_gateway() {
    let old = plan(json!([{ "permille": 1000 }]), "standard");
    let mut new = old.clone();
    new.spec.gateway_ref.name = "other".into();
    assert!(words(validate_cel_update(&new, &old)).contains("stays with its Gateway"));
}

#[test]
fn a_path_has_one_meaning() {
    assert_eq!(words(validate_cel(&gateway("/api/v1/content"))), "");
    assert_eq!(words(validate_cel(&gateway("/"))), "");
    for path in ["/api//v1", "/api/../admin", "/api/./x", "/api/..", "/api/"] {
        assert_ne!(words(validate_cel(&gateway(path))), "", "{path}");
    }
}

/// A Gateway that is right but for what `spec` says.
fn edge(spec: Value) -> Gateway {
    let mut whole = json!({ "defaultBackend": { "name": "monolith" } });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object("Gateway", "edge", whole)
}

/// A Gateway with one route that is right but for what `route` says.
fn routed(route: Value) -> Gateway {
    let mut whole = json!({ "name": "r", "match": { "pathPrefix": "/a" } });
    whole.as_object_mut().unwrap().extend(route.as_object().unwrap().clone());
    edge(json!({ "routes": [whole] }))
}

#[test]
fn every_rule_of_a_route_refuses_and_says_why() {
    let cases = [
        (json!({ "match": {} }), "one of the two"),
        (json!({ "match": { "pathPrefix": "/a", "path": "/a" } }), "one of the two"),
        (json!({ "match": { "path": "/a/../b" } }), "'.' or '..'"),
        (json!({ "match": { "path": "/a/" } }), "leave out the '/'"),
        (json!({ "backend": { "name": "b", "rewrite": "/a//b" } }), "'.' or '..'"),
        (json!({ "backend": { "name": "b", "rewrite": "/a/" } }), "leave out the '/'"),
        (json!({ "timeouts": { "connect": "1ms" } }), "`connect` must be"),
        (json!({ "timeouts": { "response": "2h" } }), "`response` must be"),
        (json!({ "timeouts": { "idle": "25h" } }), "`idle` must be"),
        (json!({ "allowFrom": ["10.0.0.1"] }), "must be networks"),
        (json!({ "cors": { "allowOrigins": ["*", "https://a.b"] } }), "`*` stands alone"),
        (json!({ "cors": { "allowOrigins": ["*"], "allowCredentials": true } }), "`*` stands alone"),
    ];
    for (route, says) in cases {
        let refused = words(validate_cel(&routed(route.clone())));
        assert!(refused.contains(says), "{route}: {refused}");
    }
    for (spec, says) in [
        (json!({ "defaultBackend": { "name": "m", "rewrite": "/x" } }), "goes with the backend of a route"),
        (json!({ "hiddenPaths": ["/internal/"] }), "a hidden path has whole segments"),
        (json!({ "hiddenPaths": ["/a/../b"] }), "a hidden path has whole segments"),
        (
            json!({ "tls": { "certificates": [{ "secret": "a" }, { "secret": "b" }] } }),
            "only one certificate",
        ),
        (json!({ "tls": { "certificates": [{ "secret": "a" }], "port": 80 } }), "need a port each"),
        (json!({ "routes": [{ "name": "r", "match": { "path": "/" }, "auth": {} }] }), "who knows the users"),
        (json!({ "auth": { "jwt": { "backend": { "name": "auth", "rewrite": "/x" } } } }), "with `path`"),
        (
            json!({ "auth": { "jwt": { "backend": { "name": "auth" }, "timeout": "1m" } } }),
            "`timeout` must be",
        ),
        (
            json!({ "auth": { "jwt": { "backend": { "name": "auth" }, "identityHeaders": ["x-real-ip"] } } }),
            "a header of identity",
        ),
        (json!({ "maintenance": { "retryAfter": "0s" } }), "`retryAfter` must be"),
        (json!({ "scaling": { "min": 3, "max": 2 } }), "must not exceed"),
        (
            json!({ "scaling": { "max": 4 }, "resources": { "limits": { "memory": "1Gi" } } }),
            "goes by the CPU that `resources` requests",
        ),
        (json!({ "disruption": { "maxUnavailable": 0 } }), "block every drain"),
        (json!({ "service": { "externalTrafficPolicy": "Local" } }), "goes with the types NodePort"),
        (
            json!({ "service": { "annotations": { "fleet.stomaton.com/x": "x" } } }),
            "annotations of fleet.stomaton.com",
        ),
        (json!({ "cohort": { "header": "x-user-id" } }), "from `trustedProxies`"),
        (
            json!({ "cohort": { "audiences": [{ "name": "a", "header": { "name": "x", "value": "1" } }] } }),
            "from `trustedProxies`",
        ),
        (json!({ "cohort": { "audiences": [{ "name": "a" }] } }), "say who is of this audience"),
        (
            json!({ "cohort": { "audiences": [{ "name": "public", "networks": ["10.0.0.0/8"] }] } }),
            "is everybody",
        ),
        (json!({ "cohort": { "audiences": [{ "name": "a", "networks": ["x"] }] } }), "must be networks"),
        (
            json!({
                "cohort": { "header": "x-user-id" },
                "trustedProxies": { "networks": ["10.0.0.0/8"], "addressFrom": "ProxyProtocol" },
            }),
            "from `trustedProxies`",
        ),
        (json!({ "trustedProxies": { "networks": ["all"] } }), "must be networks"),
    ] {
        let refused = words(validate_cel(&edge(spec.clone())));
        assert!(refused.contains(says), "{spec}: {refused}");
    }
}

#[test]
fn a_whole_route_is_accepted() {
    let whole = json!({
        "match": {
            "path": "/a/b", "hosts": ["a.example"], "methods": ["GET"],
            "headers": [{ "name": "x-version", "value": "2" }],
        },
        "backend": { "name": "rag", "port": 8004, "rewrite": "/internal/rag" },
        "timeouts": { "connect": "250ms", "response": "1m30s", "idle": "24h" },
        "maxBody": "64Mi", "webSocket": true, "serverSentEvents": true, "gzip": true,
        "rateLimit": { "class": "Auth", "total": { "requestsPerSecond": 500, "burst": 50 } },
        "allowFrom": ["10.0.0.0/8", "fd00::/8"],
        "cors": { "allowOrigins": ["https://a.example:8443"], "allowCredentials": true, "maxAgeSeconds": 600 },
    });
    assert_eq!(words(validate_cel(&routed(whole))), "");
    let whole = json!({
        "hosts": ["a.example", "b.example"],
        "auth": { "jwt": { "backend": { "name": "auth", "port": 8007 }, "identityHeaders": ["x-user-id"] } },
        "routes": [{ "name": "r", "match": { "path": "/" }, "auth": { "onOutage": "FailOpen" } }],
        "tls": {
            "certificates": [{ "secret": "wildcard" }, { "secret": "b-tls", "hosts": ["b.example"] }],
            "minVersion": "1.3", "redirect": true,
        },
        "hiddenPaths": ["/internal", "/.git"],
        "cohort": {
            "header": "x-user-id", "cookie": "sid", "setCookie": false, "testersSecret": "testers",
            "audiences": [
                { "name": "internal", "networks": ["10.0.0.0/8"], "tokenSecret": "team" },
                { "name": "suppliers", "header": { "name": "x-group", "value": "supplier" } },
            ],
        },
        "trustedProxies": { "networks": ["10.0.0.0/8"], "addressFrom": "XRealIp" },
        "rateLimits": { "mode": "DryRun", "perClient": { "requestsPerSecond": 5 } },
        "securityHeaders": { "contentSecurityPolicy": "default-src 'self'" },
        "maintenance": { "retryAfter": "10m" },
        "accessLog": { "stdout": true },
        "scaling": { "max": 8, "cpuPercent": 60 },
        "disruption": { "maxUnavailable": "25%" },
        "placement": {
            "spread": "Nodes", "priorityClassName": "edge", "nodeSelector": { "a": "b" },
            "tolerations": [{ "key": "edge", "operator": "Exists", "effect": "NoSchedule" }],
        },
        "resources": { "requests": { "cpu": "500m" }, "limits": { "memory": "1Gi" } },
        "service": { "type": "LoadBalancer", "externalTrafficPolicy": "Local", "annotations": { "a/b": "c" } },
    });
    assert_eq!(words(validate_cel(&edge(whole))), "");
}

#[test]
fn a_deployed_service_has_an_image_and_an_external_one_a_reference() {
    let image = json!({ "image": "x" });
    assert_eq!(words(validate_cel(&service(image))), "");
    assert_eq!(
        words(validate_cel(&service(json!({ "role": "External", "external": { "serviceName": "m" } })))),
        ""
    );
    for wrong in [
        json!({}),
        json!({ "role": "External" }),
        json!({ "role": "External", "external": { "serviceName": "m" }, "image": "x" }),
        json!({ "image": "x", "external": { "serviceName": "m" } }),
        json!({ "image": "x", "env": [{ "name": "PORT", "value": "1" }] }),
    ] {
        assert_ne!(words(validate_cel(&service(wrong.clone()))), "", "{wrong}");
    }
}

/// A service that is right but for what `more` says.
fn with(more: Value) -> StomatonService {
    let mut spec = json!({ "image": "x" });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    service(spec)
}

#[test]
fn every_rule_of_a_service_refuses_and_says_why() {
    let volume = |access: &str| json!([{ "name": "d", "mountPath": "/d", "size": "1Gi", "access": access }]);
    let scaling = |fields: Value| json!({ "scaling": fields });
    let file = |path: &str| json!({ "config": [{ "path": path, "content": "" }] });
    let peer = |peer: Value| json!({ "networkPolicy": { "ingressFrom": [peer] } });
    let target = |target: Value| json!({ "networkPolicy": { "egressTo": [target] } });
    let pod = |fields: Value| json!({ "podTemplate": fields });
    let cases = [
        (json!({ "role": "External" }), "role External needs `external`"),
        (json!({ "role": "External", "external": { "serviceName": "m" } }), "role External is not deployed"),
        (json!({ "external": { "serviceName": "m" } }), "role External only"),
        (json!({ "volumes": volume("ReadWriteOnce"), "replicas": 2 }), "allows one pod"),
        (
            json!({ "volumes": volume("ReadWriteOnce"), "scaling": { "max": 2, "cpuPercent": 50 } }),
            "allows one pod",
        ),
        (json!({ "monitoring": { "port": "admin" } }), "must be `http` or the name of one of `ports`"),
        (json!({ "ports": [{ "name": "http", "port": 1 }] }), "`http` is the name of `port`"),
        (json!({ "ports": [{ "name": "a", "port": 1 }, { "name": "b", "port": 1 }] }), "the same number"),
        (json!({ "env": [{ "name": "PORT", "value": "1" }] }), "set by the operator"),
        (json!({ "envFrom": [{}] }), "one of the two"),
        (json!({ "envFrom": [{ "secret": "s", "configMap": "c" }] }), "one of the two"),
        (file("/etc/../passwd"), "no `.` or `..`"),
        (file("/etc/./x"), "no `.` or `..`"),
        (
            json!({ "volumes": [{ "name": "d", "mountPath": "/d/../tmp", "size": "1Gi", "access": "ReadWriteMany" }] }),
            "no `.` or `..`",
        ),
        (scaling(json!({ "min": 3, "max": 2, "cpuPercent": 50 })), "must not exceed"),
        (scaling(json!({ "min": 0, "max": 2, "cpuPercent": 50 })), "needs `triggers`"),
        (scaling(json!({ "max": 2 })), "say by what"),
        (json!({ "disruption": { "maxUnavailable": 0 } }), "block every drain"),
        (json!({ "disruption": { "maxUnavailable": "0%" } }), "block every drain"),
        (json!({ "disruption": { "maxUnavailable": "101%" } }), "block every drain"),
        (json!({ "rollout": { "maxSurge": 0 } }), "only when its successor is ready"),
        (json!({ "serviceAuth": { "rotateEvery": "1m", "overlap": "60s" } }), "longer than `overlap`"),
        (peer(json!({})), "name pods by `podLabels`"),
        (target(json!({})), "one of the two"),
        (target(json!({ "peer": { "podLabels": { "a": "b" } }, "cidr": "10.0.0.0/8" })), "one of the two"),
        (target(json!({ "cidr": "10.0.0.1" })), "must be a network"),
        (pod(json!({ "labels": { "app.kubernetes.io/name": "x" } })), "are the operator's"),
        (pod(json!({ "annotations": { "fleet.stomaton.com/x": "x" } })), "are the operator's"),
    ];
    for (more, says) in cases {
        let refused = words(validate_cel(&with(more.clone())));
        assert!(refused.contains(says), "{more}: {refused}");
    }
    let both = json!({ "role": "External", "external": { "serviceName": "m", "address": "m.example.com" } });
    for wrong in [json!({ "role": "External", "external": {} }), both] {
        assert!(words(validate_cel(&service(wrong))).contains("one of the two"));
    }
}

#[test]
fn a_whole_service_is_accepted() {
    let whole = json!({
        "ports": [{ "name": "admin", "port": 9000 }],
        "env": [{ "name": "A", "value": "1" }],
        "secretEnv": [{ "name": "B", "secret": "s", "key": "k" }],
        "envFrom": [{ "secret": "s" }, { "configMap": "c", "prefix": "C_" }],
        "bindings": [{ "name": "mongodb", "secret": "m", "keys": [{ "key": "uri" }] }],
        "config": [{ "path": "/etc/x/y.yaml", "content": "z" }],
        "volumes": [{ "name": "d", "mountPath": "/d", "size": "1Gi", "access": "ReadWriteMany" }],
        "dependsOn": [{ "name": "other", "namespace": "shared", "optional": true }],
        "scaling": { "min": 0, "max": 4, "triggers": [{ "type": "cron", "metadata": {} }] },
        "disruption": { "maxUnavailable": "25%" },
        "rollout": { "maxSurge": 3 },
        "networkPolicy": {
            "ingressFrom": [{ "podLabels": { "a": "b" } }],
            "egressTo": [{ "cidr": "10.0.0.0/8", "ports": [5432] }],
        },
        "monitoring": { "port": "admin" },
        "podTemplate": { "labels": { "team": "x" }, "annotations": { "a": "b" }, "spec": { "hostname": "h" } },
    });
    assert_eq!(words(validate_cel(&with(whole))), "");
    let one_pod = json!([{ "name": "d", "mountPath": "/d", "size": "1Gi" }]);
    assert_eq!(words(validate_cel(&with(json!({ "volumes": one_pod, "replicas": 1 })))), "");
}

#[test]
fn a_volume_keeps_its_storage_class() {
    let class = |class: &str| {
        with(json!({ "volumes": [{ "name": "d", "mountPath": "/d", "size": "1Gi", "storageClass": class }] }))
    };
    assert_eq!(words(validate_cel_update(&class("fast"), &class("fast"))), "");
    assert!(
        words(validate_cel_update(&class("slow"), &class("fast"))).contains("storage class can't change")
    );
}

#[test]
fn a_service_s_name_is_a_service_s_name() {
    let named = |name: &str| object::<StomatonService>("StomatonService", name, json!({ "image": "x" }));
    assert_eq!(words(validate_cel(&named("content-v2"))), "");
    for name in ["2content", "content.v2"] {
        assert!(words(validate_cel(&named(name))).contains("becomes a Service's name"), "{name}");
    }
}

#[test]
fn a_revision_never_decreases_and_never_changes_its_content() {
    assert_eq!(words(validate_cel_update(&weights(8, 100), &weights(7, 50))), "");
    assert_eq!(words(validate_cel_update(&weights(7, 50), &weights(7, 50))), "");
    assert!(words(validate_cel_update(&weights(6, 50), &weights(7, 50))).contains("never decreases"));
    assert!(words(validate_cel_update(&weights(7, 51), &weights(7, 50))).contains("higher revision"));
    assert!(words(validate_cel_update(&config(6, "a"), &config(7, "a"))).contains("never decreases"));
}

#[test]
fn a_default_backend_is_one_of_the_backends() {
    assert_eq!(words(validate_cel(&config(1, "a"))), "");
    assert!(words(validate_cel(&config(1, "b"))).contains("not among the backends"));
}

/// No floats in a schema: a weight of 12.5 has no exact meaning in JSON.
#[test]
fn schemas_have_no_floats() {
    for crd in stomaton_crds::all_crds() {
        let yaml = serde_saphyr::to_string(&crd).unwrap();
        assert!(!yaml.contains("type: number"), "{}", crd.spec.names.kind);
    }
}
