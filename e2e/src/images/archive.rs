//! One-layer OCI images as archives.
//! Takes files and how to run them, gives the bytes of an OCI layout in a tar file, which
//! `ctr images import` and `kind load image-archive` both read. The same input gives the same
//! bytes. Pure.

use oci_spec::image::{
    Arch, ConfigBuilder, DescriptorBuilder, Digest, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, RootFsBuilder, SCHEMA_VERSION, Sha256Digest,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, io, str::FromStr as _};
use stomaton_crds::hex::hex;

/// Under this annotation containerd, and so kind, finds the name to import an image by.
const NAME_ANNOTATION: &str = "io.containerd.image.name";

/// Why an archive could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part of the image does not satisfy the OCI specification.
    #[error("describe the image: {0}")]
    Spec(#[from] oci_spec::OciSpecError),
    /// A part could not be written as JSON.
    #[error("write the image's description: {0}")]
    Json(#[from] serde_json::Error),
    /// The tar file could not be written.
    #[error("pack the image: {0}")]
    Tar(#[from] io::Error),
}

/// One entry of an image's file system.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A directory with its permission bits.
    Dir(u32),
    /// A file with its permission bits and its content.
    File(u32, Vec<u8>),
}

/// What goes into an image. Everything belongs to root.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// By path, without the leading slash.
    pub(crate) entries: BTreeMap<String, Entry>,
    /// The command and its fixed arguments.
    pub(crate) entrypoint: Vec<String>,
    /// The user, as `UID:GID`, unless the pod names another.
    pub(crate) user: String,
}

/// A packed image.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The tar file.
    pub(crate) bytes: Vec<u8>,
    /// The digest of the image's manifest, such as `sha256:...`: by this containerd lists it.
    pub(crate) digest: String,
}

/// Packs an image under its full name, such as `docker.io/stomaton/operator:dev`.
pub(crate) fn pack(name: &str, contents: &Contents) -> Result<Archive, Error> {
    let mut blobs = Blobs::default();
    let layer = blobs.add(MediaType::ImageLayer, layer(contents)?)?;
    let config = ImageConfigurationBuilder::default()
        .architecture(architecture())
        .os(Os::Linux)
        .config(
            ConfigBuilder::default()
                .entrypoint(contents.entrypoint.clone())
                .user(contents.user.clone())
                .env(vec!["PATH=/bin".to_owned()])
                .build()?,
        )
        .rootfs(RootFsBuilder::default().diff_ids(vec![layer.digest().to_string()]).build()?)
        .build()?;
    let config = blobs.add_json(MediaType::ImageConfig, &config)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(vec![layer])
        .build()?;
    let mut manifest = blobs.add_json(MediaType::ImageManifest, &manifest)?;
    let digest = manifest.digest().to_string();
    manifest.set_annotations(Some([(NAME_ANNOTATION.to_owned(), name.to_owned())].into()));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![manifest])
        .build()?;
    let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;

    let mut files = blobs.files;
    files.insert("index.json".to_owned(), Entry::File(0o644, serde_json::to_vec(&index)?));
    files.insert("oci-layout".to_owned(), Entry::File(0o644, serde_json::to_vec(&layout)?));
    Ok(Archive { bytes: tar(&files)?, digest })
}

/// Blobs by the path that their digest gives them.
#[derive(Default)]
struct Blobs {
    files: BTreeMap<String, Entry>,
}

impl Blobs {
    fn add(&mut self, kind: MediaType, bytes: Vec<u8>) -> Result<oci_spec::image::Descriptor, Error> {
        let hex = hex(&Sha256::digest(&bytes));
        let digest: Digest = Sha256Digest::from_str(&hex)?.into();
        let size = bytes.len() as u64;
        self.files.insert(format!("blobs/sha256/{hex}"), Entry::File(0o644, bytes));
        Ok(DescriptorBuilder::default().media_type(kind).digest(digest).size(size).build()?)
    }

    fn add_json(
        &mut self,
        kind: MediaType,
        value: &impl Serialize,
    ) -> Result<oci_spec::image::Descriptor, Error> {
        self.add(kind, serde_json::to_vec(value)?)
    }
}

fn layer(contents: &Contents) -> io::Result<Vec<u8>> {
    tar(&contents.entries)
}

/// Entries in the order of their paths, so that directories come before what is in them; all times
/// and owners are zero.
fn tar(entries: &BTreeMap<String, Entry>) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, entry) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        let content: &[u8] = match entry {
            Entry::Dir(mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                &[]
            }
            Entry::File(mode, content) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(*mode);
                content
            }
        };
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content)?;
    }
    archive.into_inner()
}

fn architecture() -> Arch {
    match std::env::consts::ARCH {
        "x86_64" => Arch::Amd64,
        "aarch64" => Arch::ARM64,
        other => Arch::from(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn contents(text: &str) -> Contents {
        Contents {
            entries: [
                ("bin".to_owned(), Entry::Dir(0o755)),
                ("bin/a".to_owned(), Entry::File(0o755, text.as_bytes().to_vec())),
            ]
            .into(),
            entrypoint: vec!["/bin/a".to_owned()],
            user: "1:1".to_owned(),
        }
    }

    #[test]
    fn same_files_same_bytes_other_files_other_digest() {
        let [one, again, other] =
            ["x", "x", "y"].map(|text| pack("docker.io/a/b:c", &contents(text)).unwrap());
        assert_eq!(one.bytes, again.bytes);
        assert_eq!(one.digest, again.digest);
        assert_ne!(one.digest, other.digest);
    }

    #[test]
    fn every_blob_is_named_by_its_digest_and_the_index_names_the_image() {
        let archive = pack("docker.io/a/b:c", &contents("x")).unwrap();
        let mut blobs = 0;
        for entry in tar::Archive::new(&archive.bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                let actual: String =
                    Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(hex, actual);
                blobs += 1;
            } else if path == "index.json" {
                let index: serde_json::Value = serde_json::from_slice(&content).unwrap();
                assert_eq!(index["manifests"][0]["digest"], archive.digest);
                assert_eq!(index["manifests"][0]["annotations"][NAME_ANNOTATION], "docker.io/a/b:c");
            }
        }
        assert_eq!(blobs, 3, "layer, config, manifest");
    }
}
