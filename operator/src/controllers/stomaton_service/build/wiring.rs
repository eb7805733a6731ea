//! What the pods of a service are given, as parts of the pod and as further children: variables, files, data. Pure.

use crate::controllers::{
    meta::Family,
    stomaton_service::validate::{Deployed, wiring::Wiring},
};
use k8s_openapi::{
    api::core::v1::{
        ConfigMap, ConfigMapEnvSource, ConfigMapVolumeSource, ContainerPort, EnvFromSource, EnvVar,
        EnvVarSource, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource,
        SecretEnvSource, SecretKeySelector, ServicePort, Volume, VolumeMount, VolumeResourceRequirements,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use stomaton_crds::{
    hex::hex,
    keys,
    v1alpha1::{Access, ConfigFile, DataVolume, EnvFrom, NamedPort, OnDelete, SecretEnv},
};

/// Pod volume of the files.
const FILES: &str = "config-files";
/// Readable by everybody in the pod, writable by nobody.
const READ_ONLY: i32 = 0o444;

/// Name of the ConfigMap with the files of the service `name`: other files, another name, so that pods of a revision
/// get the files of that revision whenever they start.
pub fn files_name(name: &str, files: &[ConfigFile]) -> String {
    format!("{name}-config-{}", &files_hash("", files)[..8])
}

/// A hash of `files`, whatever their order, and of what is `beside` them.
fn files_hash(beside: &str, files: &[ConfigFile]) -> String {
    let mut hash = Sha256::new();
    hash.update(beside);
    let sorted: BTreeMap<_, _> = files.iter().map(|file| (&file.path, file)).collect();
    for file in sorted.values() {
        for part in [&file.path, &file.content] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hex(&hash.finalize())
}

/// Name of the claim for the volume `volume` of the service `name`.
pub fn claim_name(name: &str, volume: &str) -> String {
    format!("{name}-{volume}")
}

/// Ports of the container beside the main one.
pub fn container_ports(wiring: &Wiring) -> impl Iterator<Item = ContainerPort> + '_ {
    wiring.ports.iter().map(|NamedPort { name, port }| ContainerPort {
        name: Some(name.clone()),
        container_port: *port,
        ..ContainerPort::default()
    })
}

/// Ports of the Service beside the main one.
pub fn service_ports(wiring: &Wiring) -> impl Iterator<Item = ServicePort> + '_ {
    wiring.ports.iter().map(|NamedPort { name, port }| ServicePort {
        name: Some(name.clone()),
        port: *port,
        target_port: Some(IntOrString::String(name.clone())),
        ..ServicePort::default()
    })
}

/// Variables that come from keys of Secrets.
pub fn secret_env(wiring: &Wiring) -> impl Iterator<Item = EnvVar> + '_ {
    wiring.secret_env.iter().map(|SecretEnv { name, secret, key }| EnvVar {
        name: name.clone(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.clone(),
                key: key.clone(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    })
}

/// Variables that come from whole Secrets and ConfigMaps; none when there are none.
pub fn env_from(wiring: &Wiring) -> Option<Vec<EnvFromSource>> {
    let source = |EnvFrom { secret, config_map, prefix }: &EnvFrom| EnvFromSource {
        prefix: prefix.clone(),
        secret_ref: secret.clone().map(|name| SecretEnvSource { name, optional: None }),
        config_map_ref: config_map.clone().map(|name| ConfigMapEnvSource { name, optional: None }),
    };
    (!wiring.env_from.is_empty()).then(|| wiring.env_from.iter().map(source).collect())
}

/// The ConfigMap with all files; none when there are none.
pub fn files(wanted: &Deployed) -> Option<ConfigMap> {
    let content = |file: &ConfigFile| (file_key(&file.path), file.content.clone());
    (!wanted.wiring.files.is_empty()).then(|| ConfigMap {
        metadata: wanted.family.child(&files_name(&wanted.name, &wanted.wiring.files)),
        data: Some(wanted.wiring.files.iter().map(content).collect()),
        ..ConfigMap::default()
    })
}

/// The claims.
pub fn claims(wanted: &Deployed) -> Vec<PersistentVolumeClaim> {
    wanted.wiring.volumes.iter().map(|volume| claim(&wanted.name, &wanted.family, volume)).collect()
}

fn claim(name: &str, family: &Family, volume: &DataVolume) -> PersistentVolumeClaim {
    let mut metadata = family.child(&claim_name(name, &volume.name));
    metadata.annotations = Some([(keys::DATA_OF.to_owned(), name.to_owned())].into());
    if volume.on_delete == OnDelete::Keep {
        // The garbage collector would take the data with the service.
        metadata.owner_references = None;
    }
    let access = match volume.access {
        Access::ReadWriteOnce => "ReadWriteOnce",
        Access::ReadWriteMany => "ReadWriteMany",
    };
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![access.into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), volume.size.clone())].into()),
                limits: None,
            }),
            storage_class_name: volume.storage_class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// Pod volumes of files and data.
pub fn volumes(wanted: &Deployed) -> Vec<Volume> {
    let files = (!wanted.wiring.files.is_empty()).then(|| Volume {
        name: FILES.into(),
        config_map: Some(ConfigMapVolumeSource {
            name: files_name(&wanted.name, &wanted.wiring.files),
            default_mode: Some(READ_ONLY),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    });
    let data = wanted.wiring.volumes.iter().map(|volume| Volume {
        name: volume.name.clone(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(&wanted.name, &volume.name),
            read_only: None,
        }),
        ..Volume::default()
    });
    files.into_iter().chain(data).collect()
}

/// Where files and data are in the container.
pub fn mounts(wiring: &Wiring) -> impl Iterator<Item = VolumeMount> + '_ {
    let files = wiring.files.iter().map(|file| VolumeMount {
        name: FILES.into(),
        mount_path: file.path.clone(),
        sub_path: Some(file_key(&file.path)),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    let data = wiring.volumes.iter().map(|volume| VolumeMount {
        name: volume.name.clone(),
        mount_path: volume.mount_path.clone(),
        ..VolumeMount::default()
    });
    // Shorter paths first, whatever the order in the spec: a file may lie in a volume.
    let mut mounts: Vec<_> = files.chain(data).collect();
    mounts.sort_by(|a, b| a.mount_path.cmp(&b.mount_path));
    mounts.into_iter()
}

/// Key of a file in the ConfigMap: its name, for people, after a hash of its path, since a key cannot hold a path.
fn file_key(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    // A key has room for 253 characters; the hash alone tells files apart.
    let name: String = name.chars().take(200).collect();
    format!("{}-{name}", &hex(&Sha256::digest(path))[..8])
}

/// Annotations on pods that change when what the pods were started with does.
pub fn hashes(wanted: &Deployed) -> BTreeMap<String, String> {
    let mut hashes = BTreeMap::new();
    let judged = &wanted.sources;
    if let Some(hash) = &judged.secrets_hash {
        hashes.insert(keys::SECRETS_HASH.to_owned(), hash.clone());
    }
    if !wanted.granted() {
        // What pods were started with is not known; those that run keep what they say.
        hashes.extend(judged.config_hash.clone().map(|hash| (keys::CONFIG_HASH.to_owned(), hash)));
    } else if !wanted.wiring.files.is_empty() || judged.config_hash.is_some() {
        let hash = files_hash(judged.config_hash.as_deref().unwrap_or_default(), &wanted.wiring.files);
        hashes.insert(keys::CONFIG_HASH.to_owned(), hash[..16].to_owned());
    }
    hashes
}
