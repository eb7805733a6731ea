//! Revisions of a service: each template of pods by its hash, kept as a ControllerRevision, so that a template which
//! fails can be taken back to the last one whose pods were all ready. The rules are pure; [`keep`] and [`template`] do
//! the I/O.
//!
//! Order of writes, for a crash between any two: the status says that a revision failed before the Deployment returns,
//! and the Deployment returns only because the status says so. A failed revision is deployed again only when the
//! template that is wanted is another one.

use super::Error;
use crate::{
    api, apply as children,
    context::Context,
    controllers::{meta::Family, rollout, workload::children::Children},
    metrics::Verb,
};
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, Deployment},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::runtime::RawExtension,
};
use kube::{Resource, api::PostParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use stomaton_crds::{
    conditions::{Reason, State, Summary},
    hex::hex,
    keys::{self, field_managers},
    v1alpha1::{OnFailure, StomatonService, StomatonServiceStatus},
};

/// Revisions kept beside those in use.
const KEPT: usize = 10;
/// Annotations that say what pods were started with beside their template.
const HASHES: [&str; 2] = [keys::SECRETS_HASH, keys::CONFIG_HASH];

/// Which revision is deployed, and which is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The one that the spec means.
    pub wanted: String,
    /// The one that is there instead, after the wanted one failed.
    pub instead: Option<String>,
    /// What happens when the wanted one fails.
    pub on_failure: OnFailure,
}

/// Name of the revision of `service` with these pods. What they were started with beside the template is not part of
/// it: a rotated Secret is no new attempt of a revision that failed.
pub fn name(service: &str, template: &PodTemplateSpec) -> String {
    let mut template = template.clone();
    if let Some(annotations) = template.metadata.as_mut().and_then(|m| m.annotations.as_mut()) {
        annotations.retain(|key, _| !HASHES.contains(&key.as_str()));
    }
    let text = json!(template).to_string();
    format!("{service}-{}", hex(&Sha256::digest(text)[..5]))
}

/// `template` with the hashes of `now`: its pods start with the Secrets of today.
pub fn with_hashes_of(mut template: PodTemplateSpec, now: &PodTemplateSpec) -> PodTemplateSpec {
    let today = now.metadata.as_ref().and_then(|m| m.annotations.as_ref());
    let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
    for key in HASHES {
        match today.and_then(|today| today.get(key)) {
            Some(hash) => annotations.insert(key.to_owned(), hash.clone()),
            None => annotations.remove(key),
        };
    }
    template
}

/// Which revision to return to, if `wanted` is one that failed.
pub fn return_to<'a>(
    status: &'a StomatonServiceStatus,
    wanted: &str,
    on_failure: OnFailure,
) -> Option<&'a str> {
    let failed = status.failed_revision.as_deref() == Some(wanted);
    let good = status.last_good_revision.as_deref().filter(|good| *good != wanted);
    if failed && on_failure == OnFailure::Return { good } else { None }
}

/// What the pods prove: the last good revision and the failed one, as the status says them from now on.
pub fn judge(
    old: &StomatonServiceStatus,
    deployed: &Choice,
    deployment: &Deployment,
) -> (Option<String>, Option<String>) {
    let Choice { wanted, instead, on_failure } = deployed;
    let good = old.last_good_revision.clone();
    // Another template than the one that failed is a new attempt.
    let failed =
        old.failed_revision.clone().filter(|failed| failed == wanted && *on_failure == OnFailure::Return);
    if instead.is_some() || failed.is_some() {
        return (good, failed);
    }
    let pods = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    match rollout::unfinished(deployment, None) {
        None if pods > 0 => (Some(wanted.clone()), None),
        Some(Summary { reason: Reason::RolloutFailed, .. })
            if *on_failure == OnFailure::Return && good.as_ref().is_some_and(|good| good != wanted) =>
        {
            (good, Some(wanted.clone()))
        }
        _ => (good, None),
    }
}

/// What to say while a failed revision is taken back. What held its pods up is only known while they are there, so
/// it is kept from `old`, the message of the condition so far.
pub fn taken_back(failed: &str, good: &str, image: &str, words: Option<&str>, old: Option<&str>) -> Summary {
    let begin = format!("revision {failed} (image {image}) did not become ready");
    let message = match old {
        Some(old) if old.starts_with(&begin) => old.to_owned(),
        _ => format!(
            "{begin}{}; {good} serves again; change the spec to try again",
            words.map_or_else(String::new, |words| format!(": {words}"))
        ),
    };
    Summary { state: State::Stalled, reason: Reason::RolledBackRevision, message }
}

/// Revisions that stay: those in use, and the newest of `all`, which come by age.
pub fn kept(all: &[String], used: &[Option<&str>]) -> BTreeSet<String> {
    let newest = all.iter().rev().take(KEPT).cloned();
    newest.chain(used.iter().flatten().map(|name| (*name).to_owned())).collect()
}

/// Keeps `template` as the revision `wanted`. Nothing is written when it is kept already; its content never changes.
/// `first`: nothing of `service` is deployed yet, so that it is not worth looking.
pub async fn keep(
    ctx: &Context,
    known: &Children,
    service: &StomatonService,
    family: &Family,
    (name, template): (&str, &PodTemplateSpec),
    first: bool,
) -> Result<(), Error> {
    if known.has::<ControllerRevision>(&service.metadata, name) {
        return Ok(());
    }
    let wanted = ControllerRevision {
        metadata: family.child(name),
        data: Some(RawExtension(json!({"template": template}))),
        // For people: the generation of the spec that this revision began with.
        revision: service.metadata.generation.unwrap_or(0),
    };
    let api = ctx.namespaced::<ControllerRevision>(&family.namespace);
    if !first && let Some(live) = read(ctx, family, name).await? {
        return Ok(children::ours(&wanted, &live)?);
    }
    let params = PostParams { field_manager: Some(field_managers::SERVICE.into()), ..PostParams::default() };
    let created = api.create(&params, &wanted);
    match api::write::<ControllerRevision, _>(&ctx.metrics, Verb::Create, name, created).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_taken() => match read(ctx, family, name).await? {
            Some(live) => Ok(children::ours(&wanted, &live)?),
            None => Ok(()),
        },
        Err(error) => Err(children::Error::Api(error).into()),
    }
}

async fn read(ctx: &Context, family: &Family, name: &str) -> Result<Option<ControllerRevision>, Error> {
    let api = ctx.namespaced::<ControllerRevision>(&family.namespace);
    let read = api::read(|| format!("read ControllerRevision {name}"), api.get_opt(name)).await;
    read.map_err(Error::Gather)
}

/// The pods of revision `name`, if they are kept.
pub async fn template(ctx: &Context, family: &Family, name: &str) -> Result<Option<PodTemplateSpec>, Error> {
    let Some(revision) = read(ctx, family, name).await? else { return Ok(None) };
    let ours = revision.meta().owner_references.iter().flatten().any(|o| o.uid == family.owner.uid);
    let data = revision.data.filter(|_| ours).map_or(Value::Null, |data| data.0);
    Ok(data.get("template").and_then(|template| serde_json::from_value(template.clone()).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(good: Option<&str>, failed: Option<&str>) -> StomatonServiceStatus {
        StomatonServiceStatus {
            last_good_revision: good.map(Into::into),
            failed_revision: failed.map(Into::into),
            ..StomatonServiceStatus::default()
        }
    }

    fn deployment(pods: i32, ready: i32, gave_up: bool) -> Deployment {
        let reason = if gave_up { "ProgressDeadlineExceeded" } else { "ReplicaSetUpdated" };
        serde_json::from_value(json!({
            "metadata": {"generation": 1},
            "spec": {"replicas": pods, "selector": {}, "template": {}},
            "status": {
                "observedGeneration": 1, "replicas": pods, "updatedReplicas": pods, "availableReplicas": ready,
                "conditions": [{"type": "Progressing", "status": "False", "reason": reason}],
            },
        }))
        .unwrap()
    }

    fn deployed(wanted: &str, instead: Option<&str>, on_failure: OnFailure) -> Choice {
        Choice { wanted: wanted.into(), instead: instead.map(Into::into), on_failure }
    }

    #[test]
    fn a_template_has_one_name_and_another_template_another() {
        let template = |image: &str| -> PodTemplateSpec {
            serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "image": image}]}})).unwrap()
        };
        assert_eq!(name("shop", &template("a")), name("shop", &template("a")));
        assert_ne!(name("shop", &template("a")), name("shop", &template("b")));
        assert!(name("shop", &template("a")).starts_with("shop-"));
    }

    #[test]
    fn pods_prove_what_is_good_and_what_failed() {
        use OnFailure::{Return, Stop};
        let some = |name: &str| Some(name.to_owned());
        let cases = [
            // (status so far, what is deployed, pods, ready, gave up) -> (last good, failed)
            ((None, None), ("a", None, Return), (1, 1, false), (some("a"), None)),
            ((None, None), ("a", None, Return), (1, 0, false), (None, None)),
            ((None, None), ("a", None, Return), (0, 0, false), (None, None)),
            ((None, None), ("a", None, Return), (1, 0, true), (None, None)),
            ((Some("a"), None), ("b", None, Return), (1, 0, false), (some("a"), None)),
            ((Some("a"), None), ("b", None, Return), (1, 0, true), (some("a"), some("b"))),
            ((Some("a"), None), ("b", None, Stop), (1, 0, true), (some("a"), None)),
            ((Some("a"), Some("b")), ("b", Some("a"), Return), (1, 1, false), (some("a"), some("b"))),
            ((Some("a"), Some("b")), ("c", None, Return), (1, 0, false), (some("a"), None)),
            ((Some("a"), Some("b")), ("a", None, Return), (1, 1, false), (some("a"), None)),
            ((Some("a"), Some("b")), ("b", None, Stop), (1, 0, true), (some("a"), None)),
            // The last good one itself does not come up any more: there is nothing to return to.
            ((Some("a"), None), ("a", None, Return), (1, 0, true), (some("a"), None)),
        ];
        for ((good, failed), (wanted, instead, on_failure), (pods, ready, gave_up), expected) in cases {
            let deployed = deployed(wanted, instead, on_failure);
            let found = judge(&status(good, failed), &deployed, &deployment(pods, ready, gave_up));
            assert_eq!(found, expected, "{good:?} {failed:?} {deployed:?} {ready}/{pods} {gave_up}");
        }
    }

    #[test]
    fn only_a_failed_revision_is_returned_from_and_only_when_wanted() {
        let failed = status(Some("a"), Some("b"));
        assert_eq!(return_to(&failed, "b", OnFailure::Return), Some("a"));
        assert_eq!(return_to(&failed, "b", OnFailure::Stop), None);
        assert_eq!(return_to(&failed, "c", OnFailure::Return), None);
        assert_eq!(return_to(&status(None, Some("b")), "b", OnFailure::Return), None);
        assert_eq!(return_to(&status(Some("b"), Some("b")), "b", OnFailure::Return), None);
    }

    #[test]
    fn what_failed_is_told_as_long_as_it_is_taken_back() {
        let first = taken_back("b", "a", "fleet:none", Some("no such image"), Some("1 pod is ready")).message;
        assert_eq!(
            first,
            "revision b (image fleet:none) did not become ready: no such image; a serves again; change the spec to try again"
        );
        assert_eq!(taken_back("b", "a", "fleet:none", None, Some(&first)).message, first);
    }

    #[test]
    fn the_newest_stay_and_those_in_use() {
        let all: Vec<String> = (0..14).map(|i| format!("r{i:02}")).collect();
        let kept = kept(&all, &[Some("r00"), None, Some("r13")]);
        assert_eq!(kept.len(), 11);
        assert!(kept.contains("r00") && kept.contains("r04") && !kept.contains("r03"));
    }
}
