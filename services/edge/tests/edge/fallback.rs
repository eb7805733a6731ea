//! The monolith in place of a service that failed, as a real NGINX does it.

use crate::support::{Pod, ROTATE_AT, backends, config, id, moving, reserve, weights};
use stomaton_crds::v1alpha1::{EdgeConfigSpec, EdgeFallback, EdgeRoute, Method};

fn helped(also_for: Vec<Method>) -> EdgeRoute {
    let mut route = moving(1, "/a");
    route.handling.fallback = Some(EdgeFallback { also_for, within_millis: 5000 });
    route
}

/// A pod that gives its one route to the service.
async fn serving(spec: EdgeConfigSpec) -> Pod {
    let pod = Pod::start(ROTATE_AT).await;
    pod.give_config(spec);
    pod.give_weights(weights(1, &[(1, 1000)]));
    pod.until(|state| state.applied.config == 1 && state.applied.weights == 1).await;
    pod
}

async fn asked(pod: &Pod, method: &str) -> (u16, String) {
    let length = if matches!(method, "GET" | "HEAD") { vec![] } else { vec![("content-length", "0")] };
    let mut client = crate::support::Client::connect(pod.address).await;
    let answer = client.send(method, "/a", &length).await.unwrap();
    (answer.status, answer.backend())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_is_helped_out_and_counted() {
    let (m, s) = backends().await;
    // Nobody listens there.
    let port = reserve();
    let mut spec = config(1, &[("m", &m), ("s", &s)], vec![helped(vec![Method::PUT])]);
    spec.backends.insert("s".into(), port.local_addr().unwrap().to_string());
    let pod = serving(spec).await;
    for method in ["GET", "POST", "PATCH", "PUT", "OPTIONS"] {
        assert_eq!(asked(&pod, method).await, (200, "monolith".into()), "{method}");
    }
    assert_eq!(asked(&pod, "DELETE").await.0, 502);
    let counted = |state: &stomaton_crds::edge_state::EdgeState| {
        state.counters.get(&id(1)).and_then(|by| by.get("public")).map(|sides| sides.service)
    };
    let state = pod.until(|state| counted(state).is_some_and(|service| service.requests == 6)).await;
    assert_eq!(counted(&state).unwrap().bad, 6, "whoever helped out, the service failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_done_already_is_not_done_again() {
    let (m, s) = backends().await;
    let pod = serving(config(1, &[("m", &m), ("s", &s)], vec![helped(vec![])])).await;
    assert_eq!(asked(&pod, "GET").await, (200, "service".into()));
    s.answer_with(503);
    assert_eq!(asked(&pod, "GET").await, (200, "monolith".into()));
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        assert_eq!(asked(&pod, method).await, (503, "service".into()), "{method}");
    }
    s.answer_with(500);
    assert_eq!(asked(&pod, "GET").await, (500, "service".into()), "an answer of its own");
    s.answer_with(200);
    assert_eq!(asked(&pod, "GET").await, (200, "service".into()), "it is asked first, always");
}
