//! `make bench-plan`: what the migration engine does, and how fast. On a node: rollbacks under real traffic. On an API
//! server alone: a thousand plans at rest, what they cost, and what they do to a rollback. By tests: the model and the
//! judges. Writes `target/reports/bench-plan.json`, and ends with an error when a figure is not what was promised.
//!
//! With `tests`, `api` or `node` as an argument only those parts are run, and nothing is written.

mod agents;
mod fleet;
mod latency;
mod node;
#[path = "../shared/process.rs"]
mod process;
mod proofs;
mod rest;
#[path = "../shared/server.rs"]
mod server;

use e2e::{
    bench::{Fault, kept, step},
    report::Report,
};
use std::process::ExitCode;

/// Every part, in the order in which they are run.
const PARTS: [&str; 3] = ["tests", "api", "node"];
const HELP: &str = "\
Usage: make bench-plan
       cargo bench --workspace --profile dev --bench plan -- [PART]...

  tests  the model and the judges' simulation: figures that tests print (2 minutes)
  api    1,000 plans on an API server, with edge pods that are simulated (30 minutes)
  node   rollbacks of real pods under real traffic; needs root or a cluster (25 minutes)

With parts named, only those are run, and target/reports/bench-plan.json is not written.";

fn main() -> ExitCode {
    // Cargo adds `--bench` to what it was given.
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if given.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = given.iter().find(|arg| !PARTS.contains(&arg.as_str())) {
        eprintln!("bench-plan: there is no part `{unknown}`\n\n{HELP}");
        return ExitCode::FAILURE;
    }
    e2e::bench::main("bench-plan", run(given))
}

async fn run(given: Vec<String>) -> Result<(), Fault> {
    let mut report = Report::new("bench-plan");
    let is_asked = |part: &str| given.is_empty() || given.iter().any(|arg| arg == part);
    for part in PARTS.into_iter().filter(|part| is_asked(part)) {
        match part {
            "tests" => proofs::measure(&mut report).await?,
            "api" => on_api_server(&mut report).await?,
            _ => node::measure(&mut report).await?,
        }
    }
    println!("\n{report}");
    if given.is_empty() {
        println!("{}", report.write()?.display());
    }
    kept(&report)
}

/// One API server for everything that is measured there.
async fn on_api_server(report: &mut Report) -> Result<(), Fault> {
    let small = fleet::Fleet::small().await?;
    let idle = latency::samples(&small, "while nothing else is there").await?;
    let grown = small.grown().await?;
    rest::steady(&grown, report).await?;
    let busy = latency::samples(&grown, "while a thousand plans are looked at").await?;
    latency::compare(&idle, &busy, report);
    rest::restart(grown, report).await
}
