//! Everything about a namespace into files, and the gist on the screen: for a test that failed. I/O: kubectl, files.

use super::{Harness, install, namespace::Namespace, target_dir};
use crate::cluster::cmd::tail;
use std::{fs, path::Path};

const OURS: &str = "stomatonservices,gateways,migrationplans,planactions,edgeconfigs,edgeweights";
// No Secrets.
const THEIRS: &str = "deployments,replicasets,controllerrevisions,horizontalpodautoscalers,poddisruptionbudgets,\
                      services,endpointslices,pods,jobs,cronjobs";

/// Writes objects, events and logs to `target/e2e/NAMESPACE/` and prints a digest. What can't be had is left out:
/// a dump must not hide why it was made.
pub(crate) async fn dump(namespace: &Namespace<'_>) {
    let dir = target_dir().join("e2e").join(&namespace.name);
    if fs::create_dir_all(&dir).is_err() {
        return;
    }
    let harness = namespace.harness;
    let everything = format!("{OURS},{THEIRS}");
    keep(&dir, "objects.yaml", &said(harness, &namespace.name, &["get", &everything, "-o", "yaml"]).await);
    let events = said(harness, &namespace.name, &["get", "events", "--sort-by=.lastTimestamp"]).await;
    keep(&dir, "events.txt", &events);
    logs(harness, &dir, &namespace.name).await;
    let operators = logs(harness, &dir, install::NAMESPACE).await;
    let leader = harness.leading_operator().await.unwrap_or_else(|error| error.to_string());

    eprintln!("\n--- {} ---", namespace.name);
    eprintln!("{}", said(harness, &namespace.name, &["get", "ssvc,sgw,mplan,pods", "-o", "wide"]).await);
    let warnings: Vec<_> = events.lines().filter(|line| line.contains("Warning")).collect();
    eprintln!("last warnings:\n{}", tail(&warnings.join("\n"), 10));
    for (pod, log) in operators {
        let role = if pod == leader { "leads" } else { "stands by" };
        eprintln!("operator {pod}, which {role}:\n{}", tail(&log, 10));
    }
    eprintln!("all of it: {}", dir.display());
}

/// Writes the logs of every pod of a namespace, and gives them by pod.
async fn logs(harness: &Harness, dir: &Path, namespace: &str) -> Vec<(String, String)> {
    let names = said(harness, namespace, &["get", "pods", "-o", "name"]).await;
    let mut logs = Vec::new();
    for pod in names.lines() {
        let all = ["logs", pod, "--all-containers", "--prefix", "--tail=5000"];
        let log = said(harness, namespace, &all).await;
        let name = pod.trim_start_matches("pod/");
        keep(dir, &format!("{name}.log"), &log);
        logs.push((name.to_owned(), log));
        let before = said(harness, namespace, &[&all[..], &["--previous"]].concat()).await;
        if !before.contains("not found") {
            keep(dir, &format!("{name}.previous.log"), &before);
        }
    }
    logs
}

async fn said(harness: &Harness, namespace: &str, args: &[&str]) -> String {
    let args = [&["--namespace", namespace], args].concat();
    harness.kubectl(&args).await.unwrap_or_else(|error| error.to_string())
}

fn keep(dir: &Path, name: &str, text: &str) {
    if let Err(error) = fs::write(dir.join(name), text) {
        eprintln!("cannot write {name}: {error}");
    }
}
