//! Gates of stages on a real API server: services, Jobs, objects and approvals keep a route from beginning until they
//! have passed. The Job controller is the real one; the tests end its pods, as a kubelet would.

use crate::{
    reasons,
    stomaton_service::{let_pods_run, patch_status},
    world::{World, documents, plan_body, ramp, runtime},
};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Pod,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use stomaton_crds::{
    conditions::{Reason, State},
    keys,
    v1alpha1::{
        GateState, GateStatus, MigrationPlan, Outcome, Phase, PlanAction, PlanActionStatus, StomatonService,
    },
};

/// A plan whose only route waits for a stage with this gate.
fn gated(plan: &str, route: &str, gate: &Value) -> Value {
    let mut body = plan_body(plan, &[route], ramp(&[500, 1000], "1h"));
    body["spec"]["stages"] = json!([{"name": "first", "gates": [gate]}]);
    body["spec"]["routes"][0]["stage"] = json!("first");
    body
}

/// A gate that runs the CronJob `dry-run`.
fn job_gate() -> Value {
    json!({"name": "data", "job": {"cronJob": "dry-run", "within": "10m"}})
}

/// The CronJob `dry-run`, which never runs by itself.
async fn cron_job(world: &World) {
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "dry-run:1"}]});
    let template = json!({"spec": {"backoffLimit": 0, "template": {"spec": pod}}});
    let spec = json!({"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": template});
    world.create::<CronJob>(json!({"metadata": {"name": "dry-run"}, "spec": spec})).await;
}

/// Waits until the plan's only gate is as `wanted` says.
async fn gate(world: &World, plan: &str, what: &str, wanted: impl Fn(&GateStatus) -> bool) -> GateStatus {
    let plans = world.api::<MigrationPlan>();
    world
        .eventually(what, async || {
            let status = plans.get(plan).await.unwrap().status.unwrap_or_default();
            let found = status.stages.first().and_then(|stage| stage.gates.first());
            found.filter(|gate| wanted(gate)).cloned().ok_or_else(|| format!("{:#?}", status.stages))
        })
        .await
}

async fn passes(world: &World, plan: &str) -> GateStatus {
    gate(world, plan, "gate that has passed", |gate| gate.state == GateState::Passed).await
}

async fn says(world: &World, plan: &str, words: &str) {
    gate(world, plan, words, |gate| gate.message.contains(words)).await;
}

async fn begins(world: &World, plan: &str) {
    world.route(plan, "content", "route that begins", |r| r.weights.applied == 500).await;
}

/// Names of all Jobs of a plan, once there are so many.
async fn jobs(world: &World, plan: &str, count: usize) -> Vec<String> {
    let (api, of_plan) =
        (world.api::<Job>(), ListParams::default().labels(&format!("{}={plan}", keys::PLAN)));
    world
        .eventually(&format!("{count} Jobs"), async || {
            let found = api.list(&of_plan).await.unwrap().items;
            let names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
            if names.len() == count { Ok(names) } else { Err(format!("{names:?}")) }
        })
        .await
}

/// Ends the pod of a Job, as a kubelet would.
async fn end(world: &World, job: &str, phase: &str) {
    let (pods, of_job) =
        (world.api::<Pod>(), ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}")));
    let pod = world
        .eventually("pod of the Job", async || {
            let found = pods.list(&of_job).await.unwrap().items;
            found.first().map(ResourceExt::name_any).ok_or_else(|| format!("no pod of {job}"))
        })
        .await;
    patch_status::<Pod>(world, &pod, &json!({"status": {"phase": phase}})).await;
}

/// How often the operator asked for a Job to be made.
fn made(world: &World) -> usize {
    let requests = world.requests();
    let made = |r: &&Value| r["verb"] == "create" && r["objectRef"]["resource"] == "jobs";
    requests.iter().filter(made).count()
}

/// A plan for the route `search` whose gate runs a Job that fails.
pub async fn a_job_fails(world: &World) {
    cron_job(world).await;
    world.create::<MigrationPlan>(gated("gated", "search", &job_gate())).await;
    let job = jobs(world, "gated", 1).await.remove(0);
    end(world, &job, "Failed").await;
    gate(world, "gated", "gate that has failed", |gate| gate.state == GateState::Failed).await;
}

#[test]
fn a_stage_waits_for_services_to_be_ready() {
    runtime().block_on(async {
        let world = World::new().await;
        let services = json!({"name": "ready", "services": {"names": ["shop"]}});
        world.create::<MigrationPlan>(gated("plan", "content", &services)).await;
        says(&world, "plan", "StomatonService shop does not exist").await;
        let words = ["stage first", "gate ready", "StomatonService shop does not exist"];
        reasons::says(&world, "plan", State::Ready, Reason::WaitingForGate, &words).await;
        let spec = json!({"image": "fleet:1"});
        world.create::<StomatonService>(json!({"metadata": {"name": "shop"}, "spec": spec})).await;
        says(&world, "plan", "shop is not Ready").await;
        world.route("plan", "content", "route that waits", |r| r.phase == Phase::Pending).await;
        let_pods_run(&world, "shop", 1).await;
        passes(&world, "plan").await;
        begins(&world, "plan").await;
    });
}

#[test]
fn a_gate_runs_a_job_once_and_lets_the_stage_begin_when_it_completes() {
    runtime().block_on(async {
        let world = World::new().await;
        world.create::<MigrationPlan>(gated("plan", "content", &job_gate())).await;
        says(&world, "plan", "CronJob dry-run does not exist").await;
        cron_job(&world).await;
        let name = jobs(&world, "plan", 1).await.remove(0);
        let job = world.api::<Job>().get(&name).await.unwrap();
        let plan = world.api::<MigrationPlan>().get("plan").await.unwrap();
        assert_eq!(job.owner_references()[0].uid, plan.uid().unwrap(), "it goes with its plan");
        assert_eq!(job.spec.unwrap().active_deadline_seconds, Some(600));
        world.route("plan", "content", "route that waits", |r| r.phase == Phase::Pending).await;
        end(&world, &name, "Succeeded").await;
        let passed = passes(&world, "plan").await;
        assert_eq!(passed.attempt, 1);
        assert!(passed.message.contains(&format!("Job {name} completed")), "{passed:?}");
        begins(&world, "plan").await;
        assert_eq!((jobs(&world, "plan", 1).await, made(&world)), (vec![name], 1), "evidence stays");
    });
}

#[test]
fn a_job_that_fails_holds_the_stage_until_its_template_is_mended() {
    runtime().block_on(async {
        let world = World::new().await;
        cron_job(&world).await;
        world.create::<MigrationPlan>(gated("plan", "content", &job_gate())).await;
        let first = jobs(&world, "plan", 1).await.remove(0);
        end(&world, &first, "Failed").await;
        let failed = gate(&world, "plan", "gate that has failed", |g| g.state == GateState::Failed).await;
        // There is no kubelet who would have a log.
        for words in ["BackoffLimitExceeded", "it printed nothing", first.as_str()] {
            assert!(failed.message.contains(words), "{words} is not in: {failed:?}");
        }
        let words =
            ["gate data of stage first failed", first.as_str(), "kubectl stomaton resume --stage first"];
        reasons::says(&world, "plan", State::Stalled, Reason::GateFailed, &words).await;
        world.assert_nothing_written().await;
        world.route("plan", "content", "route that waits", |r| r.phase == Phase::Pending).await;
        assert_eq!(jobs(&world, "plan", 1).await.len(), 1, "nothing was mended");

        let mended = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {
            "containers": [{"name": "c", "image": "dry-run:2"}],
        }}}}}});
        let crons = world.api::<CronJob>();
        crons.patch("dry-run", &PatchParams::default(), &Patch::Strategic(mended)).await.unwrap();
        let second = jobs(&world, "plan", 2).await.into_iter().find(|name| *name != first).unwrap();
        end(&world, &second, "Succeeded").await;
        assert_eq!(passes(&world, "plan").await.attempt, 2);
        begins(&world, "plan").await;
        assert_eq!(made(&world), 2);
    });
}

#[test]
fn a_failed_job_that_is_deleted_is_not_run_again() {
    runtime().block_on(async {
        let world = World::new().await;
        a_job_fails(&world).await;
        let job = jobs(&world, "gated", 1).await.remove(0);
        world.api::<Job>().delete(&job, &kube::api::DeleteParams::background()).await.unwrap();
        jobs(&world, "gated", 0).await;
        world.assert_nothing_written().await;
        assert_eq!(made(&world), 1);
    });
}

#[test]
fn an_operator_that_starts_finds_the_job_that_runs_even_without_its_label() {
    runtime().block_on(async {
        let mut world = World::new().await;
        cron_job(&world).await;
        world.create::<MigrationPlan>(gated("plan", "content", &job_gate())).await;
        let job = jobs(&world, "plan", 1).await.remove(0);
        says(&world, "plan", &job).await;
        world.kill_operator().await;
        let bare = Patch::Merge(json!({"metadata": {"labels": {keys::PLAN: null}}}));
        world.api::<Job>().patch(&job, &PatchParams::default(), &bare).await.unwrap();
        world.start_operator().await;
        end(&world, &job, "Succeeded").await;
        assert_eq!(passes(&world, "plan").await.attempt, 1);
        assert_eq!(made(&world), 1);
    });
}

/// A kind that the operator may not read unless it is granted.
fn certificates() -> ApiResource {
    let kind = GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate");
    ApiResource::from_gvk_with_plural(&kind, "certificates")
}

#[test]
fn an_object_is_asked_for_its_condition_where_that_is_granted() {
    runtime().block_on(async {
        // Of its own: what is read here is no right of the installation.
        let mut world = World::alone().await;
        world.fleet().await;
        world.start_operator().await;
        world.start_agents().await;
        let object = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "shop", "condition": "Ready",
        });
        let plan = gated("plan", "content", &json!({"name": "certificate", "object": object}));
        world.create::<MigrationPlan>(plan).await;
        says(&world, "plan", "serves no Certificate").await;
        world.serve(&certificates()).await;
        says(&world, "plan", "manifests/install/gate-grant").await;
        for mut granted in documents(include_str!("../../../manifests/install/gate-grant/rbac.yaml")) {
            granted["metadata"]["namespace"] = json!(world.namespace);
            match granted["kind"].as_str() {
                Some("Role") => drop(world.create::<Role>(granted).await),
                _ => drop(world.create::<RoleBinding>(granted).await),
            }
        }
        says(&world, "plan", "Certificate shop does not exist").await;
        let api: Api<DynamicObject> =
            Api::namespaced_with(world.client.clone(), &world.namespace, &certificates());
        let ready = |is: &str| json!({"status": {"conditions": [{"type": "Ready", "status": is}]}});
        let certificate = DynamicObject::new("shop", &certificates()).data(ready("False"));
        api.create(&PostParams::default(), &certificate).await.unwrap();
        says(&world, "plan", "is False, not True").await;
        world.route("plan", "content", "route that waits", |r| r.phase == Phase::Pending).await;
        api.patch("shop", &PatchParams::default(), &Patch::Merge(ready("True"))).await.unwrap();
        passes(&world, "plan").await;
        begins(&world, "plan").await;
    });
}

#[test]
fn an_object_of_no_namespace_and_a_name_that_is_a_path_are_not_asked_for() {
    runtime().block_on(async {
        let world = World::new().await;
        let object = |name: &str, kind: &str| {
            let object = json!({"apiVersion": "v1", "kind": kind, "name": name, "condition": "Ready"});
            json!({"name": "other", "object": object})
        };
        let outside = object("default", "Namespace");
        world.create::<MigrationPlan>(gated("outside", "content", &outside)).await;
        says(&world, "outside", "is not of a namespace").await;
        let path = object("../../kube-system/secrets/key", "Secret");
        match world.try_create::<MigrationPlan>(gated("path", "search", &path)).await {
            Ok(_) => says(&world, "path", "cannot be a name").await,
            Err(refused) => assert!(refused.to_string().contains("name"), "{refused}"),
        }
    });
}

/// Approves the stage under this hash, and gives what the operator made of it.
async fn approve(world: &World, act: &str, hash: &str) -> PlanActionStatus {
    let spec = json!({
        "plan": "plan", "action": "Approve", "stage": "first", "user": "somebody", "approves": {"specHash": hash},
    });
    world.create::<PlanAction>(json!({"metadata": {"name": act}, "spec": spec})).await;
    let acts = world.api::<PlanAction>();
    world
        .eventually("answer to the act", async || {
            acts.get(act).await.unwrap().status.ok_or_else(|| "no status".to_owned())
        })
        .await
}

#[test]
fn a_stage_waits_for_an_approval_of_the_plan_as_it_is() {
    runtime().block_on(async {
        let world = World::new().await;
        let approval = json!({"name": "board", "approval": {}});
        world.create::<MigrationPlan>(gated("plan", "content", &approval)).await;
        gate(&world, "plan", "gate that is asked", |gate| gate.state == GateState::Asked).await;
        let old = approve(&world, "old", "0123456789abcdef").await;
        assert_eq!(old.outcome, Outcome::Refused, "{old:?}");
        world.route("plan", "content", "route that waits", |r| r.phase == Phase::Pending).await;
        let plan = world.api::<MigrationPlan>().get("plan").await.unwrap();
        let new = approve(&world, "new", &plan.status.unwrap().spec_hash).await;
        assert_eq!(new.outcome, Outcome::Done, "{new:?}");
        passes(&world, "plan").await;
        begins(&world, "plan").await;
    });
}
