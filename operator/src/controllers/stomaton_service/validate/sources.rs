//! Takes what a service needs of Secrets and ConfigMaps and what was found; gives hashes of what is used, the condition
//! on it, and whether pods can be made. Pure.

use crate::controllers::stomaton_service::gather::{
    Gathered,
    sources::{Kind, Source, Sources},
};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::{
    conditions::{Finding, Reason, State, Summary, Truth, Type},
    hex::hex,
    keys,
    v1alpha1::StomatonServiceSpec,
};

/// What is known of the Secrets and ConfigMaps of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Hash of what is used of Secrets.
    pub secrets_hash: Option<String>,
    /// Hash of what is used of ConfigMaps.
    pub config_hash: Option<String>,
    /// What the condition says; none when nothing is used.
    pub finding: Option<Finding>,
    /// Why pods cannot be made now; those that run stay as they are.
    pub hold: Option<Summary>,
}

/// A key that is used, or the whole object.
type Use = (Kind, String, Option<String>);

/// What `spec` uses.
fn uses(spec: &StomatonServiceSpec) -> BTreeSet<Use> {
    let single = spec.secret_env.iter().map(|e| (e.secret.clone(), e.key.clone()));
    let bound =
        spec.bindings.iter().flat_map(|b| b.keys.iter().map(|key| (b.secret.clone(), key.key.clone())));
    let keys = single.chain(bound).map(|(secret, key)| (Kind::Secret, secret, Some(key)));
    let whole = spec.env_from.iter().flat_map(|e| {
        let secret = e.secret.clone().map(|name| (Kind::Secret, name, None));
        secret.into_iter().chain(e.config_map.clone().map(|name| (Kind::ConfigMap, name, None)))
    });
    keys.chain(whole).collect()
}

/// Judges what was found.
pub fn judge(spec: &StomatonServiceSpec, namespace: &str, gathered: &Gathered) -> Judged {
    if gathered.may_not_read() {
        return unreadable(namespace, gathered, !spec.config.is_empty());
    }
    let uses = uses(spec);
    if uses.is_empty() {
        return Judged::default();
    }
    let (missing, keys) = lacking(&uses, &gathered.sources);
    let said = |reason, missing: &[String]| {
        let truth = Truth::False;
        let message = format!(
            "{}: create what is missing in namespace {namespace}; running pods are left as they are until then",
            missing.join("; ")
        );
        Finding { kind: Type::SecretsReady, truth, reason, message }
    };
    let problem = if !missing.is_empty() {
        // What lacks a key is told in the same breath: one round of mending, not two.
        let all: Vec<_> = missing.into_iter().chain(keys).collect();
        Some(said(Reason::MissingSecret, &all))
    } else if !keys.is_empty() {
        Some(said(Reason::MissingKey, &keys))
    } else {
        None
    };
    match problem {
        Some(finding) => Judged {
            hold: Some(Summary {
                // Not Stalled: what makes the Secret may be a moment behind, and its coming brings the next pass.
                state: State::Reconciling,
                reason: finding.reason,
                message: finding.message.clone(),
            }),
            finding: Some(finding),
            ..Judged::default()
        },
        None => Judged {
            secrets_hash: hash(&uses, Kind::Secret, &gathered.sources),
            config_hash: hash(&uses, Kind::ConfigMap, &gathered.sources),
            finding: Some(Finding {
                kind: Type::SecretsReady,
                truth: Truth::True,
                reason: Reason::AsSpecified,
                message: "every Secret, ConfigMap and key that is used is there".into(),
            }),
            hold: None,
        },
    }
}

/// Nothing may be read: pods are made all the same, and keep the hashes they have. But files need a ConfigMap.
fn unreadable(namespace: &str, gathered: &Gathered, files: bool) -> Judged {
    let kept = |key: &str| gathered.pod_annotation(key);
    let message = format!(
        "the operator may not read and write Secrets and ConfigMaps in namespace {namespace}: run `kubectl apply -n \
         {namespace} -k manifests/install/namespace-grant`; until then it sees neither missing keys nor changed values"
    );
    let hold = files.then(|| Summary {
        state: State::Reconciling,
        reason: Reason::NoGrant,
        message: format!("`config` needs a ConfigMap, but {message}"),
    });
    Judged {
        secrets_hash: kept(keys::SECRETS_HASH),
        config_hash: kept(keys::CONFIG_HASH),
        finding: Some(Finding {
            kind: Type::SecretsReady,
            truth: Truth::Unknown,
            reason: Reason::NoGrant,
            message,
        }),
        hold,
    }
}

/// Objects that do not exist, and keys that objects lack, in words.
fn lacking(uses: &BTreeSet<Use>, sources: &Sources) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut keys) = (BTreeSet::new(), BTreeMap::<String, Vec<&str>>::new());
    for (kind, name, key) in uses {
        let what = format!("{} {name}", kind.as_str());
        match (sources.get(&(*kind, name.clone())), key) {
            (Some(Source::Found(found)), Some(key)) if !found.contains_key(key) => {
                keys.entry(what).or_default().push(key);
            }
            (Some(Source::Found(_)), _) => {}
            _ => {
                objects.insert(format!("{what} does not exist"));
            }
        }
    }
    let keys = keys.into_iter().map(|(what, keys)| match keys[..] {
        [key] => format!("{what} lacks the key {key}"),
        _ => format!("{what} lacks the keys {}", keys.join(", ")),
    });
    (objects.into_iter().collect(), keys.collect())
}

/// A hash of what is used of one kind; none when nothing is.
fn hash(uses: &BTreeSet<Use>, kind: Kind, sources: &Sources) -> Option<String> {
    let mut parts = BTreeMap::new();
    for (of, name, key) in uses.iter().filter(|(of, ..)| *of == kind) {
        let Some(Source::Found(found)) = sources.get(&(*of, name.clone())) else { continue };
        // An empty part, so that an object without keys is no other than itself.
        parts.insert((name.as_str(), ""), &[][..]);
        let used = found.iter().filter(|(k, _)| key.as_ref().is_none_or(|key| key == *k));
        parts.extend(used.map(|(key, digest)| ((name.as_str(), key.as_str()), &digest[..])));
    }
    if parts.is_empty() {
        return None;
    }
    let mut hash = Sha256::new();
    for ((name, key), digest) in parts {
        for part in [name.as_bytes(), key.as_bytes(), digest] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    Some(hex(&hash.finalize()[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec() -> StomatonServiceSpec {
        serde_json::from_value(json!({
            "image": "i",
            "secretEnv": [{"name": "A", "secret": "keys", "key": "api"}],
            "bindings": [{"name": "mongodb", "secret": "mongo", "keys": [{"key": "uri"}, {"key": "user"}]}],
            "envFrom": [{"configMap": "more"}],
        }))
        .unwrap()
    }

    /// What is found of the objects that [`spec`] names: keys and values.
    fn found(keys: Option<Value>, mongo: Option<Value>, more: Option<Value>) -> Gathered {
        let source = |content: Option<Value>| match content {
            Some(Value::Object(content)) => {
                Source::Found(content.into_iter().map(|(k, v)| (k, v.to_string().into_bytes())).collect())
            }
            _ => Source::Missing,
        };
        let sources =
            [(Kind::Secret, "keys", keys), (Kind::Secret, "mongo", mongo), (Kind::ConfigMap, "more", more)];
        Gathered {
            sources: sources
                .into_iter()
                .map(|(kind, name, c)| ((kind, name.to_owned()), source(c)))
                .collect(),
            ..Gathered::default()
        }
    }

    fn judged(gathered: &Gathered) -> Judged {
        judge(&spec(), "fleet", gathered)
    }

    #[test]
    fn what_is_missing_is_named() {
        let mongo = json!({"uri": "x", "user": "y"});
        let cases = [
            (
                found(None, Some(mongo.clone()), Some(json!({}))),
                Reason::MissingSecret,
                "Secret keys does not exist: ",
            ),
            (
                found(Some(json!({"api": 1})), Some(mongo), None),
                Reason::MissingSecret,
                "ConfigMap more does not exist: ",
            ),
            (
                found(Some(json!({})), Some(json!({"other": 1})), Some(json!({}))),
                Reason::MissingKey,
                "Secret keys lacks the key api; Secret mongo lacks the keys uri, user: ",
            ),
            (
                found(None, Some(json!({"uri": 1})), Some(json!({}))),
                Reason::MissingSecret,
                "Secret keys does not exist; Secret mongo lacks the key user: ",
            ),
        ];
        for (gathered, reason, begins) in cases {
            let judged = judged(&gathered);
            let (finding, hold) = (judged.finding.unwrap(), judged.hold.unwrap());
            assert_eq!((finding.truth, finding.reason, hold.reason), (Truth::False, reason, reason));
            assert!(finding.message.starts_with(begins), "{}", finding.message);
        }
    }

    #[test]
    fn only_what_is_used_changes_a_hash() {
        let all = |api: &str, unused: &str, more: &str| {
            let keys = json!({"api": api, "unused": unused});
            judged(&found(Some(keys), Some(json!({"uri": 1, "user": 2})), Some(json!({"M": more}))))
        };
        let before = all("a", "b", "c");
        assert!(before.hold.is_none() && before.secrets_hash.is_some() && before.config_hash.is_some());
        assert_eq!(before, all("a", "other", "c"));
        let secret = all("other", "b", "c");
        assert_ne!(secret.secrets_hash, before.secrets_hash);
        assert_eq!(secret.config_hash, before.config_hash);
        let map = all("a", "b", "other");
        assert_eq!(map.secrets_hash, before.secrets_hash);
        assert_ne!(map.config_hash, before.config_hash);
    }

    #[test]
    fn without_the_grant_pods_keep_their_hashes_and_the_condition_says_what_to_apply() {
        let deployment = json!({
            "metadata": {}, "spec": {"selector": {}, "template": {"metadata": {"annotations": {
                (keys::SECRETS_HASH): "before",
            }}}},
        });
        let mut gathered = found(None, None, None);
        gathered.sources.insert((Kind::Secret, "keys".into()), Source::Forbidden);
        gathered.deployment = Some(serde_json::from_value(deployment).unwrap());
        let judged = judged(&gathered);
        assert_eq!(
            (judged.secrets_hash.as_deref(), judged.config_hash, judged.hold),
            (Some("before"), None, None)
        );
        let finding = judged.finding.unwrap();
        assert_eq!((finding.truth, finding.reason), (Truth::Unknown, Reason::NoGrant));
        assert!(finding.message.contains("kubectl apply -n fleet -k manifests/install/namespace-grant"));
    }

    #[test]
    fn who_uses_nothing_has_no_condition() {
        let spec = serde_json::from_value(json!({"image": "i"})).unwrap();
        assert_eq!(judge(&spec, "fleet", &Gathered::default()), Judged::default());
    }
}
