//! What a program that stays in the foreground needs: signals as a descriptor, to be sent on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::process::WaitIdOptions;
use tare_model::{Exit, Signal};

/// Every signal of this process, blocked, to be taken one by one.
#[derive(Debug)]
pub struct Signals(OwnedFd);

// === impl Signals ===

impl Signals {
    /// Blocks all signals and opens the descriptor. A process started from now on must unblock them, as
    /// [`crate::Runtime`]'s do.
    ///
    /// # Errors
    /// Too many descriptors.
    pub fn block() -> Result<Self> {
        tare_sys::signal::block_all()?;
        tare_sys::signal::descriptor().map(Self)
    }

    /// The next signal's number, if there is one.
    ///
    /// # Errors
    /// None that is known.
    pub fn take(&self) -> Result<Option<i32>> {
        tare_sys::signal::take(self.0.as_fd())
    }

    /// Sends a signal on.
    ///
    /// # Errors
    /// `SRCH` if the process has ended.
    pub fn forward(&self, pidfd: &OwnedFd, number: i32) -> Result<()> {
        tare_sys::pidfd::send_signal(pidfd.as_fd(), number)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor of the process that has the number `pid` now.
///
/// # Errors
/// `SRCH` if there is none.
pub fn process(pid: i32) -> Result<OwnedFd> {
    tare_sys::pidfd::open(pid)
}

/// Waits for a process that this one launched; `None` if how it ended cannot be told.
///
/// # Errors
/// `CHILD` if somebody has waited for it.
pub fn wait(pidfd: &OwnedFd) -> Result<Option<Exit>> {
    let options = WaitIdOptions::EXITED;
    let ended = rustix::io::retry_on_intr(|| tare_sys::pidfd::wait(pidfd.as_fd(), options))?;
    let number = |value: Option<i32>| value.and_then(|value| u8::try_from(value).ok());
    Ok(ended.and_then(|ended| {
        let code = number(ended.exit_status()).map(Exit::Code);
        code.or_else(|| number(ended.terminating_signal()).map(Exit::Signal))
    }))
}

/// Sends a signal to a process of a container by its number; one that has ended meanwhile is no error.
///
/// # Errors
/// The kernel's refusal.
pub fn signal(pid: i32, signal: Signal) -> tare_model::Result<()> {
    match tare_sys::signal::kill(pid, signal.number()) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(tare_model::Error::system(format!("kill({pid}, {signal}): {errno}"))),
    }
}
