//! The cgroup under which the kubelet puts every pod of one cluster.
//! Takes its name, makes or removes it in every hierarchy, of version 1 and 2. I/O: the cgroup
//! file systems.

use crate::cluster::cmd::{Doing as _, Fault};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Makes the cgroup in every hierarchy; the kubelet insists that it exists.
pub(crate) fn create(name: &str) -> Result<(), Fault> {
    for root in hierarchies()? {
        // Version 2 gives children only the controllers that their parent passes on.
        for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
            let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        let dir = root.join(name);
        fs::create_dir_all(&dir).doing_at("create the cgroup", &dir)?;
    }
    Ok(())
}

/// Removes the cgroup and all below it. Its processes have ended, but the kernel may take a moment
/// to see that the cgroup is empty; gives up after five seconds.
pub(crate) fn remove(name: &str) -> Result<(), Fault> {
    let started = Instant::now();
    for root in hierarchies()? {
        let dir = root.join(name);
        loop {
            match remove_tree(&dir) {
                Err(e)
                    if e.kind() == io::ErrorKind::ResourceBusy
                        && started.elapsed() < Duration::from_secs(5) =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                result => break result.doing_at("remove the cgroup", &dir)?,
            }
        }
    }
    Ok(())
}

/// Removes directories from the bottom up; the files in them belong to the kernel.
fn remove_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

/// The roots of all hierarchies: every one of version 1, and that of version 2, which alone or beside
/// the others gets the same cgroups.
fn hierarchies() -> Result<Vec<PathBuf>, Fault> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").doing("read /proc/self/mountinfo")?;
    Ok(roots(&mounts))
}

fn roots(mountinfo: &str) -> Vec<PathBuf> {
    let root = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let is_cgroup = matches!(after.split(' ').next(), Some("cgroup" | "cgroup2"));
        before.split(' ').nth(4).filter(|_| is_cgroup).map(PathBuf::from)
    };
    mountinfo.lines().filter_map(root).collect()
}

#[cfg(test)]
mod tests {
    use super::roots;
    use std::path::PathBuf;

    const HYBRID: &str = "\
24 21 0:20 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755
25 24 0:21 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw
29 24 0:25 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct
30 24 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids";

    #[test]
    fn both_versions_are_found_and_nothing_else() {
        let expected =
            ["unified", "cpu,cpuacct", "pids"].map(|name| PathBuf::from("/sys/fs/cgroup").join(name));
        assert_eq!(roots(HYBRID), expected);
    }
}
