//! Clients, and waiting for a cluster to answer.
//! Takes a kubeconfig, gives a client or the moment it works. I/O: talks to the API server.

use super::provider::Access;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Why there is no client for a kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be read, or lacks the context.
    #[error("read the kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The client cannot be made, or the API server refused.
    #[error("talk to the cluster: {0}")]
    Client(#[from] kube::Error),
    /// The cluster did not get there in time.
    #[error("{what} was not ready after {seconds} s")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        seconds: u64,
    },
}

/// Reads the configuration by which a cluster is reached.
pub(crate) async fn config(access: &Access) -> Result<Config, Error> {
    let options = KubeConfigOptions { context: access.context.clone(), ..Default::default() };
    let kubeconfig = match &access.kubeconfig {
        Some(file) => Kubeconfig::read_from(file)?,
        None => Kubeconfig::read()?,
    };
    Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?)
}

/// Makes a client from a kubeconfig file.
pub(crate) async fn client(kubeconfig: PathBuf) -> Result<Client, Error> {
    Ok(Client::try_from(config(&Access { kubeconfig: Some(kubeconfig), context: None }).await?)?)
}

/// Whether the API server answers `/readyz` with success, within two seconds.
pub(crate) async fn api_is_ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
    matches!(tokio::time::timeout(Duration::from_secs(2), client.request_text(request)).await, Ok(Ok(_)))
}

/// Waits until the API server says it is ready.
pub(crate) async fn api(client: &Client) -> Result<(), Error> {
    until("the API server", 60, || api_is_ready(client)).await
}

/// Waits until a node is Ready and pods can be created (they need the default service account).
pub(crate) async fn node(client: &Client) -> Result<(), Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    until("the node", 120, || async {
        let Ok(list) = nodes.list(&Default::default()).await else { return false };
        list.items.iter().any(is_ready) && accounts.get("default").await.is_ok()
    })
    .await
}

/// Whether a node's condition Ready is True.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn until<F: Future<Output = bool>>(
    what: &'static str,
    seconds: u64,
    mut check: impl FnMut() -> F,
) -> Result<(), Error> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        if check().await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Error::Timeout { what, seconds })
}
