//! What holds a plan although nothing is wrong: a freeze, a halt, an approval that not everybody may give.

use e2e::harness::{
    Doing as _, Error,
    evidence::Evidence,
    fleet::{Fleet, Plan, ROUTE},
    namespace::Namespace,
    scenario::{Turn, scenario},
    service::list,
    traffic::{Mix, Traffic},
    wait::{self, Seen},
};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::v1alpha1::{Action, MigrationPlan, Outcome, Phase, RouteStatus};

const PLAN: &str = "people";
const LIMIT: Duration = Duration::from_secs(90);
const VIEWER: &str = "viewer";
const ON_DUTY: &str = "on-duty";
const APPROVER: &str = "approver";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_freeze_ends_by_itself_a_halt_outlasts_git_and_an_approval_is_of_who_may_give_it() {
    scenario("freeze", Turn::Alongside, async |namespace| {
        let fleet = Fleet::deploy(namespace).await?;
        namespace.apply_object(&accounts(namespace)).await?;
        let traffic = Traffic::start(&fleet, Mix::of_all_kinds(100)).await?;
        let ends = Timestamp::now() + SignedDuration::from_secs(30);
        let object = frozen_until(ends);
        from_git(namespace, &object).await?;
        let frozen = |r: &RouteStatus| r.phase == Phase::Pending && r.waits_for.contains("a freeze until");
        let status = fleet.route_is(PLAN, "the freeze", LIMIT, frozen).await?;
        assert!(status.routes[0].waits_for.contains("sale"), "{}", status.routes[0].waits_for);

        namespace.stomaton(&["halt"]).await?;
        for _ in 0..3 {
            let plan = from_git(namespace, &object).await?;
            assert_eq!(plan.metadata.generation, Some(1), "a writer of the same spec made a difference");
            assert!(plan.status.is_some_and(|status| status.halted.is_some()), "Git undid a halt");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        namespace.stomaton(&["resume"]).await?;
        let needs = |r: &RouteStatus| r.weights.applied == 500 && r.waits_for.contains("approve");
        let status = fleet.route_is(PLAN, "the need of an approval", LIMIT, needs).await?;
        let began = status.history.first().map(|transition| transition.at.0);
        assert!(began >= Some(ends), "it began at {began:?}, the freeze ended at {ends}");

        refused(namespace, VIEWER, "cannot create resource").await?;
        refused(namespace, ON_DUTY, "may not approve").await?;
        approved(namespace).await?;
        let status = fleet.route_is(PLAN, "the end", LIMIT, |r| r.phase == Phase::Done).await?;
        let approvals: Vec<_> = status.acts.iter().filter(|act| act.action == Action::Approve).collect();
        assert!(approvals.iter().all(|act| act.user.ends_with(APPROVER)), "{approvals:?}");
        assert_eq!(approvals.iter().filter(|act| act.outcome == Outcome::Done).count(), 1, "{approvals:?}");
        let records = traffic.finish().await?;
        Evidence { records: &records, status: &status }.nothing_lost()
    })
    .await;
}

/// A plan of two steps, the second of which needs an approval.
fn frozen_until(ends: Timestamp) -> Value {
    let ramp = vec![(500, "1s"), (1000, "1s")];
    let mut plan = Plan { name: PLAN, ramp, min_requests: 20, cooldown: "1h", max_attempts: 1 }.object();
    plan["spec"]["profiles"][0]["ramp"][1]["approval"] = json!(true);
    let begins = ends - SignedDuration::from_hours(1);
    let freeze = json!({"from": begins.to_string(), "to": ends.to_string(), "reason": "sale"});
    plan["spec"]["windows"] = json!({"freezes": [freeze]});
    plan
}

/// Applies the plan as a tool does that knows nothing but what is in Git; gives what the API server made of it.
async fn from_git(namespace: &Namespace<'_>, object: &Value) -> Result<MigrationPlan, Error> {
    let params = PatchParams::apply("git").force();
    let plans = namespace.api::<MigrationPlan>();
    plans.patch(PLAN, &params, &Patch::Apply(object)).await.doing("apply the plan")
}

/// Three people: each may look, one is on duty, one may approve.
fn accounts(namespace: &Namespace<'_>) -> Value {
    let account =
        |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    let bind = |name: &str, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("{name}-{role}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace.name}],
        })
    };
    let people = [VIEWER, ON_DUTY, APPROVER];
    let further = [bind(ON_DUTY, "stomaton-on-duty"), bind(APPROVER, "stomaton-approver")];
    let viewers = people.map(|name| bind(name, "stomaton-viewer"));
    list(people.map(account).into_iter().chain(viewers).chain(further))
}

/// Approves in the name of somebody who may not, and expects to be told so. Roles take a moment to be known.
async fn refused(namespace: &Namespace<'_>, account: &str, why: &str) -> Result<(), Error> {
    let what = format!("an approval by {account} to be refused, because it {why}");
    wait::until(&what, LIMIT, async || match namespace.stomaton_as(account, &["approve", ROUTE]).await {
        Ok(said) => Ok(Seen::Never(format!("it was done: {said}"))),
        Err(error) => Ok(Seen::when(error.to_string().contains(why), || error.to_string())),
    })
    .await
}

async fn approved(namespace: &Namespace<'_>) -> Result<(), Error> {
    wait::until("an approval by who may give it", LIMIT, async || {
        let said = namespace.stomaton_as(APPROVER, &["approve", ROUTE]).await?;
        Ok(Seen::when(said.contains("may enter step 2"), || said))
    })
    .await
}
