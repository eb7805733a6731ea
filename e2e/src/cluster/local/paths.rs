//! The files of one local cluster, by name. Takes the cluster's name, gives paths. No I/O beyond
//! finding the user's state directory.

use crate::cluster::{cmd::Fault, dirs};
use std::path::{Path, PathBuf};

/// The places of one local cluster. A name has no dot, so what has one belongs to no cluster.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    name: String,
    base: PathBuf,
}

impl Paths {
    /// The places of the cluster `name`.
    pub(crate) fn of(name: &str) -> Result<Self, Fault> {
        Ok(Self { name: name.to_owned(), base: dirs::state()? })
    }

    /// The cluster's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Everything of the running cluster; removed with it.
    pub(crate) fn dir(&self) -> PathBuf {
        self.base.join(&self.name)
    }

    /// A file or directory of the running cluster.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The logs of the components.
    pub(crate) fn logs(&self) -> PathBuf {
        self.file("logs")
    }

    /// The logs of the run before this one, kept for whoever asks why it ended.
    pub(crate) fn last_logs(&self) -> PathBuf {
        self.base.join(".last-logs").join(&self.name)
    }

    /// By which programs on the host reach the cluster.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    /// By which programs inside the cluster's namespaces reach it.
    pub(crate) fn inner_kubeconfig(&self) -> PathBuf {
        self.file("admin.conf")
    }

    /// What the API server shall log, if anything.
    pub(crate) fn audit_policy(&self) -> PathBuf {
        self.file("audit-policy.yaml")
    }

    /// Where the node listens for connections that the host wants forwarded.
    pub(crate) fn forward_socket(&self) -> PathBuf {
        self.file("forward.sock")
    }

    /// Locked by the supervisor for as long as the cluster lives.
    pub(crate) fn alive_lock(&self) -> PathBuf {
        self.base.join(".locks").join(format!("{}.alive", self.name))
    }

    /// Locked by whoever starts or stops the cluster.
    pub(crate) fn change_lock(&self) -> PathBuf {
        self.base.join(".locks").join(format!("{}.change", self.name))
    }

    /// The cgroup that holds every pod of the cluster, below each hierarchy's root.
    pub(crate) fn cgroup(&self) -> String {
        format!("stomaton-{}", self.name)
    }

    /// The longest path that a unix socket of ours has; the kernel allows 107 bytes.
    pub(crate) fn socket_path_fits(&self) -> bool {
        path_len(&self.forward_socket()) <= 107
    }
}

fn path_len(path: &Path) -> usize {
    path.as_os_str().len()
}
