//! Who is told from whom, and who is on which side, as a real NGINX does it.

use crate::support::{Answer, Backend, Pod, ROTATE_AT, backends, config, fixed, moving, weights};
use stomaton_crds::v1alpha1::{AddressFrom, EdgeCohort, EdgeConfigSpec, TrustedProxies};

/// A pod that believes everybody on loopback, with one route that moves and one that does not.
async fn serving(cohort: EdgeCohort, m: &Backend, s: &Backend) -> Pod {
    let pod = Pod::start(ROTATE_AT).await;
    let networks = vec!["127.0.0.0/8".to_owned()];
    let trusted_proxies = Some(TrustedProxies { networks, address_from: AddressFrom::XForwardedFor });
    let routes = vec![moving(1, "/a"), fixed(2, "/b")];
    let spec = EdgeConfigSpec { cohort, trusted_proxies, ..config(1, &[("m", m), ("s", s)], routes) };
    pod.give_config(spec);
    pod.until(|state| state.applied.config == 1).await;
    pod
}

fn given(answer: &Answer) -> Option<&str> {
    answer.header("set-cookie").and_then(|cookie| cookie.split(';').next())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_gets_a_cookie_that_keeps_it_where_it_is() {
    let (m, s) = backends().await;
    let pod = serving(EdgeCohort::default(), &m, &s).await;
    pod.give_weights(weights(1, &[(1, 500)]));
    pod.until(|state| state.applied.weights == 1).await;
    let mut sides = std::collections::BTreeSet::new();
    for user in 0..40 {
        let home = format!("203.0.113.{user}");
        let first = pod.get("/a", &[("x-forwarded-for", home.as_str())]).await;
        let cookie = given(&first).expect("no cookie").to_owned();
        assert!(cookie.starts_with("stomaton_id=") && !cookie.contains(&home), "{cookie}");
        let headers = [("x-forwarded-for", "198.51.100.1"), ("cookie", cookie.as_str())];
        let away = pod.get("/a", &headers).await;
        assert_eq!(away.edge("bucket"), first.edge("bucket"));
        assert_eq!((away.backend(), given(&away)), (first.backend(), None));
        sides.insert(first.backend());
    }
    assert_eq!(sides.len(), 2, "40 addresses at a half must be on both sides");
    assert_eq!(given(&pod.get("/b", &[]).await), None, "nobody moves that route");
    let set = pod.get("/a", &[("x-forwarded-proto", "https")]).await;
    let set = set.header("set-cookie").unwrap().to_owned();
    assert!(set.contains("; HttpOnly; SameSite=Lax; Secure"), "{set}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_trusted_hop_says_comes_before_the_cookie() {
    let (m, s) = backends().await;
    let cohort = EdgeCohort { header: Some("x-user-id".into()), ..EdgeCohort::default() };
    let pod = serving(cohort, &m, &s).await;
    let bucket = async |headers: &[(&str, &str)]| pod.get("/a", headers).await.edge("bucket");
    let user = bucket(&[("x-user-id", "ada")]).await;
    assert_eq!(bucket(&[("x-user-id", "ada"), ("cookie", "stomaton_id=other")]).await, user);
    assert_ne!(bucket(&[("cookie", "stomaton_id=other")]).await, user);
    assert_eq!(given(&pod.get("/a", &[("x-user-id", "ada")]).await), None);
}
