//! A Prometheus of Debian beside the example, that reads what monolith and content service count of themselves, and an
//! operator that asks it. I/O: kubectl and the API server.

use super::{
    Doing as _, Error, Harness,
    fleet::{CONTENT, Fleet},
    install::{NAMESPACE, OPERATOR, available},
    namespace::Namespace,
    service::{Service, list},
    wait,
};
use crate::cluster;
use futures::FutureExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::{panic::AssertUnwindSafe, time::Duration};
use stomaton_crds::keys;

/// Its Deployment and its Service.
const PROMETHEUS: &str = "prometheus";
const PORT: u16 = 9090;
const WITHIN: Duration = Duration::from_secs(120);

/// A Prometheus.
pub struct Monitoring<'a> {
    namespace: &'a Namespace<'a>,
}

impl<'a> Monitoring<'a> {
    /// Deploys it, and waits until it is ready. It looks each second at the pods that the example has now; `target` says
    /// whose they are.
    pub async fn deploy(fleet: &Fleet<'a>) -> Result<Self, Error> {
        let namespace = fleet.namespace;
        match namespace.harness.cluster.load_monitoring().await {
            // A cluster of the user's own has it from its registry.
            Ok(()) | Err(cluster::Error::NoWayToLoad) => {}
            Err(error) => return Err(error.into()),
        }
        // A service answers those only that it knows.
        let from = json!({"ingressFrom": [{"podLabels": {"app.kubernetes.io/name": PROMETHEUS}}]});
        Service::named(namespace, CONTENT).change(json!({"networkPolicy": from})).await?;
        let jobs = [("app.kubernetes.io/name", "monolith", 8000), (keys::SERVICE, CONTENT, 8001)];
        let mut watched = Vec::new();
        for (label, name, port) in jobs {
            watched.push(job(namespace, label, name, port).await?);
        }
        let config = json!({"global": {"scrape_interval": "1s"}, "scrape_configs": watched});
        namespace.apply_object(&list([settings(&config), deployment(), service()])).await?;
        let monitoring = Self { namespace };
        monitoring.is_available().await?;
        Ok(monitoring)
    }

    /// Makes it so many pods, and waits for that. What it counted goes with its last one.
    pub async fn scale(&self, replicas: i32) -> Result<(), Error> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let deployments = self.namespace.api::<Deployment>();
        deployments.patch(PROMETHEUS, &PatchParams::default(), &patch).await.doing("scale Prometheus")?;
        self.is_available().await
    }

    async fn is_available(&self) -> Result<(), Error> {
        let deployments = self.namespace.api::<Deployment>();
        wait::object(&deployments, PROMETHEUS, "Prometheus to be as wanted", WITHIN, available).await
    }

    /// Runs `body` while the operator asks it; afterwards it asks nobody, however `body` ends.
    pub async fn asked(&self, body: impl AsyncFnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let harness = self.namespace.harness;
        let url = format!("http://{PROMETHEUS}.{}.svc:{PORT}", self.namespace.name);
        tell(harness, &format!("PROMETHEUS_URL={url}")).await?;
        let outcome = AssertUnwindSafe(body()).catch_unwind().await;
        tell(harness, "PROMETHEUS_URL-").await?;
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Sets a variable of the operator, or takes it away, and waits until its pods have heard.
async fn tell(harness: &Harness, variable: &str) -> Result<(), Error> {
    let operator = format!("deployment/{OPERATOR}");
    harness.kubectl(&["set", "env", "--namespace", NAMESPACE, &operator, variable]).await?;
    harness.operator_is_available(WITHIN).await
}

/// What to look at: the pods with a label, by address.
async fn job(namespace: &Namespace<'_>, label: &str, name: &str, port: u16) -> Result<Value, Error> {
    let pods = namespace.pods(label, name).await?;
    let addresses = pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.as_ref());
    let targets: Vec<_> = addresses.map(|ip| format!("{ip}:{port}")).collect();
    Ok(json!({"job_name": name, "static_configs": [{"targets": targets, "labels": {"target": name}}]}))
}

/// Its configuration. JSON is YAML.
fn settings(config: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": PROMETHEUS},
        "data": {"prometheus.yml": config.to_string()},
    })
}

fn deployment() -> Value {
    let labels = json!({"app.kubernetes.io/name": PROMETHEUS});
    let container = json!({
        "name": PROMETHEUS,
        "image": "stomaton/prometheus:dev",
        "args": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data"],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "http"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/prometheus"},
            {"name": "data", "mountPath": "/data"},
        ],
    });
    let pod = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": PROMETHEUS}},
            {"name": "data", "emptyDir": {}},
        ],
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": PROMETHEUS},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": PROMETHEUS},
        "spec": {
            "selector": {"app.kubernetes.io/name": PROMETHEUS},
            "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
        },
    })
}
