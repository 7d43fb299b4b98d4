//! Random moments that can be had again: a xorshift generator and its seed.

/// A generator.
pub(crate) struct Random(u64);

impl Random {
    /// Seeded from `TARE_CRASH_SEED` or the clock; the seed is shown.
    pub(crate) fn seeded(who: &str) -> Random {
        let given: Option<u64> = std::env::var("TARE_CRASH_SEED").ok().and_then(|s| s.parse().ok());
        let clock = || std::time::UNIX_EPOCH.elapsed().map_or(1, |d| d.subsec_nanos().into());
        let seed = given.unwrap_or_else(clock);
        eprintln!("{who}: TARE_CRASH_SEED={seed}");
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Another generator, for another thread.
    pub(crate) fn fork(&mut self) -> Random {
        Random(self.next() | 1)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
