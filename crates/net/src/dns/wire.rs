//! Messages: what a container asks, what we say, and what an upstream server said.
//!
//! An upstream's answer is read as a whole, and refused if anything in it cannot be; then its bytes are passed on as they
//! are, with the asker's number, the asker's spelling of the question, and what is left of the lifetimes. Writing it anew
//! would cost a hostile server nothing and us much: compression looks back over all names of 64 KiB.

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable};

/// Bytes of the fixed part of a message.
const HEADER: usize = 12;
/// Bytes of a record beside its data, with its name compressed.
const RECORD: usize = 12;
/// Bytes of the record of EDNS without options.
const OPT: usize = 11;
/// The most that a UDP client takes who does not say otherwise (RFC 1035).
const PLAIN: u16 = 512;
/// What we take by UDP; a larger offer of a client is not passed on.
pub(super) const LARGEST_DATAGRAM: usize = 4096;
const LARGEST: usize = u16::MAX as usize;
/// Containers restart, and an address goes to another one: no resolver shall believe it for long. (Docker: 600.)
pub(super) const TTL: u32 = 5;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// A question of a container.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) query: Query,
    /// The question section as we ask it: name as spelled, type, class.
    pub(super) section: Vec<u8>,
    /// The largest datagram for the answer, and whether signatures are wanted.
    pub(super) edns: Option<(u16, bool)>,
    pub(super) checking_disabled: bool,
    id: u16,
    recursion_desired: bool,
    transport: Transport,
}

/// What there is to do about a message.
#[derive(Debug)]
pub(super) enum Read {
    /// To be answered.
    Asked(Box<Asked>),
    /// This is the answer to it.
    Wrong(Vec<u8>),
    /// Nothing: not a question, or too short to be answered. Answers to answers would go on for ever.
    Ignored,
}

/// A whole answer of an upstream server.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    bytes: Vec<u8>,
    /// Where the lifetimes are.
    lifetimes: Vec<u16>,
    pub(super) code: ResponseCode,
    pub(super) truncated: bool,
    /// Seconds for which it may be remembered.
    pub(super) keep: Option<u32>,
}

// === impl Read ===

impl Read {
    /// Reads what a container sent.
    pub(super) fn query(bytes: &[u8], transport: Transport) -> Self {
        let Ok(header) = Header::read(&mut BinDecoder::new(bytes)) else { return Self::Ignored };
        if header.metadata.message_type == MessageType::Response {
            return Self::Ignored;
        }
        if header.metadata.op_code != OpCode::Query {
            return refused(&header, ResponseCode::NotImp);
        }
        let malformed = || refused(&header, ResponseCode::FormErr);
        if header.counts.queries != 1 {
            return malformed();
        }
        let Ok(mut message) = Message::from_vec(bytes) else { return malformed() };
        let Some(query) = message.queries.pop() else { return malformed() };
        let Ok(section) = query.to_bytes() else { return malformed() };
        let edns = message.edns.as_ref().map(|edns| (edns.max_payload(), edns.flags().dnssec_ok));
        let asked = Asked {
            query,
            section,
            edns,
            checking_disabled: header.metadata.checking_disabled,
            id: header.metadata.id,
            recursion_desired: header.metadata.recursion_desired,
            transport,
        };
        if message.edns.is_some_and(|edns| edns.version() != 0) {
            return Self::Wrong(asked.say(ResponseCode::BADVERS, &[]));
        }
        Self::Asked(Box::new(asked))
    }
}

fn refused(header: &Header, code: ResponseCode) -> Read {
    let message = Message::error_msg(header.metadata.id, header.metadata.op_code, code);
    message.to_vec().map_or(Read::Ignored, Read::Wrong)
}

// === impl Asked ===

impl Asked {
    pub(super) fn name(&self) -> &Name {
        &self.query.name
    }

    /// An answer of ours; shortened, and marked as such, if it is longer than the asker takes.
    pub(super) fn say(&self, code: ResponseCode, data: &[RData]) -> Vec<u8> {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.authoritative = !data.is_empty();
        message.add_query(self.query.clone());
        let record = |data: &RData| Record::from_rdata(self.query.name.clone(), TTL, data.clone());
        message.add_answers(data.iter().map(record));
        if let Some((_, dnssec_ok)) = self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST_DATAGRAM as u16).set_dnssec_ok(dnssec_ok);
            message.set_edns(edns);
        }
        if data.len() > self.fitting(data) {
            message.answers.truncate(self.fitting(data));
            message.metadata.truncation = true;
        }
        loop {
            // What cannot be written is no name that anybody could have asked for; silence is what is left.
            let bytes = message.to_vec().unwrap_or_default();
            let over = bytes.len().saturating_sub(self.room());
            if over == 0 || message.answers.is_empty() {
                return bytes;
            }
            // Names were not compressed after all: with the largest record in mind, no more than needed goes.
            let largest = self.section.len() + RECORD + 16;
            message
                .answers
                .truncate(message.answers.len() - over.div_ceil(largest).min(message.answers.len()));
            message.metadata.truncation = true;
        }
    }

    /// How many records of this kind an answer holds.
    fn fitting(&self, data: &[RData]) -> usize {
        let each = RECORD + if matches!(data.first(), Some(RData::AAAA(_))) { 16 } else { 4 };
        self.room().saturating_sub(HEADER + self.section.len() + OPT) / each
    }

    /// The question as it is put to an upstream server.
    pub(super) fn put(&self, id: u16) -> Option<Vec<u8>> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.add_query(self.query.clone());
        if let Some((size, dnssec_ok)) = self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size.clamp(PLAIN, LARGEST_DATAGRAM as u16)).set_dnssec_ok(dnssec_ok);
            message.set_edns(edns);
        }
        message.to_vec().ok()
    }

    /// An upstream's answer of `age` seconds ago as an answer to this question.
    pub(super) fn pass_on(&self, answer: &Answer, age: u32) -> Vec<u8> {
        let end = HEADER + self.section.len();
        let whole = answer.bytes.len() <= self.room();
        let mut bytes = answer.bytes.clone();
        if !whole {
            bytes.truncate(end);
            bytes.get_mut(6..HEADER).unwrap_or_default().fill(0);
        }
        if let Some(section) = bytes.get_mut(HEADER..end) {
            section.copy_from_slice(&self.section);
        }
        let [high, low] = self.id.to_be_bytes();
        if let [a, b, flags, more, ..] = &mut bytes[..] {
            (*a, *b) = (high, low);
            *flags = (*flags & !1) | u8::from(self.recursion_desired) | if whole { 0 } else { 2 };
            // Recursion is there; checking disabled is said back.
            *more = (*more & !0x10) | 0x80 | (u8::from(self.checking_disabled) << 4);
        }
        for place in answer.lifetimes.iter().filter(|_| whole) {
            let place = usize::from(*place);
            if let Some(Ok(left)) = bytes.get(place..place + 4).map(<[u8; 4]>::try_from) {
                let left = u32::from_be_bytes(left).saturating_sub(age);
                bytes[place..place + 4].copy_from_slice(&left.to_be_bytes());
            }
        }
        bytes
    }

    /// Bytes of the largest answer.
    fn room(&self) -> usize {
        match (self.transport, self.edns) {
            (Transport::Tcp, _) => LARGEST,
            (Transport::Udp, None) => PLAIN.into(),
            (Transport::Udp, Some((size, _))) => size.clamp(PLAIN, LARGEST_DATAGRAM as u16).into(),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Whether a message claims to be the answer to what was put: the number is right and the question is the same but for
    /// capitals. What does not is somebody else's, and the right one may still come.
    pub(super) fn belongs(bytes: &[u8], id: u16, section: &[u8]) -> bool {
        let asked = bytes.get(HEADER..HEADER + section.len());
        // Lengths of labels are below 64, where no letters are.
        bytes.starts_with(&id.to_be_bytes()) && asked.is_some_and(|asked| asked.eq_ignore_ascii_case(section))
    }

    /// Reads a message that [`Answer::belongs`]; none if it is no answer, or broken anywhere.
    pub(super) fn read(bytes: &[u8], section: &[u8]) -> Option<Self> {
        let message = Message::from_vec(bytes).ok()?;
        let (kind, code) = (message.metadata.message_type, message.metadata.op_code);
        if kind != MessageType::Response || code != OpCode::Query || message.queries.len() != 1 {
            return None;
        }
        let (lifetimes, end) = lifetimes(bytes, HEADER + section.len())?;
        Some(Self {
            bytes: bytes.get(..end)?.to_vec(),
            lifetimes,
            code: message.metadata.response_code,
            truncated: message.metadata.truncation,
            keep: keep(&message),
        })
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + 2 * self.lifetimes.len()
    }
}

/// Where lifetimes are in a message whose records begin at `start`, and where it ends.
fn lifetimes(bytes: &[u8], start: usize) -> Option<(Vec<u16>, usize)> {
    let counts = Header::read(&mut BinDecoder::new(bytes)).ok()?.counts;
    let records = [counts.answers, counts.authorities, counts.additionals];
    let mut decoder = BinDecoder::new(bytes).clone(u16::try_from(start).ok()?);
    let mut places = Vec::new();
    for _ in 0..records.into_iter().map(u32::from).sum() {
        Name::read(&mut decoder).ok()?;
        let kind = decoder.read_u16().ok()?.unverified();
        decoder.read_u16().ok()?;
        if kind != u16::from(RecordType::OPT) {
            places.push(u16::try_from(decoder.index()).ok()?);
        }
        decoder.read_u32().ok()?;
        let length = decoder.read_u16().ok()?.unverified();
        decoder.read_slice(length.into()).ok()?;
    }
    Some((places, decoder.index()))
}

/// For how many seconds an answer may be remembered: the least lifetime, or what the zone says of names and types that are
/// not there (RFC 2308); neither for ever.
fn keep(message: &Message) -> Option<u32> {
    const LONGEST: u32 = 3600;
    const LONGEST_ABSENCE: u32 = 300;
    if message.metadata.truncation {
        return None;
    }
    let absent = match message.metadata.response_code {
        ResponseCode::NXDomain => true,
        ResponseCode::NoError => message.answers.is_empty(),
        _ => return None,
    };
    let least = message.all_sections().map(|record| record.ttl).min()?;
    let most = if absent { LONGEST_ABSENCE.min(absence(message)?) } else { LONGEST };
    Some(least.min(most)).filter(|seconds| *seconds > 0)
}

fn absence(message: &Message) -> Option<u32> {
    message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) if record.dns_class == DNSClass::IN => Some(soa.minimum),
        _ => None,
    })
}
