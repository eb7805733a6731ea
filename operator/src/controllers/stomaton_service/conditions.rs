//! Takes what a pass found out; gives the status. Pure: time comes in.

use super::{Outcome, build, validate};
use crate::controllers::{Reconcile, rollout};
use jiff::Timestamp;
use kube::ResourceExt;
use stomaton_crds::{
    conditions::{self, Reason, State, Summary},
    v1alpha1::{StomatonService, StomatonServiceStatus},
};

/// The status of `service` after a pass with this outcome.
pub fn status(service: &StomatonService, outcome: &Outcome, now: Timestamp) -> StomatonServiceStatus {
    let old = service.status.clone().unwrap_or_default();
    let conditions =
        conditions::conditions(&old.conditions, &summary(outcome), service.metadata.generation, now);
    let observed_generation = service.metadata.generation;
    let name = service.name_any();
    match outcome {
        // What was known of the pods is still the best there is.
        Outcome::Failed(_) => StomatonServiceStatus { observed_generation, conditions, ..old },
        Outcome::Known(_) => StomatonServiceStatus { observed_generation, conditions, ..Default::default() },
        Outcome::External { url } => StomatonServiceStatus {
            observed_generation,
            conditions,
            url: Some(url.clone()),
            ..Default::default()
        },
        Outcome::Applied(applied) => {
            let running = applied.deployment.status.clone().unwrap_or_default();
            let selector = build::selector(&name).iter().map(|(k, v)| format!("{k}={v}")).collect();
            StomatonServiceStatus {
                observed_generation,
                conditions,
                replicas: running.replicas.unwrap_or(0),
                ready_replicas: running.ready_replicas.unwrap_or(0),
                selector: Some(selector),
                url: Some(validate::url(&name, &service.namespace().unwrap_or_default(), service.spec.port)),
            }
        }
    }
}

fn summary(outcome: &Outcome) -> Summary {
    let ready = |message| Summary { state: State::Ready, reason: Reason::AsSpecified, message };
    match outcome {
        Outcome::Known(summary) => summary.clone(),
        Outcome::External { url } => ready(format!("refers to {url}")),
        Outcome::Failed(error) => {
            let reason = StomatonService::reason(error);
            let person = matches!(reason, Reason::NotOurs | Reason::Invalid);
            let state = if person { State::Stalled } else { State::Reconciling };
            Summary { state, reason, message: error.to_string() }
        }
        Outcome::Applied(applied) => rollout::unfinished(&applied.deployment, applied.words.as_deref())
            .unwrap_or_else(|| {
                match applied.deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1) {
                    0 => ready("scaled to zero: nobody answers".into()),
                    1 => ready("1 pod is ready".into()),
                    pods => ready(format!("{pods} pods are ready")),
                }
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apply,
        controllers::stomaton_service::{Error, apply::Applied},
    };
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
        }))
    }

    fn ready(status: &StomatonServiceStatus) -> (&str, &str, &str) {
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(ready.observed_generation, Some(7));
        (&ready.status, &ready.reason, &ready.message)
    }

    #[test]
    fn status_says_what_runs() {
        let status = status(&object(), &applied(2, 2), Timestamp::UNIX_EPOCH);
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
            let status = status(&object(), &outcome, Timestamp::UNIX_EPOCH);
            assert_eq!(ready(&status), expected);
            assert_eq!(status.conditions.get(1).map(|c| c.type_.as_str()), second);
        }
    }

    #[test]
    fn a_failed_pass_forgets_nothing_about_the_pods() {
        let timeout = crate::api::Error::Timeout { doing: "read".into() };
        let status = status(&object(), &Outcome::Failed(Error::Gather(timeout)), Timestamp::UNIX_EPOCH);
        assert_eq!((status.replicas, status.ready_replicas, status.url.as_deref()), (4, 3, Some("before")));
        assert_eq!(ready(&status).1, "ApiError");
    }
}
