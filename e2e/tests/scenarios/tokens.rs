//! Tokens between services: replaced again and again under load, and no call is refused.

use e2e::harness::{
    Doing as _, Error, Harness,
    evidence::all_well,
    namespace::Namespace,
    proxy::PodPort,
    scenario::{Turn, scenario},
    service::{Service, list, manifest},
    traffic::{Mix, Traffic},
    wait::{self, Seen},
};
use http::{HeaderName, HeaderValue, Method, Request};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Node, Secret},
};
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::{Value, json};
use std::time::Duration;

/// What the load asks for; the same as other services would.
const API: &str = "/api/v1/content/stats";
const PROBE: &str = "/health/ready";
const HEADER: HeaderName = HeaderName::from_static("x-service-token");
/// Requests a second.
const RATE: u32 = 60;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn tokens_are_replaced_under_load_and_no_call_is_refused() {
    scenario("tokens", Turn::Alongside, async |namespace| {
        namespace.grant().await?;
        // A kubelet looks at a pod again after one and a half of its periods at most; what a service has read it
        // believes for a second. The rest is for busy cores.
        let overlap = 2 * kubelet_period(namespace.harness).await? + Duration::from_secs(5);
        let seconds = |time: Duration| format!("{}s", time.as_secs());
        let auth = json!({"rotateEvery": seconds(2 * overlap), "overlap": seconds(overlap)});
        let both = [
            manifest("database", &json!({"replicas": 2, "serviceAuth": auth})),
            manifest("shop", &json!({"dependsOn": [{"name": "database"}]})),
        ];
        namespace.apply_object(&list(both)).await?;
        let (database, shop) = (Service::named(namespace, "database"), Service::named(namespace, "shop"));
        database.is_ready().await?;
        shop.is_ready().await?;
        let (callees, callers) = (database.pod_names().await?, shop.pod_names().await?);

        // As pods of the shop have it.
        let mix = Mix {
            secrets: vec![("shop-tokens", "/var/run/stomaton/tokens")],
            variants: vec![vec!["--header-from-file", "x-service-token=/var/run/stomaton/tokens/database"]],
            at_most: 10 * overlap + Duration::from_secs(600),
            ..Mix::of_http1(RATE)
        };
        let traffic = Traffic::straight(&database, mix).await?;
        let sent = traffic.totals().await?.sent;
        let [first, second, third] = two_rotations(namespace, overlap).await?;
        for pod in &callees {
            for old in [&first, &second] {
                refused(&showing(&database, pod, old)?, overlap).await?;
            }
            assert_eq!(status(&showing(&database, pod, &third)?, API).await?, 200);
            assert_eq!(status(&database.port(pod), API).await?, 401, "without a token");
            assert_eq!(status(&database.port(pod), PROBE).await?, 200, "a probe has none");
        }
        let meanwhile = traffic.totals().await?.sent - sent;
        println!("{meanwhile} requests while two tokens were replaced, overlap {overlap:?}");

        // With no token but the third.
        traffic.reaches(traffic.totals().await?.sent + 5 * u64::from(RATE), Duration::from_secs(60)).await?;
        all_well(&traffic.finish().await?)?;
        assert_eq!(database.pod_names().await?, callees, "pods were replaced");
        assert_eq!(shop.pod_names().await?, callers, "pods were replaced");
        Ok(())
    })
    .await;
}

/// Waits until the caller has been given three tokens, one after the other, and the callee accepts the first two no
/// more; gives them.
async fn two_rotations(namespace: &Namespace<'_>, overlap: Duration) -> Result<[String; 3], Error> {
    let secrets = namespace.api::<Secret>();
    // A rotation takes two overlaps, and begins two after the one before it, at the latest.
    let limit = 6 * overlap + Duration::from_secs(60);
    let mut given: Vec<String> = Vec::new();
    let what = "the caller to be given its third token";
    let three = wait::object(&secrets, "shop-tokens", what, limit, |secret| {
        for token in lines(secret, "database") {
            if !given.contains(&token) {
                given.push(token);
            }
        }
        match &given[..] {
            [first, second, third] => Seen::Yes([first.clone(), second.clone(), third.clone()]),
            so_far => Seen::NotYet(format!("{} so far", so_far.len())),
        }
    })
    .await?;
    let what = "the callee to accept the first two tokens no more";
    wait::object(&secrets, "database-callers", what, limit, |secret| {
        let accepted = lines(secret, "shop");
        let old = accepted.iter().filter(|token| three[..2].contains(token)).count();
        Seen::when(old == 0 && accepted.contains(&three[2]), || format!("it accepts {old} of them"))
    })
    .await?;
    Ok(three)
}

/// What a key of a Secret holds, line by line.
fn lines(secret: Option<&Secret>, key: &str) -> Vec<String> {
    let held = secret.and_then(|secret| secret.data.as_ref()?.get(key));
    let text = held.map(|ByteString(bytes)| String::from_utf8_lossy(bytes)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until this pod's API refuses what it is shown.
async fn refused(port: &PodPort, overlap: Duration) -> Result<(), Error> {
    let what = format!("{} to refuse a token that was replaced", port.pod());
    wait::until(&what, overlap, async || {
        let status = status(port, API).await?;
        Ok(Seen::when(status == 401, || format!("it answers {status}")))
    })
    .await
}

/// A pod of the service, to which every request shows this token.
fn showing(service: &Service<'_>, pod: &str, token: &str) -> Result<PodPort, Error> {
    let value = HeaderValue::try_from(token).map_err(|_| Error::Broken("a token is no header".into()))?;
    Ok(service.port(pod).with_header(HEADER, value))
}

async fn status(port: &PodPort, path: &str) -> Result<u16, Error> {
    Ok(port.send(Method::GET, path, String::new()).await?.status().as_u16())
}

/// After how long a kubelet brings what changed in a Secret to a pod that has it, as the slowest kubelet is told.
async fn kubelet_period(harness: &Harness) -> Result<Duration, Error> {
    let nodes: Api<Node> = Api::all(harness.client.clone());
    let mut longest = Duration::ZERO;
    for node in nodes.list(&ListParams::default()).await.doing("list the nodes")?.items {
        let what = format!("read how the kubelet of {} is configured", node.name_any());
        let request = Request::get(format!("/api/v1/nodes/{}/proxy/configz", node.name_any()));
        let request = request.body(Vec::new()).map_err(kube::Error::HttpError).doing(&what)?;
        let config: Value = harness.client.request(request).await.doing(&what)?;
        let period = config["kubeletconfig"]["syncFrequency"].as_str();
        let period = period.and_then(|period| period.parse::<kube::core::Duration>().ok());
        let period = period.ok_or_else(|| Error::Broken(format!("{what}: no syncFrequency")))?;
        longest = longest.max(period.into());
    }
    Ok(longest)
}
