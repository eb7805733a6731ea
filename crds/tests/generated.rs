//! The committed YAML is what the types say. `make crds` mends it.

use serde_json::Value;
use std::{fs, path::Path};

#[test]
fn committed_definitions_are_those_of_the_types() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    for crd in stomaton_crds::all_crds() {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let committed = fs::read_to_string(directory.join(&name)).unwrap_or_default();
        let generated = serde_saphyr::to_string(&crd).unwrap();
        assert!(committed == generated, "manifests/crds/{name} differs from the types: run `make crds`");
    }
}

/// Every property of a schema, by its path and name. What Kubernetes itself describes is left out.
fn properties(path: &str, schema: &Value, found: &mut Vec<(String, String, Value)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        found.push((path.clone(), name.clone(), property.clone()));
        if !matches!(name.as_str(), "resources" | "conditions") {
            properties(&path, property, found);
            properties(&path, &property["items"], found);
        }
    }
}

#[test]
fn every_field_is_described_and_those_of_a_service_are_in_the_docs() {
    let docs = include_str!("../../docs/resources.md");
    for crd in stomaton_crds::all_crds() {
        let kind = &crd.spec.names.kind;
        let crd = serde_json::to_value(&crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        for part in ["spec", "status"] {
            properties(part, &schema["properties"][part], &mut found);
        }
        for (path, name, property) in found {
            let described = property["description"].as_str().is_some_and(|text| !text.is_empty());
            // A reference to a type of Kubernetes has no words of its own in the schema.
            assert!(described || name == "resources", "{kind}: {path} has no description");
            let told = ["`", " ", "(", "."].iter().any(|before| {
                ["`", "["].iter().any(|after| docs.contains(&format!("{before}{name}{after}")))
            });
            assert!(kind != "StomatonService" || told, "docs/resources.md does not tell of {path}");
        }
    }
}

#[test]
fn every_reason_is_in_the_docs() {
    let docs = include_str!("../../docs/resources.md");
    let source = include_str!("../src/conditions.rs");
    let reasons = source.lines().filter_map(|line| {
        let (_, name) = line.trim().strip_prefix("Self::")?.split_once(" => \"")?;
        name.strip_suffix("\",")
    });
    let reasons: Vec<_> = reasons.collect();
    assert!(reasons.contains(&"AsSpecified") && reasons.len() > 20, "{reasons:?}");
    // Types of conditions and truths are told as they are used.
    for reason in reasons.iter().filter(|reason| reason.len() > 7) {
        assert!(docs.contains(*reason), "docs/resources.md does not tell of {reason}");
    }
}
