//! A loop that does nothing but write: what the operator wrote, to another namespace, by as many workers. I/O.

use crate::{
    CONCURRENCY, Fault, SERVICES,
    server::{Server, Writes},
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ControllerRevision, Deployment},
        core::v1::Service,
        events::v1::Event,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    client::ClientBuilder,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::fmt::Debug;
use stomaton_crds::v1alpha1::StomatonService;

/// Its field manager, and how it names itself.
const BARE: &str = "bare-loop";

/// What is written for each service.
struct Work {
    client: Client,
    namespace: String,
    deployment: Value,
    service: Value,
    revision: Value,
    status: Value,
}

/// Creates the services in `to` at once, and writes for each what the operator wrote for those in `from`: `like` says
/// how often.
pub async fn run(server: &Server, from: &str, to: &str, like: &Writes) -> Result<(), Fault> {
    let model = "service-0";
    let read = server.client.clone();
    let status = Api::<StomatonService>::namespaced(read.clone(), from).get(model).await?.status;
    let work = Work {
        client: server.client_of_bare_loop()?,
        namespace: to.to_owned(),
        deployment: wanted(Api::<Deployment>::namespaced(read.clone(), from).get(model).await?)?,
        service: wanted(Api::<Service>::namespaced(read.clone(), from).get(model).await?)?,
        revision: wanted(first(Api::namespaced(read, from), model).await?)?,
        status: serde_json::to_value(status)?,
    };
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let created = async {
        for owner in server.create_services(to, SERVICES, None).await?.into_iter().enumerate() {
            sender.send(owner)?;
        }
        drop(sender);
        Ok::<_, Fault>(())
    };
    let owners =
        futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let written = owners
        .map(|(i, owner)| work.of(i, owner, like))
        .buffer_unordered(CONCURRENCY)
        .try_for_each(async |()| Ok(()));
    tokio::try_join!(created, written)?;
    Ok(())
}

impl Work {
    /// All writes for one service.
    async fn of(&self, number: usize, owner: StomatonService, like: &Writes) -> Result<(), Fault> {
        let name = owner.name_any();
        // How often something is written is not the same for all: 1.4 times means twice for two of five.
        let times = |resource: &str| {
            let count = like.by_resource.get(resource).copied().unwrap_or(0);
            count * (number + 1) / SERVICES - count * number / SERVICES
        };
        for _ in 0..times("stomatonservices") {
            let body = json!({
                "apiVersion": StomatonService::api_version(&()), "kind": StomatonService::kind(&()),
                "metadata": {"name": name, "uid": owner.uid(), "finalizers": ["fleet.stomaton.com/bare"]},
            });
            let api: Api<StomatonService> = Api::namespaced(self.client.clone(), &self.namespace);
            api.patch_metadata(&name, &PatchParams::apply(BARE).force(), &Patch::Apply(body)).await?;
        }
        for write in 0..times("controllerrevisions") {
            let mut body = self.body(&name, &owner, &self.revision)?;
            body["metadata"]["name"] = json!(format!("{name}-{write}"));
            let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &self.namespace);
            api.create(&PostParams::default(), &serde_json::from_value(body)?).await?;
        }
        for _ in 0..times("deployments") {
            self.apply::<Deployment>(&name, &owner, &self.deployment).await?;
        }
        for _ in 0..times("services") {
            self.apply::<Service>(&name, &owner, &self.service).await?;
        }
        for write in 0..times("stomatonservices/status") {
            let mut status = self.status.clone();
            // Says something new each time, as the operator's do.
            status["conditions"][0]["message"] = json!(format!("write {write}"));
            let body = json!({
                "apiVersion": StomatonService::api_version(&()), "kind": StomatonService::kind(&()),
                "metadata": {"name": name, "uid": owner.uid()}, "status": status,
            });
            let api: Api<StomatonService> = Api::namespaced(self.client.clone(), &self.namespace);
            api.patch_status(&name, &PatchParams::apply(BARE).force(), &Patch::Apply(body)).await?;
        }
        for write in 0..times("events") {
            self.event(&owner, write).await?;
        }
        Ok(())
    }

    async fn apply<K>(&self, name: &str, owner: &StomatonService, like: &Value) -> Result<(), Fault>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let body = self.body(name, owner, like)?;
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        api.patch(name, &PatchParams::apply(BARE).force(), &Patch::Apply(body)).await?;
        Ok(())
    }

    /// An object of `owner` as `like` is one of the model.
    fn body(&self, name: &str, owner: &StomatonService, like: &Value) -> Result<Value, Fault> {
        // Names of the model stand in labels and selectors, too.
        let mut body: Value = serde_json::from_str(&like.to_string().replace("service-0", name))?;
        body["metadata"]["ownerReferences"] = json!([owner.controller_owner_ref(&())]);
        Ok(body)
    }

    async fn event(&self, owner: &StomatonService, write: usize) -> Result<(), Fault> {
        let body = json!({
            "metadata": {"name": format!("{}.{write}", owner.name_any())},
            "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "RollingOut", "action": "Reconcile",
            "note": "0 of 1 pods are ready", "reportingController": BARE, "reportingInstance": BARE,
            "regarding": owner.object_ref(&()),
        });
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        api.create(&PostParams::default(), &serde_json::from_value(body)?).await?;
        Ok(())
    }
}

/// A revision of the model.
async fn first(api: Api<ControllerRevision>, model: &str) -> Result<ControllerRevision, Fault> {
    let of_model = ListParams::default().labels(&format!("fleet.stomaton.com/service={model}"));
    api.list(&of_model).await?.items.pop().ok_or_else(|| format!("{model} has no revision").into())
}

/// An object as somebody wanted it: without what the API server gave it.
fn wanted<K: Resource<DynamicType = ()> + Serialize>(mut object: K) -> Result<Value, Fault> {
    let meta = object.meta_mut();
    (meta.managed_fields, meta.uid, meta.resource_version) = (None, None, None);
    (meta.creation_timestamp, meta.generation, meta.namespace) = (None, None, None);
    let mut object = serde_json::to_value(object)?;
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(spec) = object["spec"].as_object_mut() {
        // An address is given once.
        for field in ["clusterIP", "clusterIPs"] {
            spec.remove(field);
        }
    }
    Ok(object)
}

impl Server {
    /// A client that the audit log knows from all others.
    fn client_of_bare_loop(&self) -> Result<Client, Fault> {
        let agent = http::HeaderValue::from_static(BARE);
        let config = self.api.config();
        let named =
            tower::util::MapRequestLayer::new(move |mut request: http::Request<kube::client::Body>| {
                request.headers_mut().insert(http::header::USER_AGENT, agent.clone());
                request
            });
        Ok(ClientBuilder::try_from(config)?.with_layer(&named).build())
    }
}

/// The loop's writes among these requests.
pub fn writes(requests: &[Value]) -> Result<Writes, Fault> {
    Writes::of(requests, |request| request["userAgent"] == BARE)
}
