//! A Kubernetes cluster of one node on this machine, without Docker.
//!
//! The processes: `up` starts the [supervisor] on the host, which starts `unshare`, whose child is
//! process 1 of private mount, network and process namespaces ([node]), and that runs Kubernetes.
//! Whichever of them dies takes all below it along: nothing can be left but files and cgroups, and
//! these the next start removes. I/O: everything.

pub(crate) mod cgroup;
mod config;
pub(crate) mod forward;
pub(crate) mod node;
pub(crate) mod packages;
pub(crate) mod paths;
pub(crate) mod supervisor;

use super::{
    Progress,
    cmd::{self, CmdError, Doing as _, Fault},
    dirs, kubebin, own_program,
    provider::{Access, Act, Forward, Provider, Status, UpOptions, Work},
    ready,
};
use crate::images::{self, Image};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use paths::Paths;
use std::{
    ffi::OsString,
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};

/// Why the local cluster did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller is not root.
    #[error(
        "the local cluster makes namespaces and cgroups, so it needs root: run this with sudo, or use a \
         cluster of yours (--context NAME) or kind.{}",
        missing_note()
    )]
    NotRoot,
    /// The name cannot be used for files and cgroups.
    #[error("a cluster's name has 1 to 30 of a-z, 0-9 and -, not {0:?}")]
    Name(String),
    /// The state directory's path is too long for a socket.
    #[error("the path {0} is too long for a socket; set XDG_STATE_HOME to a shorter one")]
    LongPath(PathBuf),
    /// It is not running.
    #[error("the local cluster {0:?} is not running; start it with `e2e cluster up`")]
    NotRunning(String),
    /// It runs without the audit log that was asked for.
    #[error("the cluster is running without an audit log; stop it first with `e2e cluster down`")]
    NoAudit,
    /// It ended while starting.
    #[error("the cluster ended while starting; its supervisor said:\n{0}\nMore with `e2e cluster logs`.")]
    Ended(String),
    /// It was interrupted while starting.
    #[error("interrupted; nothing of the cluster is left")]
    Interrupted,
    /// It did not become ready.
    #[error("{0}; look at `e2e cluster logs`")]
    Ready(#[from] ready::Error),
    /// Debian packages are missing.
    #[error(transparent)]
    Packages(#[from] packages::Error),
    /// There is no Kubernetes binary.
    #[error(transparent)]
    Binary(#[from] kubebin::Error),
    /// An image could not be made.
    #[error(transparent)]
    Images(#[from] images::Error),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CmdError),
    /// A file or process could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// The supervisor failed.
    #[error(transparent)]
    Supervisor(#[from] supervisor::Error),
    /// The node failed.
    #[error(transparent)]
    Node(#[from] node::Error),
}

fn missing_note() -> String {
    let missing = packages::missing();
    if missing.is_empty() {
        return String::new();
    }
    format!(" It will also need these Debian packages: {}.", missing.join(" "))
}

/// The local cluster of one name.
#[derive(Debug)]
pub(crate) struct Local {
    paths: Paths,
}

impl Local {
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 30 || !name.chars().all(allowed) {
            return Err(Error::Name(name.to_owned()));
        }
        let paths = Paths::of(name)?;
        if !paths.socket_path_fits() {
            return Err(Error::LongPath(paths.forward_socket()));
        }
        Ok(Self { paths })
    }

    /// Whether the supervisor lives: it holds a lock that the kernel releases with it.
    fn is_alive(&self) -> Result<bool, Fault> {
        let lock = dirs::lock_file(&self.paths.alive_lock())?;
        Ok(lock.try_lock_shared().is_err())
    }

    async fn start(&self, options: &UpOptions, progress: &Progress) -> Result<(), Error> {
        let _one_at_a_time = dirs::lock(self.paths.change_lock()).await?;
        if self.is_alive()? {
            let client = ready::client(self.paths.kubeconfig()).await?;
            if options.audit_policy.is_some() && !self.paths.audit_policy().exists() {
                return Err(Error::NoAudit);
            }
            if ready::api_is_ready(&client).await {
                progress.say("already running");
                return Ok(());
            }
            progress.say("running, but its API server does not answer: starting it again");
            self.stop().await?;
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        packages::ensure(progress).await?;
        kubebin::ensure(progress).await?;
        images::pause().await?;
        self.clear_stale().await?;
        let mut supervisor = self.supervise(options)?;
        // Taken out, or waiting would close it. When it is dropped early, the cluster goes.
        let stdin = supervisor.stdin.take();
        tokio::select! {
            ready = self.ready(progress) => ready?,
            _ = supervisor.wait() => {
                let log = fs::read_to_string(self.paths.last_logs().join("supervisor.log"));
                return Err(Error::Ended(cmd::tail(&log.unwrap_or_default(), 20)));
            }
        }
        if let Some(mut stdin) = stdin {
            stdin.write_all(&[supervisor::KEEP]).await.doing("keep the cluster")?;
        }
        Ok(())
    }

    /// Removes what a cluster left that was killed from outside.
    async fn clear_stale(&self) -> Result<(), Fault> {
        // A node without a supervisor is about to end by itself; one that is stuck is ended here.
        for _ in 0..100 {
            if forward::node_pid(self.paths.forward_socket()).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if let Ok(pid) = forward::node_pid(self.paths.forward_socket()).await {
            kill(pid, rustix::process::Signal::KILL);
        }
        supervisor::clear(&self.paths)
    }

    fn supervise(&self, options: &UpOptions) -> Result<Child, Fault> {
        dirs::make_private(&self.paths.logs())?;
        if let Some(policy) = &options.audit_policy {
            fs::copy(policy, self.paths.audit_policy()).doing_at("copy", policy)?;
        }
        let log = self.paths.logs().join("supervisor.log");
        let output = File::create(&log).doing_at("create", &log)?;
        let errors = output.try_clone().doing("share a log file")?;
        let me = own_program()?;
        Command::new(&me)
            .args(["cluster", "--name", self.paths.name(), "local-supervise"])
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .doing_at("start", &me)
    }

    async fn ready(&self, progress: &Progress) -> Result<(), Error> {
        while !self.paths.kubeconfig().exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let client = ready::client(self.paths.kubeconfig()).await?;
        ready::api(&client).await?;
        progress.say("API server ready");
        ready::node(&client).await?;
        progress.say("node ready");
        Ok(())
    }

    /// Tells the supervisor to end and waits until it has cleared everything away.
    async fn stop(&self) -> Result<(), Fault> {
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
            // While the lock is held its holder lives, so the number is the supervisor's.
            let pid = fs::read_to_string(self.paths.file("supervisor.pid")).ok().and_then(|p| p.parse().ok());
            if let Some(pid) = pid.filter(|_| self.is_alive().unwrap_or(false)) {
                kill(pid, signal);
            }
            let gone = dirs::lock(self.paths.alive_lock());
            if tokio::time::timeout(Duration::from_secs(20), gone).await.is_ok() {
                break;
            }
        }
        self.clear_stale().await
    }

    /// A command that runs inside the cluster's namespaces, in the current directory.
    async fn inside(&self) -> Result<Command, Error> {
        if !self.is_alive()? {
            return Err(Error::NotRunning(self.paths.name().to_owned()));
        }
        let pid = forward::node_pid(self.paths.forward_socket()).await?;
        let here = std::env::current_dir().doing("find the current directory")?;
        let mut path = self.paths.file("bin").into_os_string();
        path.push(":");
        path.push(cmd::search_path());
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={pid}"))
            .args(["--mount", "--net", "--pid"])
            .arg([OsString::from("--wdns="), here.into_os_string()].into_iter().collect::<OsString>())
            .arg("--")
            .env("KUBECONFIG", self.paths.inner_kubeconfig())
            .env("PATH", path);
        Ok(command)
    }

    /// The images of the node, as lines of name and digest.
    async fn loaded(&self) -> Result<Vec<(String, String)>, Error> {
        let mut list = self.inside().await?;
        let listing = cmd::output(list.args(["ctr", "-n", "k8s.io", "images", "list"])).await?;
        let row = |line: &str| {
            let mut columns = line.split_whitespace();
            Some((columns.next()?.to_owned(), columns.nth(1)?.to_owned()))
        };
        Ok(listing.lines().skip(1).filter_map(row).collect())
    }

    async fn import(&self, archive: &Path) -> Result<(), Error> {
        let archive = fs::canonicalize(archive).doing_at("read", archive)?;
        let mut import = self.inside().await?;
        cmd::output(import.args(["ctr", "-n", "k8s.io", "images", "import"]).arg(archive)).await?;
        Ok(())
    }

    fn access(&self) -> Access {
        Access { kubeconfig: Some(self.paths.kubeconfig()), context: None }
    }
}

fn kill(pid: i32, signal: rustix::process::Signal) {
    // The only error is "already gone".
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Runs the process that guards the cluster.
pub(crate) async fn supervise(name: &str) -> Result<(), Error> {
    Ok(supervisor::run(&Local::new(name)?.paths).await?)
}

/// Runs process 1 of the cluster's namespaces.
pub(crate) fn init(name: &str) -> Result<(), Error> {
    Ok(node::init(name)?)
}

/// Runs the node inside the namespaces.
pub(crate) async fn run_node(name: &str) -> Result<(), Error> {
    let binary = kubebin::ensure(&Progress::start()).await?;
    let pause = images::pause().await?.archive;
    Ok(node::run(&Local::new(name)?.paths, binary, pause).await?)
}

impl Provider for Local {
    fn name(&self) -> String {
        format!("the local cluster {:?}", self.paths.name())
    }

    fn up<'a>(&'a self, options: &'a UpOptions, progress: &'a Progress) -> Act<'a, Access> {
        Box::pin(async move {
            tokio::select! {
                started = self.start(options, progress) => started?,
                _ = tokio::signal::ctrl_c() => {
                    progress.say("interrupted: clearing up");
                    dirs::lock(self.paths.alive_lock()).await?;
                    return Err(Error::Interrupted)?;
                }
            }
            Ok(self.access())
        })
    }

    fn down<'a>(&'a self, progress: &'a Progress) -> Act<'a, ()> {
        Box::pin(async move {
            let _one_at_a_time = dirs::lock(self.paths.change_lock()).await?;
            let was_alive = self.is_alive()?;
            self.stop().await?;
            progress.say(if was_alive { "stopped; nothing of it is left" } else { "was not running" });
            Ok(())
        })
    }

    fn status(&self) -> Act<'_, Status> {
        Box::pin(async move {
            if !self.is_alive()? {
                return Ok(Status { access: None, nodes: Vec::new() });
            }
            let access = self.access();
            Ok(Status { nodes: access.nodes().await?, access: Some(access) })
        })
    }

    fn exec<'a>(&'a self, command: &'a [OsString]) -> Act<'a, ExitStatus> {
        Box::pin(async move { Ok(self.inside().await?.args(command).status().await.doing("run `nsenter`")?) })
    }

    fn load<'a>(&'a self, images: &'a [Image], progress: &'a Progress) -> Act<'a, ()> {
        Box::pin(async move {
            let loaded = self.loaded().await?;
            for image in images {
                if loaded.iter().any(|(name, digest)| *name == image.reference && *digest == image.digest) {
                    continue;
                }
                self.import(&image.archive).await?;
                progress.say(&format!("loaded {}", image.reference));
            }
            Ok(())
        })
    }

    fn load_archive<'a>(&'a self, archive: &'a Path) -> Act<'a, ()> {
        Box::pin(async move { Ok(self.import(archive).await?) })
    }

    fn logs<'a>(&'a self, component: Option<&'a str>) -> Act<'a, String> {
        Box::pin(async move {
            let (now, last) = (self.paths.logs(), self.paths.last_logs());
            let dir = if now.exists() { now } else { last };
            if let Some(component) = component {
                let log = dir.join(component).with_extension("log");
                return Ok(fs::read_to_string(&log).doing_at("read", &log)?);
            }
            let mut names: Vec<_> =
                fs::read_dir(&dir).doing_at("read", &dir)?.flatten().map(|e| e.path()).collect();
            names.sort();
            Ok(names
                .iter()
                .filter_map(|path| path.file_stem())
                .map(|n| format!("{}\n", n.display()))
                .collect())
        })
    }

    fn forward<'a>(&'a self, namespace: &'a str, service: &'a str, port: u16) -> Act<'a, Forward> {
        Box::pin(async move {
            let services: Api<Service> = Api::namespaced(self.access().client().await?, namespace);
            let found = services.get(service).await.map_err(ready::Error::from)?;
            let ip: Option<IpAddr> =
                found.spec.and_then(|spec| spec.cluster_ip).and_then(|ip| ip.parse().ok());
            let target = ip.map(|ip| SocketAddr::new(ip, port)).ok_or_else(|| super::Error::NoForward {
                service: format!("{namespace}/{service}:{port}"),
                said: "it has no address in the cluster".to_owned(),
            })?;
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.doing("listen on loopback")?;
            let address = listener.local_addr().doing("read the port")?;
            let work = tokio::spawn(forward::publish(listener, self.paths.forward_socket(), target));
            Ok(Forward { address, _work: Work::Task(work.abort_handle()) })
        })
    }
}
