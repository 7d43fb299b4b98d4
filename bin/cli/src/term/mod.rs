//! The terminal and the signals of this process.

mod raw;
mod signals;

pub(crate) use raw::RawMode;
pub(crate) use signals::{Signals, signal_name};

use std::os::fd::AsFd;

/// Rows and columns of a terminal; nothing if it is none or does not know.
pub(crate) fn window_size(fd: impl AsFd) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(fd).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Whether this is a terminal.
pub(crate) fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}
