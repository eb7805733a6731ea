//! A namespace on a real API server with the whole operator in it, and edge pods that are simulated: each answers
//! on a loopback address of its own as an agent would, from the real EdgeConfig and EdgeWeights.

use crate::wire::Wire;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use e2e::cluster::api::ApiServer;
use futures::{FutureExt, StreamExt};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        coordination::v1::Lease,
        core::v1::{Namespace, Pod, Secret},
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, ListParams, Patch, PatchParams, PostParams},
    client::ClientBuilder,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use stomaton_crds::{
    edge_state::{CertificateState, Counts, EdgeState, Latch, Sides, Why},
    keys::EDGE_STATE_PORT,
    kill,
    v1alpha1::{EdgeConfig, EdgeWeights, MigrationPlan, RouteStatus, StomatonService},
};
use stomaton_operator::{
    args::Settings,
    leader::Election,
    leader::LEASE,
    run::{self, Clients, serve},
};
use tokio::{
    runtime::Runtime,
    sync::{Notify, oneshot},
    task::JoinSet,
};

/// Longest a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Who the operator is in tests: with exactly the rights that the installation gives it.
pub const OPERATOR: &str = "system:serviceaccount:stomaton-system:stomaton-operator";

/// One runtime for all tests of a file: connections to the API server outlive the test that made them.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

/// One API server for all tests that run now; it ends with the last of them and leaves nothing.
async fn api_server() -> Arc<ApiServer> {
    static SERVER: tokio::sync::Mutex<Weak<ApiServer>> = tokio::sync::Mutex::const_new(Weak::new());
    let mut shared = SERVER.lock().await;
    if let Some(running) = shared.upgrade() {
        return running;
    }
    let server = Arc::new(ApiServer::start().await.unwrap());
    install(&server.client()).await;
    *shared = Arc::downgrade(&server);
    server
}

/// The kinds and the operator's rights, as `kubectl apply -k manifests/install` makes them.
async fn install(client: &Client) {
    let api = Api::all(client.clone());
    for crd in stomaton_crds::all_crds() {
        let name = crd.name_any();
        api.patch(&name, &PatchParams::apply("test"), &Patch::Apply(crd)).await.unwrap();
        let established = kube::runtime::wait::conditions::is_crd_established();
        let wait = kube::runtime::wait::await_condition(api.clone(), &name, established);
        tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap();
    }
    for object in rights() {
        match object["kind"].as_str() {
            Some("ClusterRole") => create_cluster_wide::<ClusterRole>(client, object).await,
            Some("ClusterRoleBinding") => create_cluster_wide::<ClusterRoleBinding>(client, object).await,
            _ => {}
        }
    }
}

/// Clients of an operator that is `user`, over this wire.
pub fn clients(server: &ApiServer, user: &str, wire: &Wire) -> Clients {
    let mut config = server.config_as(user, &["system:authenticated"]);
    // As the operator makes its own.
    config.default_retry = false;
    let client = || ClientBuilder::try_from(config.clone()).unwrap().with_layer(wire).build();
    Clients { client: client(), urgent: client(), lease: client() }
}

/// The documents of manifests/install/rbac.yaml.
pub fn rights() -> Vec<Value> {
    documents(include_str!("../../../manifests/install/rbac.yaml"))
}

/// The documents of manifests/install/namespace-grant, for each namespace that has Secrets or files.
pub fn namespace_grant() -> Vec<Value> {
    documents(include_str!("../../../manifests/install/namespace-grant/rbac.yaml"))
}

/// The documents of a manifest.
pub fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

/// Held by a test to which it matters whether the cluster serves kinds of other projects: there is one cluster.
pub async fn other_projects() -> tokio::sync::MutexGuard<'static, ()> {
    static KINDS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    KINDS.lock().await
}

pub async fn create_cluster_wide<K>(client: &Client, object: Value)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + serde::Serialize,
{
    let object: K = serde_json::from_value(object).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
}

/// A namespace, its operator, and its simulated edge pods.
pub struct World {
    pub client: Client,
    pub namespace: String,
    pub agents: Vec<Agent>,
    pub server: Arc<ApiServer>,
    operator: Option<Operator>,
    resync: Duration,
    /// Whether the operator is for all namespaces.
    everywhere: bool,
}

/// An operator in this process.
pub struct Operator {
    stop: oneshot::Sender<()>,
    /// One task; ended with this.
    task: JoinSet<Result<(), run::Error>>,
}

impl Operator {
    pub fn start(clients: Clients, settings: Settings) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let stop_signal = async { drop(stopped.await) }.boxed().shared();
        let mut task = JoinSet::new();
        task.spawn(serve(clients, settings, None, stop_signal));
        Self { stop, task }
    }

    /// Ends it as a crash would: without a chance to finish anything.
    pub async fn crash(mut self) {
        self.task.shutdown().await;
    }

    /// Ends it as SIGTERM would, and gives how it ended.
    pub async fn stop(mut self) -> Result<(), run::Error> {
        let _ = self.stop.send(());
        self.task.join_next().await.unwrap().unwrap()
    }

    /// Waits until it ends by itself, and gives why.
    pub async fn end(mut self) -> Result<(), run::Error> {
        tokio::time::timeout(PATIENCE, self.task.join_next()).await.unwrap().unwrap().unwrap()
    }
}

impl World {
    /// A namespace with a monolith and a service that have endpoints, a Gateway `edge` with the routes `content` and
    /// `search`, the operator, and two edge pods that acknowledge at once.
    pub async fn new() -> Self {
        let mut world = Self::bare().await;
        world.fleet().await;
        world.start_operator().await;
        world.start_agents().await;
        world
    }

    /// Makes a monolith and a service that have endpoints, and a Gateway `edge` with the routes `content` and `search`.
    pub async fn fleet(&self) {
        for name in ["monolith", "content"] {
            self.service(name).await;
        }
        self.create::<stomaton_crds::v1alpha1::Gateway>(json!({
            "metadata": { "name": "edge" },
            "spec": {
                "replicas": 2, "defaultBackend": { "name": "monolith" },
                "routes": [
                    { "name": "content", "match": { "pathPrefix": "/api/v1/content" } },
                    { "name": "search", "match": { "pathPrefix": "/api/v1/search" } },
                ],
            },
        }))
        .await;
    }

    /// A namespace with nothing but the operator.
    pub async fn with_operator() -> Self {
        let mut world = Self::bare().await;
        world.start_operator().await;
        world
    }

    /// A namespace with nothing in it but the operator's rights.
    pub async fn bare() -> Self {
        let world = Self::ungranted().await;
        world.grant().await;
        world
    }

    /// A namespace with nothing in it, on an API server that nobody else uses.
    pub async fn alone() -> Self {
        let server = ApiServer::start().await.unwrap();
        install(&server.client()).await;
        let world = Self::on(Arc::new(server)).await;
        world.grant().await;
        world
    }

    /// Kills the API server of this world [`alone`](Self::alone).
    pub fn interrupt(&mut self) {
        Arc::get_mut(&mut self.server).unwrap().interrupt().unwrap();
    }

    /// Starts it again.
    pub async fn resume(&mut self) {
        Arc::get_mut(&mut self.server).unwrap().resume().await.unwrap();
    }

    /// As [`Self::with_operator`], but nothing is looked at without a reason: what is noticed was watched.
    pub async fn with_slow_resync() -> Self {
        let mut world = Self::bare().await;
        world.resync = Duration::from_secs(3600);
        world.start_operator().await;
        world
    }

    /// An API server of its own, and an operator for all of it.
    pub async fn everywhere() -> Self {
        let mut world = Self::alone().await;
        world.everywhere = true;
        world.start_operator().await;
        world
    }

    /// One more namespace on the API server of `other`, with the operator of that.
    pub async fn beside(other: &Self) -> Self {
        let world = Self::on(other.server.clone()).await;
        world.grant().await;
        world
    }

    /// As [`Self::with_slow_resync`], in a namespace where the operator was not given Secrets and ConfigMaps.
    pub async fn without_grant() -> Self {
        let mut world = Self::ungranted().await;
        world.resync = Duration::from_secs(3600);
        world.start_operator().await;
        world
    }

    async fn ungranted() -> Self {
        Self::on(api_server().await).await
    }

    async fn on(server: Arc<ApiServer>) -> Self {
        let client = server.client();
        let namespace = create_namespace(&client).await;
        let resync = Duration::from_secs(1);
        Self { client, namespace, agents: Vec::new(), server, operator: None, resync, everywhere: false }
    }

    /// Gives the operator its rights on Secrets and ConfigMaps, as `kubectl apply -k manifests/install/namespace-grant`
    /// does.
    pub async fn grant(&self) {
        self.give(namespace_grant()).await;
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates an object from JSON without its type.
    pub async fn create<K>(&self, body: Value) -> K
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned + serde::Serialize,
    {
        self.try_create(body).await.unwrap()
    }

    pub async fn try_create<K>(&self, mut body: Value) -> kube::Result<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned,
    {
        body["apiVersion"] = json!(K::api_version(&()));
        body["kind"] = json!(K::kind(&()));
        let resource = kube::api::ApiResource::erase::<K>(&());
        let api: Api<kube::api::DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let object = serde_json::from_value(body).unwrap();
        let created = api.create(&PostParams::default(), &object).await?;
        Ok(created.try_parse().unwrap())
    }

    /// A plan `name` that moves `route` to the service content.
    pub async fn plan(&self, name: &str, route: &str, ramp: Value) -> MigrationPlan {
        self.create(plan_body(name, &[route], ramp)).await
    }

    /// A Service with one ready endpoint.
    pub async fn service(&self, name: &str) {
        self.create::<k8s_openapi::api::core::v1::Service>(json!({
            "metadata": { "name": name }, "spec": { "ports": [{ "port": 8000 }] },
        }))
        .await;
        self.create::<k8s_openapi::api::discovery::v1::EndpointSlice>(json!({
            "metadata": { "name": format!("{name}-1"), "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4", "ports": [{ "port": 8000 }],
            "endpoints": [{ "addresses": ["10.9.9.9"], "conditions": { "ready": true } }],
        }))
        .await;
    }

    pub async fn start_operator(&mut self) {
        self.operator = Some(Operator::start(self.clients(), self.settings()));
    }

    /// What the operator of this namespace is told.
    pub fn settings(&self) -> Settings {
        Settings {
            namespace: (!self.everywhere).then(|| self.namespace.clone()),
            resync: self.resync,
            evict_after: Duration::from_secs(2),
            ..Settings::default()
        }
    }

    /// The same for one of several that stand by for each other; `name` says which.
    pub fn elected(&self, name: &str, lease: Duration) -> Settings {
        let election = Election { namespace: self.namespace.clone(), identity: name.into(), lease };
        Settings { election: Some(election), ..self.settings() }
    }

    /// Clients of the operator, with exactly the rights of the installation.
    pub fn clients(&self) -> Clients {
        self.clients_on(&Wire::default())
    }

    /// The same, over this wire.
    pub fn clients_on(&self, wire: &Wire) -> Clients {
        clients(&self.server, OPERATOR, wire)
    }

    /// Gives the operator the rights on its Lease that the installation gives it in its own namespace.
    pub async fn grant_lease(&self) {
        self.give(rights()).await;
        // The API server hears of a grant as everybody does: by a watch.
        let leases = Api::<Lease>::namespaced(self.clients().lease, &self.namespace);
        self.eventually("right to read the Lease", async || {
            leases.get_opt(LEASE).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Makes the Roles and RoleBindings among these documents in the namespace.
    async fn give(&self, documents: Vec<Value>) {
        for mut object in documents {
            object["metadata"]["namespace"] = json!(self.namespace);
            match object["kind"].as_str() {
                Some("Role") => drop(self.create::<Role>(object).await),
                Some("RoleBinding") => drop(self.create::<RoleBinding>(object).await),
                _ => {}
            }
        }
    }

    /// Ends the operator as a crash would: without a chance to finish anything.
    pub async fn kill_operator(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.crash().await;
        }
    }

    /// Gives each edge pod that the Deployment made an address and an agent behind it.
    pub async fn start_agents(&mut self) {
        let pods: Api<Pod> = self.api();
        let labelled = ListParams::default().labels("app.kubernetes.io/component=edge");
        let made = self
            .eventually("two edge pods", async || {
                let list = pods.list(&labelled).await.unwrap().items;
                (list.len() == 2).then_some(list).ok_or("not yet".to_owned())
            })
            .await;
        for pod in made {
            let agent = Agent::start(self.client.clone(), &self.namespace, &pod.name_any()).await;
            let status = json!({ "status": {
                "phase": "Running", "podIP": agent.address.to_string(), "podIPs": [{ "ip": agent.address.to_string() }],
                "conditions": [{ "type": "Ready", "status": "True" }],
            }});
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
            self.agents.push(agent);
        }
    }

    /// Waits until nobody has anything left to do, and then sees the operator look at everything five times more and
    /// write nothing. It answers what other controllers do, however late those are, so their changes begin it anew.
    pub async fn assert_nothing_written(&self) {
        const QUIET: Duration = Duration::from_millis(1500);
        let (mut from, mut since, mut seen, mut quiet) = (0, Instant::now(), Vec::new(), false);
        let found = self
            .eventually("five passes after the end of all changes", async || {
                // In this order: a change by others that led to a write is seen whenever the write is.
                let (writes, passes) = self.since(from);
                let now = self.versions_by_others().await;
                if now != seen || (!quiet && !writes.is_empty()) {
                    (from, since, seen, quiet) = (self.requests().len(), Instant::now(), now, false);
                    return Err(format!("{writes:#?} in {passes} passes"));
                }
                quiet = passes >= 2 && since.elapsed() >= QUIET;
                let over = quiet && passes >= 7;
                if over || !writes.is_empty() { Ok(writes) } else { Err(format!("{passes} passes")) }
            })
            .await;
        assert_eq!(found, Vec::<String>::new());
    }

    /// Name and version of what other controllers write here and the operator reads.
    async fn versions_by_others(&self) -> Vec<(String, Option<String>)> {
        let [mut all, sets, pods, budgets] = [
            self.versions::<Deployment>().await,
            self.versions::<ReplicaSet>().await,
            self.versions::<Pod>().await,
            self.versions::<PodDisruptionBudget>().await,
        ];
        all.extend([sets, pods, budgets].concat());
        all
    }

    async fn versions<K>(&self) -> Vec<(String, Option<String>)>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let list = self.api::<K>().list_metadata(&ListParams::default()).await.unwrap();
        list.items.into_iter().map(|o| (o.name_any(), o.metadata.resource_version)).collect()
    }

    /// What the operator wrote here since the request number `from`, and how often it looked at a Deployment.
    fn since(&self, from: usize) -> (Vec<String>, usize) {
        let requests = self.requests().split_off(from);
        let is = |r: &Value, verbs: &[&str]| verbs.iter().any(|verb| r["verb"] == *verb);
        let writes = requests.iter().filter(|r| is(r, &["create", "update", "patch", "delete"]));
        let writes = writes.map(|r| format!("{} {}", r["verb"], r["objectRef"])).collect();
        let looks =
            requests.iter().filter(|r| is(r, &["get"]) && r["objectRef"]["resource"] == "deployments");
        (writes, looks.count())
    }

    /// Every answered request of an operator with the rights of the installation, in any namespace.
    pub fn requests_anywhere(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.server.audit_log()).unwrap();
        let lines = log.lines().filter(|line| line.contains(OPERATOR));
        let requests = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        requests.filter(|r| r["impersonatedUser"]["username"] == OPERATOR).collect()
    }

    /// Waits until the operator has seen the newest spec of the service `name`.
    pub async fn settled(&self, name: &str) {
        let services = self.api::<StomatonService>();
        self.eventually("look at the newest spec", async || {
            let service = services.get(name).await.unwrap();
            let seen = service.status.as_ref().and_then(|status| status.observed_generation);
            if seen == service.metadata.generation { Ok(()) } else { Err(format!("{:#?}", service.status)) }
        })
        .await;
    }

    /// Every answered request of the operator in this namespace, from the API server's audit log.
    pub fn requests(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.server.audit_log()).unwrap();
        // Most lines are of other tests: looking for the name is much cheaper than reading them.
        let lines = log.lines().filter(|line| self.everywhere || line.contains(&self.namespace));
        let requests = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ours = |r: &Value| {
            r["impersonatedUser"]["username"] == OPERATOR
                && (self.everywhere || r["objectRef"]["namespace"] == *self.namespace)
        };
        requests.filter(ours).collect()
    }

    /// Waits until `look` gives something; its last refusal is the error.
    pub async fn eventually<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
        let begun = Instant::now();
        loop {
            match look().await {
                Ok(found) => return found,
                Err(last) if begun.elapsed() > PATIENCE => panic!("no {what} within {PATIENCE:?}: {last}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Makes the cluster serve a kind of another project.
    pub async fn serve(&self, kind: &ApiResource) {
        let name = format!("{}.{}", kind.plural, kind.group);
        let names = json!({"kind": kind.kind, "plural": kind.plural, "singular": kind.kind.to_lowercase(), "listKind": format!("{}List", kind.kind)});
        let schema =
            json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let version = json!({"name": kind.version, "served": true, "storage": true, "schema": schema});
        let crd: CustomResourceDefinition = serde_json::from_value(json!({
            // The API server asks for the annotation in groups of Kubernetes.
            "metadata": {"name": name, "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
            "spec": {"group": kind.group, "names": names, "scope": "Namespaced", "versions": [version]},
        }))
        .unwrap();
        let api = Api::all(self.client.clone());
        // A test that failed may have left it.
        api.patch(&name, &PatchParams::apply("test"), &Patch::Apply(crd)).await.unwrap();
        let established = kube::runtime::wait::conditions::is_crd_established();
        let wait = kube::runtime::wait::await_condition(api, &name, established);
        tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap();
    }

    /// Makes the cluster serve it no longer.
    pub async fn serve_no_longer(&self, kind: &ApiResource) {
        let api = Api::<CustomResourceDefinition>::all(self.client.clone());
        let name = format!("{}.{}", kind.plural, kind.group);
        api.delete(&name, &DeleteParams::default()).await.unwrap();
        self.eventually("end of the kind", async || match api.get_opt(&name).await.unwrap() {
            Some(_) => Err("it is still there".to_owned()),
            None => Ok(()),
        })
        .await;
    }

    /// Waits until the route of plan `plan` is as `wanted` says.
    pub async fn route(
        &self,
        plan: &str,
        route: &str,
        what: &str,
        wanted: impl Fn(&RouteStatus) -> bool,
    ) -> RouteStatus {
        let plans: Api<MigrationPlan> = self.api();
        self.eventually(what, async || {
            let status = plans.get(plan).await.unwrap().status.unwrap_or_default();
            let found = status.routes.iter().find(|r| r.name == route).cloned();
            found.filter(&wanted).ok_or_else(|| serde_json::to_string_pretty(&status).unwrap())
        })
        .await
    }

    /// The weights as they are.
    pub async fn weights(&self) -> Option<EdgeWeights> {
        self.api::<EdgeWeights>().get_opt("edge").await.unwrap()
    }

    /// The route's id once the structure has it with a target.
    pub async fn compiled(&self, route: &str) -> String {
        let configs: Api<EdgeConfig> = self.api();
        self.eventually("compiled route", async || {
            let config = configs.get_opt("edge").await.unwrap();
            let found =
                config.iter().flat_map(|c| &c.spec.routes).find(|r| r.name == route && r.target.is_some());
            found.map(|r| r.id.clone()).ok_or(format!("{:?}", config.as_ref().map(|c| &c.spec)))
        })
        .await
    }

    /// Answers of the service, spread over the edge pods.
    pub fn answers(&self, route_id: &str, requests: u64, bad: u64) {
        for (i, agent) in self.agents.iter().enumerate() {
            let share = |n: u64| n / 2 + if i == 0 { n % 2 } else { 0 };
            agent.count(route_id, share(requests), share(bad));
        }
    }
}

/// The JSON of a plan.
pub fn plan_body(name: &str, routes: &[&str], ramp: Value) -> Value {
    let routes: Vec<Value> = routes
        .iter()
        .map(|r| json!({ "name": r, "target": { "name": "content" }, "profile": "fast" }))
        .collect();
    json!({
        "metadata": { "name": name },
        "spec": {
            "gatewayRef": { "name": "edge" }, "routes": routes,
            "profiles": [{ "name": "fast", "ramp": ramp }], "judges": [],
            "rollback": { "cooldown": "1s", "maxAttempts": 2 },
        },
    })
}

/// A ramp of these weights with a hold of `hold` each.
pub fn ramp(permilles: &[i32], hold: &str) -> Value {
    permilles.iter().map(|p| json!({ "permille": p, "minHold": hold })).collect()
}

async fn create_namespace(client: &Client) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("plan-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    name
}

/// A simulated agent.
pub struct Agent {
    pub address: Ipv4Addr,
    shared: Arc<Shared>,
    /// What it does; ended with it.
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<EdgeState>,
    frozen: Mutex<bool>,
    /// The key of kills, as the kubelet would mount it.
    key: Mutex<Option<kill::Key>>,
    news: Notify,
}

impl Agent {
    async fn start(client: Client, namespace: &str, pod: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let address = Ipv4Addr::new(
            127,
            77,
            u8::try_from(number / 250).unwrap(),
            u8::try_from(number % 250 + 1).unwrap(),
        );
        let shared = Arc::new(Shared::default());
        *shared.state.lock().unwrap() =
            EdgeState { pod: pod.into(), boot: "first".into(), ..EdgeState::default() };
        let listener = tokio::net::TcpListener::bind((address, EDGE_STATE_PORT)).await.unwrap();
        let router = Router::new()
            .route("/v1/state", get(stream))
            .route(kill::PATH, post(take_back))
            .with_state(shared.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(mount_key(client.clone(), namespace.to_owned(), shared.clone()));
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        tasks.spawn(follow::<EdgeConfig>(
            client.clone(),
            namespace.to_owned(),
            shared.clone(),
            |state, config| state.seen.config = state.seen.config.max(config.spec.revision),
        ));
        tasks.spawn(follow::<EdgeWeights>(client, namespace.to_owned(), shared.clone(), |state, weights| {
            if weights.spec.revision > state.seen.weights {
                (state.seen.weights, state.weights_digest) = (weights.spec.revision, weights.spec.digest());
            }
            state.latches.retain(|route, latch| {
                let entry = weights.spec.routes.get(route);
                !entry.is_some_and(|e| e.attempt > latch.attempt || (e.latched && e.attempt == latch.attempt))
            });
        }));
        Self { address, shared, _tasks: tasks }
    }

    /// Answers of the service that this pod gave.
    pub fn count(&self, route_id: &str, requests: u64, bad: u64) {
        let mut state = self.shared.state.lock().unwrap();
        let audiences: &mut BTreeMap<String, Sides> = state.counters.entry(route_id.to_owned()).or_default();
        let service: &mut Counts = &mut audiences.entry("public".to_owned()).or_default().service;
        service.requests += requests;
        service.bad += bad;
        self.shared.news.notify_waiters();
    }

    /// Name of the pod.
    pub fn pod(&self) -> String {
        self.shared.state.lock().unwrap().pod.clone()
    }

    /// The pod takes `attempt` of a route back by itself.
    pub fn latch(&self, route_id: &str, attempt: i32, why: Why) {
        self.shared.latch(route_id, attempt, why);
    }

    /// Whether the pod holds the route on its safe side against its weights.
    pub fn holds(&self, route_id: &str) -> bool {
        self.shared.state.lock().unwrap().latches.contains_key(route_id)
    }

    /// The pod refuses what it was given last, in these words; none: it no longer does.
    pub fn refuse(&self, words: Option<&str>) {
        self.shared.state.lock().unwrap().refused = words.map(Into::into);
        self.shared.news.notify_waiters();
    }

    /// What the pod has of its certificates.
    pub fn has(&self, certificates: &[CertificateState]) {
        self.shared.state.lock().unwrap().certificates = certificates.to_vec();
        self.shared.news.notify_waiters();
    }

    /// From now on the pod applies nothing; it still speaks.
    pub fn freeze(&self, frozen: bool) {
        *self.shared.frozen.lock().unwrap() = frozen;
        if !frozen {
            let mut state = self.shared.state.lock().unwrap();
            state.applied = state.seen;
        }
        self.shared.news.notify_waiters();
    }
}

impl Shared {
    fn latch(&self, route_id: &str, attempt: i32, why: Why) {
        let mut state = self.state.lock().unwrap();
        let revision = state.seen.weights;
        let latch = Latch { attempt, revision, why, at_micros: 0, counted: None };
        state.latches.entry(route_id.to_owned()).or_insert(latch);
        drop(state);
        self.news.notify_waiters();
    }
}

/// As an agent does, but for what is of the past.
async fn take_back(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<axum::Json<kill::Killed>, StatusCode> {
    let signature = headers.get(kill::SIGNATURE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = shared.key.lock().unwrap().clone().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    if *shared.frozen.lock().unwrap() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    if !key.verify(&body, signature) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let kill: kill::Kill = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    shared.latch(&kill.route, kill.attempt, Why::Kill);
    let revision = shared.state.lock().unwrap().seen.weights;
    Ok(axum::Json(kill::Killed { outcome: kill::Outcome::Latched, revision }))
}

/// Gives the agent the key of kills once there is one.
async fn mount_key(client: Client, namespace: String, shared: Arc<Shared>) {
    let secrets = Api::<Secret>::namespaced(client, &namespace);
    loop {
        let data = secrets.get_opt("edge-kill").await.ok().flatten().and_then(|secret| secret.data);
        let text = data.and_then(|mut data| String::from_utf8(data.remove("key")?.0).ok());
        if let Some(key) = text.as_deref().and_then(kill::Key::read) {
            *shared.key.lock().unwrap() = Some(key);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn follow<K>(client: Client, namespace: String, shared: Arc<Shared>, see: fn(&mut EdgeState, &K))
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + 'static,
{
    let events = watcher(Api::<K>::namespaced(client, &namespace), watcher::Config::default());
    let mut objects = std::pin::pin!(events.default_backoff().applied_objects());
    while let Some(event) = objects.next().await {
        let Ok(object) = event else { continue };
        let mut state = shared.state.lock().unwrap();
        see(&mut state, &object);
        if !*shared.frozen.lock().unwrap() {
            state.applied = state.seen;
        }
        drop(state);
        shared.news.notify_waiters();
    }
}

async fn stream(State(shared): State<Arc<Shared>>) -> Body {
    let lines = futures::stream::unfold(shared, async |shared| {
        let news = shared.news.notified();
        let line = {
            let mut state = shared.state.lock().unwrap();
            state.sequence += 1;
            serde_json::to_string(&*state).unwrap() + "\n"
        };
        // A notification between the line and this wait is caught by the next line, 50 ms later at most.
        let _ = tokio::time::timeout(Duration::from_millis(50), news).await;
        Some((Ok::<_, std::convert::Infallible>(line), shared))
    });
    Body::from_stream(lines)
}
