//! Who is told from whom, and who is on which side, as a real NGINX does it.

use crate::support::{
    Answer, Backend, PATIENCE, Pod, ROTATE_AT, backends, config, fixed, id, moving, weights,
};
use stomaton_crds::v1alpha1::{
    AddressFrom, EdgeAudience, EdgeCohort, EdgeConfigSpec, EdgeWeightsSpec, HeaderMatch, RouteWeights,
    TrustedProxies,
};

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

const SECRET: &str = "0123456789abcdef";
const TOKEN: &str = "team-token-of-the-team";
const MONOLITH: &str = "tester-of-the-monolith";
const SERVICE: &str = "tester-of-the-service_1";

fn audiences() -> EdgeCohort {
    let header = Some(HeaderMatch { name: "x-group".into(), value: "gold".into() });
    EdgeCohort {
        audiences: vec![
            EdgeAudience { name: "team".into(), token: Some(SECRET.into()), ..EdgeAudience::default() },
            EdgeAudience {
                name: "office".into(),
                networks: vec!["203.0.113.0/24".into()],
                ..EdgeAudience::default()
            },
            EdgeAudience { name: "gold".into(), header, ..EdgeAudience::default() },
        ],
        testers: Some(SECRET.into()),
        ..EdgeCohort::default()
    }
}

fn by_audience(revision: i64, permille: &[(&str, i32)], latched: bool) -> EdgeWeightsSpec {
    let permille = permille.iter().map(|(name, permille)| ((*name).to_owned(), *permille)).collect();
    let route = RouteWeights { permille, latched, ..RouteWeights::default() };
    EdgeWeightsSpec { revision, routes: [(id(1), route)].into() }
}

/// As the kubelet mounts it.
fn mount(pod: &Pod, key: &str, token: &str) {
    let dir = pod.options.tls_dir.with_file_name("tokens").join(SECRET);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(key), format!("{token}\n")).unwrap();
}

/// Asks with `headers` until `expected` is the audience: the supervisor takes a while to see a token.
async fn until_of(pod: &Pod, headers: &[(&str, &str)], expected: &str) {
    let begun = std::time::Instant::now();
    while pod.get("/a", headers).await.edge("audience") != expected {
        assert!(begun.elapsed() < PATIENCE, "never of {expected}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_audience_has_a_weight_and_none_has_less_than_everybody() {
    let (m, s) = backends().await;
    let pod = serving(audiences(), &m, &s).await;
    let office = [("x-forwarded-for", "203.0.113.7")];
    let gold = [("x-forwarded-for", "198.51.100.7"), ("x-group", "gold")];
    let nobody = [("x-forwarded-for", "198.51.100.7"), ("x-group", "silver")];
    let both = [("x-forwarded-for", "203.0.113.7"), ("x-group", "gold")];
    for (headers, audience) in
        [(&office[..], "office"), (&gold[..], "gold"), (&nobody[..], "public"), (&both[..], "office")]
    {
        assert_eq!(pod.get("/a", headers).await.edge("audience"), audience);
    }
    let backends = async || {
        let mut all = Vec::new();
        for headers in [&office[..], &gold[..], &nobody[..]] {
            all.push(pod.get("/a", headers).await.backend());
        }
        all
    };
    for (revision, permille, expected) in [
        (1, &[("office", 1000)][..], ["service", "monolith", "monolith"]),
        (2, &[("office", 1000), ("gold", 1000)][..], ["service", "service", "monolith"]),
        (3, &[("public", 1000), ("gold", 1)][..], ["service", "service", "service"]),
    ] {
        pod.give_weights(by_audience(revision, permille, false));
        pod.until(|state| state.applied.weights == revision).await;
        assert_eq!(backends().await, expected, "{permille:?}");
    }
    let counted = pod.until(|state| state.counters.get(&id(1)).is_some_and(|by| by.len() == 3)).await;
    assert!(counted.counters[&id(1)]["gold"].service.requests >= 1, "{counted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_counts_as_soon_as_it_is_mounted_and_no_longer() {
    let (m, s) = backends().await;
    let pod = serving(audiences(), &m, &s).await;
    let team = [("x-stomaton-token", TOKEN)];
    assert_eq!(pod.get("/a", &team).await.edge("audience"), "public", "no Secret, no harm");
    mount(&pod, "token", TOKEN);
    until_of(&pod, &team, "team").await;
    assert_eq!(
        pod.get("/a", &[("x-stomaton-token", "another-token-of-somebody")]).await.edge("audience"),
        "public"
    );
    assert!(!pod.get("/a", &team).await.text().contains(TOKEN), "backends do not get it");
    // What is no token costs nothing but itself.
    mount(&pod, "token", "x\"; } evil {");
    until_of(&pod, &team, "public").await;
    mount(&pod, "token", TOKEN);
    until_of(&pod, &team, "team").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn testers_have_the_side_that_they_chose_but_not_past_a_latch() {
    let (m, s) = backends().await;
    let pod = serving(audiences(), &m, &s).await;
    mount(&pod, "monolith", MONOLITH);
    mount(&pod, "service", SERVICE);
    let cookie = format!("stomaton_side={MONOLITH}");
    let (to_service, to_monolith) = ([("x-stomaton-side", SERVICE)], [("cookie", cookie.as_str())]);
    until_of(&pod, &to_service, "testers").await;
    until_of(&pod, &to_monolith, "testers").await;
    for (revision, permille, latched, expected) in [
        (1, 1, false, ["service", "monolith"]),
        (2, 1000, false, ["service", "monolith"]),
        (3, 1000, true, ["monolith", "monolith"]),
    ] {
        pod.give_weights(by_audience(revision, &[("public", permille)], latched));
        pod.until(|state| state.applied.weights == revision).await;
        let service = pod.get("/a", &to_service).await;
        assert!(!service.text().contains(SERVICE), "backends do not get it");
        assert_eq!([service.backend(), pod.get("/a", &to_monolith).await.backend()], expected, "{revision}");
    }
    // Their answers are evidence of nothing.
    let state = pod.until(|state| state.lines > 6).await;
    assert!(state.counters.get(&id(1)).is_none_or(|by| !by.contains_key("testers")), "{state:?}");
}
