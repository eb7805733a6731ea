//! Edge pods without a cluster: supervisor, NGINX and agent as processes on loopback, the agent at a real API server. And
//! an NGINX with nothing but a `proxy_pass`, to measure them by. I/O.

use crate::{
    Fault,
    plane::{NAMESPACE, Plane},
    process::{children, end, reserve, until},
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
};
use stomaton_crds::edge_state::EdgeState;
use stomaton_edge::control::{Supervisor, Verb};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};

/// An edge pod; its processes end when it is dropped.
pub struct EdgePod {
    /// Where NGINX answers users.
    pub address: SocketAddr,
    /// Who runs NGINX.
    pub supervisor: Supervisor,
    edge: String,
    name: String,
    workers: u16,
    kubeconfig: PathBuf,
    state: SocketAddr,
    https: SocketAddr,
    supervise: Child,
    agent: Child,
    _ports: [TcpSocket; 3],
    dir: TempDir,
}

impl EdgePod {
    /// Starts a pod of `edge`; it serves once the edge has a structure.
    pub async fn start(
        plane: &Plane,
        nginx: &Path,
        edge: &str,
        name: &str,
        workers: u16,
    ) -> Result<Self, Fault> {
        // In a pod all of this is on tmpfs.
        let dir = tempfile::tempdir_in("/dev/shm")?;
        for made in ["ctl", "run", "tmp"] {
            fs::create_dir(dir.path().join(made))?;
        }
        let ((a, address), (b, https), (c, state)) = (reserve()?, reserve()?, reserve()?);
        let supervise = supervise(dir.path(), nginx)?;
        let supervisor = Supervisor::at(dir.path().join("ctl/edge.sock"));
        let kubeconfig = plane.kubeconfig();
        let (edge, name) = (edge.to_owned(), name.to_owned());
        let agent = agent(dir.path(), &kubeconfig, [&edge, &name], [address, https, state], workers)?;
        let _ports = [a, b, c];
        #[rustfmt::skip]
        let pod = Self {
            address, supervisor, edge, name, workers, kubeconfig, state, https, supervise, agent, _ports, dir,
        };
        pod.until("the agent to answer", |_| true).await?;
        Ok(pod)
    }

    /// What the pod says of itself.
    pub async fn state(&self) -> Result<EdgeState, Fault> {
        let answer = reqwest::get(format!("http://{}/v1/state?once=true", self.state)).await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// The first state that is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&EdgeState) -> bool) -> Result<EdgeState, Fault> {
        let look = async || Ok(Some(self.state().await?).filter(|state| wanted(state)));
        until(&format!("{} of {}: {what}", self.name, self.edge), look).await
    }

    /// Waits until this structure and these weights are in force.
    pub async fn serves(&self, config: i64, weights: i64) -> Result<(), Fault> {
        let what = format!("structure {config} and weights {weights} to be in force");
        let wanted = |state: &EdgeState| (state.applied.config, state.applied.weights) == (config, weights);
        self.until(&what, wanted).await.map(drop)
    }

    /// Processes of NGINX that answer users.
    pub async fn workers(&self) -> Result<Vec<i32>, Fault> {
        Ok(self.supervisor.ask(Verb::Status).await?.workers)
    }

    /// The agent's process.
    pub fn agent_pid(&self) -> i32 {
        self.agent.id().cast_signed()
    }

    /// The configuration that NGINX has.
    pub fn configuration(&self) -> PathBuf {
        self.dir.path().join("run/nginx/current/nginx.conf")
    }

    /// Kills the agent as the kernel would, and starts another one in its place.
    pub async fn replace_agent(&mut self) -> Result<(), Fault> {
        self.agent.kill()?;
        self.agent.wait()?;
        let who = [self.edge.as_str(), self.name.as_str()];
        let addresses = [self.address, self.https, self.state];
        self.agent = agent(self.dir.path(), &self.kubeconfig, who, addresses, self.workers)?;
        self.until("the next agent to answer", |_| true).await.map(drop)
    }
}

impl Drop for EdgePod {
    fn drop(&mut self) {
        // NGINX ends with its supervisor, in peace.
        end(&mut self.supervise);
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// The edge's program, with what both of its halves have to agree on.
fn edge(half: &str, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge"));
    command.arg(half).arg("--control-socket").arg(dir.join("ctl/edge.sock"));
    command.arg("--log-dir").arg(dir.join("log/edge")).arg("--token-tables-dir").arg(dir.join("tmp/tokens"));
    command
}

fn supervise(dir: &Path, nginx: &Path) -> Result<Child, Fault> {
    let child = edge("supervise", dir)
        .args(["--drain", "0s", "--config"])
        .arg(dir.join("run/nginx/current/nginx.conf"))
        .arg("--nginx")
        .arg(nginx)
        .args(["--", "-e", "stderr", "-p"])
        .arg(dir.join("tmp"))
        .env("RUST_LOG", "warn")
        .spawn()?;
    Ok(child)
}

fn agent(
    dir: &Path,
    kubeconfig: &Path,
    [gateway, name]: [&str; 2],
    [http, https, state]: [SocketAddr; 3],
    workers: u16,
) -> Result<Child, Fault> {
    let child = edge("agent", dir)
        .args(["--namespace", NAMESPACE, "--gateway", gateway, "--pod", name])
        .args(["--http-address", &http.to_string(), "--https-port", &https.port().to_string()])
        .args(["--state-address", &state.to_string(), "--workers", &workers.to_string()])
        .arg("--root")
        .arg(dir.join("run"))
        .arg("--probe-socket")
        .arg(dir.join("ctl/probe.sock"))
        .env("KUBECONFIG", kubeconfig)
        .env("RUST_LOG", "error")
        .spawn()?;
    Ok(child)
}

/// NGINX with nothing but a `proxy_pass`; ends when dropped.
pub struct Bare {
    /// Where it answers.
    pub address: SocketAddr,
    process: Child,
    _port: TcpSocket,
    _dir: TempDir,
}

impl Bare {
    /// Starts one with one worker before `backend`.
    pub async fn start(nginx: &Path, backend: SocketAddr) -> Result<Self, Fault> {
        let dir = tempfile::tempdir_in("/dev/shm")?;
        let (port, address) = reserve()?;
        let config = dir.path().join("nginx.conf");
        fs::write(&config, bare(address, backend))?;
        let mut command = Command::new(nginx);
        command.args(["-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(&config);
        let process = command.spawn()?;
        let bare = Self { address, process, _port: port, _dir: dir };
        until("a bare NGINX to answer", async || Ok(Some(TcpStream::connect(address).await?))).await?;
        Ok(bare)
    }

    /// Its worker.
    pub fn workers(&self) -> Result<Vec<i32>, Fault> {
        children(self.process.id().cast_signed())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

fn bare(address: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "worker_processes 1; daemon off; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; server_tokens off; keepalive_timeout 75s; keepalive_requests 1000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; scgi_temp_path scgi;
  uwsgi_temp_path uwsgi;
  upstream backend {{
    server {backend}; keepalive 64; keepalive_timeout 4s; keepalive_requests 1000000;
  }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\";
    }}
  }}
}}
"
    )
}
