//! What the node needs from Debian.
//! Takes nothing, makes sure that the programs are there or says which packages are missing.
//! I/O: looks at files, runs apt-get.

use crate::cluster::{
    Progress,
    cmd::{self, CmdError},
};
use std::path::Path;
use tokio::process::Command;

/// Where Debian puts the CNI plugins.
pub(crate) const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Programs, and the package that carries each.
const PROGRAMS: [(&str, &str); 7] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
];

/// Why the programs are not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no apt-get here.
    #[error(
        "the local cluster needs these Debian packages, and there is no apt-get here: {}. Install what \
         carries them on this system, or use a cluster of yours (--context NAME) or kind.",
        .0.join(" ")
    )]
    NotDebian(Vec<&'static str>),
    /// apt-get failed.
    #[error("installing {} failed; install them by hand and try again.\n{error}", .packages.join(" "))]
    Apt {
        /// The packages that are missing.
        packages: Vec<&'static str>,
        /// What apt-get said.
        error: CmdError,
    },
}

/// Installs what is missing. The caller is root.
pub(crate) async fn ensure(progress: &Progress) -> Result<(), Error> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    if !cmd::in_path("apt-get") {
        return Err(Error::NotDebian(packages));
    }
    progress.say(&format!("installing from Debian: {}", packages.join(" ")));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).args(["-q", "-y"]).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let install = [&["install", "--no-install-recommends"], &packages[..]].concat();
    for args in [&["update"][..], &install] {
        let result = cmd::output(&mut apt(args)).await;
        result.map_err(|error| Error::Apt { packages: packages.clone(), error })?;
    }
    Ok(())
}

/// The packages that are missing.
pub(crate) fn missing() -> Vec<&'static str> {
    let mut packages: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !cmd::in_path(program)).map(|(_, package)| *package).collect();
    if !Path::new(CNI_PLUGINS).join("bridge").exists() {
        packages.push("containernetworking-plugins");
    }
    packages.dedup();
    packages
}
