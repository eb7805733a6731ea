//! An API server without a node, and the two objects of an edge on it, written as the operator writes them. I/O.

use crate::Fault;
use e2e::cluster::api::ApiServer;
use kube::{
    Api, Client, CustomResourceExt, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};
use stomaton_crds::{
    keys::{AUDIENCE_PUBLIC, field_managers},
    v1alpha1::{EdgeConfig, EdgeWeights},
};

/// Where the objects are.
pub const NAMESPACE: &str = "bench";

/// The API server; ends when dropped.
pub struct Plane {
    api: ApiServer,
    client: Client,
    /// As last written, by name: the next write is one request.
    weights: BTreeMap<String, EdgeWeights>,
}

impl Plane {
    /// Starts it, with the edge's kinds.
    pub async fn start() -> Result<Self, Fault> {
        let api = ApiServer::start().await?;
        let client = api.client();
        let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(client.clone());
        namespaces.create(&PostParams::default(), &namespace).await?;
        let crds = Api::all(client.clone());
        for crd in [EdgeConfig::crd(), EdgeWeights::crd()] {
            crds.create(&PostParams::default(), &crd).await?;
            let (name, established) = (crd.name_any(), kube::runtime::wait::conditions::is_crd_established());
            let wait = kube::runtime::wait::await_condition(crds.clone(), &name, established);
            tokio::time::timeout(Duration::from_secs(30), wait).await??;
        }
        Ok(Self { api, client, weights: BTreeMap::new() })
    }

    /// How agents get in.
    pub fn kubeconfig(&self) -> PathBuf {
        self.api.kubeconfig()
    }

    /// Writes the structure of an edge.
    pub async fn configure(&self, edge: &str, spec: Value) -> Result<(), Fault> {
        let configs: Api<EdgeConfig> = Api::namespaced(self.client.clone(), NAMESPACE);
        let object = EdgeConfig::new(edge, serde_json::from_value(spec)?);
        let params = PatchParams::apply(field_managers::GATEWAY).force();
        configs.patch(edge, &params, &Patch::Apply(&object)).await?;
        Ok(())
    }

    /// Writes the weight of each of these routes.
    pub async fn weigh(&mut self, edge: &str, revision: i64, routes: &[(u64, i32)]) -> Result<(), Fault> {
        self.weigh_attempt(edge, revision, 1, routes).await
    }

    /// The same for an attempt after the first.
    pub async fn weigh_attempt(
        &mut self,
        edge: &str,
        revision: i64,
        attempt: i64,
        routes: &[(u64, i32)],
    ) -> Result<(), Fault> {
        let weight = |&(number, permille): &(u64, i32)| {
            (id(number), json!({"permille": {AUDIENCE_PUBLIC: permille}, "attempt": attempt, "step": 1}))
        };
        let routes: serde_json::Map<_, _> = routes.iter().map(weight).collect();
        let spec = serde_json::from_value(json!({"revision": revision, "routes": routes}))?;
        let api: Api<EdgeWeights> = Api::namespaced(self.client.clone(), NAMESPACE);
        let written = match self.weights.remove(edge) {
            None => api.create(&PostParams::default(), &EdgeWeights::new(edge, spec)).await?,
            Some(before) => {
                let next = EdgeWeights { spec, ..before };
                api.replace(edge, &PostParams::default(), &next).await?
            }
        };
        self.weights.insert(edge.to_owned(), written);
        Ok(())
    }
}

/// Identity of the route of this number.
pub fn id(number: u64) -> String {
    format!("{number:016x}")
}

/// A route that stays with the monolith.
pub fn fixed(number: u64, path: &str) -> Value {
    json!({"id": id(number), "name": format!("route-{number}"), "pathPrefix": path, "safe": "monolith"})
}

/// A route that moves to the service.
pub fn moving(number: u64, path: &str) -> Value {
    let mut route = fixed(number, path);
    route["target"] = json!("service");
    route["salt"] = json!(id(number + 1_000_000));
    route
}

/// A structure with everything that an edge usually has: limits that nobody meets, headers, users that are asked for.
pub fn structure(revision: i64, backend: &str, routes: &[Value], diagnostics: bool) -> Value {
    let rate = json!({"perMinute": 6_000_000, "burst": 200_000});
    json!({
        "revision": revision,
        "backends": {"monolith": backend, "service": backend},
        "defaultBackend": "monolith",
        "auth": {
            "backend": "monolith", "path": "/auth", "identityHeaders": ["x-user-id"], "timeoutMillis": 1000,
        },
        "limits": {"client": rate, "clientAuth": rate},
        "securityHeaders": {},
        "routes": routes,
        "diagnostics": diagnostics,
    })
}
