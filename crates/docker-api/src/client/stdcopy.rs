//! Frames inside a stream of several outputs: one byte for the stream, three zeros, a big-endian length, the data.

/// Which output a piece of data belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output (also the echo of stdin, which no daemon sends).
    Stdout,
    /// Standard error.
    Stderr,
    /// A message of the daemon itself that the stream failed.
    SystemError,
}

/// Takes frames apart at any split of the input; data is handed on at once, never gathered.
#[derive(Debug, Default, Clone)]
pub struct Frames {
    header: [u8; 8],
    have: usize,
    stream: Option<Stream>,
    left: u32,
}

// === impl Frames ===

impl Frames {
    /// Hands each piece of `input` to `sink` with the stream it belongs to.
    ///
    /// # Errors
    /// A description of what is not a frame, or what `sink` said.
    pub fn feed(&mut self, mut input: &[u8], sink: &mut impl FnMut(Stream, &[u8])) -> Result<(), String> {
        while !input.is_empty() {
            match self.stream {
                Some(stream) if self.left > 0 => {
                    let n = input.len().min(self.left as usize);
                    sink(stream, &input[..n]);
                    self.left -= n as u32;
                    input = &input[n..];
                }
                _ => input = self.take_header(input)?,
            }
        }
        Ok(())
    }

    /// Whether the input so far ends between two frames.
    pub fn at_boundary(&self) -> bool {
        self.left == 0 && self.have == 0
    }

    fn take_header<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], String> {
        let n = input.len().min(8 - self.have);
        self.header[self.have..self.have + n].copy_from_slice(&input[..n]);
        self.have += n;
        if self.have == 8 {
            let [kind, a, b, c, len @ ..] = self.header;
            self.stream = Some(match kind {
                0 | 1 => Stream::Stdout,
                2 => Stream::Stderr,
                3 => Stream::SystemError,
                _ => return Err(format!("a frame of stream {kind} [{a} {b} {c}], which does not exist")),
            });
            self.left = u32::from_be_bytes(len);
            self.have = 0;
        }
        Ok(&input[n..])
    }
}
