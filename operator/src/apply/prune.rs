//! Children that are no longer wanted. What the operator may have made stands in an annotation of a child that is
//! always there, written before the children are: so a crash at any moment leaves none behind. I/O: one read and one
//! delete of each child that is to go, and of no other.
//!
//! For files, tokens, data and policies of a StomatonService: a record needs no watch of ConfigMaps and Secrets, which
//! the operator may not have. Its other children are found in the caches of watches, see the controller's `kinds`.

use super::controller_of;
use crate::{api, context::Context, metrics::Verb};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{ConfigMap, PersistentVolumeClaim, Secret},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt, str::FromStr};

/// Kinds of children that come and go while their owner stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Files.
    ConfigMap,
    /// Tokens.
    Secret,
    /// Data.
    PersistentVolumeClaim,
    /// Who may talk to whom.
    NetworkPolicy,
}

impl Kind {
    const ALL: [Self; 4] = [Self::ConfigMap, Self::Secret, Self::PersistentVolumeClaim, Self::NetworkPolicy];

    fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::NetworkPolicy => "NetworkPolicy",
        }
    }
}

/// Children by kind and name, as they stand in the annotation: `ConfigMap/shop-config NetworkPolicy/shop`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record(pub BTreeSet<(Kind, String)>);

impl Record {
    /// Those of `self` that are not among `wanted`.
    pub fn without(&self, wanted: &Self) -> Self {
        Self(self.0.difference(&wanted.0).cloned().collect())
    }

    /// Those of the kinds for which `first` is true, and the others.
    pub fn split(&self, first: impl Fn(Kind) -> bool) -> (Self, Self) {
        let (these, those) = self.0.iter().cloned().partition(|(kind, _)| first(*kind));
        (Self(these), Self(those))
    }

    /// Those of both.
    pub fn and(&self, more: &Self) -> Self {
        Self(self.0.union(&more.0).cloned().collect())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(|(kind, name)| format!("{}/{name}", kind.as_str())).collect();
        f.write_str(&words.join(" "))
    }
}

impl FromStr for Record {
    type Err = std::convert::Infallible;

    /// Words that name no child of ours are somebody's mistake, and left out.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let child = |word: &str| {
            let (kind, name) = word.split_once('/')?;
            Some((Kind::ALL.into_iter().find(|k| k.as_str() == kind)?, name.to_owned()))
        };
        Ok(Self(text.split_whitespace().filter_map(child).collect()))
    }
}

/// Deletes those of `children` that `owner` controls; gives those that the operator has no right to delete. What is
/// not there, and what belongs to nobody or to somebody else, is none of them any more.
pub async fn prune(
    ctx: &Context,
    namespace: &str,
    owner: &OwnerReference,
    children: &Record,
) -> Result<Record, api::Error> {
    let mut left = Record::default();
    for (kind, name) in &children.0 {
        let removed = match kind {
            Kind::ConfigMap => remove::<ConfigMap>(ctx, namespace, owner, name).await,
            Kind::Secret => remove::<Secret>(ctx, namespace, owner, name).await,
            Kind::PersistentVolumeClaim => remove::<PersistentVolumeClaim>(ctx, namespace, owner, name).await,
            Kind::NetworkPolicy => remove::<NetworkPolicy>(ctx, namespace, owner, name).await,
        };
        match removed {
            Err(error) if error.is_forbidden() => {
                left.0.insert((*kind, name.clone()));
            }
            other => other?,
        }
    }
    Ok(left)
}

async fn remove<K>(
    ctx: &Context,
    namespace: &str,
    owner: &OwnerReference,
    name: &str,
) -> Result<(), api::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned,
{
    let api = ctx.namespaced::<K>(namespace);
    let kind = K::kind(&());
    let Some(live) = api::read(|| format!("read {kind} {name}"), api.get_metadata_opt(name)).await? else {
        return Ok(());
    };
    let ours = controller_of(&live.metadata).is_some_and(|o| o.uid == owner.uid);
    if !ours || live.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    // The object that was read, not one made anew under its name.
    let preconditions = Preconditions { uid: live.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api::write::<K, _>(&ctx.metrics, Verb::Delete, name, api.delete(name, &params)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{refusal, scripted};
    use http::{Method, StatusCode};
    use serde_json::{Value, json};

    #[test]
    fn the_record_is_read_as_it_was_written() {
        let text = "ConfigMap/shop-config PersistentVolumeClaim/shop-cache NetworkPolicy/shop";
        let Ok(children) = text.parse::<Record>();
        assert_eq!(children.to_string(), text);
        let Ok(odd) = "ConfigMap/shop-config nonsense Pod/x".parse::<Record>();
        assert_eq!(odd.to_string(), "ConfigMap/shop-config");
        assert_eq!(children.without(&odd).to_string(), "PersistentVolumeClaim/shop-cache NetworkPolicy/shop");
        assert_eq!(children.without(&odd).and(&odd), children);
    }

    fn owner() -> OwnerReference {
        OwnerReference { uid: "1".into(), controller: Some(true), ..OwnerReference::default() }
    }

    async fn calls(live: (StatusCode, Value)) -> Vec<(Method, Value)> {
        let gone = json!({"apiVersion": "v1", "kind": "Status", "status": "Success", "code": 200});
        let (ctx, calls) = scripted(vec![live, (StatusCode::OK, gone)]);
        let Ok(children) = "NetworkPolicy/x".parse();
        prune(&ctx, "ns", &owner(), &children).await.unwrap();
        drop(ctx);
        calls.await.unwrap().into_iter().map(|call| (call.method, call.body)).collect()
    }

    #[tokio::test]
    async fn only_what_the_owner_controls_is_deleted() {
        let live = |uid: &str| {
            let owners =
                json!([{"apiVersion": "v1", "kind": "K", "name": "n", "uid": uid, "controller": true}]);
            let metadata = json!({"name": "x", "namespace": "ns", "uid": "live", "ownerReferences": owners});
            (
                StatusCode::OK,
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}),
            )
        };
        let deleted = calls(live("1")).await;
        assert_eq!(deleted[1].0, Method::DELETE);
        assert_eq!(deleted[1].1["preconditions"]["uid"], "live");
        assert_eq!(calls(live("2")).await.len(), 1);
        assert_eq!(calls(refusal(StatusCode::NOT_FOUND, "NotFound")).await.len(), 1);
    }
}
