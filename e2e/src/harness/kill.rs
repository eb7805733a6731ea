//! Ends containers and processes as the kernel would when memory runs out: SIGKILL, no warning, the pod stays. Or stops
//! them for a while: alive, and they do nothing. Inside its own namespace a container's first process can't be killed, so a pod that shares the node's processes does it;
//! that works on every cluster that admits privileged pods. I/O: the API server; in the pod, signals.

use super::{Doing as _, Error, Harness, namespace::Namespace, wait, wait::Seen};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Node, Pod, PodStatus};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{fs, ops::Range, time::Duration};

/// Where the killing pods run.
const NAMESPACE: &str = "e2e-node";
const WITHIN: Duration = Duration::from_secs(30);
const API_SERVER: &str = "kube-apiserver";
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
    /// Stop them for so many seconds and let them go on, instead of ending them.
    #[arg(long, value_name = "SECONDS")]
    pause: Option<u64>,
    /// Wait so many seconds before anything.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    after: u64,
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

/// Sends signals to processes of this node.
pub fn run(args: &Args) -> Result<(), KillError> {
    if let Some(id) = &args.container
        && (id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return Err(KillError::NoIdentifier(id.clone()));
    }
    std::thread::sleep(Duration::from_secs(args.after));
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.retain(|pid| args.means(*pid));
    pids.truncate(if args.first { 1 } else { usize::MAX });
    let send = |signal| {
        let found = pids.iter().filter_map(|pid| Pid::from_raw(*pid));
        found.filter(|pid| kill_process(*pid, signal).is_ok()).count()
    };
    let reached = send(if args.pause.is_some() { Signal::STOP } else { Signal::KILL });
    if reached == 0 {
        return Err(KillError::NotHere(format!("{args:?}")));
    }
    if let Some(seconds) = args.pause {
        std::thread::sleep(Duration::from_secs(seconds));
        send(Signal::CONT);
    }
    Ok(())
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
        self.signal_on(&node_of(&found), &["--container", &id], nothing).await?;
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
        self.signal_on(&node_of(&found), &worker, nothing).await.map(drop)
    }

    /// Stops a container of a pod for so many seconds: it is alive, and does nothing. Runs `meanwhile`, and returns when
    /// the container goes on.
    pub async fn pause(
        &self,
        pods: &Api<Pod>,
        pod: &str,
        container: &str,
        seconds: u64,
        meanwhile: impl AsyncFnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let found = pods.get(pod).await.doing(format!("read the pod {pod}"))?;
        let (_, id) = running(&found, container).ok_or_else(|| Error::Never {
            what: format!("stop {container} of {pod}"),
            seen: "it does not run".into(),
        })?;
        let args = ["--container", &id, "--pause", &seconds.to_string()];
        self.signal_on(&node_of(&found), &args, meanwhile).await.map(drop)
    }

    /// Runs `before`, and so many seconds after it was begun stops the only API server for so many seconds. Gives from when
    /// to when, in microseconds since the Unix epoch: the whole seconds within.
    pub async fn pause_api_server(
        &self,
        after: u64,
        seconds: u64,
        before: impl AsyncFnOnce() -> Result<(), Error>,
    ) -> Result<Range<u64>, Error> {
        let nodes = self.control_nodes().await?;
        let [node] = nodes.as_slice() else {
            return Err(Error::Broken(format!("the API servers of {nodes:?} cannot stop together")));
        };
        let (later, long) = (after.to_string(), seconds.to_string());
        let args = ["--process", API_SERVER, "--after", &later, "--pause", &long];
        let ran = self.signal_on(node, &args, before).await?;
        Ok(ran.start + after * 1_000_000..ran.end)
    }

    /// Kills the API server of every node that has one with SIGKILL, and waits until it answers again. Whoever keeps it
    /// running starts it again.
    pub async fn kill_api_server(&self) -> Result<(), Error> {
        for node in self.control_nodes().await? {
            self.signal_on(&node, &["--process", API_SERVER], nothing).await?;
        }
        let namespaces: Api<NamespaceObject> = Api::all(self.client.clone());
        wait::until("the API server to answer", BACK_WITHIN, async || {
            namespaces.list(&ListParams::default().limit(1)).await.doing("list namespaces")?;
            Ok(Seen::Yes(()))
        })
        .await
    }

    /// Nodes that have an API server.
    async fn control_nodes(&self) -> Result<Vec<String>, Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nodes = nodes.list(&ListParams::default()).await.doing("list the nodes")?.items;
        let labelled = |node: &&Node| node.labels().contains_key("node-role.kubernetes.io/control-plane");
        let control: Vec<_> = nodes.iter().filter(labelled).map(|node| node.name_any()).collect();
        // A single node need not say so.
        Ok(if control.is_empty() { nodes.iter().map(|node| node.name_any()).collect() } else { control })
    }

    /// Runs `e2e kill` with these arguments on a node, and `meanwhile` as soon as it runs. Gives when it began and ended, in
    /// microseconds since the Unix epoch: the whole seconds within.
    async fn signal_on(
        &self,
        node: &str,
        args: &[&str],
        meanwhile: impl AsyncFnOnce() -> Result<(), Error>,
    ) -> Result<Range<u64>, Error> {
        let namespace = self.node_namespace().await?;
        let pods = namespace.api::<Pod>();
        let pod: Pod = serde_json::from_value(killer(node, args))
            .map_err(|source| Error::Unreadable { what: "the manifest of a killing pod".into(), source })?;
        let made = pods.create(&PostParams::default(), &pod).await.doing("create the killing pod")?;
        let (name, what) = (made.name_any(), format!("`e2e kill` on {node} with {args:?}"));
        let reaches = async |phases: &[&str]| {
            // Killing the API server takes the way back of this news along.
            wait::object(&pods, &name, &what, BACK_WITHIN, |pod| {
                let status = pod.and_then(|pod| pod.status.clone()).unwrap_or_default();
                match status.phase.as_deref() {
                    Some("Failed") => Seen::Never(format!("the pod {NAMESPACE}/{name} failed: see its log")),
                    Some(phase) if phases.contains(&phase) => Seen::Yes(lasted(&status)),
                    phase => Seen::NotYet(format!("its pod is {}", phase.unwrap_or("new"))),
                }
            })
            .await
        };
        reaches(&["Running", "Succeeded"]).await?;
        let outcome = meanwhile().await;
        // Whatever came of it: what was stopped goes on before anything else is done.
        let lasted = reaches(&["Succeeded"]).await?;
        pods.delete(&name, &DeleteParams::default()).await.doing("delete the killing pod")?;
        outcome.map(|()| lasted)
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

/// Nothing to do meanwhile.
async fn nothing() -> Result<(), Error> {
    Ok(())
}

/// The whole seconds in which the only container of a pod ran, in microseconds since the Unix epoch.
fn lasted(status: &PodStatus) -> Range<u64> {
    let container = status.container_statuses.as_ref().and_then(|all| all.first());
    let ended = container.and_then(|c| c.state.as_ref()?.terminated.as_ref());
    let second = |time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.and_then(|time| u64::try_from(time.0.as_second()).ok()).unwrap_or(0)
    };
    let (from, to) = (
        second(ended.and_then(|e| e.started_at.as_ref())),
        second(ended.and_then(|e| e.finished_at.as_ref())),
    );
    (from + 1) * 1_000_000..to * 1_000_000
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
