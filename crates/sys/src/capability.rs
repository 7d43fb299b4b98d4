//! Capabilities of the calling thread: the five sets, changed one system call at a time.
//!
//! Sets are the kernel's 64-bit masks; names and policy live elsewhere. The order in which a starting container
//! process uses these: [`limit_bounding`], change of user with [`keep_over_setuid`], [`set`], [`set_ambient`].
//! See [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html).

use rustix::io::{Errno, Result};
use rustix::thread as kernel;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// The three sets that `capget` and `capset` carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// What counts in permission checks now.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What survives `execve` through file inheritable bits; a container's must be empty (row 14 of the CVE table).
    pub inheritable: u64,
}

/// Highest number a mask can hold; the kernel's own last capability is lower and found by asking.
const HIGHEST: u32 = 63;

/// Reads the calling thread's sets.
pub fn get() -> Result<Sets> {
    let now = kernel::capabilities(None)?;
    Ok(Sets {
        effective: now.effective.bits(),
        permitted: now.permitted.bits(),
        inheritable: now.inheritable.bits(),
    })
}

/// Sets the calling thread's three sets. Bits that the kernel does not know are an error of the kernel's, not masked here.
pub fn set(sets: Sets) -> Result<()> {
    kernel::set_capabilities(
        None,
        CapabilitySets {
            effective: CapabilitySet::from_bits_retain(sets.effective),
            permitted: CapabilitySet::from_bits_retain(sets.permitted),
            inheritable: CapabilitySet::from_bits_retain(sets.inheritable),
        },
    )
}

/// The capabilities that the running kernel knows and that are still in the bounding set.
pub fn bounding() -> Result<u64> {
    let mut mask = 0;
    for number in 0..=HIGHEST {
        match kernel::capability_is_in_bounding_set(one(number)) {
            Ok(true) => mask |= 1 << number,
            Ok(false) => {}
            Err(Errno::INVAL) => break, // beyond the kernel's last capability
            Err(error) => return Err(error),
        }
    }
    Ok(mask)
}

/// Takes everything out of the bounding set that is not in `keep`, newer capabilities than any table included.
pub fn limit_bounding(keep: u64) -> Result<()> {
    for number in 0..=HIGHEST {
        if keep & (1 << number) != 0 {
            continue;
        }
        match kernel::remove_capability_from_bounding_set(one(number)) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the ambient set exactly `wanted`; each must be permitted and inheritable already, or this is `EPERM`.
pub fn set_ambient(wanted: u64) -> Result<()> {
    kernel::clear_ambient_capability_set()?;
    for number in (0..=HIGHEST).filter(|number| wanted & (1 << number) != 0) {
        kernel::configure_capability_in_ambient_set(one(number), true)?;
    }
    Ok(())
}

/// Whether a change from uid 0 to another keeps the permitted set (`PR_SET_KEEPCAPS`); cleared by `execve`.
pub fn keep_over_setuid(keep: bool) -> Result<()> {
    kernel::set_keep_capabilities(keep)
}

fn one(number: u32) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOWN: u64 = 1;
    const NET_RAW: u64 = 1 << 13;

    /// Capabilities are per thread, so a thread of its own leaves the test process as it was.
    fn on_a_thread(body: fn()) {
        let done = std::thread::spawn(body).join();
        assert!(done.is_ok(), "see the panic above");
    }

    #[test]
    fn the_bounding_set_is_limited_to_what_is_kept() {
        on_a_thread(|| {
            let before = bounding().unwrap();
            assert_ne!(before & !CHOWN, 0, "this test needs root");
            limit_bounding(CHOWN).unwrap();
            assert_eq!(bounding().unwrap(), before & CHOWN);
        });
    }

    #[test]
    fn the_three_sets_are_set_as_asked() {
        on_a_thread(|| {
            let want = Sets { effective: CHOWN, permitted: CHOWN | NET_RAW, inheritable: 0 };
            set(want).unwrap();
            assert_eq!(get().unwrap(), want);
            let more = Sets { permitted: want.permitted | 1 << 21, ..want };
            assert_eq!(set(more), Err(Errno::PERM), "what was given up does not come back");
        });
    }

    #[test]
    fn ambient_capabilities_need_to_be_inheritable_first() {
        on_a_thread(|| {
            assert_eq!(set_ambient(CHOWN), Err(Errno::PERM));
            let now = get().unwrap();
            set(Sets { inheritable: CHOWN, ..now }).unwrap();
            set_ambient(CHOWN).unwrap();
            set_ambient(0).unwrap();
        });
    }
}
