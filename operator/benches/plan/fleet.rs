//! One small Gateway with a plan to measure rollbacks by; and then a thousand plans of ten routes over ten Gateways, in
//! mid-ramp. On an API server, with an operator as a process and simulated edge pods. I/O.

use crate::{Fault, agents::Agent, process::Process, server::Server, step};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Pod, Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    time::{Duration, Instant},
};
use stomaton_crds::{
    keys::{COMPONENT, GATEWAY},
    v1alpha1::{EdgeWeights, EdgeWeightsSpec, Gateway, MigrationPlan, Phase},
};

/// Where everything is.
pub const NAMESPACE: &str = "fleet";
/// What is reconciled.
pub const KIND: &str = "MigrationPlan";
/// The small Gateway, its plan and its route.
pub const QUICK: &str = "quick";
/// Weight of the first step of every route, in per mille.
pub const FIRST: i32 = 50;
const GATEWAYS: usize = 10;
/// Plans that are at rest.
pub const PLANS: usize = 1000;
/// Routes of each, all of one group.
pub const ROUTES: usize = 10;
/// Edge pods of each Gateway.
const REPLICAS: usize = 2;
/// Objects that are created at the same time.
const CREATED_AT_ONCE: usize = 16;
/// Longest that all plans together may take to begin.
const BEGUN_WITHIN: Duration = Duration::from_secs(1800);
/// Longest that anything else is waited for.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// A long wait says how far it is this often.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// All of it.
pub struct Fleet {
    /// The API server.
    pub server: Server,
    /// The operator.
    pub operator: Process,
    /// Agents of the small Gateway.
    pub quick: Vec<Agent>,
    _others: Vec<Agent>,
}

impl Fleet {
    /// The small Gateway and its plan, and nothing else. Nothing is looked at again without a reason.
    pub async fn small() -> Result<Self, Fault> {
        let server = Server::start().await?;
        for name in ["monolith", "content"] {
            create::<Service>(&server, service(name)).await?;
            create::<EndpointSlice>(&server, endpoint(name)).await?;
        }
        create::<Gateway>(&server, gateway(QUICK, &[(QUICK.to_owned(), format!("/{QUICK}"))])).await?;
        // One attempt for each sample, and hardly a rest between them.
        let quick = plan(QUICK, QUICK, &[QUICK.to_owned()], json!({"cooldown": "1ms", "maxAttempts": 100}));
        create::<MigrationPlan>(&server, quick).await?;
        let operator = operator(&server, "5h").await?;
        let quick = simulate(&server, REPLICAS).await?;
        let fleet = Self { server, operator, quick, _others: Vec::new() };
        fleet.have_begun(1, Instant::now()).await?;
        Ok(fleet)
    }

    /// A thousand plans more, which are looked at every 5 s: all of them in mid-ramp, and nobody writes any more.
    pub async fn grown(self) -> Result<Self, Fault> {
        let begun = Instant::now();
        step(begun, &format!("{PLANS} plans of {ROUTES} routes over {GATEWAYS} Gateways are made"));
        let Self { server, operator: small, quick, .. } = self;
        // Made while nobody looks: each structure is compiled once, with all plans in it.
        small.stop(PATIENCE).await?;
        make(&server).await?;
        let operator = operator(&server, "5s").await?;
        let others = simulate(&server, GATEWAYS * REPLICAS).await?;
        let fleet = Self { server, operator, quick, _others: others };
        fleet.have_begun(PLANS + 1, begun).await?;
        fleet.server.at_rest(PATIENCE).await?;
        step(begun, &format!("at rest; RSS of the operator {:.1} MiB", fleet.operator.rss_mib()?));
        Ok(fleet)
    }

    /// Kills the operator as the kernel does, and starts another.
    pub async fn restarted(mut self) -> Result<Self, Fault> {
        self.operator.kill()?;
        self.operator = operator(&self.server, "5s").await?;
        Ok(self)
    }

    /// Objects of a kind.
    pub fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        api(&self.server)
    }

    /// The weights of every Gateway.
    pub async fn weights(&self) -> Result<BTreeMap<String, EdgeWeightsSpec>, Fault> {
        let all = self.api::<EdgeWeights>().list(&ListParams::default()).await?;
        Ok(all.items.into_iter().map(|weights| (weights.name_any(), weights.spec)).collect())
    }

    /// Waits until all routes of all plans are at their first step.
    async fn have_begun(&self, wanted: usize, begun: Instant) -> Result<(), Fault> {
        let (plans, waits, mut said) = (self.api::<MigrationPlan>(), Instant::now(), Instant::now());
        loop {
            let all = plans.list(&ListParams::default()).await?.items;
            let there = all.iter().filter(|plan| at_first_step(plan)).count();
            if there == wanted {
                return Ok(());
            }
            if waits.elapsed() > BEGUN_WITHIN {
                return Err(format!("only {there} of {wanted} plans have begun").into());
            }
            if said.elapsed() > SAY_EVERY {
                said = Instant::now();
                step(begun, &format!("{there} of {wanted} plans have begun"));
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
}

/// Starts the operator, which looks at everything this often.
async fn operator(server: &Server, resync: &str) -> Result<Process, Fault> {
    let operator = Process::start(server, NAMESPACE, &[("RESYNC", resync)])?;
    operator.is_ready(PATIENCE).await?;
    Ok(operator)
}

fn at_first_step(plan: &MigrationPlan) -> bool {
    let routes = plan.status.as_ref().map(|status| status.routes.as_slice()).unwrap_or_default();
    let there = routes.iter().all(|route| route.phase == Phase::Ramp && route.weights.applied == FIRST);
    routes.len() == plan.spec.routes.len() && there
}

fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(server: &Server) -> Api<K> {
    Api::namespaced(server.client.clone(), NAMESPACE)
}

/// Creates an object from JSON without its type.
async fn create<K>(server: &Server, mut body: Value) -> Result<(), Fault>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    body["apiVersion"] = json!(K::api_version(&()));
    body["kind"] = json!(K::kind(&()));
    api::<K>(server).create(&PostParams::default(), &serde_json::from_value(body)?).await?;
    Ok(())
}

/// The Gateways and plans that are at rest.
async fn make(server: &Server) -> Result<(), Fault> {
    for number in 0..GATEWAYS {
        let of_plan = |plan| (0..ROUTES).map(move |route| (name(plan, route), path(plan, route)));
        let routes: Vec<_> = (number..PLANS).step_by(GATEWAYS).flat_map(of_plan).collect();
        create::<Gateway>(server, gateway(&format!("edge-{number}"), &routes)).await?;
    }
    let plans = (0..PLANS).map(|number| {
        let routes: Vec<_> = (0..ROUTES).map(|route| name(number, route)).collect();
        let gateway = format!("edge-{}", number % GATEWAYS);
        plan(&format!("plan-{number}"), &gateway, &routes, json!({}))
    });
    let created = futures::stream::iter(plans).map(|body| create::<MigrationPlan>(server, body));
    created.buffer_unordered(CREATED_AT_ONCE).try_collect().await
}

fn name(plan: usize, route: usize) -> String {
    format!("route-{plan}-{route}")
}

fn path(plan: usize, route: usize) -> String {
    format!("/api/{plan}/{route}")
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 8000}]}})
}

/// One ready endpoint.
fn endpoint(name: &str) -> Value {
    json!({
        "metadata": {"name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": [{"port": 8000}],
        "endpoints": [{"addresses": ["10.9.9.9"], "conditions": {"ready": true}}],
    })
}

/// A Gateway with these routes, each with its path.
fn gateway(name: &str, routes: &[(String, String)]) -> Value {
    let route = |(name, path): &(String, String)| json!({"name": name, "match": {"pathPrefix": path}});
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": REPLICAS, "defaultBackend": {"name": "monolith"},
            "routes": routes.iter().map(route).collect::<Vec<_>>(),
        },
    })
}

/// A plan in which nothing rises once it has begun. Its routes share their fate, so that one write begins them all.
fn plan(name: &str, gateway: &str, routes: &[String], rollback: Value) -> Value {
    let route = |name: &String| json!({"name": name, "target": {"name": "content"}, "profile": "slow", "group": "all"});
    let ramp = json!([{"permille": FIRST, "minHold": "5h"}, {"permille": 1000, "minHold": "5h"}]);
    json!({
        "metadata": {"name": name},
        "spec": {
            "gatewayRef": {"name": gateway}, "routes": routes.iter().map(route).collect::<Vec<_>>(),
            "profiles": [{"name": "slow", "ramp": ramp}], "judges": [], "rollback": rollback,
        },
    })
}

/// Gives each edge pod that has none an address and an agent behind it: so many that Deployments have to make.
async fn simulate(server: &Server, wanted: usize) -> Result<Vec<Agent>, Fault> {
    let (pods, mut agents) = (api::<Pod>(server), Vec::with_capacity(wanted));
    for pod in new_edge_pods(server, wanted).await? {
        let (name, gateway) = (pod.name_any(), pod.labels().get(GATEWAY).cloned().unwrap_or_default());
        let agent = Agent::start(&server.client, NAMESPACE, &gateway, &name).await?;
        let ip = agent.address.to_string();
        let status = json!({"status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
        agents.push(agent);
    }
    Ok(agents)
}

/// Edge pods that have no address yet.
async fn new_edge_pods(server: &Server, wanted: usize) -> Result<Vec<Pod>, Fault> {
    let labelled = ListParams::default().labels(&format!("{COMPONENT}=edge"));
    let is_new = |pod: &Pod| pod.status.as_ref().is_none_or(|status| status.pod_ip.is_none());
    let begun = Instant::now();
    loop {
        let made = api::<Pod>(server).list(&labelled).await?.items;
        let new: Vec<Pod> = made.into_iter().filter(is_new).collect();
        if new.len() == wanted {
            return Ok(new);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("there are {} new edge pods, not {wanted}", new.len()).into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
