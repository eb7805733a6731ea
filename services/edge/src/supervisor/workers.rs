//! The worker processes of an NGINX, by what `/proc` of this container says. Does I/O, reading only.

use std::fs;
use std::path::Path;

/// Worker processes, by whether they still take connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Workers {
    /// Take connections.
    pub(super) serving: Vec<i32>,
    /// Only finish what they have.
    pub(super) retiring: Vec<i32>,
}

/// Workers of the master process `master`.
pub(super) fn workers(master: i32) -> Workers {
    let mut workers = Workers::default();
    for pid in children(master) {
        let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let title = String::from_utf8_lossy(&title);
        if title.starts_with("nginx: worker process is shutting down") {
            workers.retiring.push(pid);
        } else if title.starts_with("nginx: worker process") {
            workers.serving.push(pid);
        }
    }
    workers
}

/// Whether the master or a worker of it still has a file of `dir` open whose name ends in `suffix`.
pub(super) fn holds(master: i32, dir: &Path, suffix: &str) -> std::io::Result<bool> {
    for pid in children(master).into_iter().chain([master]) {
        let open = match fs::read_dir(format!("/proc/{pid}/fd")) {
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let is_held = |path: &Path| {
            path.parent() == Some(dir)
                && path.file_name().is_some_and(|n| n.to_string_lossy().ends_with(suffix))
        };
        if open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| is_held(&path)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn children(parent: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// Fourth field of `/proc/PID/stat`; the second is a name in parentheses that may hold anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
