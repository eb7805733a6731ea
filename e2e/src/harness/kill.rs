//! Ends containers and processes as the kernel would when memory runs out: SIGKILL, no warning, the pod stays. Inside
//! its own namespace a container's first process can't be killed, so a pod that shares the node's processes does it;
//! that works on every cluster that admits privileged pods. I/O: the API server; in the pod, signals.

use super::{Doing as _, Error, Harness, namespace::Namespace, wait, wait::Seen};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{fs, time::Duration};

/// Where the killing pods run.
const NAMESPACE: &str = "e2e-node";
const WITHIN: Duration = Duration::from_secs(30);
/// An API server and all that has to find it again; a container that was killed before, which the kubelet holds back
/// for 10, 20 and then 40 s.
const BACK_WITHIN: Duration = Duration::from_secs(120);

/// Arguments of `e2e kill`, which runs in a pod.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Processes of this container: its identifier, without `containerd://`.
    #[arg(long, required_unless_present = "process")]
    container: Option<String>,
    /// Processes of this name: a word of their command line is it, or it is how that begins.
    #[arg(long)]
    process: Option<String>,
    /// The first of them only, by number.
    #[arg(long)]
    first: bool,
}

/// Why no process was ended.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// There is none such here.
    #[error("no process is {0}: is this its node, with the node's processes shared?")]
    NotHere(String),
    /// Too short to name one container.
    #[error("{0:?} is no container's identifier: those have 64 hexadecimal digits")]
    NoIdentifier(String),
}

/// Sends SIGKILL to processes of this node.
pub fn run(args: &Args) -> Result<(), KillError> {
    if let Some(id) = &args.container
        && (id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return Err(KillError::NoIdentifier(id.clone()));
    }
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let killed = pids
        .into_iter()
        .filter(|pid| args.means(*pid))
        .filter_map(Pid::from_raw)
        .filter(|pid| kill_process(*pid, Signal::KILL).is_ok())
        .take(if args.first { 1 } else { usize::MAX });
    if killed.count() == 0 { Err(KillError::NotHere(format!("{args:?}"))) } else { Ok(()) }
}

impl Args {
    fn means(&self, pid: i32) -> bool {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let of_container = |id: &String| String::from_utf8_lossy(&read("cgroup")).contains(id.as_str());
        let of_name = |name: &String| is_called(&String::from_utf8_lossy(&read("cmdline")), name);
        // The killer's own command line has the name, too.
        i32::try_from(std::process::id()) != Ok(pid)
            && self.container.as_ref().is_none_or(of_container)
            && self.process.as_ref().is_none_or(of_name)
    }
}

/// Whether a command line, its words apart by NUL, is that of a process of this name.
fn is_called(command: &str, name: &str) -> bool {
    let is_it = |word: &str| word.rsplit('/').next() == Some(name);
    // The Kubernetes binary is told with its first argument what to be.
    command.starts_with(name) || command.split('\0').take(2).any(is_it)
}

impl Harness {
    /// Kills a container of a pod with SIGKILL, and waits until the kubelet has started it again.
    pub async fn kill(&self, pods: &Api<Pod>, pod: &str, container: &str) -> Result<(), Error> {
        let found = pods.get(pod).await.doing(format!("read the pod {pod}"))?;
        let (before, id) = running(&found, container).ok_or_else(|| Error::Never {
            what: format!("kill {container} of {pod}"),
            seen: "it does not run".into(),
        })?;
        self.kill_on(&node_of(&found), &["--container", &id]).await?;
        let what = format!("{container} of {pod} to run again");
        wait::object(pods, pod, &what, BACK_WITHIN, |pod| match pod.and_then(|pod| running(pod, container)) {
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

    /// Kills one worker of the NGINX of an edge pod with SIGKILL. NGINX starts another one by itself.
    pub async fn kill_worker(&self, pods: &Api<Pod>, pod: &str) -> Result<(), Error> {
        let found = pods.get(pod).await.doing(format!("read the pod {pod}"))?;
        let (_, id) = running(&found, "nginx").ok_or_else(|| Error::Never {
            what: format!("kill a worker of {pod}"),
            seen: "its NGINX does not run".into(),
        })?;
        let worker = ["--container", &id, "--process", "nginx: worker process", "--first"];
        self.kill_on(&node_of(&found), &worker).await
    }

    /// Kills the API server of every node that has one with SIGKILL, and waits until it answers again. Whoever keeps it
    /// running starts it again.
    pub async fn kill_api_server(&self) -> Result<(), Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nodes = nodes.list(&ListParams::default()).await.doing("list the nodes")?.items;
        let labelled = |node: &&Node| node.labels().contains_key("node-role.kubernetes.io/control-plane");
        let control: Vec<_> = nodes.iter().filter(labelled).collect();
        let control = if control.is_empty() { nodes.iter().collect() } else { control };
        for node in control {
            self.kill_on(&node.name_any(), &["--process", "kube-apiserver"]).await?;
        }
        let namespaces: Api<NamespaceObject> = Api::all(self.client.clone());
        wait::until("the API server to answer", BACK_WITHIN, async || {
            namespaces.list(&ListParams::default().limit(1)).await.doing("list namespaces")?;
            Ok(Seen::Yes(()))
        })
        .await
    }

    /// Runs `e2e kill` with these arguments on a node.
    async fn kill_on(&self, node: &str, args: &[&str]) -> Result<(), Error> {
        let namespace = self.node_namespace().await?;
        let pods = namespace.api::<Pod>();
        let pod: Pod = serde_json::from_value(killer(node, args))
            .map_err(|source| Error::Unreadable { what: "the manifest of a killing pod".into(), source })?;
        let made = pods.create(&PostParams::default(), &pod).await.doing("create the killing pod")?;
        let (name, what) = (made.name_any(), format!("the kill on {node} of {args:?}"));
        // Killing the API server takes the way back of this news along.
        wait::object(&pods, &name, &what, BACK_WITHIN, |pod| {
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

fn node_of(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default()
}

fn killer(node: &str, args: &[&str]) -> Value {
    let args = [&["kill"], args].concat();
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
                "args": args,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_known_by_their_words_and_titles() {
        assert!(is_called("/cache/kube\0kube-apiserver\0--etcd-servers=x\0", "kube-apiserver"));
        assert!(is_called("/bin/kube-apiserver\0--etcd-servers=x\0", "kube-apiserver"));
        assert!(is_called("nginx: worker process\0\0", "nginx: worker process"));
        assert!(!is_called("nginx: master process /bin/nginx\0", "nginx: worker process"));
        assert!(!is_called("/bin/kubelet\0--x\0kube-apiserver\0", "kube-apiserver"));
        assert!(!is_called("", "kube-apiserver"));
    }
}
