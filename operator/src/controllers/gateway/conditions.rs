//! Takes what a pass found out and what the edge pods say; gives the status. Pure: time comes in.

use super::{
    Outcome, Problems,
    apply::Applied,
    certificates::{self, Known},
    names,
};
use crate::{
    controllers::{Reconcile, rollout},
    edges::{EdgePod, EdgeView},
};
use jiff::Timestamp;
use kube::ResourceExt;
use stomaton_crds::{
    conditions::{self, Reason, State, Summary, Type},
    v1alpha1::{Gateway, GatewayStatus, PodStatus},
};

/// The status of `gateway` after a pass with this outcome.
pub fn status(gateway: &Gateway, outcome: &Outcome, edges: &EdgeView, now: Timestamp) -> GatewayStatus {
    let old = gateway.status.clone().unwrap_or_default();
    let (name, namespace) = (gateway.name_any(), gateway.namespace().unwrap_or_default());
    let observed_generation = gateway.metadata.generation;
    let certificates = certificates::known(gateway, edges, now);
    let next = match outcome {
        // What was known is still the best there is.
        Outcome::Refused(_) | Outcome::Failed(_) => GatewayStatus { observed_generation, ..old.clone() },
        Outcome::Applied { applied, problems } => GatewayStatus {
            observed_generation,
            conditions: Vec::new(),
            address: Some(format!("{}.{namespace}.svc:{}", names::edge(&name), gateway.spec.service.port)),
            config_revision: applied.revision,
            pods_in_sync: Some(in_sync(edges, applied.revision)),
            pods_behind: behind(edges, applied.revision),
            dropped_routes: problems.dropped.clone(),
            limits: applied.limits.clone(),
            certificates: certificates.all.clone(),
        },
    };
    let summary = summary(outcome, edges, &next.pods_behind, &certificates);
    let mut conditions = conditions::conditions(&old.conditions, &summary, observed_generation, now);
    let programmed = programmed(&next);
    conditions.push(conditions::condition(
        &old.conditions,
        Type::Programmed,
        programmed.state == State::Ready,
        &programmed,
        observed_generation,
        now,
    ));
    let found = |finding| conditions::found(&old.conditions, finding, observed_generation, now);
    conditions.extend(certificates.finding.as_ref().map(found));
    GatewayStatus { conditions, ..next }
}

/// `2/2`: pods that serve `revision`, of all that run.
fn in_sync(edges: &EdgeView, revision: Option<i64>) -> String {
    let serving = edges.pods.iter().filter(|pod| serves(pod, revision)).count();
    format!("{serving}/{}", edges.pods.len())
}

fn serves(pod: &EdgePod, revision: Option<i64>) -> bool {
    revision.is_some() && pod.fresh().map(|state| state.applied.config) == revision
}

/// Pods that do not serve `revision`, in words that change only when the pods do.
fn behind(edges: &EdgeView, revision: Option<i64>) -> Vec<PodStatus> {
    let message = |pod: &EdgePod| match (pod.fresh(), &pod.state) {
        (None, None) => "its agent has not been heard yet".to_owned(),
        (None, Some(_)) => "silent: its agent was heard before and is not now".to_owned(),
        (Some(state), _) => match (&state.refused, state.applied.config) {
            (Some(words), _) => format!("refused: {words}"),
            (None, 0) => "serves nothing yet".to_owned(),
            (None, older) => format!("still serves revision {older}"),
        },
    };
    let lagging = edges.pods.iter().filter(|pod| !serves(pod, revision));
    lagging.map(|pod| PodStatus { pod: pod.name.clone(), message: message(pod) }).collect()
}

/// Where the Gateway stands: the worst that is true of it, first.
fn summary(outcome: &Outcome, edges: &EdgeView, behind: &[PodStatus], certificates: &Known) -> Summary {
    let (applied, problems) = match outcome {
        Outcome::Refused(summary) => return summary.clone(),
        Outcome::Failed(error) => {
            let reason = Gateway::reason(error);
            let person = matches!(reason, Reason::NotOurs | Reason::Invalid);
            let state = if person { State::Stalled } else { State::Reconciling };
            return Summary { state, reason, message: error.to_string() };
        }
        Outcome::Applied { applied, problems } => (applied, problems),
    };
    let refused = || {
        let refusing = edges.pods.iter().find_map(|p| Some((&p.name, p.fresh()?.refused.as_ref()?)));
        refusing.map(|(pod, words)| Summary {
            state: State::Stalled,
            reason: Reason::EdgeRefused,
            message: format!("edge pod {pod} refuses the configuration and serves the previous one: {words}"),
        })
    };
    None.or_else(|| problems.default_backend.clone())
        .or_else(refused)
        .or_else(|| rollout::unfinished(&applied.deployment, applied.words.as_deref()))
        .or_else(|| waiting(applied, edges, behind))
        .or_else(|| left_out(problems))
        .or_else(|| certificates.trouble())
        .unwrap_or_else(|| Summary {
            state: State::Ready,
            reason: Reason::AsSpecified,
            message: format!("{} edge pods serve the newest structure{}", edges.pods.len(), kills(applied)),
        })
}

/// That rollbacks have one way only, if that is so.
fn kills(applied: &Applied) -> &'static str {
    if applied.kills {
        ""
    } else {
        "; while the API server is away no rollback reaches them, since the operator may not write Secrets here: \
         apply manifests/install/namespace-grant to this namespace"
    }
}

/// Not every pod serves the newest structure; those that are ready serve the previous one.
fn waiting(Applied { revision, .. }: &Applied, edges: &EdgeView, behind: &[PodStatus]) -> Option<Summary> {
    let message = match (behind, edges.pods.is_empty()) {
        (_, true) => "no edge pod runs".to_owned(),
        ([], false) => return None,
        ([first, ..], _) => {
            let (revision, pods) = (revision.unwrap_or(0), behind.len());
            format!(
                "{pods} of {} edge pods do not serve revision {revision}: {} {}",
                edges.pods.len(),
                first.pod,
                first.message
            )
        }
    };
    let serving = edges.pods.iter().any(|pod| pod.ready);
    let state = if serving { State::ReadyReconciling } else { State::Reconciling };
    Some(Summary { state, reason: Reason::WaitingForEdge, message })
}

/// Some routes are not served as written.
fn left_out(Problems { dropped, stuck, conflicted, .. }: &Problems) -> Option<Summary> {
    let first = dropped.first()?;
    Some(Summary {
        // What waits for an object goes on by itself when that comes.
        state: if *stuck { State::Stalled } else { State::ReadyReconciling },
        reason: if *conflicted { Reason::Conflicted } else { Reason::RoutesDropped },
        message: format!(
            "{} of the routes are not served as written, see `status.droppedRoutes`; {}: {}",
            dropped.len(),
            first.name,
            first.message
        ),
    })
}

/// Whether every running pod serves the newest structure, whatever else is true.
fn programmed(status: &GatewayStatus) -> Summary {
    let in_sync = status.pods_in_sync.as_deref().unwrap_or("0/0");
    let all = status.config_revision.is_some() && status.pods_behind.is_empty() && in_sync != "0/0";
    Summary {
        state: if all { State::Ready } else { State::Reconciling },
        reason: if all { Reason::AsSpecified } else { Reason::WaitingForEdge },
        message: match status.config_revision {
            Some(revision) => format!("{in_sync} edge pods serve revision {revision}"),
            None => "there is no structure to serve yet".into(),
        },
    }
}

#[cfg(test)]
mod tests;
