//! `lint`: files before they are applied. Pure: takes texts, gives findings, each as `file: kind/name: what: what to do`.
//!
//! - [`schema`] has fields, types and bounds, by the schema that the API server has
//! - [`plan`] has what the parts of a plan say of each other
//! - [`action`] has acts

mod action;
mod plan;
mod schema;

use crate::words;
use serde::de::DeserializeOwned;
use serde_json::Value;
use stomaton_crds::{
    GROUP,
    v1alpha1::{Gateway, MigrationPlan, PlanAction, StomatonService},
};

/// What files say.
#[derive(Debug, Default)]
pub struct Report {
    /// Objects of this API group.
    pub objects: usize,
    /// What is wrong, a line each.
    pub findings: Vec<String>,
}

/// An object of a file.
struct Object<'a> {
    file: &'a str,
    kind: String,
    value: Value,
}

impl Object<'_> {
    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether the other is found from here: an object without a namespace may come to be in any.
    fn is_near(&self, other: &Object<'_>) -> bool {
        let (here, there) = (self.text("/metadata/namespace"), other.text("/metadata/namespace"));
        here.is_empty() || there.is_empty() || here == there
    }

    fn read<K: DeserializeOwned>(&self) -> Option<K> {
        serde_json::from_value(self.value.clone()).ok()
    }

    fn finding(&self, problem: &str) -> String {
        format!("{}: {}/{}: {problem}", self.file, self.kind, self.text("/metadata/name"))
    }
}

/// Checks files, each with its name and text. Objects of other API groups are not looked at.
pub fn lint(files: &[(String, String)]) -> Report {
    let mut report = Report::default();
    let mut objects = Vec::new();
    for (file, text) in files {
        match serde_saphyr::from_multiple::<Value>(text) {
            Ok(values) => objects.extend(values.into_iter().filter_map(|value| object(file, value))),
            Err(error) => {
                let why = words::plain(&error.without_snippet().to_string());
                report.findings.push(format!("{file}: not YAML: {why}: mend that first"));
            }
        }
    }
    report.objects = objects.len();
    for object in &objects {
        let problems = problems(object, &objects);
        report.findings.extend(problems.iter().map(|problem| object.finding(problem)));
    }
    report
}

fn object(file: &str, value: Value) -> Option<Object<'_>> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (group, kind) = (text("apiVersion"), text("kind"));
    (group.split('/').next() == Some(GROUP)).then_some(Object { file, kind, value })
}

fn problems(object: &Object<'_>, all: &[Object<'_>]) -> Vec<String> {
    let version = object.text("/apiVersion");
    if version != format!("{GROUP}/v1alpha1") {
        return vec![format!("apiVersion is {version}: write {GROUP}/v1alpha1")];
    }
    let mut found = Vec::new();
    if object.text("/metadata/name").is_empty() {
        found.push("metadata.name is missing: give it a name".to_owned());
    }
    found.extend(match object.kind.as_str() {
        "MigrationPlan" => {
            let rules =
                |plan: MigrationPlan| plan::problems(&plan.spec, &near::<Gateway>(object, all, "Gateway"));
            checked(object, rules)
        }
        "PlanAction" => {
            let rules = |act: PlanAction| {
                action::problems(&act.spec, &near::<MigrationPlan>(object, all, "MigrationPlan"))
            };
            checked(object, rules)
        }
        "Gateway" => checked(object, |_: Gateway| Vec::new()),
        "StomatonService" => checked(object, |_: StomatonService| Vec::new()),
        "EdgeConfig" | "EdgeWeights" => {
            vec!["only the operator writes this kind: take it out of the file".to_owned()]
        }
        kind => vec![format!(
            "{kind} is no kind of {GROUP}: write MigrationPlan, Gateway, StomatonService or PlanAction"
        )],
    });
    found
}

/// What the schema says of an object, and when that is nothing, what `rules` say.
fn checked<K: DeserializeOwned + kube::CustomResourceExt>(
    object: &Object<'_>,
    rules: impl FnOnce(K) -> Vec<String>,
) -> Vec<String> {
    let found = schema::problems(&K::crd(), &object.value);
    if !found.is_empty() {
        return found;
    }
    match serde_json::from_value(object.value.clone()) {
        Ok(typed) => rules(typed),
        Err(error) => vec![format!("{error}: mend that field")],
    }
}

/// Objects of a kind that are found from `object`, by their names.
fn near<K: DeserializeOwned>(object: &Object<'_>, all: &[Object<'_>], kind: &str) -> Vec<(String, K)> {
    let near = all.iter().filter(|other| other.kind == kind && object.is_near(other));
    near.filter_map(|other| Some((other.text("/metadata/name").to_owned(), other.read()?))).collect()
}

#[cfg(test)]
mod tests;
