//! Claims of data that may stay when its service goes. Such a claim has no owner, so it is known by its label and an
//! annotation instead. I/O, as [`super::apply`].

use super::{Error, Standing, apply_when, controller_of, standing};
use crate::context::Context;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use stomaton_crds::keys;

/// Makes the claim `wanted`, or makes the one that is there like it. A claim without an owner is taken up when it says
/// that it has the data of the same service.
pub async fn apply_data(
    ctx: &Context,
    manager: &str,
    wanted: &PersistentVolumeClaim,
) -> Result<PersistentVolumeClaim, Error> {
    apply_when(ctx, manager, wanted, data_standing).await
}

/// Pure: what the claim `live` is to the service that wants `wanted`.
fn data_standing(wanted: &PersistentVolumeClaim, live: Option<&PersistentVolumeClaim>) -> Standing {
    let Some(found) = live else { return Standing::Absent };
    let mark = |claim: &PersistentVolumeClaim| {
        let label = claim.labels().get(keys::SERVICE).cloned();
        label.zip(claim.annotations().get(keys::DATA_OF).cloned())
    };
    let same_mark = mark(found).is_some() && mark(found) == mark(wanted);
    match (controller_of(&wanted.metadata), controller_of(&found.metadata)) {
        // Both have an owner, so the owners decide.
        (Some(ours), Some(theirs)) if ours.uid != theirs.uid => standing(wanted, live),
        _ if !same_mark => standing(wanted, live),
        _ if found.metadata.deletion_timestamp.is_some() => Standing::Leaving,
        _ => Standing::Ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(service: Option<&str>, owner: Option<&str>) -> PersistentVolumeClaim {
        let owners: Vec<_> = owner
            .iter()
            .map(|uid| json!({"apiVersion": "v1", "kind": "StomatonService", "name": "shop", "uid": uid, "controller": true}))
            .collect();
        let (mut labels, mut annotations) = (json!({}), json!({}));
        if let Some(service) = service {
            labels[keys::SERVICE] = json!(service);
            annotations[keys::DATA_OF] = json!(service);
        }
        let metadata = json!({
            "name": "shop-data", "namespace": "ns", "labels": labels, "annotations": annotations, "ownerReferences": owners,
        });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    #[test]
    fn data_is_known_by_its_mark_when_it_has_no_owner() {
        let standing = |wanted, live| data_standing(&wanted, Some(&live));
        let (kept, owned) = (|| claim(Some("shop"), None), |uid| claim(Some("shop"), Some(uid)));
        assert_eq!(standing(kept(), kept()), Standing::Ours, "of a service that was made anew");
        assert_eq!(standing(kept(), owned("1")), Standing::Ours, "Delete became Keep");
        assert_eq!(standing(owned("1"), kept()), Standing::Ours, "Keep became Delete");
        assert_eq!(standing(owned("2"), owned("1")), Standing::Leaving, "the old service's goes with it");
        let nobody = Standing::Foreign { owner: "nobody".into() };
        assert_eq!(standing(kept(), claim(None, None)), nobody, "a claim that somebody made by hand");
        assert_eq!(standing(kept(), claim(Some("other"), None)), nobody);
    }
}
