//! Numbers out of many runs.

use serde::{Deserialize, Serialize};

/// A quantity measured many times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) runs: usize,
}

/// The median and the 99th percentile of some values.
pub(crate) fn summary(mut values: Vec<f64>) -> Summary {
    values.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let last = values.len().saturating_sub(1) as f64;
        values.get((part * last).round() as usize).copied().unwrap_or(0.0)
    };
    Summary { median: at(0.5), p99: at(0.99), runs: values.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_p99_near_the_end() {
        let summary = summary((1..=101).rev().map(f64::from).collect());
        assert_eq!(summary, Summary { median: 51.0, p99: 100.0, runs: 101 });
        assert_eq!(super::summary(Vec::new()).runs, 0);
    }
}
