//! An API server with the installation's kinds and rights, and its audit log. I/O.

use crate::Fault;
use e2e::cluster::api::ApiServer;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    time::{Duration, Instant},
};

/// Who the operator is.
const OPERATOR: &str = "system:serviceaccount:stomaton-system:stomaton-operator";

/// The API server and a directory of ours.
pub struct Server {
    pub api: ApiServer,
    dir: tempfile::TempDir,
    pub client: Client,
}

impl Server {
    pub async fn start() -> Result<Self, Fault> {
        let api = ApiServer::start().await?;
        let (client, dir) = (api.client(), tempfile::tempdir()?);
        let server = Self { api, dir, client };
        for namespace in ["stomaton-system", "fleet", "bare"] {
            let body = serde_json::from_value::<Namespace>(json!({"metadata": {"name": namespace}}))?;
            Api::all(server.client.clone()).create(&PostParams::default(), &body).await?;
        }
        let crds = Api::all(server.client.clone());
        for crd in stomaton_crds::all_crds() {
            crds.create(&PostParams::default(), &crd).await?;
            let (name, established) = (crd.name_any(), kube::runtime::wait::conditions::is_crd_established());
            let wait = kube::runtime::wait::await_condition(crds.clone(), &name, established);
            tokio::time::timeout(Duration::from_secs(30), wait).await??;
        }
        for document in include_str!("../../../manifests/install/rbac.yaml").split("\n---\n") {
            server.apply(serde_saphyr::from_str(document)?).await?;
        }
        // The operator's rights, by impersonation.
        let mut config: Value = serde_saphyr::from_str(&fs::read_to_string(server.api.kubeconfig())?)?;
        config["users"][0]["user"]["as"] = json!(OPERATOR);
        config["users"][0]["user"]["as-groups"] = json!(["system:authenticated"]);
        fs::write(server.kubeconfig(), config.to_string())?;
        Ok(server)
    }

    async fn apply(&self, object: Value) -> Result<(), Fault> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let version = text(&object["apiVersion"]);
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text(&object["kind"])));
        let (name, namespace) = (text(&object["metadata"]["name"]), text(&object["metadata"]["namespace"]));
        let api: Api<DynamicObject> = match namespace.as_str() {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        api.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(object)).await?;
        Ok(())
    }

    /// The kubeconfig of the operator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("operator.conf")
    }

    /// Where operators log.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("operator.log")
    }

    /// Waits until nobody has written anything but Leases for 3 s.
    pub async fn at_rest(&self, limit: Duration) -> Result<(), Fault> {
        let begun = Instant::now();
        loop {
            let mark = self.mark();
            tokio::time::sleep(Duration::from_secs(3)).await;
            let writes = self.requests(mark)?.into_iter().filter(is_write).count();
            if writes == 0 {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err("the cluster does not come to rest".into());
            }
        }
    }

    /// Where the audit log ends now.
    pub fn mark(&self) -> u64 {
        fs::metadata(self.api.audit_log()).map_or(0, |file| file.len())
    }

    /// The requests that were answered since the mark.
    pub fn requests(&self, mark: u64) -> Result<Vec<Value>, Fault> {
        let mut file = fs::File::open(self.api.audit_log())?;
        file.seek(SeekFrom::Start(mark))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The last line may be half written, the first cut in two.
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

fn is_write(request: &Value) -> bool {
    let verb = request["verb"].as_str().unwrap_or_default();
    matches!(verb, "create" | "update" | "patch" | "delete" | "deletecollection")
        && request["objectRef"]["resource"] != "leases"
}

/// Writes of one client.
pub struct Writes {
    pub count: usize,
    /// By resource, subresources apart: `stomatonservices/status`.
    pub by_resource: BTreeMap<String, usize>,
    seconds: f64,
}

impl Writes {
    /// Those of the operator, Leases aside.
    pub fn of_operator(requests: &[Value]) -> Result<Self, Fault> {
        Self::of(requests, |request| request["impersonatedUser"]["username"] == OPERATOR)
    }

    /// Those of whom `whose` says so, Leases aside.
    pub fn of(requests: &[Value], whose: impl Fn(&Value) -> bool) -> Result<Self, Fault> {
        let (mut by_resource, mut times) = (BTreeMap::new(), Vec::new());
        for request in requests.iter().filter(|request| is_write(request) && whose(request)) {
            let object = &request["objectRef"];
            let mut resource = object["resource"].as_str().unwrap_or_default().to_owned();
            if let Some(sub) = object["subresource"].as_str() {
                resource = format!("{resource}/{sub}");
            }
            *by_resource.entry(resource).or_default() += 1;
            for at in ["requestReceivedTimestamp", "stageTimestamp"] {
                times.push(request[at].as_str().unwrap_or_default().parse::<Timestamp>()?);
            }
        }
        let seconds = match (times.iter().min(), times.iter().max()) {
            (Some(first), Some(last)) => last.duration_since(*first).as_secs_f64(),
            _ => 0.0,
        };
        Ok(Self { count: times.len() / 2, by_resource, seconds })
    }

    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

impl fmt::Display for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> =
            self.by_resource.iter().map(|(resource, count)| format!("{count} {resource}")).collect();
        write!(
            f,
            "{} writes in {:.1} s, {:.0}/s ({})",
            self.count,
            self.seconds,
            self.per_second(),
            parts.join(", ")
        )
    }
}
