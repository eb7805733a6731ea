//! A namespace of one's own, and putting things into it. I/O: kubectl and the API server.

use super::{Doing as _, Error, Harness, target_dir, wait, wait::Seen, workspace};
use crate::cluster::{self, cmd::Doing as _};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace as Object, Pod},
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    hash::{BuildHasher as _, RandomState},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::NamedTempFile;
use tokio::process::Command;

/// The label of every namespace that a test made.
const MARK: &str = "e2e.stomaton.com/scenario";
/// Pods take up to their grace period to go.
const GONE_WITHIN: Duration = Duration::from_secs(90);

/// One namespace of a cluster.
pub struct Namespace<'a> {
    /// The cluster it is on.
    pub harness: &'a Harness,
    /// Its name.
    pub name: String,
}

impl<'a> Namespace<'a> {
    /// The namespace of this name, which may not exist yet.
    pub fn named(harness: &'a Harness, name: &str) -> Self {
        Self { harness, name: name.to_owned() }
    }

    /// Makes a namespace with a random name in which pods must be restricted.
    pub async fn create(harness: &'a Harness, scenario: &str) -> Result<Self, Error> {
        let random = RandomState::new().hash_one(scenario) & 0xff_ffff;
        let namespace = Self::named(harness, &format!("e2e-{scenario}-{random:06x}"));
        namespace.make(scenario).await?;
        Ok(namespace)
    }

    /// Makes it anew, with nothing in it, as after a disaster; waits until the old one is gone.
    pub async fn lose(&self, scenario: &str) -> Result<(), Error> {
        self.delete().await?;
        self.is_gone().await?;
        self.make(scenario).await
    }

    async fn make(&self, scenario: &str) -> Result<(), Error> {
        let mut object = Object::default();
        object.metadata.name = Some(self.name.clone());
        let labels = [(MARK, scenario), ("pod-security.kubernetes.io/enforce", "restricted")];
        object.metadata.labels = Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        let namespaces: Api<Object> = Api::all(self.harness.client.clone());
        let made = namespaces.create(&PostParams::default(), &object).await;
        made.map(drop).doing(format!("create the namespace {}", self.name))
    }

    /// Gives the operator its rights on Secrets and ConfigMaps here, as a user would.
    pub async fn grant(&self) -> Result<(), Error> {
        let manifests = workspace().join("manifests/install/namespace-grant");
        self.harness.kubectl(&["apply", "-n", &self.name, "-k", &manifests.to_string_lossy()]).await?;
        Ok(())
    }

    /// Objects of one kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.harness.client.clone(), &self.name)
    }

    /// Applies manifests, as kubectl does; what the API server refuses is an error in its words.
    pub async fn apply(&self, yaml: &str) -> Result<(), Error> {
        let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().doing("make a temporary file")?;
        file.write_all(yaml.as_bytes()).doing_at("write", file.path())?;
        let path = file.path().to_string_lossy().into_owned();
        self.harness.kubectl(&["apply", "--namespace", &self.name, "-f", &path]).await?;
        Ok(())
    }

    /// Applies one object.
    pub async fn apply_object(&self, object: &impl Serialize) -> Result<(), Error> {
        let json = serde_json::to_string(object)
            .map_err(|source| Error::Unreadable { what: "an object to apply".into(), source })?;
        self.apply(&json).await
    }

    /// Applies a kustomization.
    pub async fn apply_kustomization(&self, dir: &Path) -> Result<(), Error> {
        self.harness.kubectl(&["apply", "-k", &dir.to_string_lossy()]).await?;
        Ok(())
    }

    /// Runs `kubectl stomaton`, and gives what it said.
    pub async fn stomaton(&self, args: &[&str]) -> Result<String, Error> {
        let mut command = self.harness.cluster.with_access(&plugin());
        command.args(["--namespace", &self.name]).args(args);
        Ok(cluster::cmd::output(&mut command).await?)
    }

    /// The same as a ServiceAccount of this namespace, with its rights and no others.
    pub async fn stomaton_as(&self, account: &str, args: &[&str]) -> Result<String, Error> {
        let kubeconfig = self.kubeconfig_of(account).await?;
        let mut command = Command::new(plugin());
        command.arg("--kubeconfig").arg(kubeconfig.path());
        command.args(["--namespace", &self.name]).args(args);
        Ok(cluster::cmd::output(&mut command).await?)
    }

    /// The kubeconfig of this cluster, with a token of a ServiceAccount as its user.
    async fn kubeconfig_of(&self, account: &str) -> Result<NamedTempFile, Error> {
        let token = ["create", "token", account, "--namespace", &self.name];
        let token = self.harness.kubectl(&token).await?;
        let view = ["config", "view", "--minify", "--flatten", "--raw", "--output=json"];
        let text = self.harness.kubectl(&view).await?;
        let unreadable = |source| Error::Unreadable { what: "the kubeconfig".into(), source };
        let mut config: Value = serde_json::from_str(&text).map_err(unreadable)?;
        let name = config.pointer("/contexts/0/context/user").cloned();
        config["users"] = json!([{"name": name, "user": {"token": token.trim()}}]);
        let mut file = tempfile::Builder::new().suffix(".json").tempfile().doing("make a temporary file")?;
        file.write_all(config.to_string().as_bytes()).doing_at("write", file.path())?;
        Ok(file)
    }

    /// Pods with this label, those that are on their way out left out.
    pub async fn pods(&self, label: &str, value: &str) -> Result<Vec<Pod>, Error> {
        let selector = ListParams::default().labels(&format!("{label}={value}"));
        let pods = self.api::<Pod>().list(&selector).await.doing(format!("list pods of {}", self.name))?;
        Ok(pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// Names of the Ready pods with this label.
    pub async fn ready_pods(&self, label: &str, value: &str) -> Result<Vec<String>, Error> {
        let pods = self.pods(label, value).await?;
        Ok(pods.iter().filter(|pod| is_ready(pod)).map(|pod| pod.name_any()).collect())
    }

    /// Deletes the namespace and everything in it, without waiting for it.
    pub async fn delete(&self) -> Result<(), Error> {
        let namespaces: Api<Object> = Api::all(self.harness.client.clone());
        match namespaces.delete(&self.name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            done => done.map(drop).doing(format!("delete the namespace {}", self.name)),
        }
    }

    /// Waits until the namespace is gone.
    pub async fn is_gone(&self) -> Result<(), Error> {
        let namespaces: Api<Object> = Api::all(self.harness.client.clone());
        let what = format!("the namespace {} to be gone", self.name);
        wait::object(&namespaces, &self.name, &what, GONE_WITHIN, |namespace| {
            let conditions = || {
                let status = namespace.and_then(|n| n.status.clone()).unwrap_or_default();
                let said = status.conditions.unwrap_or_default().into_iter().filter(|c| c.status == "True");
                said.filter_map(|c| c.message).collect::<Vec<_>>().join("; ")
            };
            Seen::when(namespace.is_none(), conditions)
        })
        .await
    }
}

/// The program that kubectl runs for `kubectl stomaton`.
fn plugin() -> PathBuf {
    target_dir().join("debug/kubectl-stomaton")
}

/// Whether a pod's condition Ready is True.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}
