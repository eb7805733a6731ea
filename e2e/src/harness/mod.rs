//! What scenarios and the demo share: a cluster with the operator installed as a user would, namespaces that clear
//! themselves away, traffic, faults, and what the records say about it all.
//!
//! - [`evidence`]: what the records prove (pure)
//! - [`wait`]: waiting for a condition, and saying what was there instead; [`weight_log`]: what weights were meanwhile
//! - [`install`], [`namespace`], [`fleet`], [`service`], [`site`], [`traffic`]: things that are put on a cluster, from the
//!   bottom up
//! - [`proxy`]: HTTP to a single pod, through the API server
//! - [`kill`]: ends containers and processes as the kernel would
//! - [`monitoring`]: a Prometheus, and an operator that asks it
//! - [`certificates`]: for tests of TLS
//! - [`scenario`]: a test around all that, with everything on the screen when it fails

pub mod certificates;
pub(crate) mod dump;
pub mod evidence;
pub mod fleet;
pub mod install;
pub mod kill;
pub mod monitoring;
pub mod namespace;
pub mod proxy;
pub mod scenario;
pub mod service;
pub mod site;
pub mod traffic;
pub mod wait;
pub mod weight_log;

use crate::cluster::{
    self, Cluster,
    cmd::{CmdError, Fault},
};
use kube::Client;
use std::path::{Path, PathBuf};

/// Why something could not be done on the cluster, or did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster, or an image for it, could not be had.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The API server refused or did not answer.
    #[error("{doing}: {source}")]
    Api {
        /// What was being done.
        doing: String,
        /// What went wrong.
        source: Box<kube::Error>,
    },
    /// A command failed; the API server's refusals of manifests come this way too.
    #[error(transparent)]
    Command(#[from] CmdError),
    /// A file could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// A pod did not answer as it should.
    #[error("{request} was answered {status}: {body}")]
    Answer {
        /// Method, pod and path.
        request: String,
        /// The status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// Something that was read makes no sense.
    #[error("{what} cannot be read: {source}")]
    Unreadable {
        /// What was read.
        what: String,
        /// Why it makes no sense.
        source: serde_json::Error,
    },
    /// A certificate could not be made.
    #[error("make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A condition did not come about in time.
    #[error("{what}: not within {seconds} s; last seen: {seen}")]
    TooLate {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// What was there instead.
        seen: String,
    },
    /// A condition can't come about any more.
    #[error("{what}: it will not come to that: {seen}")]
    Never {
        /// What was waited for.
        what: String,
        /// What was there instead.
        seen: String,
    },
    /// What was measured is not what was promised.
    #[error("{0}")]
    Broken(String),
}

/// Adds what was being done to an error of the API.
pub trait Doing<T> {
    /// `what` reads like "create the namespace x".
    fn doing(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, kube::Error> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Api { doing: what.into(), source: Box::new(source) })
    }
}

/// A cluster and a client for it, of the runtime that made them.
pub struct Harness {
    /// The cluster.
    pub cluster: Cluster,
    /// A client with all rights.
    pub client: Client,
}

impl Harness {
    /// Finds or starts the cluster that `target` means.
    pub async fn start(target: &cluster::Target) -> Result<Self, Error> {
        let cluster = cluster::ensure(target).await?;
        let client = cluster.client().await?;
        Ok(Self { cluster, client })
    }

    /// Runs kubectl and gives what it said.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String, Error> {
        Ok(cluster::cmd::output(self.cluster.kubectl().await?.args(args)).await?)
    }
}

/// The root of this workspace.
pub(crate) fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Cargo's target directory: the one this program was built in, known by cargo's own mark.
pub(crate) fn target_dir() -> PathBuf {
    let me = std::env::current_exe().unwrap_or_default();
    let marked = me.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| workspace().join("target"), Path::to_owned)
}
