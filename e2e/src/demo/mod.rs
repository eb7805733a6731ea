//! `e2e demo`: the main job, watched. Starts what it needs, moves a route under real traffic, breaks the service on the
//! way, shows the rollback, mends the service and finishes; then the figures. I/O: everything.
//!
//! - [`table`]: the live table
//! - [`figures`]: what was measured, as a report (pure)

mod figures;
mod table;

use crate::{
    cluster::Target,
    harness::{
        Error, Harness,
        dump::dump,
        fleet::{self, EDGE, Fleet, describe},
        install,
        namespace::Namespace,
        traffic::{Mix, Traffic},
        workspace,
    },
};
use figures::{Figures, reloads};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use stomaton_crds::{
    edge_state::EdgeState,
    v1alpha1::{MigrationPlanStatus, Phase, RouteStatus},
};
use table::Table;

const NAMESPACE: &str = "stomaton";
const PLAN: &str = "stomaton";
/// Half of the service's answers fail.
const FAULT_PERMILLE: u16 = 500;
/// The service is broken once at least this much of the route is on it.
const BREAK_AT_PERMILLE: i32 = 250;
/// Requests a second of all load pods together.
const RATE: u32 = 300;
/// How often the table is drawn anew.
const REDRAW: Duration = Duration::from_millis(400);

/// Arguments of `e2e demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Delete the fleet at the end instead of leaving it to look at.
    #[arg(long)]
    remove: bool,
}

/// Runs the demo. Any promise that was not kept is an error.
pub async fn run(args: Args) -> Result<(), Error> {
    let began = Instant::now();
    step(1, "a Kubernetes cluster");
    let harness = Harness::start(&args.target).await?;
    let namespace = Namespace::named(&harness, NAMESPACE);
    match show(&namespace, began).await {
        Ok(()) if args.remove => namespace.delete().await,
        Ok(()) => {
            let address = Fleet::within(&namespace).address().await?;
            println!("{}", how_to_look_around(&harness, &address));
            Ok(())
        }
        Err(error) => {
            dump(&namespace).await;
            Err(error)
        }
    }
}

async fn show(namespace: &Namespace<'_>, began: Instant) -> Result<(), Error> {
    let harness = namespace.harness;
    step(2, "programs and images");
    install::build().await?;
    let images = harness.load_images().await?;

    step(3, "the operator: kubectl apply -k manifests/install");
    harness.install(&images).await?;

    step(4, "monolith, service, edge and plan: kubectl apply -k manifests/demo");
    namespace.delete().await?;
    namespace.is_gone().await?;
    namespace.apply_kustomization(&workspace().join("manifests/demo")).await?;
    let fleet = Fleet::within(namespace);
    fleet.is_ready().await?;
    let edges = fleet.edge_states().await?;

    step(5, &format!("traffic: {RATE} requests/s; keep-alive, fresh and HTTP/2 clients that never retry"));
    let traffic = Traffic::start(&fleet, mix()).await?;
    let demo = Demo { fleet, traffic, edges, began };
    demo.migrate().await
}

/// What the traffic asks for: the route that moves, and one that stays.
fn mix() -> Mix {
    let mut mix = Mix::of_all_kinds(RATE);
    mix.paths = vec![
        "/api/v1/content/recent?limit=5",
        "/api/v1/content/stats",
        "/api/v1/content/recent?limit=10",
        "POST /api/v1/content/generate",
        "/api/v1/stomaton/content/stats",
    ];
    mix
}

/// The demo once traffic flows.
struct Demo<'a> {
    fleet: Fleet<'a>,
    traffic: Traffic<'a>,
    /// What the edge pods said before the traffic.
    edges: BTreeMap<String, EdgeState>,
    began: Instant,
}

impl Demo<'_> {
    async fn migrate(self) -> Result<(), Error> {
        step(
            6,
            "the route moves: the weight rises when every edge pod has acknowledged it and enough was counted",
        );
        let at_break =
            |route: &RouteStatus| route.phase == Phase::Ramp && route.weights.applied >= BREAK_AT_PERMILLE;
        self.watch("a quarter of the route to be on the service", 90, at_break).await?;
        self.traffic_goes_on().await?;

        step(7, "the service breaks: half of its answers are errors now; nobody else touches anything");
        self.fleet.break_content(FAULT_PERMILLE).await?;
        let back = self.watch("the rollback", 30, |route| route.phase == Phase::RolledBack).await?;
        let words =
            back.history.iter().rev().find(|t| t.phase == Phase::RollingBack).map(|t| t.message.as_str());
        println!("      taken back by itself: {}", words.unwrap_or("the plan does not say why"));
        self.fleet.mend_content().await?;
        println!("      the service is mended; the next attempt follows the cooldown, other users first");

        step(8, "the second attempt goes to the end");
        let done =
            self.watch("the route to be on the service", 150, |route| route.phase == Phase::Done).await?;
        self.traffic_goes_on().await?;
        self.conclude(done).await
    }

    /// Lets some answers come in under the present weight: they belong to the picture.
    async fn traffic_goes_on(&self) -> Result<(), Error> {
        let sent = self.traffic.totals().await?.sent;
        self.traffic.reaches(sent + u64::from(2 * RATE), Duration::from_secs(30)).await
    }

    /// Draws the table until the route is in the wanted state.
    async fn watch(
        &self,
        what: &str,
        seconds: u64,
        reached: impl Fn(&RouteStatus) -> bool,
    ) -> Result<MigrationPlanStatus, Error> {
        let mut table = Table::new();
        let mut seen = "nothing".to_owned();
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < deadline {
            let (status, totals) = tokio::try_join!(self.fleet.plan_status(PLAN), self.traffic.totals())?;
            table.draw(&status.routes, &totals);
            match status.routes.first() {
                Some(route) if reached(route) => return Ok(status),
                Some(route) => seen = describe(route),
                None => {}
            }
            tokio::time::sleep(REDRAW).await;
        }
        Err(Error::TooLate { what: what.to_owned(), seconds, seen })
    }

    async fn conclude(self, status: MigrationPlanStatus) -> Result<(), Error> {
        let reloads = reloads(&self.edges, &self.fleet.edge_states().await?);
        let records = self.traffic.finish().await?;
        let figures = Figures {
            records: &records,
            status: &status,
            guard: fleet::Plan::GUARD,
            reloads,
            seconds: self.began.elapsed().as_secs_f64(),
        };
        let report = figures.report();
        println!("\nWhat happened:\n{report}");
        if let Some(reading) = figures.reading() {
            println!("  {reading}");
        }
        let path = report.write()?;
        println!("  the same, and how each was measured: {}", path.display());
        let broken = report.broken();
        if broken.is_empty() { Ok(()) } else { Err(Error::Broken(broken.join("; "))) }
    }
}

fn step(number: usize, what: &str) {
    println!("[{number}/8] {what}");
}

fn how_to_look_around(harness: &Harness, address: &str) -> String {
    let access = &harness.cluster.access;
    let service = address.split('.').next().unwrap_or(address);
    let kubectl = access.context.as_ref().map_or("kubectl".to_owned(), |c| format!("kubectl --context {c}"));
    let mut lines = vec!["\nLook around:".to_owned()];
    lines.extend(access.kubeconfig.as_ref().map(|file| format!("  export KUBECONFIG={}", file.display())));
    let commands = [
        "get ssvc,sgw,mplan".to_owned(),
        format!("describe mplan {PLAN}"),
        format!("get edgeweights {EDGE} -o yaml"),
        format!(
            "port-forward service/{service} 8080:80   # then: curl -i localhost:8080/api/v1/content/recent"
        ),
    ];
    lines.extend(commands.map(|command| format!("  {kubectl} -n {NAMESPACE} {command}")));
    lines.push(match access.context {
        // A cluster of the user's own is not ours to stop.
        Some(_) => format!(
            "Take it away: {kubectl} delete namespace {NAMESPACE}; {kubectl} delete -k manifests/install"
        ),
        None => "Stop it all: make cluster-down".to_owned(),
    });
    lines.join("\n")
}
