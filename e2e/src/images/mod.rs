//! Images from files: no Docker daemon, no base image, no registry.
//! Takes the programs that this workspace built, gives archives in the cache that
//! `ctr images import` and `kind load image-archive` read. I/O: reads and writes files.

mod archive;
pub(crate) mod checkers;
mod closure;
mod debian;
pub(crate) mod nginx;
mod prometheus;

use crate::cluster::{
    cmd::{Doing as _, Fault},
    dirs,
};
use archive::{Contents, Entry};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};
use stomaton_crds::hex::hex;

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be used.
    #[error(transparent)]
    Io(#[from] Fault),
    /// A program or one of its libraries could not be gathered.
    #[error(transparent)]
    Closure(#[from] closure::Error),
    /// The archive could not be packed.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// There is nothing to check configurations with.
    #[error(transparent)]
    Checkers(#[from] checkers::Error),
    /// There is no NGINX.
    #[error(transparent)]
    Nginx(#[from] nginx::Error),
    /// There is no Prometheus.
    #[error(transparent)]
    Prometheus(#[from] prometheus::Error),
    /// A program was not built yet.
    #[error("{} is not built; run `cargo build --workspace`", .0.display())]
    NotBuilt(PathBuf),
}

/// An image to make: its name, and the program that it runs.
#[derive(Debug, Clone, Copy)]
struct Spec {
    /// As in a manifest: `stomaton/operator:dev`.
    name: &'static str,
    /// The program of this workspace, and what follows it on the command line.
    program: Program,
    /// Whether NGINX goes in as `/bin/nginx`.
    nginx: bool,
    /// The user unless the pod names another.
    user: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Program {
    /// Built by this workspace, beside this program.
    Ours(&'static str),
    /// Of this machine, with its arguments.
    System(&'static str, &'static [&'static str]),
    /// Of a package of Debian.
    Prometheus,
}

/// `sleep` waits as well as any pause program: the runtime ends it by KILL, and nothing is
/// re-parented to it unless a pod shares its process namespace.
const PAUSE: Spec = Spec {
    name: "stomaton/pause:1",
    program: Program::System("/bin/sleep", &["infinity"]),
    nginx: false,
    user: "65535:65535",
};

/// Only some scenarios need it, so it is not made with the others.
const MONITORING: Spec =
    Spec { name: "stomaton/prometheus:dev", program: Program::Prometheus, nginx: false, user: "65532:65532" };

const IMAGES: [Spec; 4] = [
    Spec {
        name: "stomaton/operator:dev",
        program: Program::Ours("stomaton-operator"),
        nginx: false,
        user: "65532:65532",
    },
    Spec { name: "stomaton/edge:dev", program: Program::Ours("edge"), nginx: true, user: "10102:10102" },
    Spec { name: "stomaton/fleet:dev", program: Program::Ours("fleet"), nginx: false, user: "65532:65532" },
    Spec { name: "stomaton/load:dev", program: Program::Ours("e2e"), nginx: false, user: "65532:65532" },
];

/// A packed image in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The full name, such as `docker.io/stomaton/operator:dev`.
    pub reference: String,
    /// The digest by which containerd lists the image.
    pub digest: String,
    /// The OCI archive.
    pub archive: PathBuf,
    /// What the image was made from: size and time of each file.
    inputs: String,
}

/// Makes those of the project's images whose programs changed, and gives all of them.
pub async fn all() -> Result<Vec<Image>, Error> {
    let mut images = Vec::new();
    for spec in &IMAGES {
        images.push(ensure(spec).await?);
    }
    Ok(images)
}

/// Makes one of the project's images, by its short name (`edge`); `None` if there is none such.
pub(crate) fn named(name: &str) -> Option<impl Future<Output = Result<Image, Error>>> {
    IMAGES.iter().find(|spec| spec.name == format!("stomaton/{name}:dev")).map(ensure)
}

/// The image that holds a pod's namespaces.
pub(crate) async fn pause() -> Result<Image, Error> {
    ensure(&PAUSE).await
}

/// The image of Prometheus.
pub(crate) async fn monitoring() -> Result<Image, Error> {
    ensure(&MONITORING).await
}

/// Gives the image from the cache if its inputs are the same, else makes it.
async fn ensure(spec: &Spec) -> Result<Image, Error> {
    let sources = sources(spec).await?;
    let inputs = fingerprint(spec, &sources)?;
    let dir = dirs::cache()?.join("images");
    let _one_at_a_time = dirs::lock(dir.join("lock")).await?;
    let file = spec.name.replace(['/', ':'], "-");
    let record = dir.join(format!("{file}.json"));
    let known = fs::read(&record).ok().and_then(|json| serde_json::from_slice::<Image>(&json).ok());
    if let Some(image) = known.filter(|image| image.inputs == inputs && image.archive.exists()) {
        return Ok(image);
    }

    let reference = format!("docker.io/{}", spec.name);
    let packed = archive::pack(&reference, &contents(spec, &sources).await?)?;
    let image = Image { reference, digest: packed.digest, archive: dir.join(format!("{file}.tar")), inputs };
    replace(&image.archive, &packed.bytes)?;
    replace(&record, &serde_json::to_vec(&image).map_err(archive::Error::from)?)?;
    Ok(image)
}

/// The files that go into an image, with their destinations, before their libraries.
async fn sources(spec: &Spec) -> Result<Vec<(PathBuf, String)>, Error> {
    let mut sources = vec![match spec.program {
        Program::Ours(name) => (built(name)?, format!("/bin/{name}")),
        Program::System(path, _) => (PathBuf::from(path), path.to_owned()),
        Program::Prometheus => (prometheus::ensure().await?, "/bin/prometheus".to_owned()),
    }];
    if spec.nginx {
        sources.push((nginx::ensure().await?, "/bin/nginx".to_owned()));
    }
    Ok(sources)
}

fn built(name: &str) -> Result<PathBuf, Error> {
    let path = crate::cluster::own_program()?.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(Error::NotBuilt(path)) }
}

async fn contents(spec: &Spec, sources: &[(PathBuf, String)]) -> Result<Contents, Error> {
    let mut contents = Contents { user: spec.user.to_owned(), ..Default::default() };
    for (program, destination) in sources {
        contents.entries.append(&mut closure::gather(program, destination).await?);
    }
    contents.entrypoint = match spec.program {
        Program::Ours(name) => vec![format!("/bin/{name}")],
        Program::System(path, args) => [&[path], args].concat().into_iter().map(str::to_owned).collect(),
        Program::Prometheus => vec!["/bin/prometheus".to_owned()],
    };
    // Programs that ask for a name, a user or a temporary file find an answer.
    let etc = [
        ("etc/passwd", "root:x:0:0:root:/:/bin/false\nnonroot:x:65532:65532:nonroot:/:/bin/false\n"),
        ("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
        ("etc/nsswitch.conf", "hosts: files dns\n"),
    ];
    contents.entries.insert("etc".to_owned(), Entry::Dir(0o755));
    for (path, text) in etc {
        contents.entries.insert(path.to_owned(), Entry::File(0o644, text.as_bytes().to_vec()));
    }
    contents.entries.insert("tmp".to_owned(), Entry::Dir(0o1777));
    Ok(contents)
}

/// Names what goes into an image. The compiler writes a new file when something changed, so size
/// and time of change tell; reading a hundred megabytes each time would take longer than loading.
fn fingerprint(spec: &Spec, sources: &[(PathBuf, String)]) -> Result<String, Fault> {
    let mut hash = Sha256::new();
    hash.update(format!("{spec:?}"));
    for (path, destination) in sources {
        let file = fs::metadata(path).doing_at("read", path)?;
        hash.update(format!("{destination} {} {} {}\n", file.len(), file.mtime(), file.mtime_nsec()));
    }
    Ok(hex(&hash.finalize()))
}

/// Writes a file whole or not at all.
fn replace(path: &Path, content: &[u8]) -> Result<(), Fault> {
    let partial = path.with_extension("partial");
    fs::write(&partial, content).and_then(|()| fs::rename(&partial, path)).doing_at("write", path)
}
