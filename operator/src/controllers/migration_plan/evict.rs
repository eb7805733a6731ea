//! Edge pods that do not follow a rollback: users may still be on the service there. They are named, and after a time
//! deleted, so that others take their users. [`due`] is pure; [`evict`] does I/O.

use super::machine::{Route, State};
use crate::{
    api,
    args::Settings,
    context::Context,
    edges::{EdgePod, EdgeView, Key},
    metrics::Verb,
    status,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, Preconditions},
    runtime::events::EventType,
};
use std::time::Duration;
use stomaton_crds::v1alpha1::{MigrationPlan, Phase, RouteStatus};

/// How long to wait for the end of one pod, or for another to be ready, before the next look.
const AGAIN: Duration = Duration::from_secs(1);

/// What is to be done about pods that do not follow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Due {
    /// The pod that has to go now.
    pub pod: Option<String>,
    /// When to look again; none while all follow.
    pub again: Option<Duration>,
}

/// Whether a pod does what a route that is being taken back needs: it serves the weights that say so, or holds the
/// route on its safe side by itself. A silent pod is unknown, never fine.
pub fn follows(pod: &EdgePod, id: &str, status: &RouteStatus) -> bool {
    pod.fresh().is_some_and(|state| {
        let holds = state.latches.get(id).is_some_and(|latch| latch.attempt >= status.attempt);
        holds || (status.revision > 0 && state.applied.weights >= status.revision)
    })
}

/// Which pod has to go, if any: one at a time, and only while another one that is ready follows. When none does, it may
/// be this operator that cannot hear, and deleting the edge would help nobody.
pub fn due(routes: &[Route<'_>], state: &State, view: &EdgeView, patience: Duration, now: Timestamp) -> Due {
    let mut due = Due::default();
    for status in state.routes.iter().filter(|status| status.phase == Phase::RollingBack) {
        let Some(id) = routes.iter().find(|r| r.name == status.name).and_then(|r| r.id.as_deref()) else {
            continue;
        };
        let (following, lagging): (Vec<_>, Vec<_>) =
            view.pods.iter().partition(|pod| follows(pod, id, status));
        if lagging.is_empty() {
            continue;
        }
        let decided = state.history.iter().rev().find(|t| t.route == status.name);
        let waited = decided.map(|t| now.duration_since(t.at.0)).unwrap_or_default();
        let left = patience.saturating_sub(Duration::try_from(waited).unwrap_or_default());
        let again = if left.is_zero() { AGAIN } else { left };
        due.again = due.again.map_or(Some(again), |sooner| Some(sooner.min(again)));
        let leaving = view.pods.iter().any(|pod| pod.terminating);
        if left.is_zero() && !leaving && following.iter().any(|pod| pod.ready) {
            due.pod = due.pod.or_else(|| lagging.first().map(|pod| pod.name.clone()));
        }
    }
    due
}

/// Deletes the pod that has to go; gives when to look again.
pub async fn evict(
    ctx: &Context,
    plan: &MigrationPlan,
    gateway: &Key,
    routes: &[Route<'_>],
    state: &State,
    view: &EdgeView,
) -> Option<Duration> {
    let Settings { evict_after, .. } = ctx.settings;
    let Due { pod, again } = due(routes, state, view, evict_after, Timestamp::now());
    // Without its UID a pod made anew under its name could be hit.
    if let Some((pod, uid)) = pod.and_then(|pod| ctx.edges.uid(gateway, &pod).map(|uid| (pod, uid))) {
        let pods = ctx.namespaced::<Pod>(&plan.namespace().unwrap_or_default());
        let preconditions = Preconditions { uid: Some(uid), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api::write::<Pod, _>(&ctx.metrics, Verb::Delete, &pod, pods.delete(&pod, &params)).await {
            Ok(_) => {
                let note = format!(
                    "edge pod {pod} did not follow a rollback within {} s and was deleted",
                    evict_after.as_secs()
                );
                tracing::warn!(plan = plan.name_any(), pod, "{note}");
                status::publish(ctx, plan, EventType::Warning, "EdgePodDeleted", "Delete", &note).await;
            }
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => tracing::warn!(pod, %error, "an edge pod that does not follow stays"),
        }
    }
    again
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::migration_plan::machine::tests::{profile, route};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use stomaton_crds::{
        edge_state::{Applied, EdgeState, Latch, Why},
        v1alpha1::Transition,
    };

    const ID: &str = "0123456789abcdef";
    const PATIENCE: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(name: &str, weights: i64) -> EdgePod {
        let state = EdgeState { applied: Applied { config: 1, weights }, ..EdgeState::default() };
        let silent_for = Some(Duration::ZERO);
        EdgePod { name: name.into(), ready: true, terminating: false, state: Some(state), silent_for }
    }

    fn silent(name: &str) -> EdgePod {
        EdgePod { silent_for: Some(Duration::from_secs(5)), ..pod(name, 7) }
    }

    /// What is due at that second of a rollback that was decided at 0 and is revision 7.
    fn found(pods: Vec<EdgePod>, second: i64) -> Due {
        let status = RouteStatus {
            name: "content".into(),
            phase: Phase::RollingBack,
            attempt: 1,
            revision: 7,
            ..RouteStatus::default()
        };
        let decided = Transition {
            at: MicroTime(at(0)),
            route: "content".into(),
            phase: Phase::RollingBack,
            permille: 0,
            revision: 7,
            acknowledged: None,
            evidence: None,
            message: String::new(),
        };
        let state = State { routes: vec![status], history: vec![decided], ..State::default() };
        let profile = profile(&[1000], 1);
        due(&[route(&profile)], &state, &EdgeView { pods }, PATIENCE, at(second))
    }

    #[test]
    fn a_pod_that_does_not_follow_goes_after_a_time() {
        for lagging in [silent("b"), pod("b", 6)] {
            let pods = || vec![pod("a", 7), lagging.clone()];
            assert_eq!(found(pods(), 4), Due { pod: None, again: Some(Duration::from_secs(6)) });
            assert_eq!(found(pods(), 10), Due { pod: Some("b".into()), again: Some(AGAIN) });
        }
        assert_eq!(found(vec![pod("a", 7), pod("b", 8)], 60), Due::default());
    }

    #[test]
    fn a_pod_that_holds_the_route_by_itself_follows() {
        let latch = |attempt| Latch { attempt, revision: 6, why: Why::Kill, at_micros: 0, counted: None };
        let holding = |attempt| {
            let mut pod = pod("b", 6);
            pod.state.as_mut().unwrap().latches.insert(ID.into(), latch(attempt));
            pod
        };
        assert_eq!(found(vec![pod("a", 7), holding(1)], 60), Due::default());
        assert_eq!(found(vec![pod("a", 7), holding(0)], 60).pod.as_deref(), Some("b"));
    }

    #[test]
    fn nobody_goes_while_nobody_else_could_take_the_users() {
        let unready = EdgePod { ready: false, ..pod("a", 7) };
        let leaving = EdgePod { terminating: true, ..silent("b") };
        let cases = [
            vec![silent("b")],
            vec![silent("a"), silent("b")],
            vec![unready, silent("b")],
            vec![pod("a", 7), leaving, silent("c")],
        ];
        for pods in cases {
            let names: Vec<_> = pods.iter().map(|p| p.name.clone()).collect();
            assert_eq!(found(pods, 60), Due { pod: None, again: Some(AGAIN) }, "{names:?}");
        }
    }
}
