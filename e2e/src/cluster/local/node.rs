//! The inside of the cluster: process 1 of its namespaces, and the node that it runs.
//!
//! Takes the files that the supervisor wrote, gives a running node. Everything here sees private
//! mount, network and process namespaces; when process 1 ends, the kernel ends all others and with
//! them every mount, link and rule. I/O: mounts, links, processes.

use super::{
    config::{self, CONTAINERD_SOCKET, DNS_IP, NODE_IP},
    forward,
    paths::Paths,
};
use crate::cluster::{
    cmd::{self, CmdError, Doing as _, Fault},
    ready,
};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
    process::WaitOptions,
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{net::UnixStream, process::Command};

/// Why the node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, mount or process could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CmdError),
    /// The API server did not come up.
    #[error(transparent)]
    Ready(#[from] ready::Error),
}

/// Process 1: starts the node, reaps whatever is orphaned, ends with the node.
pub(crate) fn init(name: &str) -> Result<(), Error> {
    let me = std::env::current_exe().doing("find this program")?;
    let node = std::process::Command::new(&me)
        .args(["cluster", "--name", name, "local-node"])
        .spawn()
        .doing_at("start", &me)?;
    let node = i32::try_from(node.id()).map_err(std::io::Error::other).doing("read a process id")?;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) if pid.as_raw_nonzero().get() == node => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(std::io::Error::from(e)).doing("wait for the node")?,
        }
    }
}

/// The node: runs until its standard input ends, which its supervisor holds open.
pub(crate) async fn run(paths: &Paths, binary: PathBuf, pause: PathBuf) -> Result<(), Error> {
    mounts(paths)?;
    network().await?;
    let programs = Programs { logs: paths.logs(), kube: binary };
    let forwards = forward::serve(paths.forward_socket());
    let running = async {
        start(paths, &programs, &pause).await?;
        std::future::pending::<Result<(), Error>>().await
    };
    tokio::select! {
        result = running => result,
        result = forwards => Ok(result?),
        () = async { while cmd::input_byte().await.is_some() {} } => Ok(()),
    }
}

/// Starts the programs, each as soon as what it cannot wait for by itself is there.
async fn start(paths: &Paths, programs: &Programs, pause: &Path) -> Result<(), Error> {
    let plane = config::control_plane(paths);
    programs.kube("etcd", plane.etcd());
    programs.kube("kube-apiserver", plane.apiserver());
    programs.keep("containerd", "containerd".into(), vec!["-c".into(), path(&paths.file("containerd.toml"))]);
    let client = ready::client(paths.inner_kubeconfig()).await?;
    let (api, images) = tokio::join!(ready::api(&client), load_pause(pause));
    api?;
    images?;
    programs.kube("kube-controller-manager", plane.controller_manager());
    programs.kube("kube-scheduler", config::scheduler(paths));
    programs.kube("kubelet", config::kubelet_args(paths));
    programs.kube("kube-proxy", config::proxy_args(paths));
    programs.kube("coredns", config::coredns_args(paths));
    Ok(())
}

async fn load_pause(archive: &Path) -> Result<(), Error> {
    while UnixStream::connect(CONTAINERD_SOCKET).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut import = Command::new("ctr");
    cmd::output(import.args(["-n", "k8s.io", "images", "import"]).arg(archive)).await?;
    Ok(())
}

/// Where the node's programs are and where they log.
struct Programs {
    logs: PathBuf,
    kube: PathBuf,
}

impl Programs {
    /// Keeps a component of the Kubernetes binary running; `args[0]` is its name.
    fn kube(&self, name: &'static str, args: Vec<String>) {
        self.keep(name, self.kube.clone(), args);
    }

    /// Keeps a program running: started again one second after it ends, as an init system would.
    fn keep(&self, name: &'static str, program: PathBuf, args: Vec<String>) {
        let log = self.logs.join(format!("{name}.log"));
        tokio::spawn(async move {
            loop {
                match run_logged(&program, &args, &log).await {
                    Ok(status) => eprintln!("{name} ended ({status}); starting it again"),
                    Err(e) => eprintln!("{name}: {e}; trying again"),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
}

async fn run_logged(program: &Path, args: &[String], log: &Path) -> Result<std::process::ExitStatus, Fault> {
    let output = File::options().create(true).append(true).open(log).doing_at("open", log)?;
    let errors = output.try_clone().doing("share a log file")?;
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", cmd::search_path())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .doing_at("start", program)?;
    child.wait().await.doing_at("wait for", program)
}

/// Gives the node places of its own for all that its programs write outside the state directory.
fn mounts(paths: &Paths) -> Result<(), Fault> {
    // Pods may share mounts with the node, but nothing gets out to the host.
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change("/", shared).doing("share mounts within the node")?;
    private_run(paths)?;
    for (inside, own) in [("/var/log", "var-log"), ("/var/lib/kubelet", "kubelet")] {
        let own = paths.file(own);
        fs::create_dir_all(inside).doing_at("create", Path::new(inside))?;
        fs::create_dir_all(&own).doing_at("create", &own)?;
        mount_bind(&own, inside).doing_at("mount", &own)?;
    }
    // An image that was never loaded fails at once, instead of when the host's resolver times out.
    if Path::new("/etc/resolv.conf").exists() {
        mount_bind(paths.file("resolv.conf"), "/etc/resolv.conf").doing("replace /etc/resolv.conf")?;
    }
    shield_sysctls()
}

/// A fresh `/run`, and a `/var/lib` in which new entries are the node's only. The state directory
/// stays itself, wherever it is, since containerd cannot work on an overlay.
fn private_run(paths: &Paths) -> Result<(), Fault> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", "/run", "tmpfs", flags, c"mode=755").doing("mount /run")?;
    let [state, upper, work] = ["/run/node/state", "/run/node/upper", "/run/node/work"].map(Path::new);
    for dir in [state, upper, work] {
        fs::create_dir_all(dir).doing_at("create", dir)?;
    }
    mount_bind(paths.dir(), state).doing("keep the state directory")?;
    let layers = c"lowerdir=/var/lib,upperdir=/run/node/upper,workdir=/run/node/work";
    mount("overlay", "/var/lib", "overlay", flags, layers).doing("mount an overlay on /var/lib")?;
    mount_bind(state, paths.dir()).doing("put the state directory back")
}

/// The kubelet sets these for the whole machine; let it set copies.
fn shield_sysctls() -> Result<(), Fault> {
    let names = [
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "kernel/keys/root_maxbytes",
    ];
    for name in names {
        if !Path::new("/proc/sys").join(name).exists() {
            continue;
        }
        let (real, copy) =
            (Path::new("/proc/sys").join(name), Path::new("/run/node").join(name.replace('/', ".")));
        fs::copy(&real, &copy).doing_at("copy", &real)?;
        fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .doing_at("open up", &copy)?;
        mount_bind(&copy, &real).doing_at("shield", &real)?;
    }
    Ok(())
}

/// A bridge with the node's address and cluster DNS's. The default route leads to itself: service
/// addresses are routable, so that they reach the rules which translate them, and nothing gets out.
async fn network() -> Result<(), CmdError> {
    let (node, dns) = (format!("{NODE_IP}/24"), format!("{DNS_IP}/32"));
    let commands: [&[&str]; 6] = [
        &["link", "set", "lo", "up"],
        &["link", "add", "node0", "type", "bridge"],
        &["addr", "add", &node, "dev", "node0"],
        &["addr", "add", &dns, "dev", "node0"],
        &["link", "set", "node0", "up"],
        &["route", "add", "default", "via", NODE_IP, "dev", "node0"],
    ];
    for args in commands {
        cmd::output(Command::new("ip").args(args).env("PATH", cmd::search_path())).await?;
    }
    for switch in ["ipv4/ip_forward", "bridge/bridge-nf-call-iptables"] {
        // The second exists only where the bridge filter is a module that is loaded; without it
        // traffic between pods of one bridge skips the rules that kube-proxy makes.
        let file = Path::new("/proc/sys/net").join(switch);
        if let Err(e) = fs::write(&file, "1") {
            eprintln!("cannot set {}: {e}; pods may not reach services", file.display());
        }
    }
    Ok(())
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
