//! A cluster in Docker, by the `kind` command.
//! Takes its name, gives the cluster through few calls of the command. I/O: runs kind and docker.

use super::{
    Error, Progress,
    cmd::{self, Doing as _},
    dirs,
    provider::{Access, Act, Forward, Provider, Status, UpOptions, pod_logs, port_forward, run_here},
    ready,
};
use crate::images::Image;
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};
use tokio::process::Command;

/// Whether kind is installed and Docker answers.
pub(crate) async fn is_usable() -> bool {
    if !cmd::in_path("kind") || !cmd::in_path("docker") {
        return false;
    }
    let mut docker = Command::new("docker");
    docker.args(["version", "--format", "{{.Server.Version}}"]).kill_on_drop(true);
    matches!(tokio::time::timeout(Duration::from_secs(5), cmd::output(&mut docker)).await, Ok(Ok(_)))
}

/// The kind cluster of one name.
pub(crate) struct Kind {
    name: String,
    kubeconfig: PathBuf,
}

impl Kind {
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        // Apart from the user's own kubeconfig, which is not ours to change.
        Ok(Self { name: name.to_owned(), kubeconfig: dirs::state()?.join(format!("kind-{name}.kubeconfig")) })
    }

    fn access(&self) -> Access {
        Access { kubeconfig: Some(self.kubeconfig.clone()), context: Some(format!("kind-{}", self.name)) }
    }

    async fn kind(&self, args: &[&str]) -> Result<String, Error> {
        let mut command = Command::new("kind");
        command.args(args).args(["--name", &self.name]);
        Ok(cmd::output(&mut command).await?)
    }

    async fn exists(&self) -> Result<bool, Error> {
        let clusters = cmd::output(Command::new("kind").args(["get", "clusters"])).await?;
        Ok(clusters.lines().any(|line| line == self.name))
    }

    async fn load(&self, archive: &Path) -> Result<(), Error> {
        self.kind(&["load", "image-archive", &archive.display().to_string()]).await?;
        Ok(())
    }
}

impl Provider for Kind {
    fn name(&self) -> String {
        format!("kind ({})", self.name)
    }

    fn up<'a>(&'a self, _: &'a UpOptions, progress: &'a Progress) -> Act<'a, Access> {
        Box::pin(async move {
            let kubeconfig = self.kubeconfig.display().to_string();
            if self.exists().await? {
                progress.say("already running");
                self.kind(&["export", "kubeconfig", "--kubeconfig", &kubeconfig]).await?;
            } else {
                progress.say("kind creates the cluster");
                self.kind(&["create", "cluster", "--wait", "120s", "--kubeconfig", &kubeconfig]).await?;
            }
            let access = self.access();
            ready::node(&access.client().await?).await?;
            progress.say("node ready");
            Ok(access)
        })
    }

    fn down<'a>(&'a self, progress: &'a Progress) -> Act<'a, ()> {
        Box::pin(async move {
            self.kind(&["delete", "cluster", "--kubeconfig", &self.kubeconfig.display().to_string()]).await?;
            if self.kubeconfig.exists() {
                fs::remove_file(&self.kubeconfig).doing_at("remove", &self.kubeconfig)?;
            }
            progress.say("stopped");
            Ok(())
        })
    }

    fn status(&self) -> Act<'_, Status> {
        Box::pin(async {
            if !self.exists().await? {
                return Ok(Status { access: None, nodes: Vec::new() });
            }
            let access = self.access();
            Ok(Status { nodes: access.nodes().await?, access: Some(access) })
        })
    }

    fn exec<'a>(&'a self, command: &'a [OsString]) -> Act<'a, ExitStatus> {
        Box::pin(async move { run_here(&self.access(), command).await })
    }

    fn load<'a>(&'a self, images: &'a [Image], progress: &'a Progress) -> Act<'a, ()> {
        Box::pin(async move {
            for image in images {
                Kind::load(self, &image.archive).await?;
                progress.say(&format!("loaded {}", image.reference));
            }
            Ok(())
        })
    }

    fn load_archive<'a>(&'a self, archive: &'a Path) -> Act<'a, ()> {
        Box::pin(Kind::load(self, archive))
    }

    fn logs<'a>(&'a self, component: Option<&'a str>) -> Act<'a, String> {
        Box::pin(async move { pod_logs(&self.access(), component).await })
    }

    fn forward<'a>(&'a self, namespace: &'a str, service: &'a str, port: u16) -> Act<'a, Forward> {
        Box::pin(async move { port_forward(&self.access(), namespace, service, port).await })
    }
}
