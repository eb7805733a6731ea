//! The api mode of the local cluster: a real control plane for tests, gone when they are.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use e2e::cluster::api::ApiServer;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Namespace};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use std::{path::Path, process::Stdio, time::Duration};

fn namespace(name: &str) -> Namespace {
    serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).unwrap()
}

/// Waits until a condition holds; the timeout is a failure of the test, never its rhythm.
async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}: not within 30 s"));
}

/// The processes whose command line names this directory.
fn processes_of(dir: &Path) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&*dir.to_string_lossy())).collect()
}

#[tokio::test]
async fn two_clusters_serve_side_by_side_and_leave_nothing() {
    let (one, two) = tokio::join!(ApiServer::start(), ApiServer::start());
    let (one, two) = (one.unwrap(), two.unwrap());
    let namespaces: Api<Namespace> = Api::all(one.client());
    let elsewhere: Api<Namespace> = Api::all(two.client());
    namespaces.create(&PostParams::default(), &namespace("stones")).await.unwrap();
    assert!(elsewhere.get_opt("stones").await.unwrap().is_none(), "each has a store of its own");

    // The controller manager works: it empties and removes a namespace.
    namespaces.delete("stones", &DeleteParams::default()).await.unwrap();
    eventually("the namespace goes", || async { namespaces.get_opt("stones").await.unwrap().is_none() })
        .await;

    let dir = one.kubeconfig().parent().unwrap().to_owned();
    assert_eq!(processes_of(&dir).len(), 3, "{:?}", processes_of(&dir));
    drop(one);
    assert_eq!(processes_of(&dir), Vec::<String>::new());
    assert!(!dir.exists());
}

#[tokio::test]
async fn rights_requests_and_outages_can_be_tested() {
    let mut api = ApiServer::start().await.unwrap();
    let stranger = api.client_as("stranger", &["system:authenticated"]).unwrap();
    let refused = Api::<Namespace>::all(stranger).get("default").await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    let audit = std::fs::read_to_string(api.audit_log()).unwrap();
    assert!(audit.lines().any(|line| line.contains("stranger") && line.contains(r#""code":403"#)));

    let namespaces: Api<Namespace> = Api::all(api.client());
    let before = namespaces.get("default").await.unwrap();
    api.interrupt().unwrap();
    assert!(namespaces.get("default").await.is_err());
    api.resume().await.unwrap();
    assert_eq!(namespaces.get("default").await.unwrap().uid(), before.uid(), "the store outlives the server");
}

#[tokio::test]
async fn deployments_become_pods_without_a_node() {
    let api = ApiServer::start().await.unwrap();
    let client = api.client();
    let deployment: Deployment = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web"}]},
            },
        },
    }))
    .unwrap();
    Api::namespaced(client.clone(), "default").create(&PostParams::default(), &deployment).await.unwrap();
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client, "default");
    eventually("a pod is made", || async { !pods.list(&Default::default()).await.unwrap().items.is_empty() })
        .await;
}

#[tokio::test]
async fn a_killed_starter_leaves_no_process() {
    use std::io::{BufRead as _, BufReader};
    let mut starter = std::process::Command::new(env!("CARGO_BIN_EXE_e2e"))
        .args(["cluster", "api"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(starter.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let dir = Path::new(said.trim().strip_prefix("export KUBECONFIG=").unwrap()).parent().unwrap();
    assert_eq!(processes_of(dir).len(), 3);
    starter.kill().unwrap();
    starter.wait().unwrap();
    eventually("the components end", || async { processes_of(dir).is_empty() }).await;
    std::fs::remove_dir_all(dir).unwrap();
}
