//! StomatonServices on the API server: made at once, and waited for. I/O.

use crate::{Fault, server::Server};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;
use std::time::{Duration, Instant};
use stomaton_crds::v1alpha1::StomatonService;

/// Objects that are created at the same time.
const CREATED_AT_ONCE: usize = 32;

impl Server {
    /// Creates services `PREFIX-0`, `PREFIX-1`, … at once, and gives them.
    pub async fn create_services(
        &self,
        namespace: &str,
        count: usize,
        prefix: Option<&str>,
    ) -> Result<Vec<StomatonService>, Fault> {
        let api: Api<StomatonService> = Api::namespaced(self.client.clone(), namespace);
        let prefix = prefix.unwrap_or("service");
        let create = |i: usize| {
            let api = api.clone();
            let body = json!({
                "apiVersion": "fleet.stomaton.com/v1alpha1", "kind": "StomatonService",
                "metadata": {"name": format!("{prefix}-{i}")},
                "spec": {"image": "fleet:1", "port": 8001, "env": [{"name": "NUMBER", "value": i.to_string()}]},
            });
            async move {
                let service: StomatonService = serde_json::from_value(body)?;
                Ok::<_, Fault>(api.create(&PostParams::default(), &service).await?)
            }
        };
        futures::stream::iter(0..count).map(create).buffer_unordered(CREATED_AT_ONCE).try_collect().await
    }

    /// Waits until each service has a status, and its Deployment is there.
    pub async fn all_deployed(&self, namespace: &str, count: usize, limit: Duration) -> Result<(), Fault> {
        let services: Api<StomatonService> = Api::namespaced(self.client.clone(), namespace);
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let begun = Instant::now();
        loop {
            let all = ListParams::default();
            let said = services.list(&all).await?.items.iter().filter(|s| s.status.is_some()).count();
            let deployed = deployments.list_metadata(&all).await?.items.len();
            if said >= count && deployed >= count {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err(
                    format!("of {count} services {deployed} are deployed and {said} have a status").into()
                );
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until a service has a Deployment.
    pub async fn deployed(&self, namespace: &str, name: &str, limit: Duration) -> Result<(), Fault> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let begun = Instant::now();
        while deployments.get_metadata_opt(name).await?.is_none() {
            if begun.elapsed() > limit {
                return Err(format!("{name} is not deployed").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
