//! One StomatonService in a namespace, and what became of it. The pods are those of the fleet's content service, whatever
//! its name here. I/O: kubectl, the API server, and through it the pods.

use super::{
    Doing as _, Error, fleet::ready, install::available, namespace::Namespace, proxy::PodPort, wait,
    wait::Seen,
};
use futures::future::try_join_all;
use http::Method;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::time::Duration;
use stomaton_crds::{
    keys,
    v1alpha1::{StomatonService, StomatonServiceStatus},
};

/// The image of the pods.
pub const IMAGE: &str = "stomaton/fleet:dev";
/// What the pods do.
pub const ARGS: [&str; 2] = ["serve", "content"];
/// Where they answer, unless the spec says otherwise.
const PORT: u16 = 8080;
/// From a change to all pods Ready, on two busy cores.
const WITHIN: Duration = Duration::from_secs(150);

/// A StomatonService.
pub struct Service<'a> {
    /// Where it is.
    pub namespace: &'a Namespace<'a>,
    /// Its name.
    pub name: &'a str,
}

/// A StomatonService with these fields of the spec, beside those that every one needs or in their place.
pub fn manifest(name: &str, fields: &Value) -> Value {
    let mut spec = json!({
        "image": IMAGE,
        "args": ARGS,
        "env": [{"name": "ENVIRONMENT", "value": "development"}, {"name": "LOG_LEVEL", "value": "warn"}],
    });
    for (field, value) in fields.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({
        "apiVersion": "fleet.stomaton.com/v1alpha1",
        "kind": "StomatonService",
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// A StomatonService of so many pods that can be told to fail.
pub fn can_fail(name: &str, replicas: i32) -> Value {
    let env = json!([
        {"name": "ENVIRONMENT", "value": "development"},
        {"name": "LOG_LEVEL", "value": "warn"},
        {"name": "FAULTS", "value": "allow"},
    ]);
    manifest(name, &json!({"replicas": replicas, "env": env}))
}

/// Several objects for one `kubectl apply`, in this order.
pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items.into_iter().collect::<Vec<_>>()})
}

impl<'a> Service<'a> {
    /// The service of this name, which may not exist yet.
    pub fn named(namespace: &'a Namespace<'a>, name: &'a str) -> Self {
        Self { namespace, name }
    }

    /// Deploys a service with these fields of the spec, and waits until it is Ready.
    pub async fn deploy(namespace: &'a Namespace<'a>, name: &'a str, fields: Value) -> Result<Self, Error> {
        namespace.apply_object(&manifest(name, &fields)).await?;
        let service = Self::named(namespace, name);
        service.is_ready().await?;
        Ok(service)
    }

    /// Changes fields of the spec, as `kubectl patch --type=merge` does.
    pub async fn change(&self, fields: Value) -> Result<(), Error> {
        let patch = Patch::Merge(json!({"spec": fields}));
        let changed = self.objects().patch(self.name, &PatchParams::default(), &patch).await;
        changed.map(drop).doing(format!("change {}", self.name))
    }

    /// Waits until the newest spec is what runs.
    pub async fn is_ready(&self) -> Result<(), Error> {
        let what = format!("{} to be Ready", self.name);
        wait::object(&self.objects(), self.name, &what, WITHIN, |service| {
            let status = service.and_then(|s| s.status.as_ref());
            ready(status.map(|s| &s.conditions), service.and_then(|s| s.metadata.generation))
        })
        .await
    }

    /// Waits until a condition is False for this reason, as far as the newest spec goes; gives its message.
    pub async fn says(&self, kind: &str, reason: &str) -> Result<String, Error> {
        let what = format!("{} to say {kind}=False {reason}", self.name);
        wait::object(&self.objects(), self.name, &what, WITHIN, |service| {
            let Some(service) = service else { return Seen::NotYet("it is not there".into()) };
            let conditions = service.status.iter().flat_map(|status| &status.conditions);
            let mut newest = conditions.filter(|c| c.observed_generation >= service.metadata.generation);
            match newest.find(|c| c.type_ == kind) {
                Some(c) if c.status == "False" && c.reason == reason => Seen::Yes(c.message.clone()),
                Some(c) => Seen::NotYet(format!("{kind}={} {}: {}", c.status, c.reason, c.message)),
                None => Seen::NotYet(format!("no condition {kind} of the newest spec")),
            }
        })
        .await
    }

    /// Its status.
    pub async fn status(&self) -> Result<StomatonServiceStatus, Error> {
        let found = self.objects().get(self.name).await.doing(format!("read {}", self.name))?;
        Ok(found.status.unwrap_or_default())
    }

    /// Where it answers inside the cluster, as `host:port`.
    pub async fn address(&self) -> Result<String, Error> {
        let url = self.status().await?.url.unwrap_or_default();
        let address = url.strip_prefix("http://").map(str::to_owned);
        address.ok_or_else(|| Error::Broken(format!("the status of {} has no URL, but {url:?}", self.name)))
    }

    /// Its Deployment.
    pub async fn deployment(&self) -> Result<Deployment, Error> {
        let found = self.namespace.api::<Deployment>().get(self.name).await;
        found.doing(format!("read the Deployment {}", self.name))
    }

    /// Waits until its Deployment is as `wanted` says and runs exactly that, old pods on their way out; gives it.
    pub async fn runs(&self, what: &str, wanted: impl Fn(&Deployment) -> bool) -> Result<Deployment, Error> {
        wait::object(&self.namespace.api::<Deployment>(), self.name, what, WITHIN, |found| match found {
            Some(deployment) if wanted(deployment) => available(found).map(|()| deployment.clone()),
            _ => Seen::NotYet("the Deployment is another one".into()),
        })
        .await
    }

    /// How many ReplicaSets its Deployment has made.
    pub async fn replica_sets(&self) -> Result<usize, Error> {
        let of_service = ListParams::default().labels(&format!("{}={}", keys::SERVICE, self.name));
        let found = self.namespace.api::<ReplicaSet>().list(&of_service).await;
        Ok(found.doing(format!("list ReplicaSets of {}", self.name))?.items.len())
    }

    /// Its pods, those that are on their way out left out.
    pub async fn pods(&self) -> Result<Vec<Pod>, Error> {
        self.namespace.pods(keys::SERVICE, self.name).await
    }

    /// Their names, in order.
    pub async fn pod_names(&self) -> Result<Vec<String>, Error> {
        let mut names: Vec<_> = self.pods().await?.iter().map(|pod| pod.name_any()).collect();
        names.sort();
        Ok(names)
    }

    /// Names of those that are Ready.
    pub async fn ready_pods(&self) -> Result<Vec<String>, Error> {
        self.namespace.ready_pods(keys::SERVICE, self.name).await
    }

    /// Waits until none of these pods is left, on its way out or not.
    pub async fn are_gone(&self, names: &[String]) -> Result<(), Error> {
        let pods = self.namespace.api::<Pod>();
        for name in names {
            let what = format!("the pod {name} to be gone");
            wait::object(&pods, name, &what, WITHIN, |pod| {
                Seen::when(pod.is_none(), || "it is still there".into())
            })
            .await?;
        }
        Ok(())
    }

    /// Gives these of its pods this fault, in place of the one they have: see the fault switch of the fleet. For services
    /// that [`can_fail`].
    pub async fn fail(&self, pods: &[String], fault: &Value) -> Result<(), Error> {
        let ports: Vec<_> = pods.iter().map(|pod| self.port(pod)).collect();
        try_join_all(ports.iter().map(|port| port.ask(Method::PUT, "/_fault", fault.to_string()))).await?;
        Ok(())
    }

    /// The port of one of its pods.
    pub fn port(&self, pod: &str) -> PodPort {
        PodPort::new(&self.namespace.harness.client, &self.namespace.name, pod, PORT)
    }

    fn objects(&self) -> Api<StomatonService> {
        self.namespace.api()
    }
}
