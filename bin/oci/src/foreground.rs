//! A process in the foreground: signals go to it, its terminal is ours, its exit code becomes ours.
//!
//! ```text
//!   poll ─┬─ signal ─▶ SIGWINCH: new size │ SIGCHLD: nothing │ other: sent on
//!         ├─ our standard input ─▶ terminal
//!         ├─ terminal ─▶ our standard output
//!         └─ process ended ─▶ rest of the terminal ─▶ exit code
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use tare_model::sandbox::Launched;
use tare_model::{Error, Exit, Result};
use tare_runtime::foreground::Signals;

use crate::notify::Notify;

/// `SIGWINCH` and `SIGCHLD`.
const WINDOW_CHANGED: i32 = 28;
const CHILD: i32 = 17;

/// Our terminal in raw mode; put back when dropped.
struct Raw(Termios);

/// Waits for the process, and gives its exit code.
pub(crate) fn wait(signals: &Signals, launched: &Launched, notify: Option<&Notify>) -> Result<u8> {
    let raw = launched.terminal.as_ref().and_then(|_| Raw::enter());
    let mut input = launched.terminal.is_some();
    if let Some(master) = &launched.terminal {
        copy_size(master);
    }
    loop {
        let ready = ready(signals, launched, notify, input)?;
        if ready.signal {
            handle(signals, launched)?;
        }
        if let Some(notify) = notify.filter(|_| ready.notified) {
            // We live as long as the program does, and are who is to be watched.
            notify.pass_on(None)?;
        }
        if let Some(master) = &launched.terminal {
            if ready.input {
                input = pump(std::io::stdin().as_fd(), master.as_fd());
            }
            if ready.output {
                pump(master.as_fd(), std::io::stdout().as_fd());
            }
        }
        if ready.ended {
            if let Some(master) = &launched.terminal {
                while has_more(master) && pump(master.as_fd(), std::io::stdout().as_fd()) {}
            }
            drop(raw);
            return status(&launched.pidfd);
        }
    }
}

#[derive(Default)]
struct Ready {
    signal: bool,
    input: bool,
    output: bool,
    ended: bool,
    notified: bool,
}

fn ready(signals: &Signals, launched: &Launched, notify: Option<&Notify>, input: bool) -> Result<Ready> {
    let stdin = std::io::stdin();
    let mut fds = vec![PollFd::new(signals, PollFlags::IN), PollFd::new(&launched.pidfd, PollFlags::IN)];
    let mut add = |fd| {
        fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        fds.len() - 1
    };
    let notified = notify.map(|notify| add(notify.as_fd()));
    let output = launched.terminal.as_ref().map(|master| add(master.as_fd()));
    let input = (input && output.is_some()).then(|| add(stdin.as_fd()));
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(Error::system(format!("poll: {error}"))),
    }
    let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
    Ok(Ready {
        signal: is_ready(0),
        ended: is_ready(1),
        notified: notified.is_some_and(is_ready),
        output: output.is_some_and(is_ready),
        input: input.is_some_and(is_ready),
    })
}

fn handle(signals: &Signals, launched: &Launched) -> Result<()> {
    while let Some(number) =
        signals.take().map_err(|error| Error::system(format!("read(signalfd): {error}")))?
    {
        match (number, &launched.terminal) {
            (CHILD, _) => {}
            (WINDOW_CHANGED, Some(master)) => copy_size(master),
            _ => match signals.forward(&launched.pidfd, number) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(Error::system(format!("pidfd_send_signal({number}): {error}"))),
            },
        }
    }
    Ok(())
}

fn copy_size(master: &OwnedFd) {
    // Without a terminal of ours there is no size to copy, and the program keeps the one it has.
    if let Ok(size) = tcgetwinsize(std::io::stdin()) {
        let _ = tcsetwinsize(master, size);
    }
}

/// Copies what is there; false when the end was reached or nobody takes it any more.
fn pump(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut bytes = [0_u8; 8192];
    let Ok(length @ 1..) = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut bytes)) else {
        return false;
    };
    let mut rest = &bytes[..length];
    while !rest.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(to, rest)) {
            Ok(written) => rest = &rest[written..],
            Err(_) => return false,
        }
    }
    true
}

fn has_more(master: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(master, PollFlags::IN)];
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().contains(PollFlags::IN)
}

fn status(pidfd: &OwnedFd) -> Result<u8> {
    let exit = tare_runtime::foreground::wait(pidfd)
        .map_err(|error| Error::system(format!("waitid(P_PIDFD): {error}")))?;
    Ok(u8::try_from(exit.map_or(255, Exit::code)).unwrap_or(255))
}

// === impl Raw ===

impl Raw {
    fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
