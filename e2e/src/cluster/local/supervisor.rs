//! The one process of the cluster that lives on the host: starts the namespaces, publishes the API
//! server on loopback, and clears everything away when the cluster ends, for whatever reason.
//!
//! Two pipes make sure that nothing is left behind. `up` holds this process's standard input until
//! the cluster is ready; if it breaks before `KEEP`, `up` died and the cluster goes. This process
//! holds the node's standard input; if it breaks, the node ends, and the kernel ends the rest of
//! its namespaces. I/O: processes, sockets, cgroups, the state directory.

use super::{cgroup, config, forward, node, paths::Paths};
use crate::cluster::{
    cmd::{self, Doing as _, Fault},
    dirs, pki,
};
use std::{
    fs, io,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

/// What `up` writes when the cluster shall outlive it.
pub(crate) const KEEP: u8 = b'k';

/// Why the supervisor failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, process or socket could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// The certificates could not be made.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// The node could not be prepared.
    #[error(transparent)]
    Node(#[from] node::Error),
}

/// Runs the cluster until it is told to stop, its starter dies, or the node ends.
pub(crate) async fn run(paths: &Paths) -> Result<(), Error> {
    // A terminal that closes or sends Ctrl-C must not end a cluster that is kept.
    rustix::process::setsid().map_err(io::Error::from).doing("leave the terminal")?;
    let _alive = dirs::lock(paths.alive_lock()).await?;
    let result = live(paths).await;
    clear(paths)?;
    result
}

async fn live(paths: &Paths) -> Result<(), Error> {
    let mut stop = signal(SignalKind::terminate()).doing("listen for signals")?;
    let pid = paths.file("supervisor.pid");
    fs::write(&pid, std::process::id().to_string()).doing_at("write", &pid)?;
    let listener = TcpListener::bind("127.0.0.1:0").await.doing("listen on loopback")?;
    let port = listener.local_addr().doing("read the port")?.port();
    prepare(paths, port)?;
    let mut node = enter(paths)?;
    // Taken out, or waiting would close it.
    let lifeline = node.stdin.take();
    let api = ([127, 0, 0, 1], config::API_PORT).into();
    tokio::select! {
        result = forward::publish(listener, paths.forward_socket(), api) => eprintln!("forwarding ended: {result:?}"),
        status = node.wait() => eprintln!("the node ended: {status:?}"),
        _ = stop.recv() => eprintln!("told to stop"),
        () = starter_died() => eprintln!("whoever started this cluster is gone before it was ready"),
    }
    drop(lifeline);
    if tokio::time::timeout(Duration::from_secs(5), node.wait()).await.is_err() {
        node.kill().await.doing("kill the node")?;
    }
    Ok(())
}

/// Writes every file that the node reads, and the kubeconfig for the host.
fn prepare(paths: &Paths, port: u16) -> Result<(), Error> {
    cgroup::create(&paths.cgroup())?;
    let plane = config::control_plane(paths);
    let pki = plane.write_files()?;
    pki.issue("scheduler", "system:kube-scheduler", None, &[])?;
    pki.issue("proxy", "system:kube-proxy", None, &[])?;
    let node = config::NODE_NAME;
    pki.issue("kubelet", &format!("system:node:{node}"), Some("system:nodes"), &[node, config::NODE_IP])?;
    for name in ["scheduler", "proxy", "kubelet"] {
        plane.write_kubeconfig(name)?;
    }
    for (file, content) in config::files(paths) {
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir).doing_at("create", dir)?;
        }
        fs::write(&file, content).doing_at("write", &file)?;
    }
    let server = format!("https://127.0.0.1:{port}");
    let context = format!("stomaton-local-{}", paths.name());
    Ok(pki::write_kubeconfig(&paths.kubeconfig(), &plane.pki(), "admin", &server, &context)?)
}

/// Starts process 1 in namespaces of its own. It dies if `unshare` does.
fn enter(paths: &Paths) -> Result<Child, Fault> {
    let me = std::env::current_exe().doing("find this program")?;
    Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"])
        .args(["--propagation", "slave"])
        .arg(me)
        .args(["cluster", "--name", paths.name(), "local-init"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .spawn()
        .doing("start `unshare`")
}

/// Returns when the starter's end of the pipe breaks before it said that the cluster is to be kept.
async fn starter_died() {
    if cmd::input_byte().await == Some(KEEP) {
        std::future::pending::<()>().await;
    }
}

/// Removes what a cluster leaves when its processes are gone: cgroups and files. The logs of the
/// last run stay, for whoever asks why it ended.
pub(crate) fn clear(paths: &Paths) -> Result<(), Fault> {
    cgroup::remove(&paths.cgroup())?;
    if paths.logs().exists() {
        let last = paths.last_logs();
        if let Some(dir) = last.parent() {
            fs::create_dir_all(dir).doing_at("create", dir)?;
        }
        remove_dir(&last)?;
        fs::rename(paths.logs(), &last).doing_at("move the logs to", &last)?;
    }
    remove_dir(&paths.dir())
}

/// Removes a directory. Processes that are just being ended may still write there: tries again for
/// up to five seconds.
fn remove_dir(dir: &Path) -> Result<(), Fault> {
    let started = Instant::now();
    loop {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if started.elapsed() > Duration::from_secs(5) => return Err(e).doing_at("remove", dir),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
            Ok(()) => return Ok(()),
        }
    }
}
