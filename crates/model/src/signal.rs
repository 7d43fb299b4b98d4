//! Signals by name and number, as `kill`, `stop` and image configurations write them (signal(7)).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A signal that can be sent, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(i32);

/// Names in number order, from 1 (signal(7), x86 and ARM).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

// === impl Signal ===

impl Signal {
    /// SIGKILL.
    pub const KILL: Signal = Signal(9);
    /// SIGTERM, the default to stop a container.
    pub const TERM: Signal = Signal(15);
    /// SIGHUP.
    pub const HUP: Signal = Signal(1);
    /// SIGINT.
    pub const INT: Signal = Signal(2);

    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl TryFrom<i32> for Signal {
    type Error = Error;
    fn try_from(n: i32) -> Result<Self, Error> {
        if (1..=RTMAX).contains(&n) {
            return Ok(Self(n));
        }
        Err(Error::invalid(format!("invalid signal: {n} (want 1 to {RTMAX})")))
    }
}

impl From<Signal> for i32 {
    fn from(s: Signal) -> i32 {
        s.0
    }
}

impl FromStr for Signal {
    type Err = Error;

    /// Accepts `9`, `KILL`, `sigkill`, `RTMIN+3`, `SIGRTMAX-1`.
    fn from_str(s: &str) -> Result<Self, Error> {
        let bad = || Error::invalid(format!("invalid signal: {s:?}"));
        if let Ok(n) = s.parse::<i32>() {
            return Signal::try_from(n);
        }
        let upper = s.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let aliases = [("IOT", 6), ("POLL", 29), ("CLD", 17), ("UNUSED", 31)];
        if let Some(i) = NAMES.iter().position(|n| *n == name) {
            return Signal::try_from(i as i32 + 1);
        }
        if let Some((_, n)) = aliases.iter().find(|(n, _)| *n == name) {
            return Signal::try_from(*n);
        }
        let offset =
            |rest: &str| if rest.is_empty() { Ok(0) } else { rest.parse::<i32>().map_err(|_| bad()) };
        let n = if let Some(rest) = name.strip_prefix("RTMIN") {
            RTMIN + offset(rest)?
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            RTMAX + offset(rest)?
        } else {
            return Err(bad());
        };
        if (RTMIN..=RTMAX).contains(&n) { Ok(Self(n)) } else { Err(bad()) }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(self.0 as usize - 1) {
            Some(name) => write!(f, "SIG{name}"),
            None if self.0 >= RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_forms_agree() {
        for (text, n) in [
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("15", 15),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(text.parse::<Signal>().map(i32::from), Ok(n), "{text}");
        }
        for bad in ["", "0", "65", "-1", "SIG", "TERMX", "RTMIN+31", "RTMAX+1", "RTMINx"] {
            assert!(bad.parse::<Signal>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_signal_parses_back_from_what_it_prints() {
        for n in 1..=64 {
            let s = Signal::try_from(n).expect("in range");
            assert_eq!(s.to_string().parse::<Signal>(), Ok(s));
        }
    }
}
