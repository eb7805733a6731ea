//! The local cluster leaves nothing behind, however it ends.
//!
//! Each test lists what could be left (processes, mounts, links, rules, cgroups, sockets, files)
//! before the cluster starts and after it ended; the two lists must be the same.
//! Run by `make test`, which knows that this is root on Debian:
//! `cargo test -p e2e --test cluster_local -- --ignored`

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// One at a time: each looks at the whole machine.
static MACHINE: Mutex<()> = Mutex::new(());

/// A local cluster of the test's own, apart from any that the user runs.
struct Cluster {
    name: String,
    state: tempfile::TempDir,
    before: Footprint,
    _machine: MutexGuard<'static, ()>,
}

/// What a cluster could leave on the machine, by kind.
type Footprint = BTreeMap<&'static str, BTreeSet<String>>;

/// A process, told from a later one of the same number by the time of its start.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    started: String,
}

impl Cluster {
    fn new(test: &str) -> Self {
        let machine = MACHINE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let state = tempfile::Builder::new().prefix("stk").tempdir().unwrap();
        let name = format!("test-{test}");
        // Locks are made once and stay, so they belong to the state of affairs before.
        let mut cluster = Self { name, state, before: Footprint::new(), _machine: machine };
        cluster.e2e(&["down"]);
        cluster.before = cluster.footprint();
        cluster
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_e2e"));
        command
            .args(["cluster", "--provider", "local", "--name", &self.name])
            .args(args)
            .env("XDG_STATE_HOME", self.state.path())
            .env_remove("STOMATON_CONTEXT");
        command
    }

    /// Runs `e2e cluster ARGS`, which must succeed, and gives what it printed.
    fn e2e(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    fn dir(&self) -> PathBuf {
        self.state.path().join("stomaton").join(&self.name)
    }

    /// Starts the cluster and a pod on it, and gives all of its processes: the supervisor first.
    fn up_with_pod(&self) -> Vec<Process> {
        self.e2e(&["up"]);
        self.e2e(&["exec", "--", "kubectl", "run", "waiting", "--image=stomaton/pause:1"]);
        self.e2e(&["exec", "--", "kubectl", "wait", "--for=condition=Ready", "pod/waiting", "--timeout=60s"]);
        let supervisor = self.supervisor();
        let all = processes();
        let mut ours: Vec<Process> =
            all.iter().filter(|process| process.pid == supervisor).cloned().collect();
        let mut next = 0;
        while let Some(parent) = ours.get(next).map(|process| process.pid) {
            ours.extend(all.iter().filter(|process| process.parent == parent).cloned());
            next += 1;
        }
        // Supervisor, unshare, process 1, the node, eight programs, a shim and its two containers.
        assert!(ours.len() >= 15, "{ours:#?}");
        ours
    }

    fn supervisor(&self) -> i32 {
        fs::read_to_string(self.dir().join("supervisor.pid")).unwrap().parse().unwrap()
    }

    fn footprint(&self) -> Footprint {
        let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let run = |program: &str, args: &[&str]| {
            lines(String::from_utf8(Command::new(program).args(args).output().unwrap().stdout).unwrap())
        };
        let state = self.state.path().display().to_string();
        let mentioning =
            |all: BTreeSet<String>| all.into_iter().filter(|line| line.contains(&state)).collect();
        let names =
            |dir: &str| entries(Path::new(dir)).iter().map(|path| path.display().to_string()).collect();
        // Only what the cluster's programs make there: others write to these places too.
        let ours = |dir: &str| -> BTreeSet<String> {
            let made = ["cni", "containerd", "containers", "kubelet", "pods", "runc", "xtables.lock"];
            made.map(|name| Path::new(dir).join(name))
                .into_iter()
                .filter(|path| path.exists())
                .map(|path| path.display().to_string())
                .collect()
        };
        let without_counters =
            |rules: BTreeSet<String>| rules.into_iter().filter(|line| !line.starts_with(['#', ':']));
        BTreeMap::from([
            ("processes", mentioning(run("ps", &["-eo", "pid,args"]))),
            ("mounts", lines(fs::read_to_string("/proc/self/mountinfo").unwrap())),
            ("named network namespaces", names("/run/netns")),
            ("links", run("ip", &["-oneline", "link"])),
            ("rules", without_counters(run("iptables-save", &[])).collect()),
            ("sockets", mentioning(lines(fs::read_to_string("/proc/net/unix").unwrap()))),
            ("cgroups", cgroups(&format!("stomaton-{}", self.name))),
            ("files of the state directory", names(&self.dir().display().to_string())),
            ("files in /run", ours("/run")),
            ("files in /var/lib", ours("/var/lib")),
            ("files in /var/log", ours("/var/log")),
            ("settings of the kernel", settings()),
        ])
    }

    /// Compares the machine with how it was before, and that none of these processes lives.
    fn assert_nothing_left(&self, processes: &[Process]) {
        assert_eq!(alive(processes), Vec::<Process>::new());
        assert_eq!(self.footprint(), self.before);
    }

    /// Waits until the cluster has cleared itself away.
    fn wait_until_gone(&self) {
        let started = Instant::now();
        while self.footprint() != self.before {
            if started.elapsed() > Duration::from_secs(20) {
                assert_eq!(self.footprint(), self.before);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts `up` without waiting for it, and waits until the API server has begun to start.
    fn begin_up(&self) -> Child {
        let up = self.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let log = self.dir().join("logs/kube-apiserver.log");
        let started = Instant::now();
        while !log.exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "no {}", log.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        up
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A failed test must not leave a cluster either.
        let _ = self.command(&["down"]).output();
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn cgroups(name: &str) -> BTreeSet<String> {
    let roots = entries(Path::new("/sys/fs/cgroup")).into_iter().chain([PathBuf::from("/sys/fs/cgroup")]);
    roots
        .map(|root| root.join(name))
        .filter(|dir| dir.exists())
        .map(|dir| dir.display().to_string())
        .collect()
}

fn settings() -> BTreeSet<String> {
    let names = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"];
    names
        .map(|name| format!("{name}={}", fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap()))
        .into()
}

/// Every process on the machine.
fn processes() -> Vec<Process> {
    let stats =
        entries(Path::new("/proc")).into_iter().filter_map(|dir| fs::read_to_string(dir.join("stat")).ok());
    stats.filter_map(|stat| parse_stat(&stat)).collect()
}

/// `PID (NAME) STATE PARENT ...`, where the name may hold anything and field 22 is the start. A
/// zombie has ended: it only waits for its parent to notice.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, rest) = (stat.split_once(' ')?.0.parse().ok()?, stat.rsplit_once(") ")?.1);
    let fields: Vec<&str> = rest.split(' ').collect();
    let process = Process { pid, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.to_string() };
    (fields[0] != "Z").then_some(process)
}

fn alive(processes: &[Process]) -> Vec<Process> {
    let now = self::processes();
    let same = |one: &Process| now.iter().any(|other| (other.pid, &other.started) == (one.pid, &one.started));
    processes.iter().filter(|process| same(process)).cloned().collect()
}

fn kill(pid: i32, signal: rustix::process::Signal) {
    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal);
}

#[test]
#[ignore = "needs root and a node (starts the local cluster)"]
fn up_twice_reuses_and_down_leaves_nothing() {
    let cluster = Cluster::new("down");
    let processes = cluster.up_with_pod();
    let started = Instant::now();
    cluster.e2e(&["up"]);
    assert!(started.elapsed() < Duration::from_secs(1), "the second `up` took {:?}", started.elapsed());
    assert_eq!(cluster.supervisor(), processes[0].pid, "the second `up` started another cluster");
    cluster.e2e(&["down"]);
    cluster.assert_nothing_left(&processes);
}

#[test]
#[ignore = "needs root and a node (starts the local cluster twice)"]
fn after_everything_was_killed_the_next_up_clears_and_starts() {
    let cluster = Cluster::new("killed");
    let processes = cluster.up_with_pod();
    // The supervisor first, so that nobody is left to clear up.
    for process in &processes {
        kill(process.pid, rustix::process::Signal::KILL);
    }
    let started = Instant::now();
    while !alive(&processes).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(10), "still alive: {:?}", alive(&processes));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_ne!(cluster.footprint(), cluster.before, "files and cgroups are left, or this test shows nothing");
    let again = cluster.up_with_pod();
    cluster.e2e(&["down"]);
    cluster.assert_nothing_left(&again);
}

#[test]
#[ignore = "needs root and a node (starts the local cluster)"]
fn the_supervisor_clears_up_when_the_node_dies() {
    let cluster = Cluster::new("node");
    let processes = cluster.up_with_pod();
    let node = processes.iter().filter(|process| process.parent != processes[0].pid).nth(1).unwrap();
    kill(node.pid, rustix::process::Signal::KILL);
    cluster.wait_until_gone();
    cluster.assert_nothing_left(&processes);
}

#[test]
#[ignore = "needs root and a node (starts the local cluster)"]
fn an_up_that_is_killed_leaves_nothing() {
    let cluster = Cluster::new("killed-up");
    let mut up = cluster.begin_up();
    up.kill().unwrap();
    up.wait().unwrap();
    cluster.wait_until_gone();
}

#[test]
#[ignore = "needs root and a node (starts the local cluster)"]
fn an_up_that_is_interrupted_has_left_nothing_when_it_ends() {
    let cluster = Cluster::new("ctrl-c");
    let mut up = cluster.begin_up();
    kill(i32::try_from(up.id()).unwrap(), rustix::process::Signal::INT);
    assert!(!up.wait().unwrap().success(), "an interrupted `up` does not report success");
    assert_eq!(cluster.footprint(), cluster.before);
}
