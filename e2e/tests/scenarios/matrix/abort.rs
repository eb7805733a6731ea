//! People who take a route back, whatever phase it is in.

use e2e::harness::{
    evidence::all_well,
    fleet::now_micros,
    scenario::{Turn, scenario},
    site::{self, CATALOGUE, MONOLITH},
    traffic::Traffic,
};
use std::time::Duration;
use stomaton_crds::v1alpha1::{Phase, RouteStatus};

const PLAN: &str = "people";
const LIMIT: Duration = Duration::from_secs(90);

/// Each route, the phase in which it is taken back, and who has answered until then.
const ABORTED: [(&str, Phase, &str); 4] = [
    ("recent", Phase::Cohort, "content"),
    ("stats", Phase::Ramp, "content"),
    ("stones", Phase::Soak, CATALOGUE),
    ("search", Phase::Done, CATALOGUE),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster with a node (real pods, real traffic)"]
async fn people_take_a_route_back_in_any_phase() {
    scenario("abort", Turn::Alone, async |namespace| {
        let fleet = site::deploy(namespace).await?;
        let traffic = Traffic::start(&fleet, site::mix(200)).await?;
        let routes = ABORTED.map(|(route, phase, _)| site::moves(route, &phase.as_str().to_lowercase()));
        namespace.apply_object(&site::plan(PLAN, &routes, &site::profiles_of_phases())).await?;
        let there = |routes: &[RouteStatus]| {
            let is_in = |name: &str, phase| {
                routes.iter().any(|r| r.name == name && r.phase == phase && r.since.is_some())
            };
            ABORTED.iter().all(|(route, phase, _)| is_in(route, *phase))
        };
        fleet.routes_are(PLAN, "each route to be in its phase", LIMIT, there).await?;
        let in_phase = now_micros();
        traffic.goes_on(400).await?;
        for (route, ..) in ABORTED {
            let said = namespace.stomaton(&["rollback", route, "--reason", "abort"]).await?;
            println!("{}", said.trim());
        }
        let back = |routes: &[RouteStatus]| routes.iter().all(|r| r.phase == Phase::RolledBack);
        let status = fleet.routes_are(PLAN, "all routes to be back", LIMIT, back).await?;
        let since = now_micros();
        traffic.goes_on(400).await?;

        let records = traffic.finish().await?;
        all_well(&records)?;
        for (route, phase, server) in ABORTED {
            let before = site::servers(&records, route, in_phase);
            assert!(before.contains_key(server), "{route} at {phase:?} was answered by {before:?}");
            site::only(&records, route, MONOLITH, since)?;
            let turned =
                |t: &&stomaton_crds::v1alpha1::Transition| t.route == route && t.phase == Phase::RollingBack;
            let why: Vec<_> = status.history.iter().filter(turned).map(|t| t.message.as_str()).collect();
            assert!(matches!(why[..], [why] if why.contains("abort")), "{route}: {why:?}");
        }
        Ok(())
    })
    .await;
}
