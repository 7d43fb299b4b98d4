//! Names for containers whose maker gave none: an adjective and a tool of the trade.

use tare_model::{ContainerName, Result};

const ADJECTIVES: &[&str] = &[
    "agile", "amber", "ample", "bold", "brave", "brisk", "calm", "clever", "crisp", "deft", "eager", "early",
    "fair", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "happy", "hardy",
    "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "merry", "mild", "neat",
    "nimble", "noble", "patient", "plain", "polite", "proud", "quick", "quiet", "ready", "sharp", "silent",
    "sincere", "smart", "sober", "solid", "steady", "still", "stout", "sunny", "swift", "tidy", "trim",
    "trusty", "upbeat", "vivid", "warm", "wise", "witty", "young", "zesty",
];

const NOUNS: &[&str] = &[
    "anchor",
    "anvil",
    "arch",
    "barge",
    "barrel",
    "basin",
    "basket",
    "beacon",
    "bellows",
    "bobbin",
    "bridge",
    "bucket",
    "cable",
    "caddy",
    "canoe",
    "capstan",
    "cargo",
    "cask",
    "chest",
    "clamp",
    "coil",
    "compass",
    "crane",
    "crate",
    "derrick",
    "dock",
    "dray",
    "ferry",
    "flask",
    "gantry",
    "gauge",
    "hamper",
    "harbor",
    "hoist",
    "jar",
    "jetty",
    "kettle",
    "ladder",
    "lantern",
    "level",
    "lever",
    "lighter",
    "locker",
    "mast",
    "mooring",
    "pallet",
    "parcel",
    "pier",
    "pulley",
    "quay",
    "rudder",
    "satchel",
    "scale",
    "schooner",
    "sextant",
    "sledge",
    "spindle",
    "steelyard",
    "tackle",
    "tender",
    "trolley",
    "valise",
    "wharf",
    "winch",
];

/// A name drawn by `random`; from the third attempt on it has a number, so that a full house still finds one.
///
/// # Errors
/// None that can happen: the words make valid names.
pub(crate) fn draw(random: [u8; 8], attempt: usize) -> Result<ContainerName> {
    let pick = |list: &[&'static str], byte: u8| list[usize::from(byte) % list.len()];
    let (adjective, noun) = (pick(ADJECTIVES, random[0]), pick(NOUNS, random[1]));
    if attempt < 2 {
        return format!("{adjective}_{noun}").parse();
    }
    let number = u16::from_be_bytes([random[2], random[3]]);
    format!("{adjective}_{noun}_{number}").parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_words_is_a_valid_name() {
        for (a, b) in (0..=255).zip((0..=255).rev()) {
            assert!(draw([a, b, 0, 0, 0, 0, 0, 0], 0).is_ok());
        }
        let name = draw([0, 0, 1, 0, 0, 0, 0, 0], 2).expect("valid");
        assert_eq!(name.as_str(), "agile_anchor_256");
    }
}
