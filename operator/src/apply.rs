//! Children, by server-side apply: made, kept as they should be, and never written when nothing would change. I/O:
//! one read of each child, and a write only where the child differs.
//!
//! A child is left alone when it carries everything that is wanted ([`covers`]), the hash of what is wanted
//! included. The comparison repairs what others changed; the hash removes what we no longer want, which a comparison
//! cannot see. What others add beside our fields (a sidecar, an annotation) is theirs, as server-side apply has it.
//!
//! Some differences no write can end: the API server drops what it takes for a default, a webhook puts its own value. So
//! what a write has made of an object counts as what was wanted, until the object or the wish changes ([`Settled`]).
//!
//! An object that has another owner, or none, is never adopted or patched.

mod data;
mod prune;
mod settled;

pub use data::apply_data;
pub use prune::{Kind, Record, prune};
pub use settled::Settled;

use crate::{api, context::Context, metrics::Verb};
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Resource, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Debug;
use stomaton_crds::{conditions::Reason, hex::hex, keys};

/// Why a child is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object of that name exists and is not ours.
    #[error(
        "{kind} {name} exists already and belongs to {owner}: it is left alone; delete or rename one of the two"
    )]
    NotOurs {
        /// Kind of the child.
        kind: String,
        /// Its name.
        name: String,
        /// Who owns it, in words.
        owner: String,
    },
    /// The child, or its predecessor, is on its way out; its end brings the next pass.
    #[error("waiting for the old {kind} {name} to be gone")]
    Leaving {
        /// Kind of the child.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A call failed.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// The child has no JSON form: a defect of ours.
    #[error("cannot encode {kind} {name}: {source}")]
    Encode {
        /// Kind of the child.
        kind: String,
        /// Its name.
        name: String,
        /// Why not.
        source: serde_json::Error,
    },
}

impl Error {
    /// The reason, from the closed set.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotOurs { .. } => Reason::NotOurs,
            Self::Leaving { .. } => Reason::RollingOut,
            Self::Api(error) if error.is_invalid() => Reason::Invalid,
            Self::Api(_) | Self::Encode { .. } => Reason::ApiError,
        }
    }
}

/// What an object of the wanted name is to us.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Absent,
    Ours,
    /// Ours or of an owner of the same name that was deleted, and being deleted itself.
    Leaving,
    Foreign {
        owner: String,
    },
}

/// Makes the child `wanted`, or makes the one that is there like it. Gives the child as it is then.
///
/// `wanted` names its namespace and has one controller among its owners.
pub async fn apply<K>(ctx: &Context, manager: &str, wanted: &K) -> Result<K, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    apply_when(ctx, manager, wanted, standing).await
}

/// As [`apply`], over the child as it was just read.
pub async fn apply_over<K>(ctx: &Context, manager: &str, wanted: &K, live: Option<K>) -> Result<K, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    let standing = standing(wanted, live.as_ref());
    write_over(ctx, manager, wanted, live, standing).await
}

/// As [`apply`], where `standing` says what an object of that name is to us.
async fn apply_when<K>(
    ctx: &Context,
    manager: &str,
    wanted: &K,
    standing: fn(&K, Option<&K>) -> Standing,
) -> Result<K, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    let (kind, name) = (K::kind(&()), wanted.name_any());
    let api = ctx.namespaced::<K>(&wanted.namespace().unwrap_or_default());
    let live = api::read(|| format!("read {kind} {name}"), api.get_opt(&name)).await?;
    let standing = standing(wanted, live.as_ref());
    write_over(ctx, manager, wanted, live, standing).await
}

/// Writes `wanted` over `live`, which is `standing` to us, if that changes anything.
async fn write_over<K>(
    ctx: &Context,
    manager: &str,
    wanted: &K,
    live: Option<K>,
    standing: Standing,
) -> Result<K, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    let (kind, name) = (K::kind(&()).into_owned(), wanted.name_any());
    let api = ctx.namespaced::<K>(&wanted.namespace().unwrap_or_default());
    let encode = |source| Error::Encode { kind: kind.clone(), name: name.clone(), source };
    let mut body = with_hash(serde_json::to_value(wanted).map_err(encode)?);
    let params = PatchParams::apply(manager);
    let (params, live) = match (standing, live) {
        (Standing::Foreign { owner }, _) => return Err(Error::NotOurs { kind, name, owner }),
        (Standing::Leaving, _) => return Err(Error::Leaving { kind, name }),
        (Standing::Ours, Some(live)) => (params.force(), Some(live)),
        // Not forced: should somebody else make an object of that name right now, their fields stand.
        _ => (params, None),
    };
    let hash = body["metadata"]["annotations"][keys::APPLIED].to_string();
    if let Some(live) = live {
        let (uid, version) = (live.uid(), live.resource_version());
        if ctx.settled.has(uid.as_deref(), &hash, version.as_deref()) {
            return Ok(live);
        }
        if covers(&serde_json::to_value(&live).map_err(encode)?, &body) {
            ctx.settled.note(uid, hash, version);
            return Ok(live);
        }
        // The write is meant for the object that was read, not for one made anew under its name.
        body["metadata"]["uid"] = Value::from(uid);
    }
    let patch = Patch::Apply(&body);
    let call = api.patch(&name, &params, &patch);
    let written = api::write::<K, _>(&ctx.metrics, Verb::Patch, &name, call).await?;
    ctx.settled.note(written.meta().uid.clone(), hash, written.resource_version());
    Ok(written)
}

/// Whether `live` belongs to the owner that wants `wanted`; an error says to whom else. For objects that are written
/// in another way than [`apply`].
pub fn ours<K: Resource<DynamicType = ()>>(wanted: &K, live: &K) -> Result<(), Error> {
    let (kind, name) = (K::kind(&()).into_owned(), wanted.name_any());
    match standing(wanted, Some(live)) {
        Standing::Absent | Standing::Ours => Ok(()),
        Standing::Leaving => Err(Error::Leaving { kind, name }),
        Standing::Foreign { owner } => Err(Error::NotOurs { kind, name, owner }),
    }
}

/// Pure: who controls an object, if anybody does.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Pure: what `live` is to the owner that wants `wanted`.
fn standing<K: Resource<DynamicType = ()>>(wanted: &K, live: Option<&K>) -> Standing {
    let Some(live) = live else { return Standing::Absent };
    let leaving = live.meta().deletion_timestamp.is_some();
    match (controller_of(wanted.meta()), controller_of(live.meta())) {
        (Some(ours), Some(theirs)) if ours.uid == theirs.uid => {
            if leaving {
                Standing::Leaving
            } else {
                Standing::Ours
            }
        }
        // Of an object of our owner's kind and name that was deleted: the garbage collector is on its way.
        (Some(ours), Some(theirs)) if (&ours.kind, &ours.name) == (&theirs.kind, &theirs.name) => {
            Standing::Leaving
        }
        (_, Some(theirs)) => Standing::Foreign { owner: format!("{} {}", theirs.kind, theirs.name) },
        (_, None) => Standing::Foreign { owner: "nobody".into() },
    }
}

/// `wanted` with the hash of itself among its annotations.
fn with_hash(mut wanted: Value) -> Value {
    let hash = Sha256::digest(wanted.to_string());
    wanted["metadata"]["annotations"][keys::APPLIED] = Value::from(hex(&hash[..8]));
    wanted
}

/// Whether `live` has everything of `wanted`. Defaults and fields that others added may be there too.
fn covers(live: &Value, wanted: &Value) -> bool {
    covers_field("", live, wanted)
}

fn covers_field(field: &str, live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            // Amounts keep the field they are amounts of: `limits.memory`.
            let field = if matches!(field, "limits" | "requests") { field } else { name };
            live.get(name).map_or_else(|| is_nothing(name, wanted), |live| covers_field(field, live, wanted))
        }),
        (Value::Array(live), Value::Array(wanted)) => match list_key(field, wanted) {
            Some(key) => wanted.iter().all(|wanted| {
                live.iter().any(|live| live.get(key) == wanted.get(key) && covers_field("", live, wanted))
            }),
            None => {
                live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| covers_field("", l, w))
            }
        },
        (Value::String(live), Value::String(wanted)) => {
            live == wanted
                || (matches!(field, "limits" | "requests" | "sizeLimit") && same_amount(live, wanted))
        }
        _ => live == wanted,
    }
}

/// Whether the API server keeps nothing of `value`: it drops empty lists, texts and maps. An empty object that is no
/// map (`emptyDir: {}`) says something.
fn is_nothing(field: &str, value: &Value) -> bool {
    const MAPS: [&str; 6] = ["nodeSelector", "labels", "annotations", "matchLabels", "limits", "requests"];
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty() && MAPS.contains(&field),
        _ => false,
    }
}

/// Key of the lists of our children that server-side apply merges by key; every other list is replaced whole.
fn list_key(field: &str, wanted: &[Value]) -> Option<&'static str> {
    match field {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" | "resourceClaims" => {
            Some("name")
        }
        "ownerReferences" => Some("uid"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "hostAliases" => Some("ip"),
        "topologySpreadConstraints" => Some("topologyKey"),
        "ports" if wanted.iter().any(|port| port.get("containerPort").is_some()) => Some("containerPort"),
        // Of a Service; those of a NetworkPolicy have no names and are one value.
        "ports" if wanted.iter().all(|port| port.get("name").is_some()) => Some("port"),
        _ => None,
    }
}

/// Whether two amounts are the same: the API server rewrites `0.5` as `500m`.
fn same_amount(a: &str, b: &str) -> bool {
    matches!((amount(a), amount(b)), (Some(a), Some(b)) if a == b)
}

/// An amount as people write it in resources (`500m`, `0.5`, `1.5Gi`), in billionths.
pub fn amount(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => 1_000_000_000,
        "k" => 1_000_000_000_000,
        "M" => 1_000_000_000_000_000,
        "G" => 1_000_000_000_000_000_000,
        "T" => 1_000_000_000_000_000_000_000,
        "P" => 1_000_000_000_000_000_000_000_000,
        "Ki" => 1_000_000_000 << 10,
        "Mi" => 1_000_000_000 << 20,
        "Gi" => 1_000_000_000 << 30,
        "Ti" => 1_000_000_000 << 40,
        "Pi" => 1_000_000_000 << 50,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{part}").parse().ok()?;
    let scale = 10_i128.checked_pow(part.len().try_into().ok()?)?;
    digits.checked_mul(unit).map(|n| n / scale)
}

#[cfg(test)]
mod tests;
