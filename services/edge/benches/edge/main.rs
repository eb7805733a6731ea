//! `make bench-edge`: what the edge costs, how long a change takes, and what it loses. First on loopback (supervisor, NGINX
//! and agent as processes at a real API server), then on a cluster (real pods, campaigns). Writes
//! `target/reports/bench-edge.json`, and ends with an error when a figure is not what was promised.
//!
//! With `loopback` or `cluster` as an argument only that part is run, and nothing is written.

mod changes;
mod cluster;
mod counting;
mod cpu;
mod guard;
mod load;
mod plane;
mod pod;
mod process;

use e2e::{
    bench::{Fault, kept, step},
    report::Report,
};
use plane::Plane;
use std::process::ExitCode;

fn main() -> ExitCode {
    e2e::bench::main("bench-edge", run())
}

async fn run() -> Result<(), Fault> {
    let only = |part: &str| std::env::args().any(|arg| arg == part);
    let (loopback, on_cluster) = (only("loopback"), only("cluster"));
    let mut report = Report::new("bench-edge");
    if !on_cluster {
        on_loopback(&mut report).await?;
    }
    if !loopback {
        cluster::measure(&mut report).await?;
    }
    println!("\n{report}");
    if !loopback && !on_cluster {
        println!("{}", report.write()?.display());
    }
    kept(&report)
}

async fn on_loopback(report: &mut Report) -> Result<(), Fault> {
    let nginx = e2e::cluster::nginx().await?;
    let mut plane = Plane::start().await?;
    changes::weights(&mut plane, &nginx, report).await?;
    guard::measure(&mut plane, &nginx, report).await?;
    changes::routes(&mut plane, &nginx, report).await?;
    cpu::measure(&mut plane, &nginx, report).await?;
    counting::measure(&mut plane, &nginx, report).await
}
