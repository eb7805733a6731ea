//! The kind provider against a recorded stand-in of the command: what it is asked, and that its
//! answers are understood. The cluster behind it is a real API server.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use e2e::cluster::api::ApiServer;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::PostParams};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
};
use tokio::process::Command;

/// Behaves as kind 0.30 does: the same arguments, the same words on the same stream.
const KIND: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$1 $2" in
"get clusters")
    if [ -f "$here/cluster" ]; then cat "$here/cluster"; else echo "No kind clusters found." >&2; fi ;;
"create cluster"|"export kubeconfig")
    while [ $# -gt 0 ]; do
        case "$1" in --name) name=$2 ;; --kubeconfig) file=$2 ;; esac
        shift
    done
    echo "$name" > "$here/cluster"
    sed "s/\"local\"/\"kind-$name\"/g" "$here/kubeconfig" > "$file"
    echo "Creating cluster \"$name\" ..." >&2 ;;
"delete cluster") rm -f "$here/cluster"; echo "Deleted nodes: [\"kind-control-plane\"]" >&2 ;;
"load image-archive") test -f "$3" || { echo "ERROR: no such archive" >&2; exit 1; } ;;
*) echo "ERROR: unknown command" >&2; exit 1 ;;
esac
"#;

/// Answers like a Docker that runs.
const DOCKER: &str = "#!/bin/sh\ntest \"$1\" = version && echo 28.2.2\n";

struct Kind {
    dir: tempfile::TempDir,
}

impl Kind {
    fn new(kubeconfig: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, script) in [("kind", KIND), ("docker", DOCKER)] {
            let path = dir.path().join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::copy(kubeconfig, dir.path().join("kubeconfig")).unwrap();
        Self { dir }
    }

    /// Runs `e2e cluster ARGS`, without saying which provider.
    async fn e2e(&self, args: &[&str]) -> Output {
        let path = format!("{}:{}", self.dir.path().display(), std::env::var("PATH").unwrap());
        Command::new(env!("CARGO_BIN_EXE_e2e"))
            .args(["cluster", "--name", "try"])
            .args(args)
            .env("PATH", path)
            .env("XDG_STATE_HOME", self.dir.path())
            .env_remove("STOMATON_CONTEXT")
            .output()
            .await
            .unwrap()
    }

    async fn succeeds(&self, args: &[&str]) -> String {
        let output = self.e2e(args).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What kind was asked since the last time.
    fn calls(&self) -> Vec<String> {
        let file = self.dir.path().join("calls");
        let calls = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(file);
        calls.lines().map(str::to_owned).collect()
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("stomaton/kind-try.kubeconfig")
    }
}

/// A node that is Ready, as kind's would be.
async fn add_node(api: &ApiServer) {
    let node: Node = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "try-control-plane"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap();
    Api::all(api.client()).create(&PostParams::default(), &node).await.unwrap();
}

#[tokio::test]
async fn kind_is_chosen_where_docker_answers_and_used_by_few_calls() {
    let api = ApiServer::start().await.unwrap();
    add_node(&api).await;
    let kind = Kind::new(&api.kubeconfig());
    let kubeconfig = kind.kubeconfig().display().to_string();

    let printed = kind.succeeds(&["up"]).await;
    assert!(printed.contains(&format!("export KUBECONFIG={kubeconfig}")), "{printed}");
    let created = format!("create cluster --wait 120s --kubeconfig {kubeconfig} --name try");
    assert_eq!(kind.calls(), ["get clusters".to_owned(), created]);

    kind.succeeds(&["up"]).await;
    let exported = format!("export kubeconfig --kubeconfig {kubeconfig} --name try");
    assert_eq!(kind.calls(), ["get clusters".to_owned(), exported], "the second `up` creates nothing");

    let status = kind.succeeds(&["status"]).await;
    assert!(status.contains("node try-control-plane: ready"), "{status}");
    kind.succeeds(&["exec", "--", "sh", "-c", &format!("test \"$KUBECONFIG\" = {kubeconfig}")]).await;

    kind.calls();
    let archive = kind.dir.path().join("image.tar");
    fs::write(&archive, "").unwrap();
    kind.succeeds(&["load-image", &archive.display().to_string()]).await;
    assert_eq!(kind.calls(), [format!("load image-archive {} --name try", archive.display())]);

    kind.succeeds(&["down"]).await;
    assert_eq!(kind.calls(), [format!("delete cluster --kubeconfig {kubeconfig} --name try")]);
    assert!(!kind.kubeconfig().exists());
    let gone = kind.e2e(&["status"]).await;
    assert!(!gone.status.success() && String::from_utf8_lossy(&gone.stderr).contains("not running"));
}

#[tokio::test]
async fn what_kind_says_when_it_fails_is_shown() {
    let api = ApiServer::start().await.unwrap();
    let kind = Kind::new(&api.kubeconfig());
    let output = kind.e2e(&["load-image", "/nowhere.tar"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("no such archive"), "{said}");
}

#[tokio::test]
async fn an_existing_context_is_used_and_never_stopped() {
    let api = ApiServer::start().await.unwrap();
    add_node(&api).await;
    let run = async |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_e2e"));
        command
            .arg("cluster")
            .args(args)
            .env("KUBECONFIG", api.kubeconfig())
            .env("STOMATON_CONTEXT", "local");
        let output = command.output().await.unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (ok, said) = run(&["up"]).await;
    assert!(ok && said.contains("kubectl --context local get nodes"), "{said}");
    let (ok, said) = run(&["status"]).await;
    assert!(ok && said.contains("node try-control-plane: ready"), "{said}");
    let (ok, said) = run(&["down"]).await;
    assert!(!ok && said.contains("not ours to stop"), "{said}");
    let (ok, said) = run(&["up", "--context", "missing"]).await;
    assert!(!ok && said.contains("missing"), "{said}");
    let (ok, said) = run(&["up", "--provider", "local"]).await;
    assert!(!ok && said.contains("leave out --provider"), "{said}");
}
