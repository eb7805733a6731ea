//! A migration in stages: what has to pass before the routes of each begin, under traffic.

use e2e::harness::{
    Doing as _, Error,
    evidence::Evidence,
    fleet::{CONTENT, Fleet, Plan},
    namespace::Namespace,
    scenario::{Turn, scenario},
    service::IMAGE,
    traffic::{Mix, Traffic},
    wait::{self, Seen},
};
use k8s_openapi::api::batch::v1::CronJob;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::{
    GateState, GateStatus, MigrationPlan, MigrationPlanStatus, Phase, StagePhase, StageStatus,
};

const PLAN: &str = "programme";
const LIMIT: Duration = Duration::from_secs(90);
/// The gate of the first stage.
const DRY_RUN: &str = "dry-run";
/// The gate of the second.
const DRILL: &str = "drill";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_stage_whose_job_fails_holds_until_it_is_mended_and_the_next_one_begins_with_a_drill() {
    scenario("stages", Turn::Alone, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        let route = |name: &str, path: &str| json!({"name": name, "match": {"pathPrefix": path}});
        let routes = [route("recent", "/api/v1/content/recent"), route("stats", "/api/v1/content/stats")];
        fleet.change_edge(json!({"routes": routes})).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(200)).await?;
        traffic.goes_on(200).await?;

        namespace.apply_object(&dry_run(&["serve", "nothing"])).await?;
        namespace.apply_object(&programme()).await?;
        let failed = |status: &GateStatus| status.state == GateState::Failed;
        let (status, gate) = gate_is(namespace, DRY_RUN, "the dry run to fail", failed).await?;
        println!("held: {}", gate.message);
        // What the program says of a service that does not exist.
        assert!(gate.message.contains("the services are"), "no log in: {}", gate.message);
        traffic.goes_on(400).await?;
        assert!(status.routes.iter().all(|route| route.phase == Phase::Pending), "{:?}", status.routes);

        mend(namespace, &["list"]).await?;
        let passed = |status: &GateStatus| status.state == GateState::Passed;
        let (_, gate) = gate_is(namespace, DRY_RUN, "the dry run to pass", passed).await?;
        println!("attempt {}: {}", gate.attempt, gate.message);
        assert_eq!(gate.attempt, 2);

        let (_, gate) = gate_is(namespace, DRILL, "the drill to pass", passed).await?;
        println!("drill: {}", gate.message);
        assert!(gate.message.contains(" ms, bound 1000 ms"), "no figure in: {}", gate.message);
        let all_done = |stages: &[StageStatus]| stages.iter().all(|stage| stage.phase == StagePhase::Done);
        let status = stages_are(namespace, "both stages to be done", all_done).await?;

        let records = traffic.finish().await?;
        in_order(&status)?;
        Evidence { records: &records, status: &status }.nothing_lost()
    })
    .await;
}

/// No route of the second stage begins before the first is done, and its first attempt is the drill.
fn in_order(status: &MigrationPlanStatus) -> Result<(), Error> {
    let moves: Vec<_> = status.history.iter().map(|t| (t.route.as_str(), t.phase)).collect();
    let done = moves.iter().position(|seen| *seen == ("recent", Phase::Done));
    let begun = moves.iter().position(|(route, _)| *route == "stats");
    let of_stats = moves.iter().filter(|(route, _)| *route == "stats");
    let drilled = of_stats.clone().nth(1).map(|(_, phase)| *phase) == Some(Phase::RollingBack);
    let back = moves.iter().filter(|(_, phase)| *phase == Phase::RollingBack).count();
    if done.is_some() && done < begun && drilled && back == 1 {
        Ok(())
    } else {
        Err(Error::Broken(format!("the stages went {moves:?}")))
    }
}

/// A stage that begins when a Job has run, and one that begins with a drill.
fn programme() -> Value {
    let ramp = vec![(300, "1s"), (1000, "1s")];
    let mut plan = Plan { name: PLAN, ramp, min_requests: 20, cooldown: "1h", max_attempts: 1 }.object();
    let target = json!({"name": CONTENT});
    let route =
        |name: &str, stage: &str| json!({"name": name, "target": target, "profile": "ramp", "stage": stage});
    plan["spec"]["routes"] = json!([route("recent", "first"), route("stats", "second")]);
    plan["spec"]["stages"] = json!([
        {"name": "first", "gates": [
            {"name": "services", "services": {}},
            {"name": DRY_RUN, "job": {"cronJob": DRY_RUN, "within": "1m"}},
        ]},
        // The promise is 250 ms; what this test is about is that the drill is done, on any machine.
        {"name": "second", "gates": [{"name": DRILL, "drill": {"route": "stats", "within": "1s"}}]},
    ]);
    plan
}

/// A CronJob that never runs by itself.
fn dry_run(args: &[&str]) -> Value {
    let container = json!({
        "name": "run", "image": IMAGE, "args": args,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
    });
    let pod = json!({
        "restartPolicy": "Never", "automountServiceAccountToken": false, "containers": [container],
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    let template = json!({"spec": {"backoffLimit": 0, "template": {"spec": pod}}});
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": DRY_RUN},
        "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": template},
    })
}

async fn mend(namespace: &Namespace<'_>, args: &[&str]) -> Result<(), Error> {
    let pod = json!({"containers": [{"name": "run", "args": args}]});
    let mended = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}});
    let crons = namespace.api::<CronJob>();
    let patched = crons.patch(DRY_RUN, &PatchParams::default(), &Patch::Strategic(mended)).await;
    patched.map(drop).doing("mend the CronJob")
}

/// Waits until a gate is in a state that `judge` accepts; gives it, and the plan's status.
async fn gate_is(
    namespace: &Namespace<'_>,
    gate: &str,
    what: &str,
    judge: impl Fn(&GateStatus) -> bool,
) -> Result<(MigrationPlanStatus, GateStatus), Error> {
    let of = |stages: &[StageStatus]| {
        stages.iter().flat_map(|stage| &stage.gates).find(|found| found.name == gate).cloned()
    };
    let status = stages_are(namespace, what, |stages| of(stages).is_some_and(|found| judge(&found))).await?;
    let found = of(&status.stages).ok_or_else(|| Error::Broken(format!("no gate {gate}")))?;
    Ok((status, found))
}

async fn stages_are(
    namespace: &Namespace<'_>,
    what: &str,
    judge: impl Fn(&[StageStatus]) -> bool,
) -> Result<MigrationPlanStatus, Error> {
    wait::object(&namespace.api::<MigrationPlan>(), PLAN, what, LIMIT, |plan| {
        let status = plan.and_then(|plan| plan.status.clone()).unwrap_or_default();
        if !status.stages.is_empty() && judge(&status.stages) {
            return Seen::Yes(status);
        }
        Seen::NotYet(format!("{:?}", status.stages))
    })
    .await
}
