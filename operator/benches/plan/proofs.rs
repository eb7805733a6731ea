//! What tests show and print: how many states of the migration machine were looked at, and how often judges are wrong.
//! Runs them as `make test-unit` does, and reads what they say. I/O: cargo.

use crate::{Fault, step};
use e2e::report::{Goal, Report};
use std::{path::Path, time::Instant};
use tokio::process::Command;

/// Runs the tests, and adds their rows.
pub async fn measure(report: &mut Report) -> Result<(), Fault> {
    let begun = Instant::now();
    step(begun, "the model");
    of_model(&passed(&["--test", "model", "--", "--show-output"]).await?, report)?;
    step(begun, "the judges' simulation");
    of_judges(&passed(&["--lib", "judges::simulation", "--", "--show-output"]).await?, report)
}

/// What these tests print. That they pass is a part of the figure.
async fn passed(which: &[&str]) -> Result<String, Fault> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(cargo);
    let output = command.current_dir(workspace).args(["test", "--workspace"]).args(which).output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("{which:?} failed:\n{said}\n{}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

fn of_model(said: &str, report: &mut Report) -> Result<(), Fault> {
    // Runs in which something was taken out stop at the first promise that is broken.
    let whole = said.lines().filter(|line| line.contains("without: None"));
    let states =
        whole.filter_map(|line| line.rsplit_once(": ")?.1.split_once(" states in ")?.0.parse::<f64>().ok());
    let states: f64 = states.sum();
    let method = "different states of each run of the model with every guard in place, summed over the runs of `cargo \
                  test --test model`; no promise broken in any of them";
    report.row("model_states", states, "states", Some(Goal::AtLeast(1e6)), method);
    let seconds = said
        .lines()
        .find_map(|line| line.rsplit_once("finished in ")?.1.strip_suffix('s')?.parse::<f64>().ok());
    let seconds = seconds.ok_or("the model does not say how long it took")?;
    let method = "the whole of `cargo test --test model`, once built";
    report.row("model_seconds", seconds, "s", Some(Goal::AtMost(60.0)), method);
    let proved = |line: &&str| line.starts_with("test without::") && line.ends_with(" ... ok");
    let method =
        "guards that were taken out of the model, each with a promise that is broken then and not before";
    let proofs = said.lines().filter(proved).count() as f64;
    report.row("guards_proved_needed", proofs, "guards", Some(Goal::AtLeast(5.0)), method);
    Ok(())
}

fn of_judges(said: &str, report: &mut Report) -> Result<(), Fault> {
    let printed = |name: &str| {
        let value =
            said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse::<f64>().ok());
        value.ok_or_else(|| Fault::from(format!("the simulation does not print {name}")))
    };
    let method = "share of 250 simulated days, looked at every 10 s (8,640 times), in which a service as good as the \
                  monolith was found worse at any look; alpha 0.01, 50 requests/s, 5 %, 0.5 % bad answers that rise \
                  and fall by half";
    let wrong = printed("false_harm_rate")?;
    report.row("false_harm_rate", wrong, "share", Some(Goal::AtMost(0.01)), method);
    for (name, times, promised) in [("detect_seconds_16x", 16, 20.0), ("detect_seconds_2x", 2, 830.0)] {
        let method = format!(
            "median until Harm of a service with {times} times the monolith's 0.5 % of bad answers, 50 requests/s, \
             5 %, simulated; the design promises {promised} s, within a quarter"
        );
        report.row(name, printed(name)?, "s", Some(Goal::AtMost(1.25 * promised)), method);
    }
    Ok(())
}
