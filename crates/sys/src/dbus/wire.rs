//! D-Bus messages as bytes, as far as those who we talk to and we need them.
//!
//! See the [specification](https://dbus.freedesktop.org/doc/dbus-specification.html). Written in little-endian order,
//! read in either. Everything read is bounded: a length that leads outside is an error, and no more than
//! [`MOST`] bytes are taken.

/// The largest message we take; those to us are below a kilobyte.
pub const MOST: usize = 1 << 20;

/// The fixed part of a header: endianness, kind, flags, version, three lengths and the serial.
pub const FIXED: usize = 16;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call.
    Call = 1,
    /// The answer.
    Return = 2,
    /// The refusal.
    Error = 3,
    /// News.
    Signal = 4,
}

/// A value of a unit's property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

/// A message; parts that it does not have are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its number among those of its sender.
    pub serial: u32,
    /// The call that this answers.
    pub answers: u32,
    /// The object.
    pub path: String,
    /// The object's interface.
    pub interface: String,
    /// Method, signal, or error.
    pub member: String,
    /// Whom it is for, on a bus that others are on.
    pub destination: String,
    /// What is in the body.
    pub signature: String,
    /// As bytes.
    pub body: Vec<u8>,
    /// The body is in big-endian order.
    pub swapped: bool,
}

/// A message that is none.
#[derive(Debug)]
pub struct Malformed;

type Read<T> = std::result::Result<T, Malformed>;

// === impl Value ===

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Flag(_) => "b",
            Self::Number(_) => "t",
            Self::Bytes(_) => "ay",
            Self::Numbers(_) => "au",
            Self::Pairs(_) => "a(ss)",
        }
    }
}

// === writing ===

/// Bytes being written, each figure at a multiple of its size.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// `u`
    pub fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    /// `b`
    pub fn flag(&mut self, flag: bool) {
        self.number(u32::from(flag));
    }

    /// Strings and object paths.
    pub fn string(&mut self, text: &str) {
        self.number(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(length(text.len()) as u8); // ours are short
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// An array whose elements begin at multiples of `to`.
    pub fn array(&mut self, to: usize, elements: impl FnOnce(&mut Self)) {
        self.number(0);
        let at = self.0.len() - 4;
        self.align(to);
        let start = self.0.len();
        elements(self);
        let size = length(self.0.len() - start);
        self.0[at..at + 4].copy_from_slice(&size.to_le_bytes());
    }

    /// `a(sv)`
    pub fn properties(&mut self, all: &[(String, Value)]) {
        self.array(8, |to| {
            for (name, value) in all {
                to.align(8);
                to.string(name);
                to.signature(value.signature());
                to.value(value);
            }
        });
    }

    /// `au`
    pub fn numbers(&mut self, all: &[u32]) {
        self.array(4, |to| all.iter().for_each(|number| to.number(*number)));
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.string(text),
            Value::Flag(flag) => self.flag(*flag),
            Value::Number(number) => {
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Bytes(bytes) => self.array(1, |to| to.0.extend(bytes)),
            Value::Numbers(numbers) => self.numbers(numbers),
            Value::Pairs(pairs) => self.array(8, |to| {
                for (one, other) in pairs {
                    to.align(8);
                    to.string(one);
                    to.string(other);
                }
            }),
        }
    }

    fn field(&mut self, code: u8, signature: &str, write: impl FnOnce(&mut Self)) {
        self.align(8);
        self.0.push(code);
        self.signature(signature);
        write(self);
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX) // a peer refuses it; ours are never so long
}

impl Message {
    /// A message without parts.
    pub fn new(kind: Kind, member: &str) -> Self {
        let empty = String::new;
        Self {
            kind,
            serial: 0,
            answers: 0,
            path: empty(),
            interface: empty(),
            member: member.to_owned(),
            destination: empty(),
            signature: empty(),
            body: Vec::new(),
            swapped: false,
        }
    }

    /// With a body.
    pub fn with(mut self, signature: &str, write: impl FnOnce(&mut Writer)) -> Self {
        let mut body = Writer::default();
        write(&mut body);
        self.signature = signature.to_owned();
        self.body = body.0;
        self
    }

    /// As bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut to = Writer(vec![b'l', self.kind as u8, 0, 1]);
        to.number(length(self.body.len()));
        to.number(self.serial);
        let name = if self.kind == Kind::Error { 4 } else { 3 };
        let texts = [
            (1, "o", &self.path),
            (2, "s", &self.interface),
            (name, "s", &self.member),
            (6, "s", &self.destination),
        ];
        to.array(8, |to| {
            for (code, signature, text) in texts.into_iter().filter(|(_, _, text)| !text.is_empty()) {
                to.field(code, signature, |to| to.string(text));
            }
            if self.answers != 0 {
                to.field(5, "u", |to| to.number(self.answers));
            }
            if !self.signature.is_empty() {
                to.field(8, "g", |to| to.signature(&self.signature));
            }
        });
        to.align(8);
        to.0.extend(&self.body);
        to.0
    }

    /// How long the whole message is, by its fixed part.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn size(fixed: &[u8; FIXED]) -> Read<usize> {
        let mut reader = Reader::new(fixed, swapped(fixed[0])?);
        reader.at = 4;
        let body = reader.number()? as usize;
        reader.number()?;
        let fields = reader.number()? as usize;
        let size = FIXED.saturating_add(fields).next_multiple_of(8).saturating_add(body);
        if size > MOST { Err(Malformed) } else { Ok(size) }
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(bytes: &[u8]) -> Read<Self> {
        let fixed: &[u8; FIXED] = bytes.first_chunk().ok_or(Malformed)?;
        if Self::size(fixed)? != bytes.len() || fixed[3] != 1 {
            return Err(Malformed);
        }
        let kind = match fixed[1] {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return Err(Malformed),
        };
        let mut reader = Reader::new(bytes, swapped(fixed[0])?);
        reader.at = 8;
        let mut message = Self::new(kind, "");
        message.swapped = reader.swapped;
        message.serial = reader.number()?;
        let end = reader.number()? as usize + FIXED;
        while reader.at < end {
            message.read_field(&mut reader)?;
        }
        let start = end.next_multiple_of(8);
        message.body = bytes.get(start..).ok_or(Malformed)?.to_vec();
        Ok(message)
    }

    fn read_field(&mut self, reader: &mut Reader<'_>) -> Read<()> {
        reader.align(8)?;
        let code = reader.byte()?;
        let signature = reader.signature()?;
        match (code, signature.as_str()) {
            (1, "o") => self.path = reader.string()?,
            (2, "s") => self.interface = reader.string()?,
            (3 | 4, "s") => self.member = reader.string()?,
            (5, "u") => self.answers = reader.number()?,
            (6, "s") => self.destination = reader.string()?,
            (8, "g") => self.signature = reader.signature()?,
            (_, "s" | "o") => reader.string().map(drop)?,
            (_, "u") => reader.number().map(drop)?,
            (_, "g") => reader.signature().map(drop)?,
            _ => return Err(Malformed),
        }
        Ok(())
    }

    /// Reads the body.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.body, self.swapped)
    }
}

fn swapped(order: u8) -> Read<bool> {
    match order {
        b'l' => Ok(false),
        b'B' => Ok(true),
        _ => Err(Malformed),
    }
}

// === reading ===

/// A place in bytes.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    swapped: bool,
}

impl<'a> Reader<'a> {
    /// At the beginning of a body, in big-endian order if `swapped`.
    pub fn new(bytes: &'a [u8], swapped: bool) -> Self {
        Self { bytes, at: 0, swapped }
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Read<()> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    fn byte(&mut self) -> Read<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// `u`
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn number(&mut self) -> Read<u32> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(if self.swapped { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// `s` and `o`
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn string(&mut self) -> Read<String> {
        let length = self.number()? as usize;
        self.text(length)
    }

    fn signature(&mut self) -> Read<String> {
        let length = usize::from(self.byte()?);
        self.text(length)
    }

    fn text(&mut self, length: usize) -> Read<String> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)?.to_owned();
        if self.byte()? == 0 { Ok(text) } else { Err(Malformed) }
    }

    /// `v` that holds a string.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn variant_string(&mut self) -> Read<String> {
        match self.signature()?.as_str() {
            "s" | "o" => self.string(),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        let kind = prop_oneof![Just(Kind::Call), Just(Kind::Return), Just(Kind::Error), Just(Kind::Signal)];
        let texts = ("[/a-z]{0,20}", "[a-z.]{0,20}", "[A-Za-z]{0,20}", "[a-z.]{0,20}", ".{0,30}");
        (kind, any::<u32>(), any::<u32>(), texts).prop_map(|(kind, serial, answers, texts)| {
            let (path, interface, member, destination, said) = texts;
            let message =
                Message { serial, answers, path, interface, destination, ..Message::new(kind, &member) };
            message.with("s", |body| body.string(&said))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read(message in message()) {
            let bytes = message.write();
            prop_assert_eq!(Message::size(bytes.first_chunk().unwrap()).unwrap(), bytes.len());
            let read = Message::read(&bytes).unwrap();
            prop_assert!(read.reader().string().is_ok());
            prop_assert_eq!(read, message);
        }

        #[test]
        fn a_message_that_is_cut_or_bent_upsets_nobody(message in message(), at: prop::sample::Index, byte: u8) {
            let mut bytes = message.write();
            let at = at.index(bytes.len());
            prop_assert!(Message::read(&bytes[..at]).is_err());
            bytes[at] = byte;
            if let Ok(read) = Message::read(&bytes) {
                let _ = (read.reader().string(), read.reader().variant_string());
            }
        }
    }

    /// The bytes of the specification's rules, by hand: an array's length does not count the padding before its first
    /// element.
    #[test]
    fn properties_lie_where_the_specification_says() {
        let mut to = Writer::default();
        to.properties(&[("A".to_owned(), Value::Number(7)), ("B".to_owned(), Value::Flag(true))]);
        let mut wanted = vec![36, 0, 0, 0, 0, 0, 0, 0]; // length; padding to 8
        wanted.extend([1, 0, 0, 0, b'A', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0]); // name, signature, padding to 8
        wanted.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([1, 0, 0, 0, b'B', 0, 1, b'b', 0, 0, 0, 0, 1, 0, 0, 0]);
        wanted[0] = u8::try_from(wanted.len() - 8).unwrap();
        assert_eq!(to.0, wanted);
    }
}
