//! Asks the cluster what gates of stages want to know. Takes the plan and the caches; gives [`Facts`]. I/O: reads
//! CronJobs, Jobs, logs and named objects, and creates the Jobs of gates. With nothing asked it makes no call.
//!
//! What a call cannot tell is said in words and never fails the pass: a gate that nobody can answer holds its stage,
//! and nothing else.

mod job;
mod object;
mod recent;
mod services;

use super::{
    gather::Caches,
    stages::{self, Asked, Fact, Facts, Place, Says},
};
use crate::{api, context::Context, controllers::meta::Family, metrics::Verb, watch::Guarded};
use futures::future::join_all;
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Pod,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, ListParams, LogParams, PostParams},
    core::GroupVersion,
    discovery::{self, Scope},
    error::DiscoveryError,
    runtime::reflector::ObjectRef,
};
use recent::Recent;
use std::{sync::Arc, time::Duration};
use stomaton_crds::{
    keys::{self, field_managers},
    v1alpha1::{GateState, GateStatus, JobGate, MigrationPlan, ObjectGate},
};

/// For how long the answer to a read is good: passes may come many times a second.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// For how long a kind is known: which names it has hardly ever changes.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// Most bytes of a log to read: lines may be long.
const LOG_BYTES: i64 = 65_536;

/// What was read a moment ago. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    kinds: Recent<ApiResource>,
    objects: Recent<Says>,
    templates: Recent<Option<CronJob>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Kept {
            kinds: Recent::new(KNOWN_FOR),
            objects: Recent::new(GOOD_FOR),
            templates: Recent::new(GOOD_FOR),
        }))
    }
}

/// What the cluster says to the gates that want an answer now, as far as it is said in time: whoever waits for gates must
/// not keep a route from coming back. A call that is given up may have made its Job, which is then found by its name.
pub async fn facts_within(limit: Duration, ctx: &Context, plan: &MigrationPlan, caches: &Caches) -> Facts {
    tokio::time::timeout(limit, facts(ctx, plan, caches)).await.unwrap_or_else(|_| {
        tracing::warn!(
            plan = plan.name_any(),
            "gates are not answered within {limit:?}; they are asked again"
        );
        Facts::new()
    })
}

async fn facts(ctx: &Context, plan: &MigrationPlan, caches: &Caches) -> Facts {
    // Whoever deletes a plan wants no more Jobs of it.
    if plan.metadata.deletion_timestamp.is_some() {
        return Facts::new();
    }
    let stages = plan.status.as_ref().map(|status| status.stages.as_slice()).unwrap_or_default();
    let asking = Asking { ctx, plan, caches, namespace: plan.namespace().unwrap_or_default() };
    let answers: Vec<_> =
        stages::asked(&plan.spec, stages).into_iter().map(|asked| asking.answer(asked)).collect();
    join_all(answers).await.into_iter().flatten().collect()
}

/// The plan whose gate a Job is for.
pub fn plan_of(job: Job) -> Option<ObjectRef<Guarded<MigrationPlan>>> {
    let owner = job.owner_references().iter().find(|owner| job::is_plan(owner))?;
    Some(ObjectRef::new(&owner.name).within(&job.namespace()?))
}

/// One plan that asks.
struct Asking<'a> {
    ctx: &'a Context,
    plan: &'a MigrationPlan,
    caches: &'a Caches,
    namespace: String,
}

impl Asking<'_> {
    /// The answer to one gate; none to those that are answered by people or by the machine.
    async fn answer(&self, asked: Asked<'_>) -> Option<(Place, Fact)> {
        let gate = asked.gate;
        let fact = if let Some(services) = &gate.services {
            let find = |name: &str| self.caches.services.get(&ObjectRef::new(name).within(&self.namespace));
            Fact { of: gate.hash(), says: services::says(services, &asked.targets, find) }
        } else if let Some(object) = &gate.object {
            let key = format!("{}/{}", self.namespace, gate.hash());
            let read = self.caches.gates.0.objects.get(key, self.object(object)).await;
            Fact { of: gate.hash(), says: read.unwrap_or_else(|unread| unread) }
        } else if let Some(job) = &gate.job {
            self.job(&asked, job).await
        } else {
            return None;
        };
        Some((asked.place, fact))
    }

    /// What an object's condition says; an error is what is said when it was not read.
    async fn object(&self, gate: &ObjectGate) -> Result<Says, Says> {
        let ObjectGate { api_version, kind, name, .. } = gate;
        if let Some(wrong) = api_version.split('/').chain([name.as_str()]).find(|part| !object::is_name(part))
        {
            return Err(Says::Unknown(format!("{wrong:?} cannot be a name")));
        }
        let known = format!("{api_version}/{kind}");
        let resource = self.caches.gates.0.kinds.get(known, self.resource(gate)).await?;
        let api = self.ctx.dynamic(&self.namespace, &resource);
        match api::read(|| format!("read {kind} {name}"), api.get_opt(name)).await {
            Ok(found) => Ok(object::says(gate, found.as_ref())),
            Err(error) if error.is_forbidden() => {
                Err(Says::Unknown(object::no_right(&resource, &self.namespace)))
            }
            Err(error) => Err(Says::Unknown(error.to_string())),
        }
    }

    /// Under which names the cluster serves the kind of an object.
    async fn resource(&self, gate: &ObjectGate) -> Result<ApiResource, Says> {
        let ObjectGate { api_version, kind, .. } = gate;
        let Ok(version) = api_version.parse::<GroupVersion>() else {
            return Err(Says::Unknown(format!("{api_version} is no apiVersion")));
        };
        let wanted = version.with_kind(kind);
        let find = discovery::pinned_kind(&self.ctx.client, &wanted);
        match api::read(|| format!("find the kind {kind} of {api_version}"), find).await {
            Ok((resource, found)) if found.scope == Scope::Namespaced => Ok(resource),
            Ok(_) => Err(Says::Unknown(format!(
                "{kind} is not of a namespace: a gate asks only for objects of the plan's own"
            ))),
            Err(error) if is_unserved(&error) => {
                Err(Says::NotYet(format!("the cluster serves no {kind} of {api_version}")))
            }
            Err(error) => Err(Says::Unknown(error.to_string())),
        }
    }

    /// How the Job of this attempt fares, which is made if it is not there.
    async fn job(&self, asked: &Asked<'_>, gate: &JobGate) -> Fact {
        if let Some(failed) = self.failed(asked) {
            // Its words stand, and its Job is not made again. A template that was mended is another attempt.
            let template = self.template(&gate.cron_job).await.ok().flatten();
            let of = template.as_ref().map(job::hash).unwrap_or_default();
            return Fact { of, says: Says::Failed(failed.message.clone()) };
        }
        let name = job::name(self.plan, &asked.place, asked.attempt);
        let job = match self.found_or_made(gate, &name).await {
            Ok(job) => job,
            Err(says) => return Fact { of: String::new(), says },
        };
        if !job::is_of(&job, self.plan) {
            let says = format!("there is a Job {name} that is not of this plan: delete it");
            return Fact { of: String::new(), says: Says::Unknown(says) };
        }
        let says = match job::says(&job) {
            Says::Failed(why) => Says::Failed(why + &self.last_lines(&name).await),
            says => says,
        };
        Fact { of: job.annotations().get(keys::ASKED).cloned().unwrap_or_default(), says }
    }

    /// What status says of a gate whose Job failed in this attempt.
    fn failed(&self, asked: &Asked<'_>) -> Option<&GateStatus> {
        let Asked { place, attempt, .. } = asked;
        let stages = &self.plan.status.as_ref()?.stages;
        let stage = stages.iter().find(|stage| stage.name == place.stage)?;
        let gates = if place.exit { &stage.exit } else { &stage.gates };
        let gate = gates.iter().find(|gate| gate.name == place.gate)?;
        (gate.state == GateState::Failed && gate.attempt == *attempt).then_some(gate)
    }

    /// The Job from the cache, from the API server, or made now. The name is that of the attempt, so that whoever asks
    /// again, after a restart too, finds the same Job.
    async fn found_or_made(&self, gate: &JobGate, name: &str) -> Result<Arc<Job>, Says> {
        if let Some(job) = self.caches.jobs.get(&ObjectRef::new(name).within(&self.namespace)) {
            return Ok(job);
        }
        let jobs: Api<Job> = self.ctx.namespaced(&self.namespace);
        // The cache may be behind, and knows only Jobs that carry our label still.
        let found = api::read(|| format!("read Job {name}"), jobs.get_opt(name)).await.map_err(unknown)?;
        if let Some(job) = found {
            return Ok(Arc::new(job));
        }
        let Some(cron) = self.template(&gate.cron_job).await? else {
            return Err(Says::NotYet(format!(
                "CronJob {} does not exist: create it with `suspend: true`, so that only the gate runs it",
                gate.cron_job
            )));
        };
        let Some(owner) = self.plan.controller_owner_ref(&()) else {
            return Err(Says::Unknown("the plan has no UID".to_owned()));
        };
        let family = Family::new(self.namespace.clone(), owner, keys::PLAN, "gate");
        let wanted = job::build(&family, name, &cron, gate, &job::hash(&cron));
        let params =
            PostParams { field_manager: Some(field_managers::PLAN.to_owned()), ..PostParams::default() };
        let create = jobs.create(&params, &wanted);
        match api::write::<Job, _>(&self.ctx.metrics, Verb::Create, name, create).await {
            Ok(made) => Ok(Arc::new(made)),
            // Somebody else was faster: the next pass finds it.
            Err(error) if error.is_taken() => Err(Says::NotYet(format!("Job {name} is there already"))),
            Err(error) => Err(unknown(error)),
        }
    }

    /// The CronJob whose template a gate's Job is made from; an error is what is said when it was not read.
    async fn template(&self, name: &str) -> Result<Option<CronJob>, Says> {
        if !object::is_name(name) {
            return Err(Says::Unknown(format!("{name:?} cannot be a name")));
        }
        let crons: Api<CronJob> = self.ctx.namespaced(&self.namespace);
        let read = api::read(|| format!("read CronJob {name}"), crons.get_opt(name));
        let answer = self.caches.gates.0.templates.get(format!("{}/{name}", self.namespace), read).await;
        answer.map_err(unknown)
    }

    /// The end of what the pod of a failed Job printed, as it follows the words about the Job.
    async fn last_lines(&self, job: &str) -> String {
        let pods: Api<Pod> = self.ctx.namespaced(&self.namespace);
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        let list = match api::read(|| format!("list the pods of Job {job}"), pods.list(&of_job)).await {
            Ok(list) => list,
            Err(error) => {
                tracing::warn!(job, %error, "the pods of a failed Job are not known");
                return String::new();
            }
        };
        // A Job that ran out of time leaves no pod.
        let Some(pod) = job::newest_failed(&list.items) else { return String::new() };
        let pod_name = pod.name_any();
        let params = LogParams {
            container: job::failed_container(pod),
            tail_lines: Some(job::TAIL_LINES),
            limit_bytes: Some(LOG_BYTES),
            ..LogParams::default()
        };
        match api::read(|| format!("read the log of pod {pod_name}"), pods.logs(&pod_name, &params)).await {
            Ok(log) => job::last_words(&log),
            Err(error) => {
                tracing::warn!(job, %error, "the log of a failed Job cannot be read");
                format!("; the log of its pod {pod_name} cannot be read")
            }
        }
    }
}

fn unknown(error: api::Error) -> Says {
    Says::Unknown(error.to_string())
}

/// Whether the cluster does not know the kind: neither its group, nor the kind in it.
fn is_unserved(error: &api::Error) -> bool {
    let missing =
        |source: &kube::Error| matches!(source, kube::Error::Discovery(DiscoveryError::MissingKind(_)));
    error.is_not_found() || matches!(error, api::Error::Refused { source, .. } if missing(source))
}

#[cfg(test)]
mod tests;
