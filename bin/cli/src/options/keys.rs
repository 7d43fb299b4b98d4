//! Detach keys: their notation, and the matcher that finds them in what is typed.

use super::Parsed;

/// What detaches when nothing else is asked for.
pub(crate) const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Bytes for `ctrl-p,ctrl-q`, `a,b`, `ctrl-[`, `ctrl-@`.
pub(crate) fn parse(text: &str) -> Parsed<Vec<u8>> {
    text.split(',')
        .map(|key| {
            one(key).ok_or_else(|| format!("invalid detach keys ({text}): unknown character: '{key}'"))
        })
        .collect()
}

/// The check of `--detach-keys`.
pub(crate) fn check(text: &str) -> Parsed<()> {
    if text.is_empty() { Ok(()) } else { parse(text).map(drop) }
}

fn one(key: &str) -> Option<u8> {
    if let [byte] = key.as_bytes() {
        return Some(*byte);
    }
    match key.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(sign - b'@'),
        _ => None,
    }
}

/// Finds the keys in typed bytes, whatever the reads' boundaries. Bytes that begin the sequence are held back until it
/// is clear that it is not one.
pub(crate) struct Detacher {
    keys: Vec<u8>,
    matched: usize,
}

impl Detacher {
    /// A matcher for `keys`; none at all match nothing.
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Appends to `out` what of `input` goes to the container; true if the keys were typed, the rest being dropped.
    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            out.extend_from_slice(input);
            return false;
        }
        for &byte in input {
            while byte != self.keys[self.matched] && self.matched > 0 {
                self.release(out, byte);
            }
            if byte != self.keys[self.matched] {
                out.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }

    /// What is held back, when no more input comes.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.keys[..self.matched]);
        self.matched = 0;
    }

    /// Gives up the shortest prefix of the held bytes after which the rest, with `next`, may still begin the keys.
    fn release(&mut self, out: &mut Vec<u8>, next: u8) {
        let held = self.matched;
        let keep = (0..held)
            .rev()
            .find(|&n| self.keys[..n] == self.keys[held - n..held] && (self.keys[n] == next || n == 0))
            .unwrap_or(0);
        out.extend_from_slice(&self.keys[..held - keep]);
        self.matched = keep;
    }
}
