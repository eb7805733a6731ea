//! How far a Deployment is, in words. Pure.

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentStatus},
    core::v1::Pod,
};
use stomaton_crds::conditions::{Reason, State, Summary};

/// What is missing until `deployment` is as wanted; none when nothing is. `words` says what holds its pods up.
pub fn unfinished(deployment: &Deployment, words: Option<&str>) -> Option<Summary> {
    let wanted = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let none = DeploymentStatus::default();
    let status = deployment.status.as_ref().unwrap_or(&none);
    // A pod that is not even made cannot speak for itself: a quota, an unknown PriorityClass or ServiceAccount.
    let because = words.or_else(|| refused(status)).map_or_else(String::new, |words| format!(": {words}"));
    let rolling =
        |message: String| Some(Summary { state: State::Reconciling, reason: Reason::RollingOut, message });

    if !is_seen(deployment) {
        return rolling("the Deployment has just been written".into());
    }
    if gave_up(status) {
        return Some(Summary {
            state: State::Stalled,
            reason: Reason::RolloutFailed,
            message: format!("pods do not become ready{because}; see their logs, then mend the spec"),
        });
    }
    let count = |pods: Option<i32>| pods.unwrap_or(0);
    let (updated, available) = (count(status.updated_replicas), count(status.available_replicas));
    if updated < wanted {
        rolling(format!("{updated} of {wanted} pods are of the newest revision{because}"))
    } else if available < wanted {
        rolling(format!("{available} of {wanted} pods are ready{because}"))
    } else if count(status.replicas) > updated {
        rolling(format!("{} pods of the previous revision are ending", count(status.replicas) - updated))
    } else {
        None
    }
}

/// Whether the controller of Deployments has seen the newest `deployment`: before that its pods are those of an older one.
pub fn is_seen(deployment: &Deployment) -> bool {
    let seen = deployment.status.as_ref().and_then(|status| status.observed_generation);
    seen >= deployment.metadata.generation
}

/// Why the API server makes no pods, in its words.
fn refused(status: &DeploymentStatus) -> Option<&str> {
    let conditions = status.conditions.iter().flatten();
    let failure = conditions.into_iter().find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
    failure.message.as_deref()
}

/// Whether `deployment` gave up, and serves with fewer pods than it should. One that is given an older template again
/// keeps the word of the failed one until the last pod of that is gone, although all of its own are there.
pub fn failed(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let status = deployment.status.as_ref();
    status.is_some_and(|status| gave_up(status) && status.available_replicas.unwrap_or(0) < wanted)
}

/// Whether the Deployment waited for progress longer than its deadline.
fn gave_up(status: &DeploymentStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Progressing" && c.reason.as_deref() == Some("ProgressDeadlineExceeded"))
}

/// What holds up the first of these pods that does not start, in the words of scheduler and kubelet.
pub fn words(pods: &[Pod]) -> Option<String> {
    let mut pods: Vec<&Pod> = pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).collect();
    // The newest pods are those of the newest revision, whose trouble counts.
    pods.sort_by(|a, b| b.metadata.creation_timestamp.cmp(&a.metadata.creation_timestamp));
    pods.into_iter().find_map(|pod| container_words(pod).or_else(|| scheduler_words(pod)))
}

fn container_words(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find_map(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let reason =
            waiting.reason.as_deref().filter(|r| *r != "ContainerCreating" && *r != "PodInitializing")?;
        let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        // The kubelet's own message on a crash loop repeats a growing pause and an UID: it would change for ever.
        Some(match (reason, last) {
            ("CrashLoopBackOff", Some(end)) => {
                format!("{} ends with code {} and is started again", status.name, end.exit_code)
            }
            ("ImagePullBackOff" | "ErrImagePull", _) => {
                format!("the image {} of {} cannot be pulled", status.image, status.name)
            }
            _ => format!("{}: {reason}{}", status.name, message(waiting.message.as_deref())),
        })
    })
}

fn scheduler_words(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let unscheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    Some(format!("no node for a pod{}", message(unscheduled.message.as_deref())))
}

fn message(message: Option<&str>) -> String {
    message.map_or_else(String::new, |m| format!(" ({m})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(status: serde_json::Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"generation": 2},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn each_state_of_a_rollout_has_its_words() {
        let progressing =
            json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
        let cases = [
            (json!({"observedGeneration": 1}), State::Reconciling, "the Deployment has just been written"),
            (
                json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 2}),
                State::Reconciling,
                "1 of 2 pods are of the newest revision: it is slow",
            ),
            (
                json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}),
                State::Reconciling,
                "1 of 2 pods are ready: it is slow",
            ),
            (
                json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}),
                State::Reconciling,
                "1 pods of the previous revision are ending",
            ),
            (
                json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "conditions": progressing}),
                State::Stalled,
                "pods do not become ready: it is slow; see their logs, then mend the spec",
            ),
        ];
        for (status, state, message) in cases {
            let summary = unfinished(&deployment(status), Some("it is slow")).unwrap();
            assert_eq!((summary.state, summary.message.as_str()), (state, message));
        }
    }

    #[test]
    fn a_finished_rollout_needs_no_words() {
        let done =
            json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert_eq!(unfinished(&deployment(done), Some("a pod once failed")), None);
    }

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    }

    #[test]
    fn pods_say_what_holds_them_up() {
        let container = |state: serde_json::Value, last: serde_json::Value| {
            pod(json!({"containerStatuses": [{
                "name": "content", "image": "fleet:1", "imageID": "", "ready": false, "restartCount": 0,
                "state": state, "lastState": last,
            }]}))
        };
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "no such key"}});
        let cases = [
            (container(waiting("ContainerCreating"), json!({})), None),
            (
                container(waiting("ImagePullBackOff"), json!({})),
                Some("the image fleet:1 of content cannot be pulled"),
            ),
            (
                container(waiting("CrashLoopBackOff"), json!({"terminated": {"exitCode": 3}})),
                Some("content ends with code 3 and is started again"),
            ),
            (
                container(waiting("CreateContainerConfigError"), json!({})),
                Some("content: CreateContainerConfigError (no such key)"),
            ),
            (
                pod(
                    json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes fit"}]}),
                ),
                Some("no node for a pod (0/1 nodes fit)"),
            ),
        ];
        for (pod, expected) in cases {
            assert_eq!(words(&[pod]).as_deref(), expected);
        }
    }
}
