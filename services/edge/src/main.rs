//! The edge's binary: `edge supervise` in the NGINX container, `edge agent` beside it.

use clap::{Args, Parser, Subcommand};
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use stomaton_crds::keys::{
    EDGE_HTTP_PORT, EDGE_HTTPS_PORT, EDGE_STATE_PORT, EDGE_TLS_DIR, EDGE_TOKEN_TABLES_DIR, EDGE_TOKENS_DIR,
};
use stomaton_edge::agent::{self, source};
use stomaton_edge::names::PodName;
use stomaton_edge::supervisor;
use tokio::signal::unix::{SignalKind, signal};
use tracing::error;
use tracing_subscriber::EnvFilter;

/// The data plane of Stomaton. An edge pod has two containers: NGINX under `edge supervise`, and `edge agent`, which
/// reads EdgeConfig and EdgeWeights and programs it. Logs are JSON on standard output; RUST_LOG sets their level.
#[derive(Parser)]
#[command(name = "edge", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs NGINX: starts it when the agent has written a first configuration, reloads it on request, and on TERM
    /// serves on for the drain time before it lets NGINX finish. Ends with NGINX.
    Supervise(Supervise),
    /// Programs NGINX: applies the two objects of one Gateway, acknowledges what NGINX really serves, counts answers.
    Agent(Agent),
}

#[derive(Args)]
struct Supervise {
    /// Unix socket for the agent. Other sockets in its directory are left over from a run before, and removed.
    #[arg(long, default_value = "/run/ctl/edge.sock")]
    control_socket: PathBuf,
    /// Directory of the access logs; made here, writable by the pod's fsGroup.
    #[arg(long, default_value = "/run/log/edge")]
    log_dir: PathBuf,
    /// Directory with a directory for each certificate, as the kubelet mounts them; need not be there.
    #[arg(long, default_value = EDGE_TLS_DIR)]
    tls_dir: PathBuf,
    /// Configuration of NGINX, as the agent will write it.
    #[arg(long, default_value = "/run/edge/nginx/current/nginx.conf")]
    config: PathBuf,
    /// Directory with a directory for each mounted Secret of tokens.
    #[arg(long, default_value = EDGE_TOKENS_DIR)]
    tokens_dir: PathBuf,
    /// Directory for tokens as tables that NGINX includes; nobody else should read it.
    #[arg(long, default_value = EDGE_TOKEN_TABLES_DIR)]
    token_tables_dir: PathBuf,
    /// How long to serve on after TERM, until no endpoint leads here any more: `4s`, `500ms`.
    #[arg(long, default_value = "4s", value_parser = duration)]
    drain: Duration,
    /// The NGINX binary, 1.22 or newer.
    #[arg(long, default_value = "/bin/nginx")]
    nginx: PathBuf,
    /// Further arguments of NGINX, after `--`.
    #[arg(last = true, default_values = ["-p", "/tmp", "-e", "stderr"])]
    nginx_args: Vec<String>,
}

#[derive(Args)]
struct Agent {
    /// Namespace of the Gateway.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// Name of the Gateway, and so of its EdgeConfig and EdgeWeights.
    #[arg(long)]
    gateway: String,
    /// Name of this pod.
    #[arg(long, env = "POD_NAME", value_parser = |s: &str| PodName::parse(s))]
    pod: PodName,
    /// Directory for configurations, weights and what must survive a restart; NGINX needs to read it.
    #[arg(long, default_value = "/run/edge")]
    root: PathBuf,
    /// Unix socket of the supervisor.
    #[arg(long, default_value = "/run/ctl/edge.sock")]
    control_socket: PathBuf,
    /// Unix socket on which NGINX is to answer the agent's probe.
    #[arg(long, default_value = "/run/ctl/probe.sock")]
    probe_socket: PathBuf,
    /// Directory of the access logs, as given to the supervisor.
    #[arg(long, default_value = "/run/log/edge")]
    log_dir: PathBuf,
    /// File with the key of kills (/v1/kill). It may come and change later.
    #[arg(long)]
    kill_key: Option<PathBuf>,
    /// Host name and port at which all agents of the Gateway answer, this one too: `shop-agents:9901`.
    #[arg(long)]
    peers: Option<String>,
    /// Where to report: /v1/state, /metrics, /readyz, /livez; and to be told: /v1/kill.
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, EDGE_STATE_PORT)))]
    state_address: SocketAddr,
    /// Where NGINX answers users.
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, EDGE_HTTP_PORT)), conflicts_with = "http_port")]
    http_address: SocketAddr,
    /// Port on which NGINX answers users, on all addresses.
    #[arg(long)]
    http_port: Option<u16>,
    /// Port on which NGINX answers users over TLS, on all addresses.
    #[arg(long, default_value_t = EDGE_HTTPS_PORT)]
    https_port: u16,
    /// Directory with a directory for each certificate, in NGINX' container.
    #[arg(long, default_value = EDGE_TLS_DIR)]
    tls_dir: PathBuf,
    /// Directory of the supervisor's tables of tokens, in NGINX' container.
    #[arg(long, default_value = EDGE_TOKEN_TABLES_DIR)]
    token_tables_dir: PathBuf,
    /// Worker processes of NGINX.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The client logs each failure that the watches log too, once more and as an error.
    let quiet = || EnvFilter::new("info,kube_client::client::builder=off");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| quiet());
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
    // One thread: the edge pod's CPU is for NGINX.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            match cli.command {
                Command::Supervise(args) => supervise(args).await,
                Command::Agent(args) => run_agent(args).await,
            }
        })
    });
    ended.unwrap_or_else(|reason| {
        error!(%reason, "cannot go on");
        ExitCode::FAILURE
    })
}

async fn supervise(args: Supervise) -> Result<ExitCode, Box<dyn Error>> {
    let code = supervisor::run(supervisor::Options {
        control_socket: args.control_socket,
        log_dir: args.log_dir,
        tls_dir: args.tls_dir,
        config: args.config,
        tokens_dir: args.tokens_dir,
        token_tables_dir: args.token_tables_dir,
        drain: args.drain,
        nginx: args.nginx,
        nginx_args: args.nginx_args,
    })
    .await?;
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

async fn run_agent(args: Agent) -> Result<ExitCode, Box<dyn Error>> {
    let mut term = signal(SignalKind::terminate())?;
    let listener = tokio::net::TcpListener::bind(args.state_address).await.map_err(|cause| {
        format!("cannot listen at {}: {cause}; --state-address must be free", args.state_address)
    })?;
    let client = kube::Client::try_default().await.map_err(|cause| {
        format!("no way to the API server: {cause}; in a pod, mount a token; elsewhere, set KUBECONFIG")
    })?;
    let objects = source::watch_api(&client, &args.namespace, &args.gateway);
    let options = agent::Options {
        pod: args.pod,
        gateway: format!("{}/{}", args.namespace, args.gateway),
        kill_key: args.kill_key,
        peers: args.peers,
        root: args.root,
        control_socket: args.control_socket,
        probe_socket: args.probe_socket,
        log_dir: args.log_dir,
        http_address: args.http_port.map_or(args.http_address, |port| (Ipv4Addr::UNSPECIFIED, port).into()),
        https_address: (Ipv4Addr::UNSPECIFIED, args.https_port).into(),
        tls_dir: args.tls_dir,
        token_tables_dir: args.token_tables_dir,
        workers: args.workers,
        rotate_at: 8 << 20,
    };
    let stop = async move {
        term.recv().await;
    };
    agent::run(options, listener, objects, stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// `4s`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 4s or 500ms");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "ms" => Ok(Duration::from_millis(number)),
        _ => Err(wrong()),
    }
}
