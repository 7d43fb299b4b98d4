//! The job: a shell script made from the words that were asked for, as a disk.

use std::path::Path;

use super::cache;
use crate::shell::Done;

/// A disk is whole sectors.
const SECTOR: usize = 512;

/// The script that runs a command.
pub(super) fn script(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("exec {}\n", quoted.join(" "))
}

/// A word as a shell takes it for exactly itself.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Writes the script as a disk; what fills the last sector is empty lines.
pub(super) fn write(script: &str, disk: &Path) -> Done {
    let mut bytes = script.as_bytes().to_vec();
    bytes.resize((bytes.len() + 1).next_multiple_of(SECTOR), b'\n');
    cache::write(disk, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_guest_as_they_are() {
        let words = ["printf", "%s|", "two words", "it's", "$HOME", "a\nb", "", "*"].map(String::from);
        let ran = tare_kit::Cmd::new("sh").args(["-c", &script(&words)]).ok();
        assert_eq!(ran, "two words|it's|$HOME|a\nb||*|");
    }

    #[test]
    fn the_disk_is_whole_sectors_and_still_the_script() {
        let dir = tempfile::tempdir().unwrap();
        for length in [1, 511, 512, 513] {
            let (text, disk) = ("#".repeat(length), dir.path().join("disk"));
            write(&text, &disk).unwrap();
            let written = std::fs::read_to_string(&disk).unwrap();
            assert_eq!((written.len() % SECTOR, written.trim_end()), (0, text.as_str()));
        }
    }
}
