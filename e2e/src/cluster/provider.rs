//! What every kind of cluster can do, and how one is chosen.
//! Takes the caller's wishes, gives a provider. I/O: asks Docker whether it answers.

use super::{
    Error, Progress, Target,
    cmd::{self, Doing as _},
    context::Context,
    kind::Kind,
    local::Local,
    ready,
};
use crate::images::Image;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
};
use tokio::{process::Command, task::AbortHandle};

/// How programs on this machine reach a cluster. `None` means what kubectl would use.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it.
    pub context: Option<String>,
}

impl Access {
    /// A client with the rights of the kubeconfig's user.
    pub async fn client(&self) -> Result<Client, Error> {
        Ok(Client::try_from(ready::config(self).await?).map_err(ready::Error::from)?)
    }

    /// The same, without kube's own retries.
    pub async fn client_without_retry(&self) -> Result<Client, Error> {
        let mut config = ready::config(self).await?;
        config.default_retry = false;
        Ok(Client::try_from(config).map_err(ready::Error::from)?)
    }

    /// A `kubectl` that speaks to this cluster: this machine's, or the one built with the cluster.
    pub async fn kubectl(&self) -> Result<Command, Error> {
        let command = if cmd::in_path("kubectl") {
            Command::new("kubectl")
        } else {
            let mut command = Command::new(super::kubebin::ensure(&Progress::start()).await?);
            command.arg("kubectl");
            command
        };
        Ok(self.given(command))
    }

    /// The command with the options that say which cluster.
    pub fn given(&self, mut command: Command) -> Command {
        if let Some(kubeconfig) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        command
    }

    /// The nodes, each with whether it is Ready.
    pub(crate) async fn nodes(&self) -> Result<Vec<(String, bool)>, Error> {
        let nodes: Api<Node> = Api::all(self.client().await?);
        let list = nodes.list(&Default::default()).await.map_err(ready::Error::from)?;
        let row = |node: &Node| (node.metadata.name.clone().unwrap_or_default(), ready::is_ready(node));
        Ok(list.items.iter().map(row).collect())
    }
}

/// What `up` is asked for beyond a running cluster.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct UpOptions {
    /// An audit policy (audit.k8s.io/v1); the API server then writes audit.log beside the kubeconfig. Local only.
    #[arg(long, value_name = "FILE")]
    pub audit_policy: Option<PathBuf>,
}

/// What a cluster is doing now.
#[derive(Debug)]
pub(crate) struct Status {
    /// How to reach it; `None` when it is not running.
    pub(crate) access: Option<Access>,
    /// Each node, and whether it is Ready.
    pub(crate) nodes: Vec<(String, bool)>,
}

/// A port on this machine's loopback that leads to a Service; closed when dropped.
#[derive(Debug)]
pub struct Forward {
    /// Where to connect to.
    pub address: SocketAddr,
    pub(crate) _work: Work,
}

/// What keeps a forward going, and ends with it.
#[derive(Debug)]
pub(crate) enum Work {
    /// A task of this process.
    Task(AbortHandle),
    /// `kubectl port-forward`; killed when dropped.
    Process { _child: tokio::process::Child },
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Self::Task(task) = self {
            task.abort();
        }
    }
}

/// The result of a provider's act.
pub(crate) type Act<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// A kind of cluster.
pub(crate) trait Provider: Send + Sync {
    /// What it is, for people.
    fn name(&self) -> String;
    /// Starts the cluster, or reuses the running one.
    fn up<'a>(&'a self, options: &'a UpOptions, progress: &'a Progress) -> Act<'a, Access>;
    /// Stops the cluster and leaves nothing of it.
    fn down<'a>(&'a self, progress: &'a Progress) -> Act<'a, ()>;
    /// Looks at the cluster, without waiting.
    fn status(&self) -> Act<'_, Status>;
    /// Runs a command where the cluster's addresses can be reached, with `KUBECONFIG` set.
    fn exec<'a>(&'a self, command: &'a [OsString]) -> Act<'a, ExitStatus>;
    /// Gives the nodes those images that they do not have yet.
    fn load<'a>(&'a self, images: &'a [Image], progress: &'a Progress) -> Act<'a, ()>;
    /// Gives the nodes the images of an archive made elsewhere.
    fn load_archive<'a>(&'a self, archive: &'a Path) -> Act<'a, ()>;
    /// The log of a component, or what can be asked for.
    fn logs<'a>(&'a self, component: Option<&'a str>) -> Act<'a, String>;
    /// Opens a port on this machine's loopback that leads to a Service.
    fn forward<'a>(&'a self, namespace: &'a str, service: &'a str, port: u16) -> Act<'a, Forward>;
}

/// Chooses: a named context, else what `--provider` says, else kind where Docker answers, else local.
pub(crate) async fn choose(target: &Target) -> Result<Box<dyn Provider>, Error> {
    use super::ProviderName::{Context as ByContext, Kind as ByKind, Local as ByLocal};
    // An empty STOMATON_CONTEXT is one that was unset.
    let context = target.context.as_ref().filter(|context| !context.is_empty());
    let provider: Box<dyn Provider> = match (context, target.provider) {
        (Some(context), None | Some(ByContext)) => Box::new(Context::new(context)),
        (Some(_), Some(_)) => return Err(Error::Contradiction),
        (None, Some(ByContext)) => return Err(Error::NoContext),
        (None, Some(ByLocal)) => Box::new(Local::new(&target.name)?),
        (None, Some(ByKind)) => Box::new(Kind::new(&target.name)?),
        (None, None) if super::kind::is_usable().await => Box::new(Kind::new(&target.name)?),
        (None, None) => Box::new(Local::new(&target.name)?),
    };
    Ok(provider)
}

/// Runs a command on this machine against a cluster that is reached from here.
pub(crate) async fn run_here(access: &Access, command: &[OsString]) -> Result<ExitStatus, Error> {
    let Some((program, args)) = command.split_first() else { return Err(Error::NoCommand) };
    let mut command = Command::new(program);
    command.args(args);
    if let Some(kubeconfig) = &access.kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    Ok(command.status().await.doing_at("run", Path::new(program))?)
}

/// The logs of a control plane that runs as pods.
pub(crate) async fn pod_logs(access: &Access, component: Option<&str>) -> Result<String, Error> {
    let mut kubectl = access.kubectl().await?;
    kubectl.args(["--namespace", "kube-system"]);
    match component {
        Some(name) => {
            kubectl.args(["logs", "--tail=-1", "--prefix", "--selector", &format!("component={name}")])
        }
        None => kubectl.args(["get", "pods", "--show-labels"]),
    };
    Ok(cmd::output(&mut kubectl).await?)
}

/// Forwards through the API server, for clusters whose network is not reached from here.
pub(crate) async fn port_forward(
    access: &Access,
    namespace: &str,
    service: &str,
    port: u16,
) -> Result<Forward, Error> {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut kubectl = access.kubectl().await?;
    kubectl
        .args(["--namespace", namespace, "port-forward", &format!("service/{service}"), &format!(":{port}")])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut child = kubectl.spawn().doing("start `kubectl port-forward`")?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut said).await.doing("read from `kubectl port-forward`")?;
    }
    // "Forwarding from 127.0.0.1:40123 -> 8080"
    let address = said.split_whitespace().nth(2).and_then(|word| word.parse().ok());
    let address =
        address.ok_or_else(|| Error::NoForward { service: format!("{namespace}/{service}:{port}"), said })?;
    Ok(Forward { address, _work: Work::Process { _child: child } })
}
