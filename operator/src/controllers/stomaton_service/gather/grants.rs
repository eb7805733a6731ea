//! Takes namespaces; gives what their ReferenceGrants (Gateway API) allow StomatonServices of other namespaces. I/O:
//! one list per namespace. Where the kind does not exist nothing is allowed.

use crate::{api, context::Context};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// What ReferenceGrants allow, by namespace of the target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants(BTreeMap<String, Vec<Spec>>);

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Spec {
    #[serde(default)]
    from: Vec<From>,
    #[serde(default)]
    to: Vec<To>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct From {
    #[serde(default)]
    group: String,
    kind: String,
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct To {
    #[serde(default)]
    group: String,
    kind: String,
    name: Option<String>,
}

fn is_ours(group: &str, kind: &str) -> bool {
    group == stomaton_crds::GROUP && kind == "StomatonService"
}

impl Grants {
    /// Whether services of `from` may depend on the service `name` of `namespace`.
    pub fn allow(&self, from: &str, namespace: &str, name: &str) -> bool {
        let comes = |spec: &Spec| spec.from.iter().any(|f| is_ours(&f.group, &f.kind) && f.namespace == from);
        let goes = |spec: &Spec| {
            let named = |to: &To| to.name.as_deref().is_none_or(|n| n.is_empty() || n == name);
            spec.to.iter().any(|to| is_ours(&to.group, &to.kind) && named(to))
        };
        from == namespace || self.0.get(namespace).into_iter().flatten().any(|spec| comes(spec) && goes(spec))
    }
}

#[cfg(test)]
impl Grants {
    /// All services of `namespace` to all of `from`.
    pub fn all(namespace: &str, from: &str) -> Self {
        let (group, kind) = (stomaton_crds::GROUP.to_owned(), "StomatonService".to_owned());
        let from = From { group: group.clone(), kind: kind.clone(), namespace: from.into() };
        let spec = Spec { from: vec![from], to: vec![To { group, kind, name: None }] };
        Self([(namespace.to_owned(), vec![spec])].into())
    }
}

/// The kind, which the cluster may or may not have.
pub fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1beta1", "ReferenceGrant");
    ApiResource::from_gvk_with_plural(&kind, "referencegrants")
}

/// Reads what is granted in `namespaces`.
pub async fn read(ctx: &Context, namespaces: BTreeSet<String>) -> Result<Grants, api::Error> {
    let mut grants = Grants::default();
    for namespace in namespaces {
        let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &namespace, &resource());
        let all = ListParams::default();
        match api::read(|| format!("list ReferenceGrants of {namespace}"), api.list(&all)).await {
            Ok(list) => {
                let spec = |grant: DynamicObject| serde_json::from_value(grant.data["spec"].clone()).ok();
                grants.0.insert(namespace, list.items.into_iter().filter_map(spec).collect());
            }
            // The cluster does not have the kind, or the operator is for its own namespace only.
            Err(error) if error.is_not_found() || error.is_forbidden() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(grants)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_grant_allows_what_it_says_and_nothing_else() {
        let grant = |to: serde_json::Value| {
            let from = json!({"group": "fleet.stomaton.com", "kind": "StomatonService", "namespace": "shop"});
            let spec = serde_json::from_value(json!({"from": [from], "to": [to]})).unwrap();
            Grants([("shared".to_owned(), vec![spec])].into())
        };
        let ours = json!({"group": "fleet.stomaton.com", "kind": "StomatonService"});
        assert!(grant(ours.clone()).allow("shop", "shared", "database"));
        assert!(!grant(ours.clone()).allow("other", "shared", "database"));
        assert!(!grant(ours).allow("shop", "other", "database"));
        let named = json!({"group": "fleet.stomaton.com", "kind": "StomatonService", "name": "database"});
        assert!(grant(named.clone()).allow("shop", "shared", "database"));
        assert!(!grant(named).allow("shop", "shared", "search"));
        assert!(!grant(json!({"group": "", "kind": "Secret"})).allow("shop", "shared", "database"));
        assert!(Grants::default().allow("shop", "shop", "database"), "one's own namespace needs none");
        assert!(!Grants::default().allow("shop", "shared", "database"));
    }
}
