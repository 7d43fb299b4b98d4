//! Offsets of the clocks of a new time namespace.

use oci_spec::runtime::{LinuxTimeOffset, Spec};

use super::Layout;
use crate::error::{Error, Result};

/// Nanoseconds of a second.
const SECOND: u32 = 1_000_000_000;

/// What is written to `timens_offsets`: one line for each clock.
pub(crate) fn plan(spec: &Spec, namespaces: &Layout) -> Result<String> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
    let mut lines = Vec::new();
    for (clock, offset) in asked.into_iter().flatten() {
        lines.push(line(clock, offset)?);
    }
    if !lines.is_empty() && !namespaces.new_time {
        return Err(Error::invalid("linux.timeOffsets: they need a new time namespace"));
    }
    lines.sort();
    Ok(lines.concat())
}

fn line(clock: &str, offset: &LinuxTimeOffset) -> Result<String> {
    if !matches!(clock, "monotonic" | "boottime") {
        return Err(Error::invalid(format!(
            "linux.timeOffsets: {clock:?} is neither monotonic nor boottime"
        )));
    }
    let nanos = offset.nanosecs().unwrap_or(0);
    if nanos >= SECOND {
        return Err(Error::invalid(format!("linux.timeOffsets: {clock}: {nanos} ns are a second or more")));
    }
    Ok(format!("{clock} {} {nanos}\n", offset.secs().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(offsets: &serde_json::Value, new_time: bool) -> Result<String> {
        let spec = serde_json::json!({"ociVersion": "1.2.0", "linux": {"timeOffsets": offsets}});
        plan(&serde_json::from_value(spec).unwrap(), &Layout { new_time, ..Layout::default() })
    }

    #[test]
    fn each_clock_is_a_line() {
        let offsets = serde_json::json!({"monotonic": {"secs": 5, "nanosecs": 7}, "boottime": {"secs": -5}});
        assert_eq!(planned(&offsets, true).unwrap(), "boottime -5 0\nmonotonic 5 7\n");
        assert_eq!(planned(&serde_json::json!({}), false).unwrap(), "");
    }

    #[test]
    fn other_clocks_and_the_hosts_namespace_are_refused() {
        assert!(planned(&serde_json::json!({"realtime": {"secs": 1}}), true).is_err());
        assert!(planned(&serde_json::json!({"monotonic": {"nanosecs": 1_000_000_000_u32}}), true).is_err());
        assert!(planned(&serde_json::json!({"monotonic": {"secs": 1}}), false).is_err());
    }
}
