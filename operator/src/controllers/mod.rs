//! One controller per kind, and the loop all of them share.
//!
//! Each controller is five steps, one file each: `gather` (I/O) -> `validate` (pure) -> `build` (pure) -> `apply`
//! (I/O) -> `conditions` (pure), and then one status write, if it says something new.

pub mod gateway;
mod meta;
pub mod migration_plan;
mod rollout;
pub mod stomaton_service;
mod workload;

use crate::{api, backoff::jittered, context::Context, pulse::PASS_LIMIT, status, watch::Guarded};
use futures::{
    StreamExt,
    future::{BoxFuture, Shared},
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Resource, ResourceExt,
    api::ListParams,
    runtime::{
        Controller,
        controller::{Action, Config, Error as ControllerError},
        events::EventType,
        reflector::ObjectRef,
    },
};
use serde::de::DeserializeOwned;
use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};
use stomaton_crds::conditions::Reason;
use tokio::time::timeout;

/// Resolves when the operator is to stop; can be waited for by many.
pub type Stop = Shared<BoxFuture<'static, ()>>;

/// A kind that is reconciled.
pub trait Reconcile:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Why a pass failed, when trying again may help.
    type Error: std::error::Error + Send + Sync + 'static;
    /// What the passes of this kind share beside [`Context`], caches for instance; `()` when nothing.
    type Shared: Send + Sync + 'static;

    /// How long an object is left alone after news of it, in case there is more.
    const DEBOUNCE: Duration = Duration::ZERO;

    /// The reason of an error, from the closed set.
    fn reason(error: &Self::Error) -> Reason;

    /// One pass: makes the cluster as the object says, and its status true. Gives when to come back at the latest,
    /// if that is sooner than the resync. An error brings the next pass after a backoff.
    fn reconcile(
        &self,
        ctx: &Context,
        shared: &Self::Shared,
    ) -> impl Future<Output = Result<Option<Duration>, Self::Error>> + Send;
}

/// What a pass is given.
type Given<K> = (Arc<Context>, Arc<<K as Reconcile>::Shared>);

/// A pass that failed. What there is to say was logged; it only remains to wait.
#[derive(Debug, thiserror::Error)]
#[error("the pass failed")]
struct Failed(Reason);

/// Runs a controller until `stop`; passes under way are finished then.
pub async fn run<K: Reconcile>(
    controller: Controller<Guarded<K>>,
    ctx: Arc<Context>,
    shared: Arc<K::Shared>,
    stop: Stop,
) {
    let kind = K::kind(&());
    controller
        .with_config(Config::default().concurrency(ctx.settings.concurrency).debounce(K::DEBOUNCE))
        .graceful_shutdown_on(stop)
        .run(pass::<K>, leave_alone::<K>, Arc::new((ctx, shared)))
        .for_each(async |outcome| match outcome {
            Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
            // Normal after a deletion.
            Err(ControllerError::ObjectNotFound(object)) => tracing::debug!(%object, "gone"),
            Err(error) => tracing::error!(%kind, %error, "the controller failed"),
        })
        .await;
}

/// One pass over one object, measured.
async fn pass<K: Reconcile>(object: Arc<Guarded<K>>, given: Arc<Given<K>>) -> Result<Action, Failed> {
    let (ctx, shared) = &*given;
    let kind = K::kind(&());
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let object = match &object.0 {
        Ok(valid) => valid,
        Err(invalid) => {
            ctx.metrics.invalid_object(&kind);
            tracing::warn!(%kind, namespace, name, error = invalid.error, "the object does not fit its kind");
            let note =
                format!("does not fit this operator's {kind}: {}; mend it, or update the CRD", invalid.error);
            status::publish(ctx, &*object, EventType::Warning, Reason::Invalid.as_str(), "Read", &note).await;
            return Ok(Action::await_change());
        }
    };
    let (uid, begun) = (object.uid().unwrap_or_default(), Instant::now());
    let running = (ctx.pulse.pass(format!("{kind} {namespace}/{name}")), ctx.metrics.reconciling(&kind));
    let outcome = match timeout(PASS_LIMIT, object.reconcile(ctx, shared)).await {
        Ok(outcome) => outcome.map_err(|error| (K::reason(&error), error.to_string())),
        // Each call has a limit of its own: this is for what waits for something else.
        Err(_) => Err((Reason::ApiError, format!("not done within {} s", PASS_LIMIT.as_secs()))),
    };
    drop(running);
    let took = begun.elapsed();
    ctx.metrics.reconciled(&kind, outcome.as_ref().map(|_| ()).map_err(|(reason, _)| *reason), took);
    match outcome {
        Ok(next) => {
            ctx.backoff.succeeded(&uid);
            // Spread out, so that what started together does not come back together.
            let resync = jittered(ctx.settings.resync);
            let next = next.map_or(resync, |next| next.min(resync));
            tracing::debug!(%kind, namespace, name, ?took, ?next, "reconciled");
            Ok(Action::requeue(next))
        }
        Err((reason, error)) => {
            tracing::warn!(%kind, namespace, name, error, "a pass failed; it is tried again");
            Err(Failed(reason))
        }
    }
}

/// How long to leave an object alone after a failed pass.
fn leave_alone<K: Reconcile>(object: Arc<Guarded<K>>, failed: &Failed, given: Arc<Given<K>>) -> Action {
    Action::requeue(given.0.backoff.failed(&object.uid().unwrap_or_default(), failed.0))
}

/// The object that a child names by the label `key`.
fn of_label<C, K>(child: &C, key: &str) -> Option<ObjectRef<Guarded<K>>>
where
    C: Resource,
    K: Resource<DynamicType = ()>,
{
    let name = child.labels().get(key)?;
    Some(ObjectRef::new(name).within(&child.namespace()?))
}

/// What the pods of a Deployment say for themselves; `key` is the label that they and the Deployment share. It comes
/// from the API server's memory, which may be a moment behind: a change of a pod brings the next pass.
async fn pod_words(ctx: &Context, deployment: &Deployment, key: &str) -> Result<Option<String>, api::Error> {
    let namespace = deployment.namespace().unwrap_or_default();
    let owner = deployment.labels().get(key).cloned().unwrap_or_default();
    let (pods, selector) = (
        ctx.namespaced::<Pod>(&namespace),
        ListParams::default().labels(&format!("{key}={owner}")).match_any(),
    );
    let pods = api::read(|| format!("list the pods of {owner}"), pods.list(&selector)).await?;
    Ok(rollout::words(&pods.items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scripted;
    use k8s_openapi::api::core::v1::ConfigMap;

    /// A kind whose passes never end.
    impl Reconcile for ConfigMap {
        type Error = std::convert::Infallible;
        type Shared = ();

        fn reason(error: &Self::Error) -> Reason {
            match *error {}
        }

        async fn reconcile(&self, _: &Context, (): &()) -> Result<Option<Duration>, Self::Error> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_hangs_ends_and_is_tried_again_later() {
        let ctx = Arc::new(scripted(vec![]).0);
        let given = Arc::new((ctx.clone(), Arc::new(())));
        let object = Arc::new(watch_guarded(ConfigMap::default()));
        let begun = tokio::time::Instant::now();
        let failed = pass(object, given).await.unwrap_err();
        assert_eq!((failed.0, begun.elapsed()), (Reason::ApiError, PASS_LIMIT));
        let text = ctx.metrics.text().unwrap();
        for line in [
            r#"stomaton_reconcile_errors_total{kind="ConfigMap",reason="ApiError"} 1"#,
            r#"stomaton_reconciles_running{kind="ConfigMap"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    fn watch_guarded<K>(object: K) -> Guarded<K> {
        kube::core::DeserializeGuard(Ok(object))
    }
}
