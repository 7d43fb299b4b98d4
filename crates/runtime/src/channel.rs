//! The wire between the launching process and the one that becomes the program.
//!
//! ```text
//!   parent                                  child
//!     │ clone3 ────────────────────────────▶ │
//!     │                                      │ steps of the plan
//!     │ ◀──────────────── Terminal(fd) ───── │ (if one was asked for)
//!     │ ◀──────────────── Failed(error) ──── │ a step failed: it exits
//!     │ ◀──────────────── Ready ──────────── │ only the filter and execve are left
//!     │ ◀──────────────── Failed(error) ──── │ execve failed: it exits
//!     │ ◀──────────────── end of file ────── │ execve succeeded (the child's end is close-on-exec)
//! ```
//!
//! End of file without `Ready` means that the child was killed during set-up.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::error::{Call, Error, Result};

const FAILED: u8 = b'F';
const TERMINAL: u8 = b'T';
const READY: u8 = b'R';
/// Longest message; an error text beyond it is cut.
const LONGEST: usize = 4096;

/// The parent's end.
#[derive(Debug)]
pub(crate) struct Launch(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub(crate) struct Report(OwnedFd);

/// How far to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Everything is set up.
    Ready,
    /// The program was executed.
    Executed,
}

/// What the parent learns when the program runs.
#[derive(Debug, Default)]
pub(crate) struct Started {
    /// Master end of the terminal, if the child made one.
    pub(crate) terminal: Option<OwnedFd>,
}

/// Makes both ends.
pub(crate) fn pair() -> Result<(Launch, Report)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .call(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)")?;
    Ok((Launch(ours), Report(theirs)))
}

// === impl Launch ===

impl Launch {
    /// Waits until the program runs or failed to; or, with `Until::Ready`, only until it stands at the gate. The child's
    /// end must be closed here by now.
    pub(crate) fn wait(self, until: Until) -> Result<Started> {
        let mut started = Started::default();
        let mut ready = false;
        loop {
            let (message, fd) = self.receive()?;
            match message.split_first() {
                None if ready => return Ok(started),
                None => {
                    let text = "the process was killed while it was being set up (memory limit? see the kernel's log)";
                    return Err(Error::new(tare_model::ErrorKind::System, text));
                }
                Some((&READY, _)) if until == Until::Ready => return Ok(started),
                Some((&READY, _)) => ready = true,
                Some((&TERMINAL, _)) => started.terminal = fd,
                Some((_, text)) => return Err(decode(text)),
            }
        }
    }

    fn receive(&self) -> Result<(Vec<u8>, Option<OwnedFd>)> {
        let mut bytes = [0_u8; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = rustix::io::retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).map(|message| message.bytes)
        });
        // A child that was killed with unread data leaves a reset; to us that is an end as well.
        let length = match length {
            Err(Errno::CONNRESET) => 0,
            other => other.call(|| "recvmsg(launch channel)")?,
        };
        let mut fd = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fd = fds.last();
            }
        }
        Ok((bytes[..length].to_vec(), fd))
    }
}

// === impl Report ===

impl Report {
    /// Only filter and `execve` are left.
    pub(crate) fn ready(&self) -> Result<()> {
        self.send(READY, &[], None)
    }

    /// Hands over the terminal's master.
    pub(crate) fn terminal(&self, master: BorrowedFd<'_>) -> Result<()> {
        self.send(TERMINAL, &[], Some(master))
    }

    /// The last word. Whether it can be said or not, the caller exits.
    pub(crate) fn failed(&self, error: Error) {
        let _ = self.send(FAILED, &encode(error), None);
    }

    fn send(&self, tag: u8, text: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let tag = [tag];
        let parts = [IoSlice::new(&tag), IoSlice::new(text)];
        let fds = fd.as_slice();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        rustix::io::retry_on_intr(|| sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL))
            .call(|| "sendmsg(launch channel)")
            .map(drop)
    }
}

impl AsFd for Report {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn encode(error: Error) -> Vec<u8> {
    let error = tare_model::Error::from(error);
    let mut text = error.message().to_owned();
    loop {
        let short = tare_model::Error::new(error.kind(), text.as_str());
        match serde_json::to_vec(&short) {
            Ok(bytes) if bytes.len() < LONGEST => return bytes,
            Ok(_) => text = text.chars().take(text.chars().count() / 2).collect(),
            Err(_) => return Vec::new(),
        }
    }
}

fn decode(text: &[u8]) -> Error {
    serde_json::from_slice::<tare_model::Error>(text).map_or_else(
        |_| {
            Error::new(
                tare_model::ErrorKind::System,
                "the process being set up failed without a readable reason",
            )
        },
        Error::from,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_after_ready_is_success() {
        let (launch, report) = pair().unwrap();
        report.ready().unwrap();
        drop(report);
        assert!(launch.wait(Until::Executed).unwrap().terminal.is_none());
    }

    #[test]
    fn an_end_before_ready_is_a_death() {
        let (launch, report) = pair().unwrap();
        drop(report);
        assert!(launch.wait(Until::Executed).unwrap_err().to_string().contains("killed while"));
    }

    #[test]
    fn an_error_arrives_with_its_kind_even_after_ready() {
        let (launch, report) = pair().unwrap();
        report.ready().unwrap();
        report.failed(Error::new(tare_model::ErrorKind::CommandNotFound, "no such program"));
        let error = launch.wait(Until::Executed).unwrap_err();
        assert_eq!(error.kind(), tare_model::ErrorKind::CommandNotFound);
        assert_eq!(error.to_string(), "no such program");
    }

    #[test]
    fn a_long_error_is_cut_not_lost() {
        let (launch, report) = pair().unwrap();
        report.failed(Error::invalid("ä\"".repeat(9000)));
        let error = launch.wait(Until::Executed).unwrap_err();
        assert_eq!(error.kind(), tare_model::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("ä\"ä\""));
    }

    #[test]
    fn a_terminal_is_handed_over() {
        let (launch, report) = pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        report.terminal(write.as_fd()).unwrap();
        drop(write);
        report.ready().unwrap();
        drop(report);
        let got = launch.wait(Until::Executed).unwrap().terminal.unwrap();
        rustix::io::write(&got, b"x").unwrap();
        drop(got);
        let mut byte = [0; 2];
        assert_eq!(rustix::io::read(&read, &mut byte), Ok(1));
    }
}
