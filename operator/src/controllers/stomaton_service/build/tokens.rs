//! Secrets of tokens, and how pods get them: as files, so that they change under pods that run. Pure.

use crate::controllers::stomaton_service::{
    tokens::{Memory, Token, callers_name, tokens_name},
    validate::Deployed,
};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{Secret, SecretVolumeSource, Volume, VolumeMount},
    },
};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use stomaton_crds::keys;

/// Pod volumes: of what is accepted, and of what is shown.
pub const VOLUMES: [&str; 2] = ["service-callers", "service-tokens"];
/// Where they are.
const PATHS: [&str; 2] = ["/var/run/stomaton/callers", "/var/run/stomaton/tokens"];
/// Readable by everybody in the pod, writable by nobody.
const READ_ONLY: i32 = 0o444;

/// The Secrets of `wanted`: of what it accepts, and of what it shows.
pub fn secrets(wanted: &Deployed) -> Vec<Secret> {
    let lines = |tokens: &[Token]| tokens.iter().map(|token| format!("{}\n", token.expose())).collect();
    let accepts = wanted.tokens.accepts.as_ref().map(|pairs| {
        let data = pairs.iter().map(|(file, pair)| (file.clone(), lines(&pair.accepted))).collect();
        let memory: BTreeMap<&String, Memory> =
            pairs.iter().map(|(file, pair)| (file, pair.memory)).collect();
        secret(wanted, &callers_name(&wanted.name), data, &memory)
    });
    let shows = wanted.tokens.shows.as_ref().map(|given| {
        let data =
            given.iter().map(|(file, given)| (file.clone(), given.token.expose().to_owned())).collect();
        let since: BTreeMap<&String, Timestamp> =
            given.iter().map(|(file, given)| (file, given.since)).collect();
        secret(wanted, &tokens_name(&wanted.name), data, &since)
    });
    accepts.into_iter().chain(shows).collect()
}

fn secret(wanted: &Deployed, name: &str, data: BTreeMap<String, String>, memory: &impl Serialize) -> Secret {
    let mut metadata = wanted.family.child(name);
    metadata.annotations = Some([(keys::TOKENS.to_owned(), json!(memory).to_string())].into());
    let bytes = |(key, text): (String, String)| (key, ByteString(text.into_bytes()));
    Secret { metadata, data: Some(data.into_iter().map(bytes).collect()), ..Secret::default() }
}

/// Pod volumes of tokens.
pub fn volumes(wanted: &Deployed) -> impl Iterator<Item = Volume> {
    let [callers, tokens] = VOLUMES;
    let accepts = wanted.tokens.asks.then(|| volume(callers, callers_name(&wanted.name)));
    let shows = wanted.tokens.shows.is_some().then(|| volume(tokens, tokens_name(&wanted.name)));
    accepts.into_iter().chain(shows)
}

fn volume(name: &str, secret: String) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(READ_ONLY),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Where they are in the container.
pub fn mounts(wanted: &Deployed) -> impl Iterator<Item = VolumeMount> {
    let mounts = VOLUMES.into_iter().zip(PATHS).map(|(name, path)| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    let here = [wanted.tokens.asks, wanted.tokens.shows.is_some()];
    mounts.zip(here).filter_map(|(mount, here)| here.then_some(mount))
}

/// Whether new pods of this Deployment ask for tokens.
pub fn asks(deployment: &Deployment) -> bool {
    mounts_volume(deployment, VOLUMES[0])
}

/// Whether new pods of this Deployment have tokens to show.
pub fn shows(deployment: &Deployment) -> bool {
    mounts_volume(deployment, VOLUMES[1])
}

fn mounts_volume(deployment: &Deployment, name: &str) -> bool {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    pod.and_then(|pod| pod.volumes.as_ref()).into_iter().flatten().any(|volume| volume.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::stomaton_service::{
        build::tests::wanted,
        in_use::Around,
        tokens::{Given, Pair, Phase},
    };

    #[test]
    fn pods_have_tokens_as_files_and_memory_says_nothing_of_them() {
        let mut wanted = wanted(json!({"image": "i"}), Around::default());
        assert_eq!(secrets(&wanted), []);
        assert_eq!(volumes(&wanted).count() + mounts(&wanted).count(), 0);

        let now = Timestamp::UNIX_EPOCH;
        let (a, b) = (Token::new([0xa; 32]), Token::new([0xb; 32]));
        let memory = Memory { phase: Phase::Adding, since: now, made: now, reaches: now, gone: None };
        let pair = Pair { accepted: vec![a.clone(), b.clone()], memory };
        wanted.tokens.accepts = Some([("shop".to_owned(), pair)].into());
        wanted.tokens.shows = Some([("db".to_owned(), Given { token: a.clone(), since: now })].into());
        let [callers, tokens] = &secrets(&wanted)[..] else { panic!("two Secrets") };
        let text = |secret: &Secret, key: &str| {
            String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
        };
        assert_eq!(callers.metadata.name.as_deref(), Some("content-callers"));
        assert_eq!(text(callers, "shop"), format!("{}\n{}\n", a.expose(), b.expose()));
        assert_eq!(tokens.metadata.name.as_deref(), Some("content-tokens"));
        assert_eq!(text(tokens, "db"), a.expose());
        for secret in [callers, tokens] {
            let metadata = json!(secret.metadata).to_string();
            assert!(!metadata.contains(a.expose()) && !metadata.contains(b.expose()));
        }

        let paths = |wanted: &Deployed| mounts(wanted).map(|m| m.mount_path).collect::<Vec<_>>();
        assert_eq!(paths(&wanted), ["/var/run/stomaton/tokens"], "it accepts already, and asks later");
        wanted.tokens.asks = true;
        assert_eq!(paths(&wanted), ["/var/run/stomaton/callers", "/var/run/stomaton/tokens"]);
    }
}
