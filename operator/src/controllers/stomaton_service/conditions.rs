//! Takes what a pass found out; gives the status. Pure: time comes in.

use super::{Error, Outcome, apply::Applied, build, revision, validate};
use crate::controllers::{Reconcile, rollout};
use jiff::Timestamp;
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::Condition};
use kube::ResourceExt;
use stomaton_crds::{
    conditions::{self, Finding, Reason, State, Summary, Type},
    v1alpha1::{Role, StomatonService, StomatonServiceStatus},
};

/// The status of `service` after a pass with this outcome. `findings` is what it found out one by one, none when it did
/// not come so far; `in_use` are those for whom it stays although it should go.
pub fn status(
    service: &StomatonService,
    outcome: &Outcome,
    findings: Option<&[Finding]>,
    in_use: &[String],
    now: Timestamp,
) -> StomatonServiceStatus {
    let old = service.status.clone().unwrap_or_default();
    let (last_good_revision, failed_revision) = revisions(&old, outcome);
    let observed_generation = service.metadata.generation;
    let mut conditions = all(service, &old, outcome, failed_revision.as_deref(), in_use, now);
    conditions.extend(further(&old.conditions, findings, observed_generation, now));
    match outcome {
        Outcome::Known(_) if service.spec.role == Role::External => {
            StomatonServiceStatus { observed_generation, conditions, ..StomatonServiceStatus::default() }
        }
        // What was known of the pods is still the best there is: a spec that is wrong stops nothing.
        Outcome::Failed(_) | Outcome::Leaving(_) | Outcome::Known(_) => {
            StomatonServiceStatus { observed_generation, conditions, ..old }
        }
        Outcome::External { url } => StomatonServiceStatus {
            observed_generation,
            conditions,
            url: Some(url.clone()),
            ..Default::default()
        },
        Outcome::Applied(applied) => StomatonServiceStatus {
            observed_generation,
            conditions,
            last_good_revision,
            failed_revision,
            ..running(service, Some(&applied.deployment))
        },
        Outcome::Held { deployment, .. } => StomatonServiceStatus {
            observed_generation,
            conditions,
            last_good_revision,
            failed_revision,
            ..running(service, deployment.as_deref())
        },
    }
}

/// What the Deployment says of the pods.
fn running(service: &StomatonService, deployment: Option<&Deployment>) -> StomatonServiceStatus {
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    let running = deployment.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
    StomatonServiceStatus {
        replicas: running.replicas.unwrap_or(0),
        ready_replicas: running.ready_replicas.unwrap_or(0),
        selector: Some(build::selector(&name).iter().map(|(k, v)| format!("{k}={v}")).collect()),
        url: Some(validate::url(&name, &namespace, service.spec.port)),
        ..StomatonServiceStatus::default()
    }
}

/// The conditions beside those of kstatus. A pass that did not come so far leaves them as they are.
fn further(
    old: &[Condition],
    findings: Option<&[Finding]>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let is_further = |c: &&Condition| {
        [Type::SecretsReady, Type::DependenciesReady].iter().any(|kind| c.type_ == kind.as_str())
    };
    match findings {
        Some(findings) => findings.iter().map(|f| conditions::found(old, f, generation, now)).collect(),
        None => old.iter().filter(is_further).cloned().collect(),
    }
}

/// The last good revision and the failed one from now on.
fn revisions(old: &StomatonServiceStatus, outcome: &Outcome) -> (Option<String>, Option<String>) {
    match outcome {
        Outcome::Applied(applied) => revision::judge(old, &applied.revision, &applied.deployment),
        _ => (old.last_good_revision.clone(), old.failed_revision.clone()),
    }
}

/// The conditions of kstatus: those of the summary, and why a service that should go is still there.
fn all(
    service: &StomatonService,
    old: &StomatonServiceStatus,
    outcome: &Outcome,
    failed: Option<&str>,
    in_use: &[String],
    now: Timestamp,
) -> Vec<Condition> {
    let generation = service.metadata.generation;
    let summary = taken_back(service, old, outcome, failed).unwrap_or_else(|| summary(outcome));
    let mut all = conditions::conditions(&old.conditions, &summary, generation, now);
    if !in_use.is_empty() {
        let summary = Summary {
            state: State::Reconciling,
            reason: Reason::InUse,
            message: format!(
                "it stays as long as traffic may come by {}: take the service out there, or delete that too",
                in_use.join(", ")
            ),
        };
        all.retain(|c| c.type_ != Type::Reconciling.as_str());
        all.push(conditions::condition(&old.conditions, Type::Reconciling, true, &summary, generation, now));
    }
    all
}

/// What there is to say when a revision failed and the last good one serves, or is about to.
fn taken_back(
    service: &StomatonService,
    old: &StomatonServiceStatus,
    outcome: &Outcome,
    failed: Option<&str>,
) -> Option<Summary> {
    let (Outcome::Applied(applied), Some(failed), Some(good)) = (outcome, failed, &old.last_good_revision)
    else {
        return None;
    };
    // The last good one does not come up any more either: that is what matters now.
    if applied.revision.instead.is_some() && rollout::failed(&applied.deployment) {
        return None;
    }
    let before = old.conditions.iter().find(|c| c.type_ == Type::Ready.as_str()).map(|c| c.message.as_str());
    let image = service.spec.image.as_deref().unwrap_or_default();
    Some(revision::taken_back(failed, good, image, applied.words.as_deref(), before))
}

fn summary(outcome: &Outcome) -> Summary {
    let ready = |message| Summary { state: State::Ready, reason: Reason::AsSpecified, message };
    match outcome {
        Outcome::Known(summary) => summary.clone(),
        Outcome::Held { why, .. } => why.clone(),
        Outcome::Leaving(left) => Summary {
            state: State::Reconciling,
            reason: Reason::Deleting,
            message: format!("its children go first: waiting for {} to be gone", left.join(", ")),
        },
        Outcome::External { url } => ready(format!("refers to {url}")),
        Outcome::Failed(error) => failed(error),
        Outcome::Applied(applied) => applied
            .trouble
            .as_ref()
            .map(failed)
            .or_else(|| rollout::unfinished(&applied.deployment, applied.words.as_deref()))
            .or_else(|| applied.note.clone())
            .unwrap_or_else(|| ready(pods(applied))),
    }
}

fn failed(error: &Error) -> Summary {
    let reason = StomatonService::reason(error);
    let person = matches!(reason, Reason::NotOurs | Reason::Invalid);
    let state = if person { State::Stalled } else { State::Reconciling };
    Summary { state, reason, message: error.to_string() }
}

/// How many pods are ready, and what the cluster does not have for them.
fn pods(applied: &Applied) -> String {
    let mut message = match applied.deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1) {
        0 => "scaled to zero: nobody answers".to_owned(),
        1 => "1 pod is ready".to_owned(),
        pods => format!("{pods} pods are ready"),
    };
    if applied.unmonitored {
        message +=
            "; the cluster has no PodMonitor of monitoring.coreos.com/v1, so nobody collects their metrics";
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apply, controllers::stomaton_service::apply::Applied};
    use serde_json::json;

    fn object() -> StomatonService {
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
            "metadata": {"name": "content", "namespace": "fleet", "uid": "u", "generation": 7},
            "spec": {"image": "i"},
            "status": {"replicas": 4, "readyReplicas": 3, "url": "before"},
        }))
        .unwrap()
    }

    fn applied(replicas: i32, ready: i32) -> Outcome {
        let deployment = serde_json::from_value(json!({
            "metadata": {"name": "content", "generation": 1},
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
            "status": {
                "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas,
                "availableReplicas": ready, "readyReplicas": ready,
            },
        }));
        Outcome::Applied(Box::new(Applied {
            deployment: deployment.unwrap(),
            words: Some("it waits".into()),
            revision: revision::Choice { wanted: "content-1".into(), ..Default::default() },
            note: None,
            unmonitored: false,
            trouble: None,
        }))
    }

    fn ready(status: &StomatonServiceStatus) -> (&str, &str, &str) {
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(ready.observed_generation, Some(7));
        (&ready.status, &ready.reason, &ready.message)
    }

    #[test]
    fn status_says_what_runs() {
        let status = status(&object(), &applied(2, 2), Some(&[]), &[], Timestamp::UNIX_EPOCH);
        assert_eq!(ready(&status), ("True", "AsSpecified", "2 pods are ready"));
        assert_eq!((status.replicas, status.ready_replicas, status.observed_generation), (2, 2, Some(7)));
        assert_eq!(status.url.as_deref(), Some("http://content.fleet.svc:8080"));
        assert_eq!(status.selector.as_deref(), Some("fleet.stomaton.com/service=content"));
    }

    #[test]
    fn conditions_say_what_is_missing() {
        let foreign =
            apply::Error::NotOurs { kind: "Service".into(), name: "content".into(), owner: "nobody".into() };
        let leaving = apply::Error::Leaving { kind: "Service".into(), name: "content".into() };
        let cases = [
            (applied(0, 0), ("True", "AsSpecified", "scaled to zero: nobody answers"), None),
            (applied(2, 1), ("False", "RollingOut", "1 of 2 pods are ready: it waits"), Some("Reconciling")),
            (
                Outcome::Failed(Error::Apply(foreign)),
                (
                    "False",
                    "NotOurs",
                    "Service content exists already and belongs to nobody: it is left alone; delete or rename one of the two",
                ),
                Some("Stalled"),
            ),
            (
                Outcome::Failed(Error::Apply(leaving)),
                ("False", "RollingOut", "waiting for the old Service content to be gone"),
                Some("Reconciling"),
            ),
        ];
        for (outcome, expected, second) in cases {
            let status = status(&object(), &outcome, Some(&[]), &[], Timestamp::UNIX_EPOCH);
            assert_eq!(ready(&status), expected);
            assert_eq!(status.conditions.get(1).map(|c| c.type_.as_str()), second);
        }
    }

    #[test]
    fn a_failed_pass_forgets_nothing_about_the_pods() {
        let timeout = crate::api::Error::Timeout { doing: "read".into() };
        let mut object = object();
        let (kind, truth) = (Type::SecretsReady, conditions::Truth::False);
        let finding = Finding { kind, truth, reason: Reason::MissingKey, message: "m".into() };
        let known = status(&object, &applied(4, 3), Some(&[finding]), &[], Timestamp::UNIX_EPOCH);
        object.status = Some(StomatonServiceStatus { url: Some("before".into()), ..known });
        let failed = Outcome::Failed(Error::Gather(timeout));
        let status = status(&object, &failed, None, &[], Timestamp::UNIX_EPOCH);
        assert!(status.conditions.iter().any(|c| c.type_ == "SecretsReady" && c.reason == "MissingKey"));
        assert_eq!((status.replicas, status.ready_replicas, status.url.as_deref()), (4, 3, Some("before")));
        assert_eq!(ready(&status).1, "ApiError");
    }
}
