//! Several operators that stand by for each other, and an operator whose API server goes away.

use crate::{
    wire::Wire,
    world::{Operator, World, runtime},
};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease};
use kube::api::ListParams;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use stomaton_crds::v1alpha1::StomatonService;
use stomaton_operator::{leader::LEASE, run};

/// Short, so that a test need not wait long. The other times follow from it: a look every 0.6 s.
const LASTS: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(600);
/// Jitter, a first list, and a busy machine.
const SLACK: Duration = Duration::from_secs(10);
/// So long that nobody waits for its end: what happens within half of it happened for another reason.
const LONG: Duration = Duration::from_secs(40);

/// Waits until this one leads.
async fn leads(world: &World, name: &str) {
    let leases = world.api::<Lease>();
    world
        .eventually(&format!("lead of {name}"), async || {
            let holder = leases.get_opt(LEASE).await.unwrap().and_then(|lease| lease.spec?.holder_identity);
            if holder.as_deref() == Some(name) { Ok(()) } else { Err(format!("{holder:?} leads")) }
        })
        .await;
}

/// A service that somebody has to deploy; gives how long that took.
async fn deployed(world: &World, name: &str) -> Duration {
    let begun = Instant::now();
    let body = json!({"metadata": {"name": name}, "spec": {"image": "fleet:1"}});
    world.create::<StomatonService>(body).await;
    let deployments = world.api::<Deployment>();
    world
        .eventually("a Deployment", async || {
            deployments.get_opt(name).await.unwrap().ok_or("none".to_owned())
        })
        .await;
    begun.elapsed()
}

/// Two operators, of which `a` leads.
async fn two(world: &World, wire: &Wire, lease: Duration) -> (Operator, Operator) {
    world.grant_lease().await;
    let a = Operator::start(world.clients_on(wire), world.elected("a", lease));
    leads(world, "a").await;
    let b = Operator::start(world.clients(), world.elected("b", lease));
    deployed(world, "first").await;
    (a, b)
}

#[test]
fn a_standby_takes_over_when_the_lease_of_a_crashed_leader_has_run_out() {
    runtime().block_on(async {
        let world = World::bare().await;
        let (a, _b) = two(&world, &Wire::default(), LASTS).await;
        let renewed = world.api::<Lease>().get(LEASE).await.unwrap().spec.unwrap().renew_time;
        a.crash().await;
        let took = deployed(&world, "second").await;
        assert!(took < LASTS + RETRY + SLACK, "{took:?}");
        let spec = world.api::<Lease>().get(LEASE).await.unwrap().spec.unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("b"), Some(1)));
        let waited = spec.acquire_time.unwrap().0.duration_since(renewed.unwrap().0);
        assert!(waited.as_secs_f64() >= LASTS.as_secs_f64() * 0.9, "taken after {waited}, too early");
    });
}

#[test]
fn a_leader_that_stops_hands_over_at_once() {
    runtime().block_on(async {
        let world = World::bare().await;
        let (a, _b) = two(&world, &Wire::default(), LONG).await;
        a.stop().await.unwrap();
        let took = deployed(&world, "second").await;
        assert!(took < LONG / 2, "{took:?}");
        leads(&world, "b").await;
    });
}

#[test]
fn a_restarted_container_of_the_same_pod_goes_on_at_once() {
    runtime().block_on(async {
        let world = World::bare().await;
        world.grant_lease().await;
        let settings = || world.elected("a", LONG);
        let first = Operator::start(world.clients(), settings());
        deployed(&world, "first").await;
        first.crash().await;
        let _second = Operator::start(world.clients(), settings());
        let took = deployed(&world, "second").await;
        assert!(took < LONG / 2, "{took:?}");
    });
}

#[test]
fn a_leader_that_is_cut_off_ends_itself_before_the_other_may_begin() {
    runtime().block_on(async {
        let world = World::bare().await;
        let wire = Wire::default();
        let (a, _b) = two(&world, &wire, LASTS).await;
        wire.cut();
        let ended = a.end().await;
        assert!(matches!(ended, Err(run::Error::NotLeading(_))), "{ended:?}");
        let lease = world.api::<Lease>().get(LEASE).await.unwrap();
        assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("a"), "it ended too late");
        deployed(&world, "second").await;
    });
}

#[test]
fn only_one_of_many_works() {
    runtime().block_on(async {
        let world = World::bare().await;
        world.grant_lease().await;
        let wires: Vec<Wire> = (0..4).map(|_| Wire::default()).collect();
        let start = |(i, wire): (usize, &Wire)| {
            Operator::start(world.clients_on(wire), world.elected(&i.to_string(), LASTS))
        };
        let _operators: Vec<Operator> = wires.iter().enumerate().map(start).collect();
        deployed(&world, "first").await;
        let works = |wire: &&Wire| wire.writes().iter().any(|write| !write.contains("/leases"));
        assert_eq!(wires.iter().filter(works).count(), 1);
    });
}

/// How many services one operator keeps in the tests below.
const MANY: usize = 50;

/// Creates many services, and waits until all have their pods and nothing is written any more.
async fn many(world: &World) {
    let create = |i: usize| {
        let body = json!({"metadata": {"name": format!("s-{i}")}, "spec": {"image": "fleet:1"}});
        world.create::<StomatonService>(body)
    };
    futures::future::join_all((0..MANY).map(create)).await;
    let services = world.api::<StomatonService>();
    world
        .eventually("a pod of each", async || {
            let all = services.list(&ListParams::default()).await.unwrap().items;
            let said = all.iter().filter(|s| s.status.as_ref().is_some_and(|s| s.replicas == 1)).count();
            if said == MANY { Ok(()) } else { Err(format!("{said}")) }
        })
        .await;
    world.assert_nothing_written().await;
}

/// How often a service was looked at since this request.
fn passes(world: &World, from: usize) -> usize {
    let looks = |r: &&Value| r["verb"] == "get" && r["objectRef"]["resource"] == "deployments";
    world.requests()[from..].iter().filter(looks).count()
}

/// What the operator wrote since this request.
fn writes(world: &World, from: usize) -> Vec<String> {
    let write = |r: &&Value| !matches!(r["verb"].as_str(), Some("get" | "list" | "watch"));
    world.requests()[from..]
        .iter()
        .filter(write)
        .map(|r| format!("{} {}", r["verb"], r["objectRef"]))
        .collect()
}

#[test]
fn at_rest_and_after_a_restart_nothing_is_written() {
    runtime().block_on(async {
        let mut world = World::bare().await;
        world.start_operator().await;
        many(&world).await;
        let from = world.requests().len();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let looked = passes(&world, from);
        assert!(looked >= 5 * MANY, "only {looked} passes: that nothing was written proves nothing");
        assert_eq!(writes(&world, from), Vec::<String>::new());

        world.kill_operator().await;
        let from = world.requests().len();
        world.start_operator().await;
        world
            .eventually("two passes over each", async || match passes(&world, from) {
                looked if looked >= 2 * MANY => Ok(()),
                looked => Err(format!("{looked}")),
            })
            .await;
        assert_eq!(writes(&world, from), Vec::<String>::new());
    });
}

#[test]
fn an_operator_lives_through_an_outage_of_the_api_server() {
    runtime().block_on(async {
        let mut world = World::alone().await;
        world.start_operator().await;
        deployed(&world, "before").await;
        world.interrupt();
        // Long enough for watches and passes to fail, and for their waits to grow.
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.resume().await;
        deployed(&world, "after").await;
        // Whoever makes pods was away too, and each pod changes a status.
        let services = world.api::<StomatonService>();
        world
            .eventually("a pod of each", async || {
                let all = services.list(&ListParams::default()).await.unwrap().items;
                let pods: Vec<_> = all.iter().map(|s| s.status.as_ref().map(|s| s.replicas)).collect();
                if pods == [Some(1), Some(1)] { Ok(()) } else { Err(format!("{pods:?}")) }
            })
            .await;
        world.assert_nothing_written().await;
    });
}
