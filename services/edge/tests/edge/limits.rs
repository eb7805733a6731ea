//! How many requests are answered, as a real NGINX counts them.

use crate::support::{Backend, Client, Pod, config, fixed, moving, until};
use std::time::{Duration, Instant};
use stomaton_crds::v1alpha1::{
    AddressFrom, EdgeConfigSpec, EdgeLimits, EdgeRate, EdgeRoute, LimitClass, TrustedProxies,
};

/// One in a minute, so that the test decides and not the clock.
fn slow(burst: i32) -> EdgeRate {
    EdgeRate { per_minute: 1, burst }
}

fn limited(route: EdgeRoute, limit: LimitClass, total: Option<EdgeRate>) -> EdgeRoute {
    let mut route = route;
    route.handling.limit = limit;
    route.handling.total = total;
    route
}

/// `limits` over `routes` and a hop that says which client it is.
fn spec(limits: EdgeLimits, m: &Backend, routes: Vec<EdgeRoute>) -> EdgeConfigSpec {
    let networks = vec!["127.0.0.0/8".to_owned()];
    EdgeConfigSpec {
        limits: Some(limits),
        trusted_proxies: Some(TrustedProxies { networks, address_from: AddressFrom::XForwardedFor }),
        ..config(1, &[("m", m), ("s", m)], routes)
    }
}

/// How many of `sent` requests of a client are answered; the others are refused.
async fn accepted(client: &mut Client, address: &str, path: &str, sent: usize) -> usize {
    let mut accepted = 0;
    for _ in 0..sent {
        match client.send("GET", path, &[("x-forwarded-for", address)]).await.unwrap().status {
            200 => accepted += 1,
            status => assert_eq!(status, 429),
        }
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_of_one_client_is_refused() {
    let m = Backend::start("monolith").await;
    let limits = EdgeLimits { client: slow(50), client_auth: slow(3), dry_run: false };
    let login = limited(fixed(1, "/login"), LimitClass::Auth, None);
    let free = limited(fixed(2, "/free"), LimitClass::Unlimited, None);
    let pod = Pod::serving(spec(limits, &m, vec![login, free, moving(3, "/a")])).await;
    let mut client = Client::connect(pod.address).await;
    assert_eq!(accepted(&mut client, "203.0.113.1", "/login", 10).await, 4);
    assert_eq!(accepted(&mut client, "203.0.113.1", "/free", 100).await, 100);
    // The logins that were answered count here too; those that were refused do not.
    assert_eq!(accepted(&mut client, "203.0.113.1", "/a", 100).await, 51 - 4);
    assert_eq!(accepted(&mut client, "203.0.113.1", "/no-route", 10).await, 0);
    // Another client has limits of its own.
    assert_eq!(accepted(&mut client, "203.0.113.2", "/a", 60).await, 51);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_of_all_clients_is_refused_on_its_route() {
    let m = Backend::start("monolith").await;
    let limits = EdgeLimits { client: slow(100), client_auth: slow(0), dry_run: false };
    let shared = limited(fixed(1, "/shared"), LimitClass::General, Some(slow(9)));
    let free = limited(fixed(2, "/free"), LimitClass::Unlimited, Some(slow(4)));
    let pod = Pod::serving(spec(limits, &m, vec![shared, free, fixed(3, "/a")])).await;
    let mut client = Client::connect(pod.address).await;
    let mut all = 0;
    for number in 1..=5 {
        all += accepted(&mut client, &format!("203.0.113.{number}"), "/shared", 4).await;
    }
    assert_eq!(all, 10);
    assert_eq!(accepted(&mut client, "203.0.113.1", "/free", 10).await, 5);
    assert_eq!(accepted(&mut client, "203.0.113.1", "/a", 10).await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_that_is_answered_is_the_rate_that_was_given() {
    let m = Backend::start("monolith").await;
    let rate = EdgeRate { per_minute: 6000, burst: 100 };
    let limits = EdgeLimits { client: rate, client_auth: rate, dry_run: false };
    let pod = Pod::serving(spec(limits, &m, vec![fixed(1, "/a")])).await;
    let mut client = Client::connect(pod.address).await;
    // Four times the rate. A client that is held up for less than a second makes up for it out of the burst.
    let mut pace = tokio::time::interval(Duration::from_micros(2500));
    let (begun, mut answered) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(3) {
        pace.tick().await;
        answered += accepted(&mut client, "203.0.113.1", "/a", 1).await;
    }
    let allowed = 101.0 + 100.0 * begun.elapsed().as_secs_f64();
    let share = answered as f64 / allowed;
    println!("{answered} answered of {allowed:.0} allowed");
    assert!((0.85..=1.15).contains(&share), "{answered} answered of {allowed:.0} allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_refuses_nothing_and_marks_what_it_would_have_refused() {
    let m = Backend::start("monolith").await;
    let limits = EdgeLimits { client: slow(3), client_auth: slow(3), dry_run: true };
    let total = limited(fixed(1, "/a"), LimitClass::General, Some(slow(0)));
    let pod = Pod::serving(spec(limits, &m, vec![total])).await;
    let mut client = Client::connect(pod.address).await;
    assert_eq!(accepted(&mut client, "203.0.113.1", "/no-route", 10).await, 10);
    assert_eq!(accepted(&mut client, "203.0.113.2", "/a", 3).await, 3);
    let log = pod.options.log_dir.join("good.log");
    let marked = |text: &String| text.matches(r#""l":"REJECTED_DRY_RUN""#).count();
    let text = until(|| std::fs::read_to_string(&log).ok().filter(|text| text.lines().count() == 13)).await;
    assert_eq!(marked(&text), 6 + 2, "{text}");
}
