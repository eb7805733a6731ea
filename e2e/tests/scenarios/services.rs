//! StomatonServices on real pods: what they are given, how they are replaced, drained and scaled. Load goes straight to
//! the Service, by clients that never retry.

use e2e::{
    harness::{
        Doing as _, Error,
        evidence::all_well,
        namespace::Namespace,
        scenario::{Turn, scenario},
        service::{ARGS, IMAGE, Service, list, manifest},
        traffic::{Mix, Traffic},
        wait::{self, Seen},
    },
    load::record::Record,
};
use futures::future::try_join_all;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Pod, PodTemplateSpec},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString},
};
use kube::{
    Api, ResourceExt as _,
    api::{EvictParams, ListParams},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use stomaton_crds::{keys, v1alpha1::StomatonService};

/// Requests a second while pods are replaced.
const RATE: u32 = 100;
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_changed_secret_rolls_the_pods_once_and_no_request_is_lost() {
    scenario("secret", Turn::Alongside, async |namespace| {
        namespace.grant().await?;
        namespace.apply_object(&secret("before")).await?;
        // Two ways to use it: still one change.
        let fields = json!({
            "replicas": 2,
            "bindings": [{"name": "store", "secret": "store", "keys": [{"key": "uri"}]}],
            "secretEnv": [{"name": "STORE_PASSWORD", "secret": "store", "key": "password"}],
        });
        let shop = Service::deploy(namespace, "shop", fields).await?;
        let before = shop.runs("pods that say what they have", |d| hash(d).is_some()).await?;
        let (old_hash, old_pods, sets) = (hash(&before), shop.pod_names().await?, shop.replica_sets().await?);

        let traffic = Traffic::straight(&shop, Mix::of_http1(RATE)).await?;
        namespace.apply_object(&secret("after")).await?;
        shop.runs("every pod to have the new values", |d| hash(d) != old_hash).await?;
        let records = finish(&shop, traffic, &old_pods).await?;
        all_well(&records)?;

        let after = shop.deployment().await?;
        assert_eq!(generation(&after), generation(&before) + 1, "the Deployment was written more than once");
        assert_eq!(revision(&after), revision(&before) + 1, "pods were replaced more than once");
        assert_eq!(shop.replica_sets().await?, sets + 1);
        for pod in shop.pods().await? {
            assert_eq!(pod.annotations().get(keys::SECRETS_HASH), hash(&after).as_ref());
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn four_services_start_in_order_and_a_circle_is_spelled_out() {
    scenario("order", Turn::Alongside, async |namespace| {
        // Each needs the one before it, which is applied after it.
        const CHAIN: [&str; 4] = ["a", "b", "c", "d"];
        let needs = |name: &str, other: &str| manifest(name, &json!({"dependsOn": [{"name": other}]}));
        let chain = CHAIN.windows(2).rev().map(|pair| needs(pair[1], pair[0]));
        namespace.apply_object(&list(chain.chain([manifest(CHAIN[0], &json!({}))]))).await?;
        let ready = try_join_all(CHAIN.iter().map(|name| ready_since(namespace, name))).await?;
        for (pair, since) in CHAIN.windows(2).zip(&ready) {
            let pods = Service::named(namespace, pair[1]).pods().await?;
            assert_eq!(pods.len(), 1, "pods of {}", pair[1]);
            let (made, started) = began(&pods[0]);
            println!("{} was Ready at {}, {} began at {made:?}", pair[0], since.0, pair[1]);
            assert!(made.as_ref() >= Some(since), "{} began before {} was Ready", pair[1], pair[0]);
            assert!(started.as_ref() >= Some(since), "{} ran before {} was Ready", pair[1], pair[0]);
        }

        namespace.apply_object(&list([needs("x", "y"), needs("y", "x")])).await?;
        for name in ["x", "y"] {
            let service = Service::named(namespace, name);
            for kind in ["Ready", "DependenciesReady"] {
                let message = service.says(kind, "DependencyCycle").await?;
                assert!(message.contains("x -> y -> x"), "{name}: {message}");
            }
            let deployment =
                namespace.api::<Deployment>().get_opt(name).await.doing("look for a Deployment")?;
            assert!(deployment.is_none(), "{name} was deployed");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_revision_that_does_not_come_up_is_taken_back_and_no_request_is_lost() {
    scenario("failing", Turn::Alongside, async |namespace| {
        let shop = Service::deploy(namespace, "shop", json!({"replicas": 2})).await?;
        let good = shop.status().await?.last_good_revision.unwrap_or_default();
        let (before, pods) = (template(&shop.deployment().await?), shop.pod_names().await?);
        let traffic = Traffic::straight(&shop, Mix::of_http1(RATE)).await?;

        // A host that no resolver knows, and a command that ends at once.
        let no_image = json!({"image": "registry.invalid/stomaton/fleet:none"});
        let no_service = json!({"image": IMAGE, "args": ["serve", "nothing"]});
        for mut failing in [no_image, no_service] {
            failing["rollout"] = json!({"progressDeadline": "5s"});
            shop.change(failing.clone()).await?;
            let message = shop.says("Ready", "RolledBackRevision").await?;
            println!("{message}");
            let image = failing["image"].as_str().unwrap_or_default();
            assert!(
                message.contains(image) && message.contains(&format!("{good} serves again")),
                "{message}"
            );
            shop.runs("the last good revision to run again", |d| template(d) == before).await?;
            assert_eq!(shop.pod_names().await?, pods, "pods of the good revision were replaced");
            let status = shop.status().await?;
            assert_eq!(status.last_good_revision.as_ref(), Some(&good));
            assert!(status.failed_revision.is_some_and(|failed| failed != good));
        }

        shop.change(json!({"image": IMAGE, "args": ARGS, "rollout": null})).await?;
        shop.is_ready().await?;
        assert_eq!(shop.status().await?.failed_revision, None);
        assert_eq!(shop.pod_names().await?, pods, "what is wanted ran already");
        all_well(&finish(&shop, traffic, &[]).await?)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn a_drain_takes_no_more_pods_at_a_time_than_the_budget_allows_and_no_request_is_lost() {
    const PODS: usize = 3;
    scenario("evictions", Turn::Alongside, async |namespace| {
        let fields = json!({"replicas": PODS, "disruption": {"maxUnavailable": 1}});
        let shop = Service::deploy(namespace, "shop", fields).await?;
        let budgets = namespace.api::<PodDisruptionBudget>();
        let budget =
            wait::object(&budgets, "shop", "the budget to be counted", LIMIT, |budget| match budget {
                Some(budget) if allows(budget) == Some(1) => Seen::Yes(budget.clone()),
                other => Seen::NotYet(format!("{:?}", other.map(|budget| &budget.status))),
            })
            .await?;
        let spec = budget.spec.unwrap_or_default();
        assert_eq!(spec.unhealthy_pod_eviction_policy.as_deref(), Some("AlwaysAllow"));
        assert_eq!((spec.max_unavailable, spec.min_available), (Some(IntOrString::Int(1)), None));
        let selected = spec.selector.and_then(|selector| selector.match_labels);
        assert_eq!(selected, Some(BTreeMap::from([(keys::SERVICE.to_owned(), "shop".to_owned())])));

        let pods = shop.pod_names().await?;
        let traffic = Traffic::straight(&shop, Mix::of_http1(RATE)).await?;
        let mut refused = 0;
        for pod in &pods {
            refused += evict(&shop, pod).await?;
            let left = shop.ready_pods().await?;
            assert!(left.len() >= PODS - 1, "{left:?} are left when {pod} goes");
        }
        println!("{refused} evictions were refused");
        assert!(refused > 0, "nothing kept the drain from taking all pods at once");
        all_well(&finish(&shop, traffic, &pods).await?)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn kubectl_scales_a_service_and_an_autoscaler_takes_the_number_over_as_it_is() {
    scenario("scaling", Turn::Alongside, async |namespace| {
        let shop = Service::deploy(namespace, "shop", json!({"replicas": 1})).await?;
        let scale = ["-n", &namespace.name, "scale", "ssvc", "shop", "--replicas=3"];
        namespace.harness.kubectl(&scale).await?;
        shop.runs("three pods", |d| replicas(d) == Some(3)).await?;
        shop.is_ready().await?;
        let pods = shop.pod_names().await?;

        let scale =
            namespace.api::<StomatonService>().get_scale("shop").await.doing("read the scale of shop")?;
        assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(3));
        let status = scale.status.unwrap_or_default();
        assert_eq!(status.replicas, 3);
        let selector = status.selector.unwrap_or_default();
        assert_eq!(selector, format!("{}=shop", keys::SERVICE));
        let selected = ListParams::default().labels(&selector);
        let selected = namespace.api::<Pod>().list(&selected).await.doing("list what the scale selects")?;
        let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
        let mut selected: Vec<_> = selected.items.iter().filter(stays).map(|pod| pod.name_any()).collect();
        selected.sort();
        assert_eq!(selected, pods);

        shop.change(json!({"scaling": {"min": 2, "max": 5, "cpuPercent": 70}})).await?;
        let autoscalers = namespace.api::<HorizontalPodAutoscaler>();
        let what = "the autoscaler to have counted the pods";
        let autoscaler = wait::object(&autoscalers, "shop", what, LIMIT, |found| {
            let counted = |a: &HorizontalPodAutoscaler| a.status.as_ref().and_then(|s| s.current_replicas);
            match found {
                Some(autoscaler) if counted(autoscaler) == Some(3) => Seen::Yes(autoscaler.clone()),
                Some(autoscaler) => Seen::NotYet(format!("it counts {:?}", counted(autoscaler))),
                None => Seen::NotYet("there is none".into()),
            }
        })
        .await?;
        let spec = autoscaler.spec.unwrap_or_default();
        let target = &spec.scale_target_ref;
        assert_eq!((target.kind.as_str(), target.name.as_str()), ("Deployment", "shop"));
        assert_eq!((spec.min_replicas, spec.max_replicas), (Some(2), 5));
        let metrics = spec.metrics.unwrap_or_default();
        let aims: Vec<_> = metrics.iter().filter_map(|metric| metric.resource.as_ref()).collect();
        assert_eq!((metrics.len(), aims.len()), (1, 1));
        assert_eq!((aims[0].name.as_str(), aims[0].target.average_utilization), ("cpu", Some(70)));

        shop.is_ready().await?;
        assert_eq!(replicas(&shop.deployment().await?), Some(3));
        assert_eq!(shop.pod_names().await?, pods, "taking the number over changed the pods");
        Ok(())
    })
    .await;
}

/// The backing store's Secret, with values that differ by `word`.
fn secret(word: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "store"},
        "stringData": {"uri": format!("store://{word}"), "password": word},
    })
}

/// Waits until the pods `old` are gone and others have been sent requests for a while; ends the load.
async fn finish(service: &Service<'_>, traffic: Traffic<'_>, old: &[String]) -> Result<Vec<Record>, Error> {
    service.are_gone(old).await?;
    service.is_ready().await?;
    traffic.reaches(traffic.totals().await?.sent + 3 * u64::from(RATE), LIMIT).await?;
    let records = traffic.finish().await?;
    println!("{} requests", records.len());
    Ok(records)
}

/// Evicts a pod as `kubectl drain` does: asks again until the budget allows it. Gives how often it did not.
async fn evict(service: &Service<'_>, pod: &str) -> Result<u32, Error> {
    let Service { namespace, .. } = service;
    let client = namespace.harness.cluster.client_without_retry().await?;
    let pods: Api<Pod> = Api::namespaced(client, &namespace.name);
    let mut refused = 0;
    wait::until(&format!("the eviction of {pod} to be allowed"), LIMIT, async || {
        match pods.evict(pod, &EvictParams::default()).await {
            Ok(_) => Ok(Seen::Yes(())),
            Err(kube::Error::Api(status)) if status.code == 429 => {
                refused += 1;
                Ok(Seen::NotYet(status.message.clone()))
            }
            Err(error) => Err(error).doing(format!("evict {pod}")),
        }
    })
    .await?;
    Ok(refused)
}

/// Since when a service has been Ready for the first time; ask before it is.
async fn ready_since(namespace: &Namespace<'_>, name: &str) -> Result<Time, Error> {
    let what = format!("{name} to be Ready");
    wait::object(&namespace.api::<StomatonService>(), name, &what, 2 * LIMIT, |service| {
        let mut conditions = service.and_then(|s| s.status.as_ref()).into_iter().flat_map(|s| &s.conditions);
        match conditions.find(|c| c.type_ == "Ready") {
            Some(ready) if ready.status == "True" => Seen::Yes(ready.last_transition_time.clone()),
            Some(other) => Seen::NotYet(format!("{}: {}", other.reason, other.message)),
            None => Seen::NotYet("it has no status".into()),
        }
    })
    .await
}

/// When a pod was made, and when its container began to run; both in whole seconds, as all times of Kubernetes here.
fn began(pod: &Pod) -> (Option<Time>, Option<Time>) {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let running = containers.and_then(|all| all.first()?.state.as_ref()?.running.as_ref());
    (pod.metadata.creation_timestamp.clone(), running.and_then(|running| running.started_at.clone()))
}

/// How many pods a budget lets go now; none: it has not been counted yet.
fn allows(budget: &PodDisruptionBudget) -> Option<i32> {
    let status = budget.status.as_ref()?;
    (status.observed_generation >= budget.metadata.generation).then_some(status.disruptions_allowed)
}

fn template(deployment: &Deployment) -> Option<PodTemplateSpec> {
    deployment.spec.as_ref().map(|spec| spec.template.clone())
}

fn replicas(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref()?.replicas
}

/// What the pods say of the Secrets they were started with.
fn hash(deployment: &Deployment) -> Option<String> {
    let metadata = deployment.spec.as_ref()?.template.metadata.as_ref()?;
    metadata.annotations.as_ref()?.get(keys::SECRETS_HASH).cloned()
}

fn generation(deployment: &Deployment) -> i64 {
    deployment.metadata.generation.unwrap_or(0)
}

/// How many times Kubernetes has replaced the pods.
fn revision(deployment: &Deployment) -> i64 {
    let revision = deployment.annotations().get("deployment.kubernetes.io/revision");
    revision.and_then(|number| number.parse().ok()).unwrap_or(0)
}
