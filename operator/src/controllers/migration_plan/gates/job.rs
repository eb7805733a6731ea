//! The Job of a gate: what it is called, what it is made from, and what its status and its log say. Takes the gate and
//! its CronJob; gives the Job to create, and words. Pure.
//!
//! The words about a Job that runs change with what happens to it and not with the clock: they are written to status.

use super::{Place, Says};
use crate::controllers::meta::Family;
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job, JobCondition, JobTemplateSpec},
        core::v1::{ContainerStatus, Pod},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};
use std::time::Duration;
use stomaton_crds::{
    hex::hex,
    keys,
    v1alpha1::{JobGate, MigrationPlan},
};

/// Lines of a log that status shows.
pub const TAIL_LINES: i64 = 10;
/// Most bytes of them.
const TAIL_BYTES: usize = 1000;
/// Most characters of what Kubernetes says of a failed Job.
const WHY_CHARS: usize = 300;
/// Most characters of a Job's name for people: with a dash and ten digits it is 63, as much as a label holds.
const NAME_CHARS: usize = 52;

/// Name of the Job of one attempt: the same whenever it is asked for, and that of no other attempt, gate or plan.
pub fn name(plan: &MigrationPlan, place: &Place, attempt: i32) -> String {
    let end = if place.exit { "exit" } else { "entry" };
    let (uid, attempt) = (plan.uid().unwrap_or_default(), attempt.to_string());
    let whole = [uid.as_str(), &place.stage, end, &place.gate, &attempt].join("/");
    let digest = hex(&Sha256::digest(whole)[..5]);
    let words = format!("{}-{}", plan.name_any(), place.gate).replace('.', "-");
    let words: String = words.chars().take(NAME_CHARS).collect();
    format!("{}-{digest}", words.trim_end_matches('-'))
}

/// Hash of the template as it is now.
pub fn hash(cron: &CronJob) -> String {
    // A type that was read from JSON can be written as such.
    let spec = serde_json::to_vec(&template(cron).spec).unwrap_or_default();
    hex(&Sha256::digest(spec)[..8])
}

/// The Job, from the template of the CronJob. It ends within the gate's time at the latest.
pub fn build(family: &Family, name: &str, cron: &CronJob, gate: &JobGate, of: &str) -> Job {
    let JobTemplateSpec { metadata: given, spec } = template(cron);
    let (given, mut spec, mut metadata) =
        (given.unwrap_or_default(), spec.unwrap_or_default(), family.child(name));
    let mut labels = given.labels.unwrap_or_default();
    labels.extend(metadata.labels.take().unwrap_or_default());
    let mut annotations = given.annotations.unwrap_or_default();
    annotations.insert(keys::ASKED.to_owned(), of.to_owned());
    (metadata.labels, metadata.annotations) = (Some(labels), Some(annotations));
    let within = i64::try_from(Duration::from(gate.within).as_secs()).unwrap_or(i64::MAX).max(1);
    spec.active_deadline_seconds = Some(spec.active_deadline_seconds.map_or(within, |own| own.min(within)));
    Job { metadata, spec: Some(spec), status: None }
}

fn template(cron: &CronJob) -> JobTemplateSpec {
    cron.spec.as_ref().map(|spec| spec.job_template.clone()).unwrap_or_default()
}

/// Whether an owner is a plan that made what it owns.
pub fn is_plan(owner: &OwnerReference) -> bool {
    owner.controller == Some(true)
        && owner.kind == MigrationPlan::kind(&())
        && owner.api_version == MigrationPlan::api_version(&())
}

/// Whether the Job was made for this plan.
pub fn is_of(job: &Job, plan: &MigrationPlan) -> bool {
    let uid = plan.uid();
    job.owner_references().iter().any(|owner| is_plan(owner) && Some(&owner.uid) == uid.as_ref())
}

/// How the Job fares.
pub fn says(job: &Job) -> Says {
    let name = job.name_any();
    let status = job.status.clone().unwrap_or_default();
    if is(job, "Complete").is_some() {
        let times = status.start_time.zip(status.completion_time);
        let took = times.map(|(from, to)| format!(" in {} s", to.0.duration_since(from.0).as_secs()));
        return Says::Passed(format!("Job {name} completed{}", took.unwrap_or_default()));
    }
    if let Some(failed) = is(job, "Failed") {
        let (reason, message) = (failed.reason.as_deref(), failed.message.as_deref());
        let why: String = message.unwrap_or_default().chars().take(WHY_CHARS).collect();
        return Says::Failed(format!(
            "Job {name} failed: {}: {why}",
            reason.unwrap_or("for no known reason")
        ));
    }
    let begun = match status.start_time {
        _ if is(job, "Suspended").is_some() => "is suspended".to_owned(),
        Some(start) => format!("runs since {}", start.0),
        None => "has not begun".to_owned(),
    };
    let failed = status.failed.filter(|failed| *failed > 0);
    let failed = failed.map(|failed| format!(", {failed} of its pods failed")).unwrap_or_default();
    Says::NotYet(format!("Job {name} {begun}{failed}"))
}

fn is<'a>(job: &'a Job, condition: &str) -> Option<&'a JobCondition> {
    let mut conditions = job.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|c| c.type_ == condition && c.status == "True")
}

/// The pod that failed last, if any is left.
pub fn newest_failed(pods: &[Pod]) -> Option<&Pod> {
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
    let failed = pods.iter().filter(|pod| phase(pod).as_deref() == Some("Failed"));
    failed.max_by_key(|pod| pod.creation_timestamp())
}

/// The container because of which the pod failed, else its first one.
pub fn failed_container(pod: &Pod) -> Option<String> {
    let failed = |container: &&ContainerStatus| {
        let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code != 0)
    };
    let mut statuses = pod
        .status
        .iter()
        .flat_map(|status| status.init_container_statuses.iter().chain(&status.container_statuses).flatten());
    let culprit = statuses.find(failed).map(|container| container.name.clone());
    culprit.or_else(|| Some(pod.spec.as_ref()?.containers.first()?.name.clone()))
}

/// The end of a log as it follows the words about a failed Job: on one line, and bounded.
pub fn last_words(log: &str) -> String {
    let clean = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    let lines: Vec<String> = log.lines().map(clean).filter(|line| !line.trim().is_empty()).collect();
    let skipped = lines.len().saturating_sub(usize::try_from(TAIL_LINES).unwrap_or(usize::MAX));
    let joined = lines.into_iter().skip(skipped).collect::<Vec<_>>().join(" | ");
    let from = (joined.len().saturating_sub(TAIL_BYTES)..).find(|at| joined.is_char_boundary(*at));
    match from.and_then(|from| joined.get(from..)) {
        None | Some("") => "; it printed nothing".to_owned(),
        Some(end) => format!("; its last lines: {end}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plan(name: &str) -> MigrationPlan {
        serde_json::from_value(json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "MigrationPlan",
            "metadata": {"name": name, "namespace": "fleet", "uid": "1-2-3"},
            "spec": {
                "gatewayRef": {"name": "edge"},
                "routes": [{"name": "r", "target": {"name": "t"}, "profile": "p"}],
                "profiles": [{"name": "p", "ramp": [{"permille": 1000, "minHold": "1s"}]}],
            },
        }))
        .unwrap()
    }

    fn place(exit: bool) -> Place {
        Place { stage: "first".into(), exit, gate: "dry-run".into() }
    }

    fn gate(within: &str) -> JobGate {
        serde_json::from_value(json!({"cronJob": "dry-run", "within": within})).unwrap()
    }

    fn cron(image: &str, deadline: Option<i64>) -> CronJob {
        let containers = json!([{"name": "c", "image": image}]);
        serde_json::from_value(json!({
            "metadata": {"name": "dry-run"},
            "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {
                "metadata": {"labels": {"team": "data", keys::PLAN: "mine"}, "annotations": {"why": "so"}},
                "spec": {
                    "backoffLimit": 3, "activeDeadlineSeconds": deadline,
                    "template": {"spec": {"restartPolicy": "Never", "containers": containers}},
                },
            }},
        }))
        .unwrap()
    }

    fn made(within: &str, deadline: Option<i64>) -> Job {
        let owner = plan("shop").controller_owner_ref(&()).unwrap();
        let family = Family::new("fleet".into(), owner, keys::PLAN, "gate");
        build(&family, "n", &cron("i:1", deadline), &gate(within), "0123")
    }

    fn job(status: Value) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j"}, "status": status})).unwrap()
    }

    fn ended(condition: &str) -> Value {
        json!({
            "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:12Z",
            "conditions": [{
                "type": condition, "status": "True", "reason": "BackoffLimitExceeded", "message": "too often",
            }],
        })
    }

    #[test]
    fn a_name_is_that_of_one_attempt_and_fits_a_label() {
        let names = [
            name(&plan("shop"), &place(false), 1),
            name(&plan("shop"), &place(false), 2),
            name(&plan("shop"), &place(true), 1),
            name(&plan("cart"), &place(false), 1),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert!(names[0].starts_with("shop-dry-run-"), "{names:?}");
        assert_eq!(names[0], name(&plan("shop"), &place(false), 1), "asked for again");
        let long = name(&plan(&"a.b".repeat(60)), &place(false), 1);
        assert_eq!((long.len(), long.contains('.')), (63, false), "{long}");
    }

    #[test]
    fn a_mended_template_has_another_hash() {
        let of = hash(&cron("i:1", None));
        assert_eq!((of.len(), &of), (16, &hash(&cron("i:1", None))));
        assert_ne!(of, hash(&cron("i:2", None)));
        assert_ne!(of, hash(&cron("i:1", Some(60))));
    }

    #[test]
    fn a_job_is_the_template_and_belongs_to_the_plan() {
        let made = made("10m", None);
        assert!(is_of(&made, &plan("shop")));
        let (labels, annotations) = (made.labels(), made.annotations());
        assert_eq!((labels["team"].as_str(), labels[keys::PLAN].as_str()), ("data", "shop"));
        assert_eq!((annotations["why"].as_str(), annotations[keys::ASKED].as_str()), ("so", "0123"));
        let spec = made.spec.unwrap();
        assert_eq!((spec.backoff_limit, spec.ttl_seconds_after_finished), (Some(3), None));
        assert_eq!(spec.template.spec.unwrap().containers[0].image.as_deref(), Some("i:1"));
    }

    #[test]
    fn a_job_of_somebody_else_is_not_the_plans() {
        let mut other = plan("shop");
        other.metadata.uid = Some("4-5-6".into());
        assert!(!is_of(&made("10m", None), &other));
        assert!(!is_of(&job(json!({})), &plan("shop")));
    }

    #[test]
    fn the_shorter_deadline_holds() {
        let deadline = |within, own| made(within, own).spec.unwrap().active_deadline_seconds;
        assert_eq!(deadline("10m", None), Some(600));
        assert_eq!(deadline("10m", Some(60)), Some(60));
        assert_eq!(deadline("10m", Some(6000)), Some(600));
        assert_eq!(deadline("500ms", None), Some(1), "0 would be refused");
    }

    #[test]
    fn a_job_says_how_it_ended() {
        assert_eq!(says(&job(ended("Complete"))), Says::Passed("Job j completed in 12 s".into()));
        let failed = says(&job(ended("Failed")));
        assert_eq!(failed, Says::Failed("Job j failed: BackoffLimitExceeded: too often".into()));
        // What is about to fail has not failed: its pods may still run.
        assert!(matches!(says(&job(ended("FailureTarget"))), Says::NotYet(_)));
    }

    #[test]
    fn a_job_that_runs_says_since_when() {
        assert_eq!(says(&job(json!({}))), Says::NotYet("Job j has not begun".into()));
        let runs = says(&job(json!({"startTime": "2026-01-01T00:00:00Z", "active": 1, "failed": 2})));
        assert_eq!(runs, Says::NotYet("Job j runs since 2026-01-01T00:00:00Z, 2 of its pods failed".into()));
    }

    #[test]
    fn the_log_is_that_of_the_container_that_failed_in_the_newest_pod() {
        let pod = |created: &str, phase: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": created, "creationTimestamp": created},
                "spec": {"containers": [{"name": "first"}, {"name": "second"}]},
                "status": {"phase": phase, "containerStatuses": [
                    status("first", 0), status("second", 1),
                ]},
            }))
            .unwrap()
        };
        let pods = [
            pod("2026-01-01T00:00:01Z", "Failed"),
            pod("2026-01-01T00:00:02Z", "Failed"),
            pod("2026-01-01T00:00:03Z", "Running"),
        ];
        let newest = newest_failed(&pods).unwrap();
        assert_eq!(newest.name_any(), "2026-01-01T00:00:02Z");
        assert_eq!(failed_container(newest).as_deref(), Some("second"));
        let unknown: Pod =
            serde_json::from_value(json!({"spec": {"containers": [{"name": "first"}]}})).unwrap();
        assert_eq!(failed_container(&unknown).as_deref(), Some("first"));
        assert!(newest_failed(&pods[2..]).is_none());
    }

    fn status(name: &str, code: i32) -> Value {
        json!({
            "name": name, "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}},
        })
    }

    #[test]
    fn last_words_are_one_line_without_control_characters_and_bounded() {
        assert_eq!(last_words("a\u{1b}b\n\nc\r\n"), "; its last lines: ab | c");
        assert_eq!(last_words("\n"), "; it printed nothing");
        let many: String = (0..20).map(|n| format!("{n}\n")).collect();
        assert!(last_words(&many).starts_with("; its last lines: 10 | 11"));
        let long = last_words(&"é".repeat(5000));
        assert!(long.len() <= TAIL_BYTES + 30 && long.ends_with('é'), "{}", long.len());
    }
}
