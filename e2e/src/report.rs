//! Figures as people and programs read them: a table, and `target/reports/NAME.json`.
//! Takes rows, gives both. I/O: writes the file; asks git and the kernel where it was measured.

use crate::{
    cluster::cmd::{Doing as _, Fault},
    harness::{target_dir, workspace},
};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    fmt::{self, Write as _},
    fs,
    path::PathBuf,
    process::Command,
};

/// Figures that were measured together.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the file.
    #[serde(skip)]
    name: String,
    /// When.
    date: Timestamp,
    /// Of what: the commit, with `+` if files differed from it.
    commit: String,
    /// On what.
    machine: String,
    /// The figures.
    rows: Vec<Row>,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it is called, in every report that has it.
    pub name: &'static str,
    /// How much.
    #[serde(serialize_with = "as_number")]
    pub value: f64,
    /// Of what: `requests`, `ms`.
    pub unit: &'static str,
    /// What was promised; nothing for a figure that is only said.
    #[serde(serialize_with = "as_text")]
    pub goal: Option<Goal>,
    /// Whether the promise was kept.
    pub ok: bool,
    /// How it was measured.
    pub method: String,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Exactly this.
    Exactly(f64),
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
    /// From this to that.
    Between(f64, f64),
}

impl Goal {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::Exactly(wanted) => value == wanted,
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Between(least, most) => (least..=most).contains(&value),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(wanted) => write!(f, "= {wanted}"),
            Self::AtMost(limit) => write!(f, "<= {limit}"),
            Self::AtLeast(limit) => write!(f, ">= {limit}"),
            Self::Between(least, most) => write!(f, "{least} to {most}"),
        }
    }
}

/// A whole number without a fraction; what could not be measured, as null.
fn as_number<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}

fn as_text<S: serde::Serializer>(goal: &Option<Goal>, serializer: S) -> Result<S::Ok, S::Error> {
    match goal {
        Some(goal) => serializer.collect_str(goal),
        None => serializer.serialize_none(),
    }
}

impl Report {
    /// A report without figures, of here and now.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            date: Timestamp::now(),
            commit: commit(),
            machine: machine(),
            rows: Vec::new(),
        }
    }

    /// Adds a figure.
    pub fn row(
        &mut self,
        name: &'static str,
        value: f64,
        unit: &'static str,
        goal: Option<Goal>,
        method: impl Into<String>,
    ) {
        let ok = goal.is_none_or(|goal| goal.holds(value));
        self.rows.push(Row { name, value, unit, goal, ok, method: method.into() });
    }

    /// The figures that are not what was promised, in words; empty when all is well.
    pub fn broken(&self) -> Vec<String> {
        let words = |row: &Row| {
            let goal = row.goal.map(|goal| goal.to_string()).unwrap_or_default();
            format!("{} is {} {}, the goal is {goal}", row.name, row.value, row.unit)
        };
        self.rows.iter().filter(|row| !row.ok).map(words).collect()
    }

    /// Writes `target/reports/NAME.json` and gives its path.
    pub fn write(&self) -> Result<PathBuf, Fault> {
        let dir = target_dir().join("reports");
        fs::create_dir_all(&dir).doing_at("create", &dir)?;
        let path = dir.join(&self.name).with_extension("json");
        let json = serde_json::to_string_pretty(self).doing("make JSON")?;
        fs::write(&path, json + "\n").doing_at("write", &path)?;
        Ok(path)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for Row { name, value, unit, goal, ok, .. } in &self.rows {
            // As many digits as a person reads; the file has all of them.
            let value = (value * 1000.0).round() / 1000.0;
            let goal = goal.map(|goal| format!("{} (goal {goal})", if *ok { "ok" } else { "NOT OK" }));
            let line = format!("  {name:<22} {value:>12} {unit:<9} {}", goal.unwrap_or_default());
            writeln!(text, "{}", line.trim_end())?;
        }
        f.write_str(&text)
    }
}

/// The commit of the workspace, `unknown` outside git.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(workspace()).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    let changed = git(&["status", "--porcelain"]).is_some_and(|files| !files.is_empty());
    commit + if changed { "+" } else { "" }
}

/// Processor, cores, memory and kernel, as far as the kernel tells.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let processor =
        after(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.into());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = after(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or(0.0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{processor}, {cores} cores, {:.0} GiB, Linux {}", kib / 1_048_576.0, kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_said_in_words_and_in_json() {
        let mut report = Report::new("x");
        report.row("requests_lost", 0.0, "requests", Some(Goal::Exactly(0.0)), "counted");
        report.row("rollback_ms_max", 251.5, "ms", Some(Goal::AtMost(250.0)), "measured");
        report.row("seconds_total", 3.0, "s", None, "measured");
        report.row("rate_ratio", 1.15, "ratio", Some(Goal::Between(0.85, 1.15)), "measured");
        report.row("cpu_ratio", f64::NAN, "ratio", Some(Goal::AtMost(1.5)), "void");
        let broken = report.broken();
        assert_eq!(broken[0], "rollback_ms_max is 251.5 ms, the goal is <= 250");
        assert_eq!(broken[1..], ["cpu_ratio is NaN ratio, the goal is <= 1.5"]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["rows"][0]["goal"], &json["rows"][0]["value"]), (&"= 0".into(), &0.into()));
        assert_eq!(json["rows"][1]["ok"], false);
        assert_eq!(json["rows"][2]["goal"], serde_json::Value::Null);
        assert_eq!(
            (&json["rows"][3]["goal"], &json["rows"][3]["ok"]),
            (&"0.85 to 1.15".into(), &true.into())
        );
        assert_eq!(json["rows"][4]["value"], serde_json::Value::Null);
        assert!(report.to_string().contains("NOT OK (goal <= 250)"));
    }
}
