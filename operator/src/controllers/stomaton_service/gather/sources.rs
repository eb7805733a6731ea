//! Takes the names of Secrets and ConfigMaps; gives what is in them, as hashes. I/O: one read each, in every pass:
//! nothing of them is kept, and no value leaves this file.

use crate::{api, context::Context};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use stomaton_crds::v1alpha1::StomatonServiceSpec;

/// A Secret or ConfigMap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl Kind {
    /// As it stands in an object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// What was found under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its keys, each with a hash of its value. The UID of the object goes into the hash, which nobody knows who may
    /// not read the object: so no value can be guessed from its hash.
    Found(BTreeMap<String, Vec<u8>>),
    /// Nothing.
    Missing,
    /// The operator may not look.
    Forbidden,
}

/// Secrets and ConfigMaps by kind and name.
pub type Sources = BTreeMap<(Kind, String), Source>;

/// The Secrets and ConfigMaps that `spec` names.
pub fn named(spec: &StomatonServiceSpec) -> BTreeSet<(Kind, String)> {
    let single = spec.secret_env.iter().map(|e| &e.secret).chain(spec.bindings.iter().map(|b| &b.secret));
    let secrets = single.chain(spec.env_from.iter().filter_map(|e| e.secret.as_ref()));
    let maps = spec.env_from.iter().filter_map(|e| e.config_map.as_ref());
    let secrets = secrets.map(|name| (Kind::Secret, name.clone()));
    secrets.chain(maps.map(|name| (Kind::ConfigMap, name.clone()))).collect()
}

/// Reads them all.
pub async fn read(
    ctx: &Context,
    namespace: &str,
    names: BTreeSet<(Kind, String)>,
) -> Result<Sources, api::Error> {
    let mut sources = Sources::new();
    for (kind, name) in names {
        let source = match kind {
            Kind::Secret => secret(ctx, namespace, &name).await,
            Kind::ConfigMap => config_map(ctx, namespace, &name).await,
        };
        let source = match source {
            Ok(Some(keys)) => Source::Found(keys),
            Ok(None) => Source::Missing,
            Err(error) if error.is_forbidden() => Source::Forbidden,
            Err(error) => return Err(error),
        };
        sources.insert((kind, name), source);
    }
    Ok(sources)
}

type Keys = BTreeMap<String, Vec<u8>>;

async fn secret(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Keys>, api::Error> {
    let api = ctx.namespaced::<Secret>(namespace);
    let found = api::read(|| format!("read Secret {name}"), api.get_opt(name)).await?;
    Ok(found.map(|found| {
        let uid = found.metadata.uid.unwrap_or_default();
        found.data.iter().flatten().map(|(key, value)| (key.clone(), digest(&uid, &value.0))).collect()
    }))
}

async fn config_map(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Keys>, api::Error> {
    let api = ctx.namespaced::<ConfigMap>(namespace);
    let found = api::read(|| format!("read ConfigMap {name}"), api.get_opt(name)).await?;
    Ok(found.map(|found| {
        let uid = found.metadata.uid.unwrap_or_default();
        found
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), digest(&uid, value.as_bytes())))
            .collect()
    }))
}

fn digest(uid: &str, value: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update((uid.len() as u64).to_be_bytes());
    hash.update(uid);
    hash.update(value);
    hash.finalize().to_vec()
}
