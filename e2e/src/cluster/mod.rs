//! Clusters: an existing one, one in Docker (kind), or one on this machine (local).
//! Takes the caller's wishes, gives a running cluster and ways to use it. I/O: everything.

pub mod api;
pub(crate) mod cmd;
mod context;
mod control_plane;
pub(crate) mod dirs;
mod kind;
mod kubebin;
mod local;
pub(crate) mod pip;
pub(crate) mod pki;
mod provider;
mod ready;

pub use provider::{Access, Forward, UpOptions};

use crate::images::{self, Image};
use clap::{Subcommand, ValueEnum};
use cmd::{Doing as _, Fault};
use provider::Provider;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Instant,
};

/// Arguments of `e2e cluster`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// Which cluster. Chosen in this order: --context, --provider, kind where Docker answers, local.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// Use this context of your kubeconfig; the cluster is neither started nor stopped.
    #[arg(long, env = "STOMATON_CONTEXT", global = true)]
    pub context: Option<String>,
    /// Use this kind of cluster.
    #[arg(long, value_enum, global = true)]
    pub provider: Option<ProviderName>,
    /// The name of a kind or local cluster.
    #[arg(long, default_value = "stomaton", global = true)]
    pub name: String,
}

impl Default for Target {
    /// What the command line gives when it says nothing: `STOMATON_CONTEXT` counts.
    fn default() -> Self {
        Self { context: std::env::var("STOMATON_CONTEXT").ok(), provider: None, name: "stomaton".to_owned() }
    }
}

/// The kinds of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProviderName {
    /// Kubernetes on this machine, in namespaces of its own (root, Debian).
    Local,
    /// Kubernetes in Docker.
    Kind,
    /// A context of your kubeconfig.
    Context,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the cluster, or reuse the running one, and print how to use it.
    Up(UpOptions),
    /// Stop the cluster and leave nothing of it.
    Down,
    /// Say whether the cluster runs and whether its nodes are ready.
    Status,
    /// Run a command where the cluster's addresses can be reached, with KUBECONFIG set.
    Exec {
        /// The command, after `--`.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Give the nodes images from archives, or the images of this project.
    LoadImage {
        /// Make and load every image of this project that changed.
        #[arg(long)]
        all: bool,
        /// One of operator, edge, fleet, load (made if it changed), or an OCI or Docker archive.
        #[arg(required_unless_present = "all")]
        images: Vec<PathBuf>,
    },
    /// Print the log of a component; without one, list them.
    Logs {
        /// Such as kubelet or kube-apiserver.
        component: Option<String>,
    },
    /// Open a port on this machine's loopback that leads to a Service, until Ctrl-C.
    Forward {
        /// The Service's namespace.
        #[arg(long, short, default_value = "default")]
        namespace: String,
        /// The Service.
        service: String,
        /// Its port.
        port: u16,
    },
    /// Start an API server without a node, for experiments with controllers, until Ctrl-C.
    Api,
    /// The process that guards a local cluster.
    #[command(hide = true)]
    LocalSupervise,
    /// Process 1 of a local cluster's namespaces.
    #[command(hide = true)]
    LocalInit,
    /// The node of a local cluster.
    #[command(hide = true)]
    LocalNode,
}

/// Why `e2e cluster` failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The local cluster failed.
    #[error(transparent)]
    Local(#[from] local::Error),
    /// The API server of `e2e cluster api` did not start.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// The cluster does not answer as it should.
    #[error(transparent)]
    Ready(#[from] ready::Error),
    /// An image could not be made.
    #[error(transparent)]
    Images(#[from] images::Error),
    /// There is no Kubernetes binary, which carries kubectl.
    #[error(transparent)]
    Binary(#[from] kubebin::Error),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] cmd::CmdError),
    /// A file or process could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// The cluster is not running.
    #[error("{0} is not running; start it with `e2e cluster up`")]
    NotRunning(String),
    /// An existing cluster was to be stopped.
    #[error("a cluster named by --context is not ours to stop")]
    NotOurs,
    /// Images were to be loaded into an existing cluster.
    #[error(
        "images cannot be put into an existing cluster from here: push them to a registry that it pulls from"
    )]
    NoWayToLoad,
    /// A context and another provider were both asked for.
    #[error("--context names an existing cluster; leave out --provider")]
    Contradiction,
    /// The provider `context` needs the name of one.
    #[error("--provider context needs --context NAME; `kubectl config get-contexts` lists them")]
    NoContext,
    /// `exec` without a command.
    #[error("exec needs a command after `--`")]
    NoCommand,
    /// A forward did not come about.
    #[error("cannot forward to {service}: {said}")]
    NoForward {
        /// The Service.
        service: String,
        /// Why, as far as is known.
        said: String,
    },
}

/// Says on standard error what is being done, with the time since the start.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn say(&self, what: &str) {
        eprintln!("{:6.1}s  {what}", self.start.elapsed().as_secs_f32());
    }
}

/// A running cluster.
pub struct Cluster {
    provider: Box<dyn Provider>,
    /// How programs on this machine reach it.
    pub access: Access,
}

/// Gives the cluster, started if it does not run. It goes on running afterwards.
pub async fn ensure(target: &Target) -> Result<Cluster, Error> {
    let provider = provider::choose(target).await?;
    let access = provider.up(&UpOptions::default(), &Progress::start()).await?;
    Ok(Cluster { provider, access })
}

impl Cluster {
    /// A client with the rights of the kubeconfig's user: on clusters of ours, all.
    pub async fn client(&self) -> Result<kube::Client, Error> {
        self.access.client().await
    }

    /// The same, and it gives a refusal as it is. Other clients ask again by themselves, for minutes, when the answer is
    /// 429, 503 or 504.
    pub async fn client_without_retry(&self) -> Result<kube::Client, Error> {
        self.access.client_without_retry().await
    }

    /// A `kubectl` that speaks to this cluster, ready for its arguments.
    pub async fn kubectl(&self) -> Result<tokio::process::Command, Error> {
        self.access.kubectl().await
    }

    /// A program that takes kubectl's options, on its way to this cluster.
    pub fn with_access(&self, program: &Path) -> tokio::process::Command {
        self.access.given(tokio::process::Command::new(program))
    }

    /// Makes the project's images that changed and gives the nodes those that they lack. On an
    /// existing cluster this is an error: its images come from a registry.
    pub async fn load_images(&self) -> Result<Vec<Image>, Error> {
        let images = images::all().await?;
        self.provider.load(&images, &Progress::start()).await?;
        Ok(images)
    }

    /// The same for the image of Prometheus.
    pub async fn load_monitoring(&self) -> Result<(), Error> {
        let image = images::monitoring().await?;
        self.provider.load(&[image], &Progress::start()).await
    }

    /// Opens a port on this machine's loopback that leads to a Service, for as long as the result
    /// is kept.
    pub async fn forward(&self, namespace: &str, service: &str, port: u16) -> Result<Forward, Error> {
        self.provider.forward(namespace, service, port).await
    }
}

/// Runs `e2e cluster`.
pub async fn run(args: Args) -> Result<(), Error> {
    let name = args.target.name.clone();
    match args.command {
        Command::Api => serve_api().await,
        Command::LocalSupervise => end(local::supervise(&name).await),
        Command::LocalInit => end(local::init(&name)),
        Command::LocalNode => end(local::run_node(&name).await),
        command => use_cluster(&args.target, command).await,
    }
}

/// Builds or fetches what tests need beside Rust, unless it is there: Kubernetes, NGINX in two versions, and what checks
/// configurations.
pub async fn tools() -> Result<(), Error> {
    let progress = Progress::start();
    kubebin::ensure(&progress).await?;
    progress.say("Kubernetes is there");
    let nginx = images::nginx::publish().await.map_err(images::Error::from)?;
    progress.say(&format!("NGINX is there: {}", nginx.display()));
    match images::nginx::publish_oldest().await.map_err(images::Error::from)? {
        Some(oldest) => progress.say(&format!("the oldest that is supported, too: {}", oldest.display())),
        None => progress.say(
            "the oldest that is supported is not: the package archive of Debian 12 has it (apt-get update)",
        ),
    }
    let checkers = images::checkers::publish().await.map_err(images::Error::from)?;
    progress.say(&format!("crossplane and gixy are there: {}", checkers.display()));
    Ok(())
}

/// The NGINX that images are made with; fetched unless it is there.
pub async fn nginx() -> Result<PathBuf, Error> {
    Ok(images::nginx::ensure().await.map_err(images::Error::from)?)
}

/// Ends this process at once: a thread that waits for standard input would hold it up.
fn end(result: Result<(), local::Error>) -> ! {
    if let Err(e) = &result {
        eprintln!("{e}");
    }
    std::process::exit(i32::from(result.is_err()))
}

async fn serve_api() -> Result<(), Error> {
    let progress = Progress::start();
    let api = api::ApiServer::start().await?;
    progress.say("API server ready; Ctrl-C ends it");
    println!("export KUBECONFIG={}", api.kubeconfig().display());
    Ok(tokio::signal::ctrl_c().await.doing("wait for Ctrl-C")?)
}

async fn use_cluster(target: &Target, command: Command) -> Result<(), Error> {
    let provider = provider::choose(target).await?;
    let progress = Progress::start();
    match command {
        Command::Up(options) => {
            let access = provider.up(&options, &progress).await?;
            println!("{}", how_to_use(&access));
        }
        Command::Down => provider.down(&progress).await?,
        Command::Status => print_status(provider.as_ref()).await?,
        Command::Exec { command } => {
            let status = provider.exec(&command).await?;
            if !status.success() {
                // Ours is the command's, so that scripts can ask for it.
                std::process::exit(status.code().unwrap_or(1));
            }
        }
        Command::LoadImage { all, images } => {
            if all {
                provider.load(&images::all().await?, &progress).await?;
            }
            for image in &images {
                match image.to_str().map(images::named) {
                    Some(Some(made)) => provider.load(&[made.await?], &progress).await?,
                    _ => provider.load_archive(image).await?,
                }
            }
        }
        Command::Logs { component } => print!("{}", provider.logs(component.as_deref()).await?),
        Command::Forward { namespace, service, port } => {
            let forward = provider.forward(&namespace, &service, port).await?;
            println!("http://{} leads to {namespace}/{service}:{port}; Ctrl-C ends it", forward.address);
            tokio::signal::ctrl_c().await.doing("wait for Ctrl-C")?;
        }
        Command::Api | Command::LocalSupervise | Command::LocalInit | Command::LocalNode => {}
    }
    Ok(())
}

fn how_to_use(access: &Access) -> String {
    let mut lines = Vec::new();
    let mut kubectl = "kubectl".to_owned();
    if let Some(kubeconfig) = &access.kubeconfig {
        lines.push(format!("export KUBECONFIG={}", kubeconfig.display()));
    } else if let Some(context) = &access.context {
        kubectl = format!("kubectl --context {context}");
    }
    lines.push(format!("{kubectl} get nodes"));
    lines.join("\n")
}

async fn print_status(provider: &dyn Provider) -> Result<(), Error> {
    let status = provider.status().await?;
    let Some(access) = &status.access else { return Err(Error::NotRunning(provider.name())) };
    println!("{} runs", provider.name());
    for (node, ready) in &status.nodes {
        println!("node {node}: {}", if *ready { "ready" } else { "not ready" });
    }
    println!("{}", how_to_use(access));
    Ok(())
}

/// The path of the `e2e` program: this process, or for a test of this package the program that was
/// built beside it.
pub(crate) fn own_program() -> Result<PathBuf, Fault> {
    let me = std::env::current_exe().doing("find this program")?;
    if me.file_name().is_some_and(|name| name == "e2e") {
        return Ok(me);
    }
    let built = me.ancestors().skip(1).take(2).map(|dir| dir.join("e2e")).find(|path| path.is_file());
    built
        .ok_or_else(|| std::io::Error::other(format!("not beside {}", Path::new(&me).display())))
        .doing("find the e2e program")
}
