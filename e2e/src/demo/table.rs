//! The live table: redrawn in place on a terminal, a line per change elsewhere. I/O: writes to standard output.

use crate::harness::traffic::Totals;
use std::{
    io::{IsTerminal as _, Write as _, stdout},
    time::{Duration, Instant},
};
use stomaton_crds::v1alpha1::RouteStatus;

const HEAD: &str =
    "  route     phase        attempt  step   wanted  applied  counted   monolith   service   errors   lost";
/// Without a terminal, a line at least this often.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// Up one line, and clear it.
const UP: &str = "\x1b[1A\x1b[2K";

/// A table that stays in its place.
pub(super) struct Table {
    in_place: bool,
    drawn: usize,
    said: Option<(String, Instant)>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { in_place: stdout().is_terminal(), drawn: 0, said: None }
    }

    /// Shows where every route is, and what was sent so far.
    pub(super) fn draw(&mut self, routes: &[RouteStatus], totals: &Totals) {
        let lines: Vec<String> = routes.iter().map(|route| line(route, totals)).collect();
        if self.in_place {
            self.redraw(routes, &lines);
        } else {
            self.say(routes, &lines);
        }
        // A broken pipe will be noticed by the next println.
        let _ = stdout().flush();
    }

    fn redraw(&mut self, routes: &[RouteStatus], lines: &[String]) {
        print!("{}", UP.repeat(self.drawn));
        println!("{HEAD}");
        for (line, route) in lines.iter().zip(routes) {
            println!("{line}");
            println!("      {}", waits(route));
        }
        self.drawn = 1 + 2 * lines.len();
    }

    fn say(&mut self, routes: &[RouteStatus], lines: &[String]) {
        let state: String = routes.iter().map(position).collect();
        let known = self.said.as_ref().is_some_and(|(said, at)| *said == state && at.elapsed() < SAY_EVERY);
        if known {
            return;
        }
        if self.said.is_none() {
            println!("{HEAD}");
        }
        for (line, route) in lines.iter().zip(routes) {
            println!("{line}   {}", waits(route));
        }
        self.said = Some((state, Instant::now()));
    }
}

/// What makes a new line worth while.
fn position(route: &RouteStatus) -> String {
    let RouteStatus { name, phase, attempt, step, weights, .. } = route;
    format!("{name} {phase:?} {attempt} {step} {} {};", weights.desired, weights.applied)
}

fn waits(route: &RouteStatus) -> String {
    if route.waits_for.is_empty() { String::new() } else { format!("waits for {}", route.waits_for) }
}

fn line(route: &RouteStatus, totals: &Totals) -> String {
    let RouteStatus { name, phase, attempt, step, weights, .. } = route;
    let side = |side: &str| totals.side.get(side).copied().unwrap_or(0);
    let observed = weights.observed.map_or_else(|| "-".to_owned(), percent);
    format!(
        "  {name:<9} {:<12} {attempt:>7} {step:>5} {:>8} {:>8} {observed:>8} {:>10} {:>9} {:>8} {:>6}",
        phase.as_str(),
        percent(weights.desired),
        percent(weights.applied),
        side("monolith"),
        side("service"),
        totals.failed,
        totals.lost,
    )
}

/// Per mille as people read it.
fn percent(permille: i32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}
