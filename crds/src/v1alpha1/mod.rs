//! Version `v1alpha1` of every kind. Integers only: no floats in a schema.

mod edge_config;
mod edge_weights;
mod gateway;
mod migration_plan;
mod plan_action;
mod stomaton_service;

pub use edge_config::{
    EdgeAudience, EdgeAuth, EdgeCertificate, EdgeCohort, EdgeConfig, EdgeConfigSpec, EdgeFallback, EdgeGuard,
    EdgeHandling, EdgeLimits, EdgeRate, EdgeRoute, EdgeTls,
};
pub use edge_weights::{EdgeWeights, EdgeWeightsSpec, RouteWeights};
pub use gateway::{
    AccessLog, AddressFrom, Audience, Auth, Certificate, CertificateStatus, Cohort, Cors, Diagnostics,
    DroppedRoute, EdgeScaling, Engine, ExternalTrafficPolicy, FrameOptions, Gateway, GatewayService,
    GatewaySpec, GatewayStatus, HeaderMatch, Jwt, LimitClass, LimitMode, LimitsStatus, Maintenance, Method,
    OnOutage, PodStatus, Rate, RateLimits, ReferrerPolicy, Route, RouteAuth, RouteLimit, RouteMatch,
    SecurityHeaders, ServiceType, Timeouts, Tls, TlsVersion, TotalShare, TrustedProxies,
};
pub use migration_plan::{
    Acted, AdvanceWindow, ApprovalGate, Bad, Budget, Certainty, Class, Day, DeletionPolicy, Drill, DrillGate,
    Evidence, Fallback, Freeze, Gate, GateState, GateStatus, GatewayRef, Guard, Halt, Held, JobGate, Judge,
    JudgeStatus, MigrationPlan, MigrationPlanSpec, MigrationPlanStatus, Mode, ObjectGate, Phase, PlanRoute,
    PlanSummary, PointOfNoReturn, Profile, PrometheusCounts, RampStep, RestartAt, Rollback, RouteStatus,
    ServicesGate, Stage, StagePhase, StageStatus, StartAt, Transition, Verdict, Weights, Windows,
};
pub use plan_action::{Action, Approves, Outcome, PlanAction, PlanActionSpec, PlanActionStatus};
pub use stomaton_service::{
    Access, Binding, BindingKey, ConfigFile, DataVolume, Dependency, Disruption, EnvFrom, EnvValue, External,
    Health, Monitoring, NamedPort, NetworkMode, NetworkPolicy, OnDelete, OnFailure, Peer, Placement,
    PodOverrides, Role, Rollout, Scaling, SecretEnv, ServiceAuth, Spread, StomatonService,
    StomatonServiceSpec, StomatonServiceStatus, Target, Trigger,
};

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A Service of the same namespace that answers requests: one that a StomatonService made, or any other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// Name of the Service (a StomatonService and its Service have the same name).
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Port of the Service. May be left out when the Service has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Path that this Service has in place of the route's: with `/internal/rag`, a request for `/api/v1/rag/query` of a
    /// route with the prefix `/api/v1/rag` is one for `/internal/rag/query`. Left out: paths stay as clients send them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = PATH))]
    #[x_kube(
        validation = Rule::new(ONE_MEANING).message(ONE_MEANING_SAYS),
        validation = Rule::new(WHOLE_SEGMENTS).message(WHOLE_SEGMENTS_SAYS)
    )]
    pub rewrite: Option<String>,
}

/// Pattern of a path, and of a prefix of one.
pub(crate) const PATH: &str = r"^/[A-Za-z0-9._~/-]*$";
/// Rule for every path.
pub(crate) const ONE_MEANING: &str = "!self.contains('//') && !self.contains('/./') && !self.contains('/../') && !self.endsWith('/.') && !self.endsWith('/..')";
pub(crate) const ONE_MEANING_SAYS: &str =
    "a path has no empty, '.' or '..' segments: clients and proxies would not agree on what it means";
/// Rule for every path.
pub(crate) const WHOLE_SEGMENTS: &str = "self == '/' || !self.endsWith('/')";
pub(crate) const WHOLE_SEGMENTS_SAYS: &str =
    "leave out the '/' at the end: a prefix means whole segments anyway";

/// Rule for a list of networks. Whoever uses them parses them.
pub(crate) const NETWORK: &str = "self.all(n, n.matches('^[0-9a-fA-F.:]+/[0-9]{1,3}$'))";
pub(crate) const NETWORK_SAYS: &str = "must be networks such as 10.20.0.0/16";

/// For fields that are left out when they say nothing.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Pattern of a duration as people write it: `90s`, `1h30m`, `250ms`.
pub(crate) const DURATION: &str = r"^([0-9]{1,6}(ms|s|m|h))+$";
