//! The local cluster's api mode: etcd, kube-apiserver and kube-controller-manager on loopback, for
//! tests of controllers. No node, no root, as many side by side as memory allows (0.4 GB each).
//!
//! ```no_run
//! # async fn test() -> Result<(), Box<dyn std::error::Error>> {
//! let api = e2e::cluster::api::ApiServer::start().await?;
//! let client = api.client();
//! # Ok(()) }
//! ```
//!
//! Dropping the [`ApiServer`] ends it. A killed test leaves nothing: the components end when the
//! pipe to their starter breaks. I/O: processes, a temporary directory, loopback ports.

use super::{
    Progress,
    cmd::{self, Doing as _, Fault},
    control_plane::{self, Audit, ControlPlane},
    dirs, kubebin, pki,
    provider::Access,
    ready,
};
use kube::{Client, Config};
use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Why the API server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no Kubernetes binary.
    #[error(transparent)]
    Binary(#[from] kubebin::Error),
    /// The certificates could not be made.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// A file or process could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// All ports set aside for test clusters are taken.
    #[error("no free ports for another API server between {FIRST_PORT} and {LAST_PORT}")]
    NoPorts,
    /// A component ended instead of serving.
    #[error("{component} ended ({status}); its log ends with:\n{log}")]
    Ended {
        /// Which one.
        component: String,
        /// How.
        status: std::process::ExitStatus,
        /// The end of what it logged.
        log: String,
    },
    /// The API server did not become ready.
    #[error(transparent)]
    Ready(#[from] ready::Error),
}

/// Below the range from which the kernel takes ports by itself, so only other clusters compete.
const FIRST_PORT: u16 = 21_000;
const LAST_PORT: u16 = 23_000;

/// A running API server with its etcd and controller manager; ends when dropped.
pub struct ApiServer {
    // Dropped in this order: processes, then their files, then the claim on their ports.
    components: Components,
    dir: tempfile::TempDir,
    _ports: File,
    config: Config,
    client: Client,
}

impl ApiServer {
    /// Starts a cluster and waits until it is ready, about 3 s. The first call on a machine builds
    /// Kubernetes, which takes minutes.
    pub async fn start() -> Result<Self, Error> {
        let binary = kubebin::ensure(&Progress::start()).await?;
        let dir = tempfile::Builder::new().prefix("stomaton-api-").tempdir().doing("make a directory")?;
        let (claim, ports) = claim_ports()?;
        let audit = Audit { policy: dir.path().join("audit-policy.json"), log: dir.path().join("audit.log") };
        control_plane::default_audit_policy(&audit.policy).doing_at("write", &audit.policy)?;
        let plane = ControlPlane {
            dir: dir.path().to_owned(),
            ports,
            bind: "127.0.0.1",
            advertise: "127.0.0.1",
            audit: Some(audit),
        };
        plane.write_files()?;
        let mut components = Components { binary, logs: dir.path().to_owned(), running: Vec::new() };
        components.start("etcd", &plane.etcd())?;
        components.start("apiserver", &plane.apiserver())?;
        let config =
            ready::config(&Access { kubeconfig: Some(plane.kubeconfig("admin")), context: None }).await?;
        let client = Client::try_from(config.clone()).map_err(ready::Error::from)?;
        tokio::select! {
            ready = ready::api(&client) => ready?,
            ended = components.first_to_end() => return Err(ended),
        }
        // Not before: it gives up on an API server that takes more than 10 s to start, as on a busy machine.
        components.start("controller-manager", &plane.controller_manager())?;
        Ok(Self { components, dir, _ports: claim, config, client })
    }

    /// A client that may do everything.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// How to get in with all rights, for a client that is built in another way.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// A client that acts as `user` in `groups`, by impersonation: with exactly the rights that RBAC
    /// gives them. A service account is `system:serviceaccount:NAMESPACE:NAME`.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client, Error> {
        Ok(Client::try_from(self.config_as(user, groups)).map_err(ready::Error::from)?)
    }

    /// As [`Self::client_as`], for a client that is built in another way.
    pub fn config_as(&self, user: &str, groups: &[&str]) -> Config {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|group| group.to_string()).collect());
        config
    }

    /// The kubeconfig of the administrator, for `kubectl` and for a process under test.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("admin.conf")
    }

    /// Every request that was answered, one `audit.k8s.io/v1` Event in JSON a line, without bodies.
    pub fn audit_log(&self) -> PathBuf {
        self.dir.path().join("audit.log")
    }

    /// Kills the API server and nothing else, as a failing control plane would;
    /// [`Self::resume`] brings it back on the same port.
    pub fn interrupt(&mut self) -> Result<(), Error> {
        Ok(self.components.kill("apiserver")?)
    }

    /// Starts the API server again after [`Self::interrupt`] and waits until it is ready.
    pub async fn resume(&mut self) -> Result<(), Error> {
        self.components.restart("apiserver")?;
        Ok(ready::api(&self.client).await?)
    }
}

/// Claims three ports that no other test cluster of this user has and nobody listens on. The claim
/// holds as long as the file is open.
fn claim_ports() -> Result<(File, [u16; 3]), Error> {
    let locks = dirs::cache()?.join("ports");
    for first in (FIRST_PORT..LAST_PORT).step_by(3) {
        let claim = dirs::lock_file(&locks.join(first.to_string()))?;
        let ports = [first, first + 1, first + 2];
        let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if claim.try_lock().is_ok() && ports.into_iter().all(free) {
            return Ok((claim, ports));
        }
    }
    Err(Error::NoPorts)
}

#[derive(Debug)]
struct Component {
    name: &'static str,
    args: Vec<String>,
    process: Child,
}

/// The processes of one cluster; killed when dropped.
#[derive(Debug)]
struct Components {
    binary: PathBuf,
    logs: PathBuf,
    running: Vec<Component>,
}

impl Components {
    fn start(&mut self, name: &'static str, args: &[String]) -> Result<(), Fault> {
        let process = spawn(&self.binary, &self.log(name), args)?;
        self.running.push(Component { name, args: args.to_vec(), process });
        Ok(())
    }

    fn kill(&mut self, name: &str) -> Result<(), Fault> {
        for component in self.running.iter_mut().filter(|c| c.name == name) {
            component.process.kill().and_then(|()| component.process.wait()).doing("kill a component")?;
        }
        Ok(())
    }

    fn restart(&mut self, name: &str) -> Result<(), Fault> {
        let log = self.log(name);
        for component in self.running.iter_mut().filter(|c| c.name == name) {
            component.process = spawn(&self.binary, &log, &component.args)?;
        }
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Waits for the first component that ends, which none does in health.
    async fn first_to_end(&mut self) -> Error {
        loop {
            for component in &mut self.running {
                if let Ok(Some(status)) = component.process.try_wait() {
                    let log = fs::read_to_string(self.logs.join(format!("{}.log", component.name)));
                    let log = cmd::tail(&log.unwrap_or_default(), 10);
                    return Error::Ended { component: component.name.to_owned(), status, log };
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Components {
    fn drop(&mut self) {
        // All first, then wait: they end side by side. The errors mean "already gone".
        for component in &mut self.running {
            let _ = component.process.kill();
        }
        for component in &mut self.running {
            let _ = component.process.wait();
        }
    }
}

/// Starts a component whose life hangs on a pipe that only this process holds open.
fn spawn(binary: &Path, log: &Path, args: &[String]) -> Result<Child, Fault> {
    let log = File::options().create(true).append(true).open(log).doing_at("open", log)?;
    let errors = log.try_clone().doing("share a log file")?;
    Command::new(binary)
        .args(args)
        .env("EXIT_WITH_STDIN", "1")
        .stdin(Stdio::piped())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .doing_at("start", binary)
}
