//! Faults of networks, made on purpose: what is done to the packets of a container so that it can be seen how it bears that.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{ContainerId, FaultId, NetworkId};
use crate::shaping::{LEAST_RATE, MOST_RATE};

/// All of something that is given in parts of a million.
pub const WHOLE: u32 = 1_000_000;
/// The longest delay, in nanoseconds: ten minutes.
pub const LONGEST_DELAY: u64 = 600_000_000_000;

/// What happens to packets that pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Impairment {
    /// Nanoseconds that each is held back.
    pub latency: u64,
    /// Up to so many less or more, at random.
    pub jitter: u64,
    /// Parts of a million that are lost.
    pub loss: u32,
    /// Parts of a million in which a bit is wrong.
    pub corrupt: u32,
    /// Parts of a million that come twice.
    pub duplicate: u32,
    /// Parts of a million that are not held back, and overtake others.
    pub reorder: u32,
    /// Bytes per second at most.
    pub rate: Option<u64>,
}

/// To the container, from it, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To it.
    In,
    /// From it.
    Out,
    /// Each way.
    #[default]
    Both,
}

/// From whom a container is cut off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// A container, on every network that both are on.
    Container {
        /// Which.
        id: ContainerId,
        /// What it was called.
        name: String,
    },
    /// A network: everybody on it, and whatever it leads to.
    Network {
        /// Which.
        id: NetworkId,
        /// Its name.
        name: String,
    },
}

/// A fault of a running container's networks. It ends with the run, if not before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// It.
    pub id: FaultId,
    /// On which network; absent: on all of the container's.
    #[serde(default)]
    pub network: Option<NetworkId>,
    /// Which way packets are impaired.
    #[serde(default)]
    pub direction: Direction,
    /// How.
    #[serde(default)]
    pub impairment: Impairment,
    /// With whom nothing is exchanged at all.
    #[serde(default)]
    pub partition: Vec<Peer>,
    /// When it began, nanoseconds since the epoch.
    pub since: u64,
    /// When it ends by itself.
    #[serde(default)]
    pub until: Option<u64>,
}

// === impl Impairment ===

impl Impairment {
    /// Packets pass as they are.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// # Errors
    /// `InvalidInput`, naming what is out of range or means nothing without another.
    pub fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::invalid(format!("network fault: {why}")));
        if self.latency > LONGEST_DELAY {
            return refuse("latency: want at most 10m".into());
        }
        if self.jitter > self.latency {
            return refuse("jitter: want at most the latency that it varies".into());
        }
        if self.reorder > 0 && self.latency == 0 {
            return refuse("reorder: needs a latency: packets overtake others by not being held back".into());
        }
        let odds = [
            ("loss", self.loss),
            ("corrupt", self.corrupt),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
        ];
        if let Some((name, _)) = odds.iter().find(|(_, odds)| *odds > WHOLE) {
            return refuse(format!("{name}: want 0.0001 % to 100 %"));
        }
        match self.rate {
            Some(rate) if !(LEAST_RATE..=MOST_RATE).contains(&rate) => {
                refuse(format!("rate: {rate}B: want 1kB (8kbit) to 125GB (1tbit) per second"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.latency > 0 {
            words.push(format!("latency {}", duration(self.latency)));
        }
        if self.jitter > 0 {
            words.push(format!("jitter {}", duration(self.jitter)));
        }
        let odds = [
            ("loss", self.loss),
            ("corrupt", self.corrupt),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
        ];
        let percent = |(name, odds): (_, u32)| format!("{name} {}%", f64::from(odds) / 10_000.0);
        words.extend(odds.into_iter().filter(|(_, odds)| *odds > 0).map(percent));
        words.extend(self.rate.map(|rate| format!("rate {rate}B")));
        f.write_str(&words.join(", "))
    }
}

// === impl Direction ===

impl Direction {
    /// Packets to the container are meant.
    pub fn is_in(self) -> bool {
        self != Self::Out
    }

    /// Packets from it are.
    pub fn is_out(self) -> bool {
        self != Self::In
    }

    /// `in`, `out` or `both`.
    pub fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Both => "both",
        }
    }
}

impl std::str::FromStr for Direction {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "in" => Ok(Self::In),
            "out" => Ok(Self::Out),
            "" | "both" => Ok(Self::Both),
            _ => Err(Error::invalid(format!("network fault: direction {text:?}: want in, out or both"))),
        }
    }
}

// === impl Peer ===

impl Peer {
    /// What it was called when the fault began.
    pub fn name(&self) -> &str {
        match self {
            Self::Container { name, .. } | Self::Network { name, .. } => name,
        }
    }
}

// === impl Fault ===

impl Fault {
    /// It is one, and makes sense.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn check(&self) -> Result<()> {
        self.impairment.check()?;
        if self.impairment.is_none() && self.partition.is_empty() {
            return Err(Error::invalid(
                "network fault: nothing is to go wrong: name a latency, loss, corrupt, duplicate, reorder, rate or partition",
            ));
        }
        if self.impairment.is_none() && self.direction != Direction::Both {
            return Err(Error::invalid("network fault: a partition is both ways: leave the direction out"));
        }
        Ok(())
    }

    /// It is about that network.
    pub fn is_on(&self, network: &NetworkId) -> bool {
        self.network.as_ref().is_none_or(|own| own == network)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if !self.impairment.is_none() {
            words.push(self.impairment.to_string());
        }
        if !self.partition.is_empty() {
            let names: Vec<&str> = self.partition.iter().map(Peer::name).collect();
            words.push(format!("partition {}", names.join(" ")));
        }
        f.write_str(&words.join(", "))
    }
}

/// Nanoseconds, shortly: `100ms`, `1.5s`.
fn duration(nanos: u64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "us")];
    // Exact below 2^53, which is longer than any delay.
    let nanos = nanos as f64;
    let (size, unit) = units.into_iter().find(|(size, _)| nanos >= *size).unwrap_or((1.0, "ns"));
    format!("{}{unit}", nanos / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(impairment: Impairment) -> Fault {
        let id = FaultId::from_bytes([1; 32]);
        Fault {
            id,
            network: None,
            direction: Direction::Both,
            impairment,
            partition: Vec::new(),
            since: 0,
            until: None,
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let none = Impairment::default();
        for (wrong, word) in [
            (none, "nothing"),
            (Impairment { jitter: 1, ..none }, "jitter"),
            (Impairment { latency: 1, jitter: 2, ..none }, "jitter"),
            (Impairment { reorder: 1, ..none }, "reorder"),
            (Impairment { loss: WHOLE + 1, ..none }, "loss"),
            (Impairment { latency: LONGEST_DELAY + 1, ..none }, "latency"),
            (Impairment { rate: Some(1), ..none }, "rate"),
        ] {
            let e = fault(wrong).check().expect_err(word);
            assert!(e.message().contains(word), "{e}");
        }
        assert!(fault(Impairment { loss: WHOLE, ..none }).check().is_ok());
        let peer = Peer::Container { id: ContainerId::from_bytes([2; 32]), name: "db".into() };
        let one_way = Fault { direction: Direction::In, partition: vec![peer], ..fault(none) };
        assert!(one_way.check().is_err());
    }

    #[test]
    fn it_is_told_in_a_few_words() {
        let impairment = Impairment {
            latency: 100_000_000,
            jitter: 1_500_000,
            loss: 50_000,
            rate: Some(5000),
            ..Impairment::default()
        };
        let peer = Peer::Network { id: NetworkId::from_bytes([2; 32]), name: "front".into() };
        let fault = Fault { partition: vec![peer], ..fault(impairment) };
        let words = "latency 100ms, jitter 1.5ms, loss 5%, rate 5000B, partition front";
        assert_eq!(fault.to_string(), words);
    }

    #[test]
    fn it_is_kept_and_read_back() {
        let peer = Peer::Network { id: NetworkId::from_bytes([2; 32]), name: "front".into() };
        let kept = Fault { partition: vec![peer], ..fault(Impairment { loss: 7, ..Impairment::default() }) };
        let text = serde_json::to_string(&kept).expect("serializes");
        assert_eq!(serde_json::from_str::<Fault>(&text).expect("parses"), kept);
    }
}
