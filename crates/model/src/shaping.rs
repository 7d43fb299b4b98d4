//! How fast a container, or all of a network together, may receive and send; and who gets how much when all want more.
//!
//! # Units
//! Bits per second in steps of 1000 as tc(8) writes them, in any case: `bit`, `kbit`, `mbit`, `gbit`, `tbit`. Bytes per second
//! with a capital B: `B`, `kB`, `MB`, `GB`, `TB` in steps of 1000 and `KiB`, `MiB`, `GiB`, `TiB` in steps of 1024. A number
//! without a unit is refused, and so is `mb`, which means either to different people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The share of a container that asked for none.
pub const DEFAULT_SHARE: u32 = 100;
/// The greatest share; the least is 1.
pub const MOST_SHARE: u32 = 10_000;
/// The least rate, in bytes per second: below it a single packet would take seconds.
pub const LEAST_RATE: u64 = 1000;
/// The greatest rate, in bytes per second: 1 Tbit/s.
pub const MOST_RATE: u64 = 125_000_000_000;

/// Rates in both directions, in bytes per second as frames are counted; absent: as fast as it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// To the container.
    pub inward: Option<u64>,
    /// From the container.
    pub outward: Option<u64>,
    /// Bytes that pass at once after a pause; absent: what goes in 10 ms, within limits.
    pub burst: Option<u64>,
}

/// Limits of a container on each of its networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shaping {
    /// What it never exceeds.
    pub rates: Rates,
    /// Its part of a network's own rate, in proportion to the shares of the others that want theirs; absent:
    /// [`DEFAULT_SHARE`].
    pub share: Option<u32>,
}

/// Some of [`Shaping`], changed; absent: stays, 0: no limit (of the burst and the share: the default).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reshaping {
    /// [`Rates::inward`].
    pub inward: Option<u64>,
    /// [`Rates::outward`].
    pub outward: Option<u64>,
    /// [`Rates::burst`].
    pub burst: Option<u64>,
    /// [`Shaping::share`].
    pub share: Option<u32>,
}

// === impl Rates ===

impl Rates {
    /// Nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        self.inward.is_none() && self.outward.is_none()
    }

    /// # Errors
    /// `InvalidInput` for a rate that is too small or too great, and for a burst without a rate.
    pub fn check(&self) -> Result<()> {
        for (direction, rate) in [("in", self.inward), ("out", self.outward)] {
            if let Some(rate) = rate.filter(|rate| !(LEAST_RATE..=MOST_RATE).contains(rate)) {
                return Err(Error::invalid(format!(
                    "network rate {direction}={rate}B: want 1kB (8kbit) to 125GB (1tbit) per second"
                )));
            }
        }
        if self.burst.is_some_and(|burst| !(1..=1 << 30).contains(&burst)) {
            return Err(Error::invalid("network rate: a burst has 1 byte to 1GiB"));
        }
        if self.burst.is_some() && self.is_unlimited() {
            return Err(Error::invalid("network rate: a burst needs a rate, in=… or out=…"));
        }
        Ok(())
    }
}

impl FromStr for Rates {
    type Err = Error;

    /// `in=RATE,out=RATE,burst=BYTES`, of which any may be absent.
    fn from_str(text: &str) -> Result<Self> {
        let change: Reshaping = text.parse()?;
        let mut shaping = Shaping::default();
        shaping.change(&change)?;
        Ok(shaping.rates)
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("in", self.inward), ("out", self.outward), ("burst", self.burst)];
        let words = parts.iter().filter_map(|(name, value)| value.map(|value| format!("{name}={value}B")));
        f.write_str(&words.collect::<Vec<_>>().join(","))
    }
}

// === impl Shaping ===

impl Shaping {
    /// Nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Changes some of it.
    ///
    /// # Errors
    /// `InvalidInput` for what is out of range; nothing has changed then.
    pub fn change(&mut self, change: &Reshaping) -> Result<()> {
        let pick = |new: Option<u64>, old| new.map_or(old, |new| (new != 0).then_some(new));
        let rates = Rates {
            inward: pick(change.inward, self.rates.inward),
            outward: pick(change.outward, self.rates.outward),
            burst: pick(change.burst, self.rates.burst),
        };
        rates.check()?;
        let share = change.share.map_or(self.share, |share| (share != 0).then_some(share));
        if share.is_some_and(|share| share > MOST_SHARE) {
            return Err(Error::invalid(format!(
                "network share {}: want 1 to {MOST_SHARE}",
                share.unwrap_or(0)
            )));
        }
        *self = Self { rates, share };
        Ok(())
    }
}

// === impl Reshaping ===

impl FromStr for Reshaping {
    type Err = Error;

    /// `in=RATE,out=RATE,burst=BYTES`, of which any may be absent; `none` in place of a value takes a limit away, and in place of
    /// everything all of them.
    fn from_str(text: &str) -> Result<Self> {
        if text == "none" {
            return Ok(Self { inward: Some(0), outward: Some(0), burst: Some(0), share: None });
        }
        let mut change = Self::default();
        for part in text.split(',') {
            let wrong = || {
                Error::invalid(format!(
                    "invalid network rate {text:?}: want in=RATE,out=RATE,burst=BYTES, or none"
                ))
            };
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let place = match name {
                "in" => &mut change.inward,
                "out" => &mut change.outward,
                "burst" => &mut change.burst,
                _ => return Err(wrong()),
            };
            if place.is_some() {
                return Err(Error::invalid(format!("invalid network rate {text:?}: {name} is given twice")));
            }
            *place = Some(if value == "none" { 0 } else { quantity(value)? });
        }
        Ok(change)
    }
}

/// Bytes, or bytes per second, from a number with one of the units at the head of this file.
///
/// # Errors
/// `InvalidInput` without a unit, or with one that means several things.
pub fn quantity(text: &str) -> Result<u64> {
    let wrong = || {
        Error::invalid(format!(
            "invalid network rate {text:?}: want a number with bit, kbit, mbit or gbit for bits, or B, kB, MB, GB, KiB, MiB or GiB for bytes"
        ))
    };
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let value = number * bytes_of(unit).ok_or_else(wrong)?;
    // The check of the range is the caller's; nothing in range is rounded by the conversion.
    if (1.0..=1e18).contains(&value) { Ok(value.round() as u64) } else { Err(wrong()) }
}

fn bytes_of(unit: &str) -> Option<f64> {
    let power = |letter: &str, base: f64| {
        let at = ["", "k", "m", "g", "t"].iter().position(|known| *known == letter.to_ascii_lowercase())?;
        Some(base.powi(i32::try_from(at).ok()?))
    };
    let lower = unit.to_ascii_lowercase();
    if let Some(letter) = lower.strip_suffix("bit") {
        return power(letter, 1000.0).map(|factor| factor / 8.0);
    }
    let letter = unit.strip_suffix('B')?;
    match letter.strip_suffix('i') {
        Some("") => None,
        Some(letter) => power(letter, 1024.0),
        None => power(letter, 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_say_whether_they_are_bits_or_bytes() {
        for (text, bytes) in [
            ("10mbit", 1_250_000),
            ("10Mbit", 1_250_000),
            ("8kbit", 1000),
            ("1.5gbit", 187_500_000),
            ("5MB", 5_000_000),
            ("5kB", 5000),
            ("2MiB", 2 << 20),
            ("4096B", 4096),
        ] {
            assert_eq!(quantity(text), Ok(bytes), "{text}");
        }
        for text in ["10", "10m", "10mb", "10Mb", "10mbps", "-1MB", "MB", "", "1e9B", "0MB", "5iB", "1.2.3MB"]
        {
            assert!(quantity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_read_and_written() {
        let rates: Rates = "in=10mbit,out=5MB,burst=64KiB".parse().expect("valid");
        assert_eq!(rates, Rates { inward: Some(1_250_000), outward: Some(5_000_000), burst: Some(65_536) });
        assert_eq!(rates.to_string().parse(), Ok(rates));
        for text in
            ["", "10mbit", "in=1MB,in=2MB", "up=1MB", "burst=1MB", "in=1bit", "in=2tbit", "in=1MB,burst=2GiB"]
        {
            assert!(text.parse::<Rates>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_change_leaves_the_rest_and_none_takes_away() {
        let mut shaping = Shaping { rates: "in=1MB,out=2MB".parse().expect("valid"), share: Some(20) };
        let change: Reshaping = "out=none".parse().expect("valid");
        shaping.change(&change).expect("valid");
        assert_eq!(shaping, Shaping { rates: "in=1MB".parse().expect("valid"), share: Some(20) });
        let mut all =
            Shaping { rates: "in=1MB,out=2MB,burst=64KiB".parse().expect("valid"), share: Some(20) };
        all.change(&"none".parse().expect("valid")).expect("valid");
        assert_eq!(all, Shaping { rates: Rates::default(), share: Some(20) });
        let too_much = Reshaping { share: Some(MOST_SHARE + 1), ..Reshaping::default() };
        assert!(shaping.change(&too_much).is_err());
    }
}
