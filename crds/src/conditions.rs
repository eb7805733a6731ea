//! Conditions: types and reasons as closed sets, and the one way to set them. Pure: time comes in.
//!
//! The three kstatus types are on every kind, so that `kubectl wait`, Argo CD and Flux understand an object
//! without a plug-in: `Ready` is true when nothing is left to do, `Reconciling` while the operator works towards
//! the spec, `Stalled` when a person is needed. `Reconciling` and `Stalled` are absent when false, as kstatus
//! asks ("abnormal-true").

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// A condition type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// Nothing is left to do and no person is needed.
    Ready,
    /// The operator works towards the spec.
    Reconciling,
    /// A person is needed: retrying alone will not help.
    Stalled,
    /// What every running edge pod acknowledged is what the spec says.
    Programmed,
    /// Every certificate that the spec names can be served, and is for its hosts.
    CertificatesReady,
    /// Every Secret and ConfigMap that the spec names is there, with every key.
    SecretsReady,
    /// Every service that the spec depends on may be called and is ready.
    DependenciesReady,
}

impl Type {
    /// The type as it stands in an object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Programmed => "Programmed",
            Self::CertificatesReady => "CertificatesReady",
            Self::SecretsReady => "SecretsReady",
            Self::DependenciesReady => "DependenciesReady",
        }
    }
}

/// Why a condition is as it is. Also the reason of Events and a label of metrics, hence closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Everything is as the spec says.
    AsSpecified,
    /// Pods are starting or being replaced.
    RollingOut,
    /// A Deployment gave up progressing.
    RolloutFailed,
    /// Edge pods have not all acknowledged the newest configuration.
    WaitingForEdge,
    /// An edge pod refused the configuration.
    EdgeRefused,
    /// Some routes were left out because they cannot work; the others are served.
    RoutesDropped,
    /// An older Gateway has claimed a host and path of a route; that route is left out here.
    Conflicted,
    /// An edge pod has no Secret of a certificate.
    CertificateMissing,
    /// A Secret of a certificate holds none, or no key.
    CertificateUnusable,
    /// A certificate is not that of its key, or not for its hosts.
    CertificateMismatch,
    /// A certificate is not valid any more, or not yet.
    CertificateExpired,
    /// An object that the spec names does not exist.
    NotFound,
    /// A Service that the spec names has no usable port.
    NoPort,
    /// The spec breaks a rule that the schema cannot state.
    Invalid,
    /// An object of that name exists and is not ours: it is left alone.
    NotOurs,
    /// A migration moves weights.
    Migrating,
    /// Every route is answered by its service.
    Migrated,
    /// At least one route was rolled back and waits for its cooldown.
    RolledBack,
    /// A route has used all of its attempts.
    AttemptsExhausted,
    /// Users of a route are hurt, and its point of no return is behind it: it stays with the service.
    Frozen,
    /// A person, or the spec, has stopped the plan.
    Halted,
    /// A person holds a route.
    Held,
    /// A step waits for a person's approval.
    ApprovalNeeded,
    /// A gate of a stage has failed: the stage does not go on.
    GateFailed,
    /// A stage waits for a gate that passes without a person.
    WaitingForGate,
    /// The plan's budget of bad answers is used up.
    BudgetExhausted,
    /// Weights may not rise at this time.
    OutsideWindow,
    /// The plan moves nothing: it is in the mode Observe.
    Observing,
    /// The target has no ready endpoint.
    NoEndpoints,
    /// The monolith has no ready endpoint: traffic cannot be taken back.
    MonolithDown,
    /// The spec asks for something that whoever decides on it has not allowed: whoever runs the operator, or, for a
    /// reference into another namespace, a ReferenceGrant there.
    NotAllowed,
    /// A new revision failed, and the last good one was brought back.
    RolledBackRevision,
    /// `scaling.triggers` needs KEDA, which the cluster does not have.
    KedaMissing,
    /// Traffic still comes: the service is not taken down, or not to nothing, under it.
    InUse,
    /// The object is being deleted, and its children before it.
    Deleting,
    /// A Secret or ConfigMap that the spec names does not exist.
    MissingSecret,
    /// A Secret that the spec names lacks a key.
    MissingKey,
    /// The operator was not given the right to read Secrets and ConfigMaps in a namespace.
    NoGrant,
    /// A token is made, but not every pod that needs it knows it yet.
    WaitingForTokens,
    /// A service that the spec depends on is not ready.
    WaitingForDependency,
    /// Services depend on each other in a circle.
    DependencyCycle,
    /// An API call failed; it is tried again.
    ApiError,
}

impl Reason {
    /// The reason as it stands in an object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsSpecified => "AsSpecified",
            Self::RollingOut => "RollingOut",
            Self::RolloutFailed => "RolloutFailed",
            Self::WaitingForEdge => "WaitingForEdge",
            Self::EdgeRefused => "EdgeRefused",
            Self::RoutesDropped => "RoutesDropped",
            Self::Conflicted => "Conflicted",
            Self::CertificateMissing => "CertificateMissing",
            Self::CertificateUnusable => "CertificateUnusable",
            Self::CertificateMismatch => "CertificateMismatch",
            Self::CertificateExpired => "CertificateExpired",
            Self::NotFound => "NotFound",
            Self::NoPort => "NoPort",
            Self::Invalid => "Invalid",
            Self::NotOurs => "NotOurs",
            Self::Migrating => "Migrating",
            Self::Migrated => "Migrated",
            Self::RolledBack => "RolledBack",
            Self::AttemptsExhausted => "AttemptsExhausted",
            Self::Frozen => "Frozen",
            Self::Halted => "Halted",
            Self::Held => "Held",
            Self::ApprovalNeeded => "ApprovalNeeded",
            Self::GateFailed => "GateFailed",
            Self::WaitingForGate => "WaitingForGate",
            Self::BudgetExhausted => "BudgetExhausted",
            Self::OutsideWindow => "OutsideWindow",
            Self::Observing => "Observing",
            Self::NoEndpoints => "NoEndpoints",
            Self::MonolithDown => "MonolithDown",
            Self::NotAllowed => "NotAllowed",
            Self::RolledBackRevision => "RolledBackRevision",
            Self::KedaMissing => "KedaMissing",
            Self::InUse => "InUse",
            Self::Deleting => "Deleting",
            Self::MissingSecret => "MissingSecret",
            Self::MissingKey => "MissingKey",
            Self::NoGrant => "NoGrant",
            Self::WaitingForTokens => "WaitingForTokens",
            Self::WaitingForDependency => "WaitingForDependency",
            Self::DependencyCycle => "DependencyCycle",
            Self::ApiError => "ApiError",
        }
    }
}

/// What is known about an object after a pass; [`conditions`] turns it into conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Where the object stands.
    pub state: State,
    /// Why, from the closed set.
    pub reason: Reason,
    /// Why, for a person: what is wrong and what to do.
    pub message: String,
}

/// Where an object stands, in kstatus' terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As specified.
    Ready,
    /// Usable as it is, and on its way to what the spec says.
    ReadyReconciling,
    /// On its way to what the spec says.
    Reconciling,
    /// A person has to say how it goes on, and nothing is wrong.
    Waiting,
    /// A person is needed.
    Stalled,
}

/// Conditions for `summary`, keeping the transition time of every condition whose status did not flip.
pub fn conditions(
    old: &[Condition],
    summary: &Summary,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let (ready, reconciling, stalled) = match summary.state {
        State::Ready => (true, false, false),
        State::ReadyReconciling => (true, true, false),
        State::Reconciling => (false, true, false),
        State::Waiting => (false, false, false),
        State::Stalled => (false, false, true),
    };
    let mut next = vec![condition(old, Type::Ready, ready, summary, generation, now)];
    if reconciling {
        next.push(condition(old, Type::Reconciling, true, summary, generation, now));
    }
    if stalled {
        next.push(condition(old, Type::Stalled, true, summary, generation, now));
    }
    next
}

/// One condition; its transition time is that of `old` unless the status flips.
pub fn condition(
    old: &[Condition],
    kind: Type,
    status: bool,
    summary: &Summary,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let finding = Finding {
        kind,
        truth: if status { Truth::True } else { Truth::False },
        reason: summary.reason,
        message: summary.message.clone(),
    };
    found(old, &finding, generation, now)
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl Truth {
    /// The status as it stands in an object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One thing that a pass found out, beside where the object stands as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: Type,
    /// Whether it holds.
    pub truth: Truth,
    /// Why, from the closed set.
    pub reason: Reason,
    /// Why, for a person: what is wrong and what to do.
    pub message: String,
}

/// The condition for `finding`; its transition time is that of `old` unless the status flips.
pub fn found(old: &[Condition], finding: &Finding, generation: Option<i64>, now: Timestamp) -> Condition {
    let (kind, status) = (finding.kind.as_str(), finding.truth.as_str());
    let since = old
        .iter()
        .find(|c| c.type_ == kind && c.status == status)
        .map_or_else(|| Time(now), |c| c.last_transition_time.clone());
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.as_str().to_owned(),
        message: finding.message.clone(),
        observed_generation: generation,
        last_transition_time: since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn summary(state: State) -> Summary {
        Summary { state, reason: Reason::AsSpecified, message: "fine".into() }
    }

    #[test]
    fn transition_time_moves_only_when_the_status_flips() {
        let first = conditions(&[], &summary(State::Ready), Some(1), at(10));
        let second = conditions(&first, &summary(State::Ready), Some(2), at(20));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!(second[0].observed_generation, Some(2));
        let third = conditions(&second, &summary(State::Stalled), Some(2), at(30));
        assert_eq!(third[0].status, "False");
        assert_eq!(third[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn abnormal_conditions_are_absent_when_false() {
        let types = |state| -> Vec<String> {
            conditions(&[], &summary(state), None, at(0)).into_iter().map(|c| c.type_).collect()
        };
        assert_eq!(types(State::Ready), ["Ready"]);
        assert_eq!(types(State::Reconciling), ["Ready", "Reconciling"]);
        assert_eq!(types(State::Waiting), ["Ready"]);
        assert_eq!(types(State::Stalled), ["Ready", "Stalled"]);
    }
}
