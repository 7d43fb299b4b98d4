//! v1 figures in v2's words. OCI speaks v1; the formulas are the ones runc uses, so that the same document gives
//! the same share of the machine under either runtime.

/// `cpu.shares` (2 to 262144, usual 1024) as `cpu.weight` (1 to 10000, usual 100).
///
/// The curve goes through all three pairs exactly; the straight line that runc used until 2025 made 1024 into 39.
pub(crate) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // A hair below, so that the rounding errors of exact results do not push them to the next integer.
            (10f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

/// `blkio.weight` (10 to 1000) as `io.weight` (1 to 10000).
pub(crate) fn io_weight(weight: u64) -> u64 {
    1 + weight.saturating_sub(10) * 9999 / 990
}

/// A limit where negative means none.
pub(crate) fn or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

/// What swap may be used when v1 counts memory and swap together.
///
/// `None`: say nothing. `memory_and_swap` of -1 is unlimited, of 0 unset; unlimited memory without a word on swap means
/// unlimited swap too, as v1 has it.
pub(crate) fn swap_alone(
    memory: Option<i64>,
    memory_and_swap: Option<i64>,
) -> Result<Option<i64>, &'static str> {
    let memory = memory.filter(|limit| *limit != 0);
    match (memory, memory_and_swap.filter(|limit| *limit != 0)) {
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(-1)) => Ok(Some(-1)),
        (_, Some(total)) if total < 0 => Err("must be -1 (unlimited) or a number of bytes"),
        (None | Some(-1), Some(_)) => Err("needs a memory limit beside it, since it counts both"),
        (Some(memory), Some(total)) if total < memory => {
            Err("counts memory and swap together, so it cannot be less than the memory limit")
        }
        (Some(memory), Some(total)) => Ok(Some(total - memory)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn weights_meet_the_ends_and_the_usual_value() {
        assert_eq!(cpu_weight(0), 1);
        assert_eq!(cpu_weight(2), 1);
        assert_eq!(cpu_weight(1024), 100);
        assert_eq!(cpu_weight(262_144), 10_000);
        assert_eq!(cpu_weight(1_000_000), 10_000);
        assert_eq!(cpu_weight(512), 59);
        assert_eq!(cpu_weight(2048), 174);
    }

    #[test]
    fn io_weights_meet_the_ends() {
        assert_eq!(io_weight(10), 1);
        assert_eq!(io_weight(1000), 10_000);
        assert_eq!(io_weight(500), 4950);
    }

    #[test]
    fn swap_is_the_rest_above_memory() {
        assert_eq!(swap_alone(Some(100), Some(300)), Ok(Some(200)));
        assert_eq!(swap_alone(Some(100), Some(100)), Ok(Some(0)));
        assert_eq!(swap_alone(Some(100), Some(-1)), Ok(Some(-1)));
        assert_eq!(swap_alone(Some(100), None), Ok(None));
        assert_eq!(swap_alone(Some(100), Some(0)), Ok(None));
        assert_eq!(swap_alone(Some(-1), None), Ok(Some(-1)));
        assert_eq!(swap_alone(None, None), Ok(None));
    }

    #[test]
    fn swap_that_makes_no_sense_is_refused() {
        assert!(swap_alone(Some(300), Some(100)).is_err());
        assert!(swap_alone(None, Some(100)).is_err());
        assert!(swap_alone(Some(-1), Some(100)).is_err());
        assert!(swap_alone(Some(100), Some(-2)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn more_shares_are_never_less_weight(shares in 0u64..300_000, more in 1u64..1000) {
            prop_assert!(cpu_weight(shares) <= cpu_weight(shares + more));
            prop_assert!((1..=10_000).contains(&cpu_weight(shares)));
        }
    }
}
