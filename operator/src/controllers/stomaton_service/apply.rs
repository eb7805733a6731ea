//! Takes the children as they should be; makes them so and gives what they say. I/O.
//!
//! What is no longer wanted goes in two ways: files, data and policies by the record on the Service ([`children::prune`]),
//! all others by the caches of their watches ([`prune`]).

use super::{
    Error, autoscale,
    build::{Prepared, monitor::Monitor},
    revision,
};
use crate::{
    apply::{self as children, Kind, Record},
    context::Context,
    controllers::{
        pod_words, rollout,
        workload::{
            children::{Children, prune},
            replicas,
        },
    },
};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, Deployment},
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service},
    networking::v1::NetworkPolicy,
};
use kube::{Resource, ResourceExt};
use stomaton_crds::{
    conditions::Summary,
    keys::{self, field_managers},
    v1alpha1::StomatonService,
};

/// The children are as they should be; only this makes a status.
pub struct Applied {
    /// As the API server has it.
    pub deployment: Deployment,
    /// What holds its pods up, if they are not all ready.
    pub words: Option<String>,
    /// The revision that is wanted, and the one that is there instead.
    pub revision: revision::Choice,
    /// What is not as the spec says, although the pods are.
    pub note: Option<Summary>,
    /// Whether metrics are asked for that nobody collects.
    pub unmonitored: bool,
    /// What went wrong after the pods were as wanted. They are judged all the same: a webhook that refuses an autoscaler
    /// must not keep a revision that fails.
    pub trouble: Option<Error>,
}

/// Children before a pass.
pub struct Before<'a> {
    /// What is known by the caches.
    pub known: &'a Children,
    /// Those that may have been made, as the Service says.
    pub record: &'a Record,
    /// The Service as it was just read.
    pub service: Option<Service>,
    /// The Deployment as it was just read.
    pub deployment: Option<Deployment>,
}

const MANAGER: &str = field_managers::SERVICE;

/// Makes the children of `object` as they should be, and takes away those of `before` that should not be.
pub async fn apply(
    ctx: &Context,
    object: &StomatonService,
    prepared: Prepared,
    before: Before<'_>,
) -> Result<Applied, Error> {
    let Before { known, record, service: live_service, deployment: live } = before;
    let (mut stay, wanted) = (prepared.names(), prepared.optional());
    let unwanted = record.without(&wanted);
    // Without `..`: a child that is built and not applied does not compile.
    let Prepared {
        service,
        files,
        tokens,
        claims,
        network,
        mut deployment,
        mut revision,
        count,
        budget,
        monitor,
        family,
    } = prepared;
    let Monitor { object: monitor, missing: unmonitored } = monitor;
    let recorded = recording(service.clone(), &wanted.and(&unwanted));
    given(ctx, &recorded, live_service, network.as_ref(), &claims, files.as_ref(), &tokens).await?;
    if let Some(template) = deployment.spec.as_mut().map(|spec| &mut spec.template) {
        let new = (revision.wanted.as_str(), &*template);
        revision::keep(ctx, known, object, &family, new, live.is_none()).await?;
        let status = object.status.clone().unwrap_or_default();
        if let Some(good) = revision::return_to(&status, &revision.wanted, revision.on_failure)
            && let Some(before) = revision::template(ctx, &family, good).await?
        {
            *template = revision::with_hashes_of(before, template);
            revision.instead = Some(good.to_owned());
        }
    }
    let deployment = children::apply_over(ctx, MANAGER, &deployment, live).await?;
    let deployment =
        replicas::settle(ctx, &count.replicas, deployment).await.map_err(children::Error::Api)?;
    let unfinished = rollout::unfinished(&deployment, None);
    stay.extend(revisions(known, object, &revision));
    let around = async {
        if let Some(budget) = &budget {
            children::apply(ctx, MANAGER, budget).await?;
        }
        if let Some(monitor) = &monitor {
            children::apply(ctx, MANAGER, monitor).await?;
        }
        prune(ctx, known, &object.metadata, &stay).await.map_err(children::Error::Api)?;
        // What pods of another revision may still ask for goes when there are none, and none may come back.
        let settled = unfinished.is_none() && revision.instead.is_none();
        let (go, stay) = unwanted.split(|kind| settled || kind == Kind::NetworkPolicy);
        if !go.0.is_empty() {
            forget(ctx, service, &wanted.and(&stay), &go).await?;
        }
        // Last: it may have to wait for another autoscaler to be gone.
        if let Some(autoscaler) = &count.autoscaler {
            autoscale::autoscale(ctx, autoscaler).await?;
        }
        Ok(())
    };
    let trouble = around.await.err();
    let words = match unfinished {
        Some(_) if rollout::is_seen(&deployment) => {
            pod_words(ctx, &deployment, keys::SERVICE).await.map_err(Error::Gather)?
        }
        _ => None,
    };
    Ok(Applied { deployment, words, revision, note: count.note, unmonitored, trouble })
}

/// Makes what pods need, but not the pods, which must wait, and leaves those that run, and how many, as they are.
pub async fn apply_around(
    ctx: &Context,
    prepared: Prepared,
    record: &Record,
    live: Option<Service>,
) -> Result<(), Error> {
    let recorded = recording(prepared.service.clone(), &prepared.optional().and(record));
    let Prepared { network, claims, files, tokens, .. } = prepared;
    given(ctx, &recorded, live, network.as_ref(), &claims, files.as_ref(), &tokens).await
}

/// What pods are given. First the Service with the record: from here on a child that is made is found again.
async fn given(
    ctx: &Context,
    service: &Service,
    live: Option<Service>,
    network: Option<&NetworkPolicy>,
    claims: &[PersistentVolumeClaim],
    files: Option<&ConfigMap>,
    tokens: &[Secret],
) -> Result<(), Error> {
    children::apply_over(ctx, MANAGER, service, live).await?;
    if let Some(network) = network {
        children::apply(ctx, MANAGER, network).await?;
    }
    for claim in claims {
        children::apply_data(ctx, MANAGER, claim).await?;
    }
    if let Some(files) = files {
        children::apply(ctx, MANAGER, files).await?;
    }
    for secret in tokens {
        children::apply(ctx, MANAGER, secret).await?;
    }
    Ok(())
}

/// Takes away what is no longer wanted, and then the record of it.
async fn forget(ctx: &Context, service: Service, wanted: &Record, unwanted: &Record) -> Result<(), Error> {
    let namespace = service.namespace().unwrap_or_default();
    let Some(owner) = service.owner_references().first() else { return Ok(()) };
    let left = children::prune(ctx, &namespace, owner, unwanted).await.map_err(Error::Gather)?;
    children::apply(ctx, MANAGER, &recording(service, &wanted.and(&left))).await?;
    Ok(())
}

/// `service` with the record of the other children.
fn recording(mut service: Service, record: &Record) -> Service {
    if !record.0.is_empty() {
        let annotations = service.metadata.annotations.get_or_insert_default();
        annotations.insert(keys::CHILDREN.to_owned(), record.to_string());
    }
    service
}

/// The revisions that stay, as kind and name.
fn revisions<'a>(
    known: &Children,
    object: &StomatonService,
    now: &'a revision::Choice,
) -> impl Iterator<Item = (String, String)> + use<'a> {
    let status = object.status.clone().unwrap_or_default();
    let used = [
        Some(now.wanted.as_str()),
        now.instead.as_deref(),
        status.last_good_revision.as_deref(),
        status.failed_revision.as_deref(),
    ];
    let kept = revision::kept(&known.names::<ControllerRevision>(&object.metadata), &used);
    kept.into_iter().map(|name| (ControllerRevision::kind(&()).into_owned(), name))
}
