//! What benches share: how a run begins and ends, what it says meanwhile, and what the kernel says of a process. I/O:
//! standard output, /proc.

use crate::report::Report;
use std::{error::Error, fs, process::ExitCode, time::Instant};

/// Whatever can go wrong in a bench ends the run, with these words.
pub type Fault = Box<dyn Error + Send + Sync>;

/// Runs the bench of this name to its end.
pub fn main(name: &str, run: impl Future<Output = Result<(), Fault>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Fault::from).and_then(|runtime| runtime.block_on(run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says what happens now.
pub fn step(begun: Instant, words: &str) {
    println!("[{:>4} s] {words}", begun.elapsed().as_secs());
}

/// An error when a figure is not what was promised.
pub fn kept(report: &Report) -> Result<(), Fault> {
    let broken = report.broken();
    if broken.is_empty() { Ok(()) } else { Err(broken.join("; ").into()) }
}

/// Resident memory of a process.
pub fn rss_mib(pid: i32) -> Result<f64, Fault> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
