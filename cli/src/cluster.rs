//! Calls to the API server, each within a time. I/O.

use crate::{
    args::Access,
    direct::{Chosen, Latch, latch},
    error::{CALL_SECONDS, Error, LOOK_SECONDS},
};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client, Config, Resource, ResourceExt as _,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, DynamicObject},
};
use serde_json::Value;
use std::time::Duration;
use stomaton_crds::v1alpha1::{EdgeWeights, EdgeWeightsSpec, MigrationPlan, PlanAction, PlanActionStatus};
use tokio::time::{Instant, sleep, timeout};

/// Between two looks at an act.
const LOOK: Duration = Duration::from_millis(250);
/// Tries to be first with EdgeWeights.
const TRIES: usize = 5;

/// One namespace of a cluster.
pub struct Cluster {
    client: Client,
    /// Its name.
    pub namespace: String,
}

impl Cluster {
    /// Finds the cluster as kubectl does.
    pub async fn connect(access: &Access) -> Result<Self, Error> {
        let mut config = config(access).await?;
        // Its retries can sleep for minutes inside a call.
        config.default_retry = false;
        let namespace = access.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| Error::NoCluster(root(&error)))?;
        Ok(Self { client, namespace })
    }

    /// The plan of this name, or the only one.
    pub async fn plan(&self, name: Option<&str>) -> Result<MigrationPlan, Error> {
        let api: Api<MigrationPlan> = self.api();
        if let Some(name) = name {
            let doing = format!("read MigrationPlan {}/{name}", self.namespace);
            return call(doing, api.get(name)).await;
        }
        let doing = format!("list MigrationPlans of namespace {}", self.namespace);
        let mut plans = call(doing, api.list(&ListParams::default())).await?.items;
        let names = plans.iter().map(|plan| plan.name_any()).collect::<Vec<_>>().join(", ");
        let namespace = self.namespace.clone();
        match (plans.pop(), plans.is_empty()) {
            (Some(plan), true) => Ok(plan),
            (None, _) => Err(Error::NoPlan { namespace }),
            (Some(_), false) => Err(Error::SeveralPlans { namespace, names }),
        }
    }

    /// An object as the API server gives it, with the fields that this program does not know.
    pub async fn raw<K: Resource<DynamicType = ()>>(&self, name: &str) -> Result<Value, Error> {
        let resource = ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let what = format!("{} {}/{name}", resource.kind, self.namespace);
        let object = call(format!("read {what}"), api.get(name)).await?;
        serde_json::to_value(object).map_err(|why| Error::Unreadable { what, why: why.to_string() })
    }

    /// Who the API server says we are.
    pub async fn user(&self) -> Result<String, Error> {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let doing = "ask the API server who you are";
        let (params, question) = (PostParams::default(), SelfSubjectReview::default());
        let review = call(doing.to_owned(), api.create(&params, &question)).await?;
        let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
        user.filter(|name| !name.is_empty()).ok_or_else(|| Error::Call {
            doing: doing.to_owned(),
            why: "it gives no name".to_owned(),
            advice: "Log in to the cluster again: `kubectl auth whoami` must give a name.".to_owned(),
        })
    }

    /// Makes an act.
    pub async fn create(&self, act: &PlanAction) -> Result<(), Error> {
        let api: Api<PlanAction> = self.api();
        let doing = format!("create PlanAction {}/{}", self.namespace, act.name_any());
        call(doing, api.create(&PostParams::default(), act)).await.map(|_| ())
    }

    /// What became of an act. The operator has some seconds to look at it.
    pub async fn outcome(&self, name: &str) -> Result<PlanActionStatus, Error> {
        let api: Api<PlanAction> = self.api();
        let deadline = Instant::now() + Duration::from_secs(LOOK_SECONDS);
        loop {
            let doing = format!("read PlanAction {}/{name}", self.namespace);
            if let Some(status) = call(doing, api.get(name)).await?.status {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Error::Unseen { name: name.to_owned(), namespace: self.namespace.clone() });
            }
            sleep(LOOK).await;
        }
    }

    /// Latches routes in the weights of an edge, on what is there at that moment.
    pub async fn latch(&self, gateway: &str, chosen: &[Chosen]) -> Result<Latch, Error> {
        let api: Api<EdgeWeights> = self.api();
        for _ in 0..TRIES {
            let doing = format!("read EdgeWeights {}/{gateway}", self.namespace);
            let present = call(doing, api.get(gateway)).await?;
            let latch = latch(&present.spec, chosen);
            let Some(spec) = latch.spec.clone() else { return Ok(latch) };
            if replace(&api, gateway, present, spec).await? {
                return Ok(latch);
            }
        }
        Err(Error::Contended { name: gateway.to_owned(), tries: TRIES })
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Whether it was the first: the resourceVersion that was read goes along.
async fn replace(
    api: &Api<EdgeWeights>,
    name: &str,
    present: EdgeWeights,
    spec: EdgeWeightsSpec,
) -> Result<bool, Error> {
    let mut object = EdgeWeights { spec, ..present };
    object.metadata.managed_fields = None;
    let params = PostParams::default();
    let put = async {
        match api.replace(name, &params, &object).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    };
    call(format!("write EdgeWeights {name}"), put).await
}

async fn config(access: &Access) -> Result<Config, Error> {
    let options = KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
    if let Some(file) = &access.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(file).map_err(|error| Error::NoCluster(error.to_string()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        return config.map_err(|error| Error::NoCluster(error.to_string()));
    }
    if access.context.is_some() {
        let config = Config::from_kubeconfig(&options).await;
        return config.map_err(|error| Error::NoCluster(error.to_string()));
    }
    Config::infer().await.map_err(|error| Error::NoCluster(error.to_string()))
}

/// Makes a call. `doing` stands after "cannot".
async fn call<T>(doing: String, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match timeout(Duration::from_secs(CALL_SECONDS), call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Error::Call { doing, why: reason(&error), advice: advice(&error).to_owned() }),
        Err(_) => Err(Error::Timeout { doing }),
    }
}

/// The words for a person: the API server's own, or the innermost of the way to it.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => root(other),
    }
}

fn root(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn advice(error: &kube::Error) -> &'static str {
    let kube::Error::Api(status) = error else {
        return "Is the right cluster meant, and is it up? `kubectl cluster-info` says.";
    };
    match status.code {
        401 => "Log in to the cluster again: `kubectl auth whoami` must give your name.",
        403 => "You do not have that right: `kubectl auth can-i --list -n NAMESPACE` shows what you may do.",
        // Of a kind that is not served the API server says it without the name of an object.
        404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => {
            "Is Stomaton installed in this cluster? `kubectl get crd migrationplans.fleet.stomaton.com planactions.fleet.stomaton.com`."
        }
        404 => "Check the name and the namespace (-n): `kubectl get mplan,sgw,edgeweights -A`.",
        _ => "Run the command again; if it stays so, the message above is what to search for.",
    }
}
