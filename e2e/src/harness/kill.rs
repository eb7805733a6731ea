//! Ends a container as the kernel would when memory runs out: SIGKILL, no warning, the pod stays. Inside its own
//! namespace a container's first process can't be killed, so a pod that shares the node's processes does it; that
//! works on every cluster that admits privileged pods. I/O: the API server; in the pod, signals.

use super::{Doing as _, Error, Harness, namespace::Namespace, wait, wait::Seen};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::{fs, time::Duration};

/// Where the killing pods run.
const NAMESPACE: &str = "e2e-node";
const WITHIN: Duration = Duration::from_secs(30);

/// Arguments of `e2e kill-container`, which runs in a pod.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Identifier of the container, without `containerd://`.
    container: String,
}

/// Why no process was ended.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// The container is not here.
    #[error("no process belongs to container {0}: is this the container's node, with its processes shared?")]
    NotHere(String),
    /// Too short to name one container.
    #[error("{0:?} is no container's identifier: those have 64 hexadecimal digits")]
    NoIdentifier(String),
}

/// Sends SIGKILL to every process of a container of this node.
pub fn run(args: &Args) -> Result<(), KillError> {
    let id = &args.container;
    if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(KillError::NoIdentifier(id.clone()));
    }
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let of_container = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(id.as_str()))
    };
    let killed = pids
        .filter(of_container)
        .filter_map(rustix::process::Pid::from_raw)
        .filter(|pid| rustix::process::kill_process(*pid, rustix::process::Signal::KILL).is_ok());
    if killed.count() == 0 { Err(KillError::NotHere(id.clone())) } else { Ok(()) }
}

impl Harness {
    /// Kills a container of a pod with SIGKILL, and waits until the kubelet has started it again.
    pub async fn kill(&self, pods: &Api<Pod>, pod: &str, container: &str) -> Result<(), Error> {
        let found = pods.get(pod).await.doing(format!("read the pod {pod}"))?;
        let (before, id) = running(&found, container).ok_or_else(|| Error::Never {
            what: format!("kill {container} of {pod}"),
            seen: "it does not run".into(),
        })?;
        let node = found.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        self.kill_on(&node, &id).await?;
        let what = format!("{container} of {pod} to run again");
        wait::object(pods, pod, &what, WITHIN, |pod| match pod.and_then(|pod| running(pod, container)) {
            Some((restarts, _)) if restarts > before => Seen::Yes(()),
            Some((restarts, _)) => Seen::NotYet(format!("{restarts} restarts, {before} before")),
            None => Seen::NotYet("it does not run".into()),
        })
        .await
    }

    /// Kills the container of the operator that works with SIGKILL, and waits until it runs again. Gives its pod.
    pub async fn kill_operator(&self) -> Result<String, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), super::install::NAMESPACE);
        let pod = wait::until("an operator to work", WITHIN, async || {
            let leader = self.leading_operator().await?;
            let pod = pods.get_opt(&leader).await.doing("read the operator's pod")?;
            // A leader that was killed a moment ago is still in the Lease.
            Ok(match pod.as_ref().and_then(|pod| running(pod, "operator")) {
                Some(_) => Seen::Yes(leader),
                None => Seen::NotYet(format!("{leader} leads and does not run")),
            })
        })
        .await?;
        self.kill(&pods, &pod, "operator").await?;
        Ok(pod)
    }

    async fn kill_on(&self, node: &str, container_id: &str) -> Result<(), Error> {
        let namespace = self.node_namespace().await?;
        let pods = namespace.api::<Pod>();
        let pod: Pod = serde_json::from_value(killer(node, container_id))
            .map_err(|source| Error::Unreadable { what: "the manifest of a killing pod".into(), source })?;
        let made = pods.create(&PostParams::default(), &pod).await.doing("create the killing pod")?;
        let (name, what) = (made.name_any(), format!("container {container_id} to be killed"));
        wait::object(&pods, &name, &what, WITHIN, |pod| {
            let status = pod.and_then(|pod| pod.status.clone()).unwrap_or_default();
            match status.phase.as_deref() {
                Some("Succeeded") => Seen::Yes(()),
                Some("Failed") => {
                    Seen::Never(format!("the killing pod {NAMESPACE}/{name} failed: see its log"))
                }
                phase => Seen::NotYet(format!("the killing pod is {}", phase.unwrap_or("new"))),
            }
        })
        .await?;
        pods.delete(&name, &DeleteParams::default()).await.map(drop).doing("delete the killing pod")
    }

    /// The namespace in which pods may see the node's processes.
    async fn node_namespace(&self) -> Result<Namespace<'_>, Error> {
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
        });
        let namespaces: Api<NamespaceObject> = Api::all(self.client.clone());
        let apply = PatchParams::apply("e2e");
        namespaces
            .patch(NAMESPACE, &apply, &Patch::Apply(object))
            .await
            .doing("make the node's namespace")?;
        Ok(Namespace::named(self, NAMESPACE))
    }
}

/// A container's restarts and identifier, if it runs.
fn running(pod: &Pod, container: &str) -> Option<(i32, String)> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == container)?;
    status.state.as_ref()?.running.as_ref()?;
    let id = status.container_id.as_deref()?.rsplit_once("://")?.1;
    Some((status.restart_count, id.to_owned()))
}

fn killer(node: &str, container_id: &str) -> Value {
    json!({
        "metadata": {"generateName": "kill-"},
        "spec": {
            "nodeName": node,
            "hostPID": true,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "kill",
                "image": "stomaton/load:dev",
                "args": ["kill-container", container_id],
                "securityContext": {
                    "runAsUser": 0,
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"], "add": ["KILL"]},
                },
            }],
        },
    })
}
