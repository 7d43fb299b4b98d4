//! The chunked transfer coding, decoded by a state machine that may be fed at any split.
//!
//! ```text
//! Size --hex digits--> Size --';' or LF--> (Extension) --LF--> Data(n) --n bytes--> DataEnd --CRLF--> Size
//!                                                  n = 0 ----> Trailer --empty line--> Done
//! ```

/// A chunk-size or trailer line longer than this is refused.
const MAX_LINE: usize = 8 << 10;

/// Decoder of one chunked body.
#[derive(Debug, Clone)]
pub struct ChunkDecoder {
    state: State,
    line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { value: u64 },
    Data(u64),
    DataEnd { seen_cr: bool },
    Trailer { empty: bool },
    Done,
}

// === impl ChunkDecoder ===

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self { state: State::Size { value: 0, digits: 0 }, line: 0 }
    }
}

impl ChunkDecoder {
    /// Whether the last chunk and its trailer have been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes `input`, appending data to `out`; returns how much of `input` was used, less than all only when done.
    ///
    /// # Errors
    /// A description of what is not chunked coding.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        let mut used = 0;
        while used < input.len() && !self.is_done() {
            if let State::Data(left) = self.state {
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - used);
                out.extend_from_slice(&input[used..used + n]);
                used += n;
                let left = left - n as u64;
                self.state = if left == 0 { State::DataEnd { seen_cr: false } } else { State::Data(left) };
            } else {
                self.step(input[used])?;
                used += 1;
            }
        }
        Ok(used)
    }

    fn step(&mut self, byte: u8) -> Result<(), String> {
        self.line += 1;
        if self.line > MAX_LINE {
            return Err("a chunk head or trailer line of more than 8 KiB".to_owned());
        }
        self.state = match (self.state, byte) {
            (State::Size { value, digits }, _) => size_step(value, digits, byte)?,
            (State::Extension { value }, b'\n') => after_size(value),
            (State::Extension { value }, _) => State::Extension { value },
            (State::DataEnd { seen_cr: false }, b'\r') => State::DataEnd { seen_cr: true },
            (State::DataEnd { .. }, b'\n') => State::Size { value: 0, digits: 0 },
            (State::DataEnd { .. }, other) => {
                return Err(format!("byte {other:#04x} after a chunk, where CRLF was due"));
            }
            (State::Trailer { empty: true }, b'\n') => State::Done,
            (State::Trailer { .. }, b'\n') => State::Trailer { empty: true },
            (State::Trailer { empty }, b'\r') => State::Trailer { empty },
            (State::Trailer { .. }, _) => State::Trailer { empty: false },
            (state @ (State::Data(_) | State::Done), _) => state,
        };
        if byte == b'\n' {
            self.line = 0;
        }
        Ok(())
    }
}

fn size_step(value: u64, digits: u8, byte: u8) -> Result<State, String> {
    if let Some(digit) = char::from(byte).to_digit(16) {
        let value = value.checked_mul(16).and_then(|v| v.checked_add(u64::from(digit)));
        let value = value.ok_or("a chunk size that does not fit 64 bits")?;
        return Ok(State::Size { value, digits: digits.saturating_add(1) });
    }
    match byte {
        _ if digits == 0 => Err(format!("byte {byte:#04x} where a chunk size was due")),
        b'\n' => Ok(after_size(value)),
        b'\r' | b';' | b' ' | b'\t' => Ok(State::Extension { value }),
        _ => Err(format!("byte {byte:#04x} within a chunk size")),
    }
}

fn after_size(value: u64) -> State {
    if value == 0 { State::Trailer { empty: true } } else { State::Data(value) }
}
