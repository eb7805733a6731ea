//! The CEL rules of the schema, evaluated offline: what is refused, and in which words.
#![allow(clippy::unwrap_used)] // a helper may stop at the first surprise like the tests it serves

use kube::CustomResourceExt;
use kube_cel::{ValidationErrors, Validator};
use serde::Serialize;
use serde_json::{Value, json};
use stomaton_crds::v1alpha1::{EdgeConfig, EdgeWeights, Gateway, MigrationPlan, StomatonService};

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
