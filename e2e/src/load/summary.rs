//! Sums records up. Pure.
//!
//! [`Tally`] takes records one by one in constant memory, so that a running load can show its summary
//! at any moment; [`summarise`] does the same for records that were fetched.

use super::record::{Loss, Record, Side};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What became of a set of requests. `sent == answered + lost + h2_unprocessed`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Requests of which at least the connect was tried.
    pub sent: u64,
    /// Requests with a full answer, whatever its status.
    pub answered: u64,
    /// Requests without a full answer, those in `h2_unprocessed` left out.
    pub lost: u64,
    /// HTTP/2 streams that a GOAWAY named as unprocessed.
    pub h2_unprocessed: u64,
    /// Lost requests by kind: `connect`, `reset`, `eof`, `timeout`, `tls`, `protocol`.
    pub lost_by: BTreeMap<String, u64>,
    /// Answers by class of status: `2xx`, `3xx` ...
    pub status: BTreeMap<String, u64>,
    /// Answers by side: `service`, `monolith`, or `none` when no edge named one.
    pub side: BTreeMap<String, u64>,
    /// Latency of the answers.
    pub latency_ms: Latency,
    /// The same for each path, in the order of the load's paths.
    pub paths: Vec<PathSummary>,
}

/// The summary of one path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathSummary {
    /// Requests of which at least the connect was tried.
    pub sent: u64,
    /// Requests with a full answer.
    pub answered: u64,
    /// Requests without one, unprocessed HTTP/2 streams left out.
    pub lost: u64,
    /// Answers with a status of 500 or more.
    pub failed: u64,
    /// Latency of the answers.
    pub latency_ms: Latency,
}

/// Latency of full answers in milliseconds. Percentiles are upper bounds, at most 1/64 too high;
/// the maximum is exact. All 0 when nothing was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the answers took at most this long.
    pub p50: f64,
    /// 99 % of the answers took at most this long.
    pub p99: f64,
    /// The slowest answer.
    pub max: f64,
}

/// Sums up records that are at hand.
pub fn summarise<'a>(records: impl IntoIterator<Item = &'a Record>) -> Summary {
    let mut tally = Tally::default();
    records.into_iter().for_each(|r| tally.add(r));
    tally.summary()
}

/// A summary in the making.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    paths: Vec<PathTally>,
    lost_by: BTreeMap<Loss, u64>,
    status: BTreeMap<u16, u64>,
    side: BTreeMap<Option<Side>, u64>,
    latency: Histogram,
}

#[derive(Clone, Debug, Default)]
struct PathTally {
    sent: u64,
    lost: u64,
    failed: u64,
    latency: Histogram,
}

impl Tally {
    /// Counts one record.
    pub fn add(&mut self, record: &Record) {
        let index = usize::from(record.path);
        if self.paths.len() <= index {
            self.paths.resize_with(index + 1, PathTally::default);
        }
        let path = &mut self.paths[index];
        path.sent += 1;
        if let Some(loss) = record.loss {
            *self.lost_by.entry(loss).or_default() += 1;
            path.lost += u64::from(loss != Loss::H2Unprocessed);
            return;
        }
        *self.status.entry(record.status / 100).or_default() += 1;
        *self.side.entry(record.side()).or_default() += 1;
        path.failed += u64::from(record.status >= 500);
        path.latency.add(record.latency_micros());
        self.latency.add(record.latency_micros());
    }

    /// The summary of what was counted so far.
    pub fn summary(&self) -> Summary {
        let h2_unprocessed = self.lost_by.get(&Loss::H2Unprocessed).copied().unwrap_or_default();
        let lost_by = self.lost_by.iter().filter(|(loss, _)| **loss != Loss::H2Unprocessed);
        Summary {
            sent: self.paths.iter().map(|p| p.sent).sum(),
            answered: self.latency.count,
            lost: self.paths.iter().map(|p| p.lost).sum(),
            h2_unprocessed,
            lost_by: lost_by.map(|(loss, n)| (loss_name(*loss).to_owned(), *n)).collect(),
            status: self.status.iter().map(|(class, n)| (format!("{class}xx"), *n)).collect(),
            side: self.side.iter().map(|(side, n)| (side_name(*side).to_owned(), *n)).collect(),
            latency_ms: self.latency.summary(),
            paths: self.paths.iter().map(PathTally::summary).collect(),
        }
    }
}

impl PathTally {
    fn summary(&self) -> PathSummary {
        PathSummary {
            sent: self.sent,
            answered: self.latency.count,
            lost: self.lost,
            failed: self.failed,
            latency_ms: self.latency.summary(),
        }
    }
}

fn loss_name(loss: Loss) -> &'static str {
    match loss {
        Loss::Connect => "connect",
        Loss::Reset => "reset",
        Loss::Eof => "eof",
        Loss::Timeout => "timeout",
        Loss::Tls => "tls",
        Loss::Protocol => "protocol",
        Loss::H2Unprocessed => "h2_unprocessed",
    }
}

fn side_name(side: Option<Side>) -> &'static str {
    match side {
        Some(Side::Service) => "service",
        Some(Side::Monolith) => "monolith",
        None => "none",
    }
}

/// Counts of microseconds in classes of 64 per power of two: at most 1/64 wide, relative to the value.
#[derive(Clone, Debug, Default)]
struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    fn add(&mut self, micros: u64) {
        let class = class_of(micros);
        if self.counts.len() <= class {
            self.counts.resize(class + 1, 0);
        }
        self.counts[class] += 1;
        self.count += 1;
        self.max = self.max.max(micros);
    }

    /// An upper bound of the value that `permille` of all values do not exceed.
    fn quantile(&self, permille: u64) -> u64 {
        let rank = (self.count * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (class, n) in self.counts.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return highest_of(class).min(self.max);
            }
        }
        self.max
    }

    fn summary(&self) -> Latency {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Latency { p50: ms(self.quantile(500)), p99: ms(self.quantile(990)), max: ms(self.max) }
    }
}

fn class_of(value: u64) -> usize {
    // Values below 128 have a class each; above, the seven leading bits name the class.
    let shift = value.checked_ilog2().unwrap_or(0).saturating_sub(6);
    (u64::from(shift) * 64 + (value >> shift)) as usize
}

fn highest_of(class: usize) -> u64 {
    let class = class as u64;
    let shift = (class / 64).saturating_sub(1);
    let leading = class - shift * 64;
    ((leading + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn classes_hold_their_values(value in 0u64..1 << 40) {
            let highest = highest_of(class_of(value));
            prop_assert!(value <= highest && highest - value <= value / 64);
            prop_assert_eq!(class_of(highest), class_of(value));
            prop_assert_eq!(class_of(highest + 1), class_of(value) + 1);
        }

        #[test]
        fn quantiles_are_tight_upper_bounds(mut values in prop::collection::vec(0u64..10_000_000, 1..300)) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|v| histogram.add(*v));
            values.sort_unstable();
            for permille in [1, 500, 990, 1000] {
                let exact = values[(values.len() * permille).div_ceil(1000).max(1) - 1];
                let bound = histogram.quantile(permille as u64);
                prop_assert!(bound >= exact && bound - exact <= exact / 64, "{permille}: {exact} {bound}");
            }
            prop_assert_eq!(histogram.quantile(1000), *values.last().unwrap());
        }
    }
}
