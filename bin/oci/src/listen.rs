//! Descriptors that this program was given to pass on: those of socket activation, and those of `--preserve-fds`.

use std::path::Path;

use tare_model::{Error, Result};

/// How many descriptors socket activation has passed to this very process, from 3 on.
pub(crate) fn passed() -> u32 {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    }
}

/// What tells the program in the container of them; there it is process 1.
pub(crate) fn variables() -> Vec<String> {
    match passed() {
        0 => Vec::new(),
        count => vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()],
    }
}

/// Refuses to pass on what is not there: one of our own descriptors would take its number, and go along.
pub(crate) fn require(count: u32) -> Result<()> {
    for number in 3..3_u32.saturating_add(count) {
        let path = format!("/proc/self/fd/{number}");
        if Path::new(&path).symlink_metadata().is_err() {
            let at = number - 3;
            return Err(Error::invalid(format!(
                "unable to stat preserved-fd {at} (of {count}): it is not open"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_not_there_is_named() {
        let error = require(5000).unwrap_err();
        assert!(error.message().contains("(of 5000)"), "{error}");
        assert!(require(0).is_ok());
    }
}
