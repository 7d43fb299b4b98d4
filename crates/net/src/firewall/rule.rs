//! Rules, written nearly as nft shows them: `when().input("bridges").of(IPV4, …).drop()`.

use tare_sys::nftables::{CtKey, Expression as Do, Meta, Payload, Register, Verdict};

pub(super) const IPV4: u8 = 2;
pub(super) const IPV6: u8 = 10;

/// Conditions, all of which have to hold, and at last what is done.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule(Vec<Do>);

/// A part of a key that is looked up in a set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Of(Meta),
    In(Payload),
}

/// Where maps put what they give: after the longest key.
pub(super) const FOUND: u8 = 8;
const KEY: Register = Register(0);

/// A rule that holds for everything so far.
pub(super) fn when() -> Rule {
    Rule::default()
}

// === impl Rule ===

impl Rule {
    /// Packets of a family, [`IPV4`] or [`IPV6`].
    pub(super) fn family(self, family: u8) -> Self {
        self.meta(Meta::Family, [family])
    }

    /// That came in by a link of the set.
    pub(super) fn input(self, set: &str) -> Self {
        self.key(&[Part::Of(Meta::InputName)]).within(set)
    }

    /// That leave by a link of the set.
    pub(super) fn output(self, set: &str) -> Self {
        self.key(&[Part::Of(Meta::OutputName)]).within(set)
    }

    pub(super) fn meta(self, meta: Meta, is: impl Into<Vec<u8>>) -> Self {
        self.then(Do::Meta(meta, KEY)).then(Do::Equal(KEY, is.into()))
    }

    pub(super) fn meta_not(self, meta: Meta, is: impl Into<Vec<u8>>) -> Self {
        self.then(Do::Meta(meta, KEY)).then(Do::NotEqual(KEY, is.into()))
    }

    pub(super) fn payload(self, payload: Payload, is: impl Into<Vec<u8>>) -> Self {
        self.then(Do::Payload(payload, KEY)).then(Do::Equal(KEY, is.into()))
    }

    /// Any of the bits is set.
    pub(super) fn tracked(self, key: CtKey, bits: u32) -> Self {
        self.bits(key, bits).then(Do::NotEqual(KEY, vec![0; 4]))
    }

    /// None of the bits is set.
    pub(super) fn not_tracked(self, key: CtKey, bits: u32) -> Self {
        self.bits(key, bits).then(Do::Equal(KEY, vec![0; 4]))
    }

    fn bits(self, key: CtKey, bits: u32) -> Self {
        self.then(Do::Ct(key, KEY)).then(Do::Bitwise(KEY, bits.to_ne_bytes().into(), vec![0; 4]))
    }

    /// Loads a key; a look-up follows.
    pub(super) fn key(mut self, parts: &[Part]) -> Self {
        let mut at = 0;
        for part in parts {
            let (load, registers) = match *part {
                Part::Of(meta) => (Do::Meta(meta, Register(at)), meta.registers()),
                Part::In(payload) => (Do::Payload(payload, Register(at)), payload.registers()),
            };
            self.0.push(load);
            at += registers;
        }
        self
    }

    pub(super) fn within(self, set: &str) -> Self {
        self.then(Do::In(set.into(), KEY))
    }

    pub(super) fn outside(self, set: &str) -> Self {
        self.then(Do::NotIn(set.into(), KEY))
    }

    /// The key is in the map, which puts its data at [`FOUND`].
    pub(super) fn mapped(self, map: &str) -> Self {
        self.then(Do::Map(map.into(), KEY, Register(FOUND)))
    }

    /// Adds the key to a set that forgets.
    pub(super) fn remember(self, set: &str) -> Self {
        self.then(Do::Remember(set.into(), KEY))
    }

    pub(super) fn then(mut self, what: Do) -> Self {
        self.0.push(what);
        self
    }

    pub(super) fn goto(self, chain: &str) -> Vec<Do> {
        self.verdict(Verdict::Goto(chain.into()))
    }

    pub(super) fn drop(self) -> Vec<Do> {
        self.verdict(Verdict::Drop)
    }

    /// Our table has no objection.
    pub(super) fn accept(self) -> Vec<Do> {
        self.verdict(Verdict::Accept)
    }

    pub(super) fn verdict(self, verdict: Verdict) -> Vec<Do> {
        self.does(Do::Verdict(verdict))
    }

    pub(super) fn does(self, what: Do) -> Vec<Do> {
        self.then(what).0
    }
}
