//! What agents need to be told and to ask each other without the API server: a key, and a name for all of them. Pure.

use super::{
    super::{names, validate::Valid},
    access,
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, SecretVolumeSource, Service, ServicePort, ServiceSpec, Volume, VolumeMount},
    apimachinery::pkg::util::intstr::IntOrString,
};
use stomaton_crds::{keys, kill::Key};

/// Key of the Secret, and name of the file.
const FILE: &str = "key";
const VOLUME: &str = "kill";
const DIRECTORY: &str = "/var/run/stomaton/kill";

/// The Secret with the key of kills. It is written once: whoever holds the key that is there goes on with it.
pub fn secret(valid: &Valid<'_>, key: &Key) -> Secret {
    Secret {
        metadata: valid.family.child(&names::kill_key(&valid.family.owner.name)),
        data: Some([(FILE.to_owned(), ByteString(key.expose().to_vec()))].into()),
        ..Secret::default()
    }
}

/// The key in a Secret; none when somebody has changed it to what cannot be one.
pub fn key_of(secret: &Secret) -> Option<Key> {
    Key::read(std::str::from_utf8(&secret.data.as_ref()?.get(FILE)?.0).ok()?)
}

/// The name under which agents find each other: all that may run, ready or not, since any of them may hold a latch.
pub fn agents(valid: &Valid<'_>) -> Service {
    let port = ServicePort {
        name: Some("state".into()),
        port: keys::EDGE_STATE_PORT.into(),
        target_port: Some(IntOrString::Int(keys::EDGE_STATE_PORT.into())),
        ..ServicePort::default()
    };
    Service {
        metadata: valid.family.child(&names::agents(&valid.family.owner.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(access::selector(valid)),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// What the agent of `gateway` is told of both.
pub fn arguments(gateway: &str) -> [String; 4] {
    let peers = format!("{}:{}", names::agents(gateway), keys::EDGE_STATE_PORT);
    ["--kill-key".into(), format!("{DIRECTORY}/{FILE}"), "--peers".into(), peers]
}

/// The key as a volume. A Secret that is not there, because nobody gave the operator that right, holds no pod up.
pub fn volume(gateway: &str) -> Volume {
    Volume {
        name: VOLUME.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(names::kill_key(gateway)),
            default_mode: Some(0o440),
            optional: Some(true),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Where it is in the agent's container, and in no other.
pub fn mount() -> VolumeMount {
    VolumeMount {
        name: VOLUME.into(),
        mount_path: DIRECTORY.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_secret_and_what_is_none_is_not_taken_for_one() {
        let key = Key::new([7; 32]);
        let of = |bytes: &[u8]| Secret {
            data: Some([(FILE.to_owned(), ByteString(bytes.to_vec()))].into()),
            ..Secret::default()
        };
        assert_eq!(key_of(&of(key.expose())), Some(key));
        assert_eq!(key_of(&of(b"short")), None);
        assert_eq!(key_of(&of(&[0xff; 64])), None);
        assert_eq!(key_of(&Secret::default()), None);
    }
}
