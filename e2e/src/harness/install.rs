//! Puts the operator on the cluster, as a user would: `kubectl apply -k manifests/install`. Before it, builds the
//! programs and gives the nodes their images. I/O: runs cargo and kubectl, talks to the cluster.

use super::{Doing as _, Error, Harness, fleet::EDGE, namespace::Namespace, wait, wait::Seen, workspace};
use crate::{
    cluster::{
        self,
        cmd::{self, Doing as _},
    },
    images::Image,
};
use futures::FutureExt as _;
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicyBinding, apps::v1::Deployment,
    coordination::v1::Lease,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::{fs, panic::AssertUnwindSafe, time::Duration};
use stomaton_crds::v1alpha1::EdgeWeights;
use tokio::process::Command;

/// The operator's namespace.
pub const NAMESPACE: &str = "stomaton-system";
/// The operator's Deployment, and its Lease.
pub const OPERATOR: &str = "stomaton-operator";

/// Every image has the same tag each time, so a pod template says which content it was last given.
const IMAGE_MARK: &str = "e2e.stomaton.com/image";

/// Builds the programs that images are made of. Quick when nothing changed.
pub async fn build() -> Result<(), Error> {
    // The whole workspace, as the Makefile does: another selection would give shared dependencies other features, and
    // each would be built anew.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(workspace()).args(["build", "--quiet", "--workspace"]);
    cmd::output(&mut build).await?;
    Ok(())
}

impl Harness {
    /// Makes the images whose programs changed and gives the nodes those that they lack. A cluster of the user's own
    /// has them from its registry: then there are none to give.
    pub async fn load_images(&self) -> Result<Vec<Image>, Error> {
        match self.cluster.load_images().await {
            Err(cluster::Error::NoWayToLoad) => Ok(Vec::new()),
            images => Ok(images?),
        }
    }

    /// Installs the operator and waits until it is available.
    pub async fn install(&self, images: &[Image]) -> Result<(), Error> {
        let manifests = workspace().join("manifests/install");
        self.kubectl(&["apply", "-k", &manifests.to_string_lossy()]).await?;
        let crds = ["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"];
        self.kubectl(&crds).await?;
        self.use_image(images).await?;
        self.operator_is_available(Duration::from_secs(90)).await
    }

    /// Makes the operator's pods run what was loaded last.
    async fn use_image(&self, images: &[Image]) -> Result<(), Error> {
        let Some(image) = images.iter().find(|image| image.reference.contains("/operator:")) else {
            return Ok(());
        };
        let mark = json!({"spec": {"template": {"metadata": {"annotations": {IMAGE_MARK: image.digest}}}}});
        let patch = Patch::Merge(mark);
        self.operator()
            .patch(OPERATOR, &PatchParams::default(), &patch)
            .await
            .doing("mark the operator's image")?;
        Ok(())
    }

    /// Waits until the operator's Deployment is as specified.
    pub async fn operator_is_available(&self, limit: Duration) -> Result<(), Error> {
        wait::object(&self.operator(), OPERATOR, "the operator to be available", limit, available).await
    }

    /// The pod of the operator that works, as its Lease says.
    pub async fn leading_operator(&self) -> Result<String, Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        let lease = leases.get_opt(OPERATOR).await.doing("read the operator's Lease")?;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default();
        // POD_UID, and no name of a pod has an underscore.
        match holder.split_once('_') {
            Some((pod, _)) => Ok(pod.to_owned()),
            None => Err(Error::Never {
                what: "find the operator that works".into(),
                seen: "nobody holds its Lease".into(),
            }),
        }
    }

    async fn scale_operators(&self, replicas: i32) -> Result<(), Error> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.operator().patch(OPERATOR, &PatchParams::default(), &patch).await.doing("scale the operator")?;
        self.operator_is_available(Duration::from_secs(90)).await
    }

    /// Runs `body` while there is no operator, and brings as many back as the manifest says however `body` ends: what
    /// comes after needs them.
    pub async fn without_operator(&self, body: impl AsyncFnOnce() -> Result<(), Error>) -> Result<(), Error> {
        self.scale_operators(0).await?;
        let outcome = AssertUnwindSafe(body()).catch_unwind().await;
        self.scale_operators(replicas_installed()?).await?;
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs `body` while edge objects may be written by others than the operator, as a restored etcd writes them, past
    /// every admission; `namespace` has some. The policy is there again however `body` ends.
    pub async fn past_admission(
        &self,
        namespace: &Namespace<'_>,
        body: impl AsyncFnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        const BINDING: &str = "stomaton-edge-objects";
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(self.client.clone());
        let found = bindings.get(BINDING).await.doing("read a policy's binding")?;
        let mut again = ValidatingAdmissionPolicyBinding { spec: found.spec, ..Default::default() };
        (again.metadata.name, again.metadata.labels) = (found.metadata.name, found.metadata.labels);
        bindings.delete(BINDING, &DeleteParams::default()).await.doing("take a policy away")?;
        let outcome = AssertUnwindSafe(async {
            may_delete(namespace, true).await?;
            body().await
        });
        let outcome = outcome.catch_unwind().await;
        bindings.create(&PostParams::default(), &again).await.doing("put a policy back")?;
        may_delete(namespace, false).await?;
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn operator(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

/// Waits until the API server knows whether people may delete weights.
async fn may_delete(namespace: &Namespace<'_>, wanted: bool) -> Result<(), Error> {
    let try_it = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let weights = namespace.api::<EdgeWeights>();
    wait::until("the API server to know of a policy", Duration::from_secs(60), async || {
        let answer = weights.delete(EDGE, &try_it).await;
        let refused = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 403);
        Ok(Seen::when(refused != wanted, || format!("{answer:?}")))
    })
    .await
}

/// How many operators the manifest asks for.
fn replicas_installed() -> Result<i32, Error> {
    let path = workspace().join("manifests/install/operator.yaml");
    let manifest = fs::read_to_string(&path).doing_at("read", &path)?;
    let wanted = manifest.lines().find_map(|line| line.trim().strip_prefix("replicas:")?.trim().parse().ok());
    wanted.ok_or_else(|| Error::Broken(format!("{} does not say how many operators run", path.display())))
}

/// Whether a Deployment runs exactly what its spec says, old pods gone.
pub fn available(deployment: Option<&Deployment>) -> Seen<()> {
    let Some(deployment) = deployment else { return Seen::NotYet("there is no such Deployment".into()) };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let seen = status.observed_generation >= deployment.metadata.generation;
    let counts = [status.replicas, status.updated_replicas, status.available_replicas];
    Seen::when(seen && counts.iter().all(|n| n.unwrap_or(0) == wanted), || {
        let [all, new, available] = counts.map(|n| n.unwrap_or(0));
        format!("of {wanted} pods wanted there are {all}, {new} up to date, {available} available")
    })
}
