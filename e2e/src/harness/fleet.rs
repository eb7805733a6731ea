//! The worked example of `manifests/stomaton` in a namespace: monolith, content service, edge; and what can be done
//! to it. I/O: kubectl, the API server, and through it the pods.

use super::{
    Doing as _, Error, install::available, namespace::Namespace, proxy::PodPort, target_dir, wait,
    wait::Seen, workspace,
};
use crate::cluster::cmd::Doing as _;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::Condition};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use stomaton_crds::{
    edge_state::EdgeState,
    keys,
    v1alpha1::{Gateway, MigrationPlan, MigrationPlanStatus, RouteStatus, StomatonService},
};

/// The Gateway of the example, and its Service.
pub const EDGE: &str = "edge";
/// The service that takes the route over.
pub const CONTENT: &str = "content";
/// Its port.
const CONTENT_PORT: u16 = 8001;
/// The route that moves.
pub const ROUTE: &str = "content";
/// From nothing to all pods Ready, on two busy cores.
const READY_WITHIN: Duration = Duration::from_secs(150);

/// The example, deployed.
pub struct Fleet<'a> {
    /// Where it is.
    pub namespace: &'a Namespace<'a>,
}

impl<'a> Fleet<'a> {
    /// The example in this namespace, wherever it came from.
    pub fn within(namespace: &'a Namespace<'a>) -> Self {
        Self { namespace }
    }

    /// Deploys the example with faults allowed and without its plan, and waits until all of it is Ready.
    pub async fn deploy(namespace: &'a Namespace<'a>) -> Result<Self, Error> {
        Self::apply(namespace, "manifests/demo", WITHOUT_PLAN).await
    }

    /// Deploys the example exactly as it is in `manifests/stomaton`, plan and all, and waits until it is Ready.
    pub async fn deploy_as_written(namespace: &'a Namespace<'a>) -> Result<Self, Error> {
        Self::apply(namespace, "manifests/stomaton", "").await
    }

    async fn apply(namespace: &'a Namespace<'a>, base: &str, patches: &str) -> Result<Self, Error> {
        namespace.apply_kustomization(&overlay(&namespace.name, base, patches)?).await?;
        let fleet = Self::within(namespace);
        fleet.is_ready().await?;
        Ok(fleet)
    }

    /// Waits until monolith, service and edge are all as specified.
    pub async fn is_ready(&self) -> Result<(), Error> {
        let (deployments, services) =
            (self.namespace.api::<Deployment>(), self.namespace.api::<StomatonService>());
        let (monolith, content) = ("the monolith to be available", "the content service to be Ready");
        tokio::try_join!(
            wait::object(&deployments, "monolith", monolith, READY_WITHIN, available),
            wait::object(&services, CONTENT, content, READY_WITHIN, |service| {
                let status = service.and_then(|s| s.status.as_ref());
                ready(status.map(|s| &s.conditions), service.and_then(|s| s.metadata.generation))
            }),
            self.edge_is_ready(),
        )?;
        Ok(())
    }

    /// Waits until every edge pod serves the newest structure.
    pub async fn edge_is_ready(&self) -> Result<(), Error> {
        let gateways = self.namespace.api::<Gateway>();
        wait::object(&gateways, EDGE, "the edge to be Ready", READY_WITHIN, |gateway| {
            let status = gateway.and_then(|g| g.status.as_ref());
            ready(status.map(|s| &s.conditions), gateway.and_then(|g| g.metadata.generation))
        })
        .await
    }

    /// Changes fields of the Gateway's spec, as `kubectl patch --type=merge` does, and waits until every edge pod serves
    /// the change.
    pub async fn change_edge(&self, fields: Value) -> Result<(), Error> {
        let patch = Patch::Merge(json!({"spec": fields}));
        let gateways = self.namespace.api::<Gateway>();
        gateways.patch(EDGE, &PatchParams::default(), &patch).await.doing("change the Gateway")?;
        self.edge_is_ready().await
    }

    /// Names of the edge pods that are Ready.
    pub async fn edge_pods(&self) -> Result<Vec<String>, Error> {
        self.namespace.ready_pods(keys::GATEWAY, EDGE).await
    }

    /// Where the edge answers inside the cluster, as `host:port`.
    pub async fn address(&self) -> Result<String, Error> {
        let gateway = self.namespace.api::<Gateway>().get(EDGE).await.doing("read the Gateway")?;
        let address = gateway.status.and_then(|status| status.address);
        address.ok_or_else(|| Error::Broken("the Gateway's status has no address".into()))
    }

    /// The same over TLS.
    pub async fn https_address(&self) -> Result<String, Error> {
        let address = self.address().await?;
        let (host, _) = address.rsplit_once(':').unwrap_or((&address, ""));
        Ok(format!("{host}:443"))
    }

    /// What each edge pod says about itself, by pod.
    pub async fn edge_states(&self) -> Result<BTreeMap<String, EdgeState>, Error> {
        let mut states = BTreeMap::new();
        for pod in self.edge_pods().await? {
            let agent = self.port(&pod, keys::EDGE_STATE_PORT);
            states.insert(pod, agent.get("/v1/state?once=true").await?);
        }
        Ok(states)
    }

    /// Makes this share of the content service's answers fail, in every pod. Gives the time before the first pod
    /// knew, in microseconds since the Unix epoch.
    pub async fn break_content(&self, permille: u16) -> Result<u64, Error> {
        let before = now_micros();
        self.fail_content(permille, 500).await?;
        Ok(before)
    }

    /// Makes this share of the content service's answers one of this status, in every pod.
    pub async fn fail_content(&self, permille: u16, status: u16) -> Result<(), Error> {
        let fault = json!({"errors_permille": permille, "status": status}).to_string();
        self.tell_content(Method::PUT, &fault).await
    }

    /// Makes the content service hang, in every pod: it takes requests, and answers none within a minute.
    pub async fn hang_content(&self) -> Result<(), Error> {
        let fault = json!({"latency_ms": 60_000, "latency_permille": 1000}).to_string();
        self.tell_content(Method::PUT, &fault).await
    }

    /// Ends every fault of the content service.
    pub async fn mend_content(&self) -> Result<(), Error> {
        self.tell_content(Method::DELETE, "").await
    }

    async fn tell_content(&self, method: Method, fault: &str) -> Result<(), Error> {
        let pods = self.namespace.ready_pods(keys::SERVICE, CONTENT).await?;
        let ports: Vec<_> = pods.iter().map(|pod| self.port(pod, CONTENT_PORT)).collect();
        let tell = |port: &PodPort| {
            let (port, method, fault) = (port.clone(), method.clone(), fault.to_owned());
            async move { port.ask(method, "/_fault", fault).await }
        };
        futures::future::try_join_all(ports.iter().map(tell)).await?;
        Ok(())
    }

    /// A port of a pod of this namespace.
    pub fn port(&self, pod: &str, port: u16) -> PodPort {
        PodPort::new(&self.namespace.harness.client, &self.namespace.name, pod, port)
    }

    /// Applies a plan that moves the content route through this ramp: each weight in per mille, with its hold.
    pub async fn apply_plan(&self, plan: &Plan<'_>) -> Result<(), Error> {
        self.namespace.apply_object(&plan.object()).await
    }

    /// The status of a plan.
    pub async fn plan_status(&self, plan: &str) -> Result<MigrationPlanStatus, Error> {
        let found = self.namespace.api::<MigrationPlan>().get(plan).await;
        Ok(found.doing(format!("read the plan {plan}"))?.status.unwrap_or_default())
    }

    /// Waits until the plan's only route is in a state that `judge` accepts; gives that status.
    pub async fn route_is(
        &self,
        plan: &str,
        what: &str,
        limit: Duration,
        judge: impl Fn(&RouteStatus) -> bool,
    ) -> Result<MigrationPlanStatus, Error> {
        self.routes_are(plan, what, limit, |routes| routes.first().is_some_and(&judge)).await
    }

    /// The same for all routes of a plan.
    pub async fn routes_are(
        &self,
        plan: &str,
        what: &str,
        limit: Duration,
        judge: impl Fn(&[RouteStatus]) -> bool,
    ) -> Result<MigrationPlanStatus, Error> {
        wait::object(&self.namespace.api::<MigrationPlan>(), plan, what, limit, |plan| {
            let Some(status) = plan.and_then(|p| p.status.as_ref()) else {
                return Seen::NotYet("the plan has no status".into());
            };
            if judge(&status.routes) {
                return Seen::Yes(status.clone());
            }
            let described: Vec<_> = status.routes.iter().map(describe).collect();
            Seen::NotYet(format!("{} routes: {}", described.len(), described.join("; ")))
        })
        .await
    }
}

/// A plan for the content route.
pub struct Plan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Weights in per mille, and how long each is held, as in `500ms`.
    pub ramp: Vec<(i32, &'a str)>,
    /// Answers of the service that each step needs.
    pub min_requests: i64,
    /// Rest after a rollback.
    pub cooldown: &'a str,
    /// Attempts in all.
    pub max_attempts: i32,
}

impl Plan<'_> {
    /// The guard of every plan here: five bad answers, a fifth of all.
    pub const GUARD: crate::load::judge::Guard =
        crate::load::judge::Guard { min_bad: 5, bad_permille: 200, window_ms: 10_000 };

    /// The plan as an object, which may be changed before it is applied.
    pub fn object(&self) -> Value {
        let ramp: Vec<_> =
            self.ramp.iter().map(|(permille, hold)| json!({"permille": permille, "minHold": hold})).collect();
        let guard = Self::GUARD;
        json!({
            "apiVersion": "fleet.stomaton.com/v1alpha1",
            "kind": "MigrationPlan",
            "metadata": {"name": self.name},
            "spec": {
                "gatewayRef": {"name": EDGE},
                "routes": [{"name": ROUTE, "target": {"name": CONTENT}, "profile": "ramp"}],
                "profiles": [{"name": "ramp", "ramp": ramp, "minRequests": self.min_requests}],
                "guards": [{
                    "name": "bad-answers",
                    "minBad": guard.min_bad,
                    "badPermille": guard.bad_permille,
                    "window": format!("{}ms", guard.window_ms),
                }],
                // Plans of tests that are about something else go as fast as their holds.
                "judges": [],
                "rollback": {"cooldown": self.cooldown, "maxAttempts": self.max_attempts},
            },
        })
    }
}

/// A route's state in a line.
pub fn describe(route: &RouteStatus) -> String {
    let RouteStatus { name, phase, step, attempt, weights, waits_for, .. } = route;
    let (desired, applied, phase) = (weights.desired, weights.applied, phase.as_str());
    format!(
        "{name} is {phase}, attempt {attempt}, step {step}, weight {desired} wanted and {applied} applied; waits for {waits_for}"
    )
}

/// Whether conditions of the newest generation say Ready and nothing is left to do.
pub fn ready(conditions: Option<&Vec<Condition>>, generation: Option<i64>) -> Seen<()> {
    let Some(conditions) = conditions else { return Seen::NotYet("no status".into()) };
    let of = |kind: &str| conditions.iter().find(|c| c.type_ == kind);
    let Some(ready) = of("Ready") else { return Seen::NotYet("no condition Ready".into()) };
    let current = ready.observed_generation >= generation;
    let done = current && ready.status == "True" && of("Reconciling").is_none();
    Seen::when(done, || format!("Ready={} {}: {}", ready.status, ready.reason, ready.message))
}

/// Microseconds since the Unix epoch.
pub fn now_micros() -> u64 {
    u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0)
}

/// A scenario brings its own plan.
const WITHOUT_PLAN: &str = "patches:
- target: {kind: MigrationPlan}
  patch: '{$patch: delete, apiVersion: fleet.stomaton.com/v1alpha1, kind: MigrationPlan, metadata: {name: x}}'
";

/// A kustomization that puts a base of this workspace into another namespace.
fn overlay(namespace: &str, base: &str, patches: &str) -> Result<PathBuf, Error> {
    let dir = target_dir().join("e2e").join(namespace);
    fs::create_dir_all(&dir).doing_at("create", &dir)?;
    let dir = dir.canonicalize().doing_at("find", &dir)?;
    let base = relative(&dir, &workspace().join(base));
    let file = dir.join("kustomization.yaml");
    let text = format!("namespace: {namespace}\nresources: [{}]\n{patches}", base.display());
    fs::write(&file, text).doing_at("write", &file)?;
    Ok(dir)
}

/// `to` as seen from `from`, both absolute: kustomize takes no absolute bases.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let up = from.components().skip(1).map(|_| "..");
    up.chain(to.to_str().map(|path| path.trim_start_matches('/'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_leads_there() {
        let from = Path::new("/a/b");
        assert_eq!(relative(from, Path::new("/c/d")), Path::new("../../c/d"));
        assert_eq!(relative(Path::new("/"), Path::new("/c")), Path::new("c"));
    }
}
