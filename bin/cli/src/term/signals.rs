//! Signals as bytes on a descriptor, so that one poll waits for them and for everything else.

use signal_hook::consts::{
    SIGCHLD, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSEGV, SIGSTOP, SIGTERM, SIGTTIN,
    SIGTTOU, SIGURG, SIGWINCH,
};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Never caught: those that cannot be, those that mean a crash of this program, those that job control and this
/// program's own children and pipes need.
const LEFT_ALONE: &[i32] =
    &[SIGKILL, SIGSTOP, SIGILL, SIGFPE, SIGSEGV, SIGCHLD, SIGPIPE, SIGTTIN, SIGTTOU, SIGURG];

/// Caught signals, until this is dropped.
#[derive(Debug)]
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

// === impl Signals ===

impl Signals {
    /// Catches what a session needs: everything that is passed on, or what would end this program; and window changes.
    pub(crate) fn for_session(proxy: bool) -> io::Result<Self> {
        if proxy {
            return Self::catch((1..=31).filter(|n| !LEFT_ALONE.contains(n)));
        }
        Self::catch([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH])
    }

    /// Catches these.
    pub(crate) fn catch(signals: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        Ok(Self { delivery: SignalDelivery::with_pipe(read, write, SignalOnly, signals)? })
    }

    /// Those that arrived since the last call; several of one kind may count once.
    pub(crate) fn arrived(&mut self) -> Vec<i32> {
        self.delivery.pending().collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.delivery.handle().close();
        // A handler that was installed stays, doing nothing; those that end programs must end this one again.
        let always = Arc::new(AtomicBool::new(true));
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
            let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(&always));
        }
    }
}

/// `TERM` for 15: what the API is told.
pub(crate) fn signal_name(signal: i32) -> String {
    let name = signal_hook::low_level::signal_name(signal);
    name.map_or_else(|| signal.to_string(), |n| n.trim_start_matches("SIG").to_owned())
}
