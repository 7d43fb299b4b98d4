//! The results as data and as a page.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::machine;
use crate::stats::Summary;

/// Unit of what is measured beside the same with one of something.
pub(crate) const PART: &str = "× one";

/// One thing measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: String,
    pub(crate) goal: Option<Goal>,
    pub(crate) floor: Option<Summary>,
    pub(crate) tare: Option<Summary>,
    pub(crate) peer: Option<Summary>,
    /// The day on which it was measured.
    #[serde(default)]
    pub(crate) day: String,
}

/// What we promise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Goal {
    /// At most 1/15 of the peer and five times the floor, the 99th percentile at most three times the median.
    CommandLine,
    /// At most this part of the peer.
    AtMost(f64),
    /// At least this multiple of the peer.
    AtLeast(f64),
    /// Below this value.
    Below(f64),
    /// This value at least.
    Above(f64),
    /// At least this part of the floor, and what the peer has.
    AsBare(f64),
}

/// Everything measured in one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Result {
    /// Which peer: `debian` or `current`.
    pub(crate) key: String,
    /// The peer's versions.
    pub(crate) peer: String,
    pub(crate) machine: String,
    pub(crate) rows: Vec<Row>,
}

impl Row {
    /// Of today, without a floor.
    pub(crate) fn new(
        what: &str,
        unit: &str,
        goal: Option<Goal>,
        tare: Option<Summary>,
        peer: Option<Summary>,
    ) -> Self {
        Self { what: what.into(), unit: unit.into(), goal, floor: None, tare, peer, day: machine::today() }
    }

    /// Ours over the peer's.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (tare, peer) = (self.tare?.median, self.peer?.median);
        (peer > 0.0 && tare > 0.0).then_some(tare / peer)
    }

    /// How many times better than the peer: less time and memory, more throughput.
    pub(crate) fn better(&self) -> Option<f64> {
        let ratio = self.ratio()?;
        Some(if self.unit.ends_with("/s") || self.unit == PART { ratio } else { 1.0 / ratio })
    }

    /// Whether the promise holds; nothing if there is none or it cannot be told.
    fn holds(&self) -> Option<bool> {
        let tare = self.tare?;
        Some(match self.goal? {
            Goal::CommandLine => {
                let floor = self.floor?.median;
                self.ratio()? <= 1.0 / 15.0 && tare.median <= 5.0 * floor && tare.p99 <= 3.0 * tare.median
            }
            Goal::AtMost(part) => self.ratio()? <= part,
            Goal::AtLeast(times) => self.ratio()? >= times,
            Goal::Below(value) => tare.median <= value,
            Goal::Above(value) => tare.median >= value,
            Goal::AsBare(part) => tare.median >= part * self.floor?.median && self.ratio()? >= 1.0,
        })
    }

    /// One line for the terminal.
    pub(crate) fn line(&self) -> String {
        let show =
            |s: Option<Summary>| s.map_or("-".into(), |s| format!("{:.2} (p99 {:.2})", s.median, s.p99));
        format!("{}: tare {}, Docker {} {}", self.what, show(self.tare), show(self.peer), self.unit)
    }

    fn markdown(&self) -> String {
        let median = |s: Option<Summary>| s.map_or_else(String::new, |s| number(s.median));
        let tail = |s: Option<Summary>| s.filter(|s| s.runs > 5).map_or_else(String::new, |s| number(s.p99));
        let better = self.better().map_or_else(String::new, |b| format!("{} ×", number(b)));
        let promise = match (self.goal.map(Goal::text), self.holds()) {
            (Some(text), Some(true)) => format!("{text}: holds"),
            (Some(text), Some(false)) => format!("{text}: **missed**"),
            (Some(text), None) => text,
            (None, _) => String::new(),
        };
        let floor = median(self.floor);
        format!(
            "| {} | {} | {floor} | {} | {} | {} | {} | {better} | {promise} | {} |",
            self.what,
            self.unit,
            median(self.tare),
            tail(self.tare),
            median(self.peer),
            tail(self.peer),
            self.day
        )
    }
}

impl Goal {
    fn text(self) -> String {
        match self {
            Goal::CommandLine => "≤ 1/15 of Docker, ≤ 5 × floor, p99 ≤ 3 × median".into(),
            Goal::AtMost(part) => format!("≤ 1/{:.0}", 1.0 / part),
            Goal::AtLeast(times) => format!("≥ {times:.0} ×"),
            Goal::Below(value) => format!("≤ {value} MB"),
            Goal::Above(value) => format!("≥ {value}"),
            Goal::AsBare(part) => format!("≥ {part} × bare pair, ≥ Docker"),
        }
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The page, with a table for each peer.
pub(crate) fn page(results: &[&Result]) -> String {
    let mut page = String::from(
        "# Measured\n\nWritten by `cargo xtask bench`; do not edit. Both engines run side by side on one machine, with their own \
         sockets and directories, and are measured in turn. Command lines are timed as whole processes, from spawn to \
         wait. The floor is what the kernel alone charges for the same start (`tests/bench/src/floor.c`); for traffic, a bare \
         pair of links between two namespaces. Docker has its own rules (Debian's iptables) and publishes ports without its \
         proxy. Who asks is on one core, who serves on the other.\n\n\
         ![tare and Docker](bench.svg)\n",
    );
    for result in results {
        let runs = result.rows.iter().filter_map(|r| r.peer).map(|peer| peer.runs).max().unwrap_or(0);
        let _ = write!(
            page,
            "\n## Against {}\n\n{}; up to {runs} interleaved runs.\n\n\
             | what | unit | floor | tare | p99 | Docker | p99 | better by | promise | day |\n\
             |---|---|--:|--:|--:|--:|--:|--:|---|---|\n",
            result.peer, result.machine
        );
        for row in &result.rows {
            page.push_str(&row.markdown());
            page.push('\n');
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(goal: Goal, unit: &str, floor: f64, tare: f64, peer: f64) -> Row {
        let of = |median: f64| Some(Summary { median, p99: median * 2.0, runs: 200 });
        Row {
            what: "w".into(),
            unit: unit.into(),
            goal: Some(goal),
            floor: of(floor),
            tare: of(tare),
            peer: of(peer),
            day: "2026-01-01".into(),
        }
    }

    #[test]
    fn promises_are_judged_as_ratios() {
        assert_eq!(row(Goal::CommandLine, "ms", 2.0, 9.0, 200.0).holds(), Some(true));
        assert_eq!(
            row(Goal::CommandLine, "ms", 2.0, 11.0, 200.0).holds(),
            Some(false),
            "over five times the floor"
        );
        assert_eq!(
            row(Goal::CommandLine, "ms", 4.0, 15.0, 200.0).holds(),
            Some(false),
            "over 1/15 of the peer"
        );
        assert_eq!(row(Goal::AtMost(0.1), "ms", 0.0, 5.0, 50.0).holds(), Some(true));
        assert_eq!(row(Goal::AtLeast(10.0), "MB/s", 0.0, 100.0, 27.0).holds(), Some(false));
        assert_eq!(row(Goal::Below(0.5), "MB", 0.0, 0.4, 5.0).holds(), Some(true));
        assert_eq!(row(Goal::Above(20.0), "/s", 0.0, 19.0, 5.0).holds(), Some(false));
        assert_eq!(row(Goal::AsBare(0.9), "Gbit/s", 10.0, 9.5, 8.0).holds(), Some(true));
        assert_eq!(row(Goal::AsBare(0.9), "Gbit/s", 10.0, 8.5, 8.0).holds(), Some(false), "below the pair");
        assert_eq!(row(Goal::AsBare(0.9), "Gbit/s", 10.0, 9.5, 9.6).holds(), Some(false), "below the peer");
    }

    #[test]
    fn better_means_less_time_and_more_throughput() {
        assert_eq!(row(Goal::AtMost(1.0), "ms", 0.0, 10.0, 50.0).better(), Some(5.0));
        assert_eq!(row(Goal::AtLeast(1.0), "MB/s", 0.0, 50.0, 10.0).better(), Some(5.0));
    }
}
