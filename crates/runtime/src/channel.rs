//! The wire between the launching process and the one that becomes the program.
//!
//! ```text
//!   parent                                  child
//!     │ clone3 ────────────────────────────▶ │
//!     │ ◀──────────────── Sibling(pid, fd) ─ │ (a second child goes on in the place of the first)
//!     │ GoOn ──────────────────────────────▶ │ (its parent knows it)
//!     │ Mapped ────────────────────────────▶ │ (the new user namespace has its ids)
//!     │ ◀──────────────── Turn ───────────── │ (if what the parent makes next is to be younger)
//!     │ Pieces(places, fds) … Last ────────▶ │ (what the parent made for it; perhaps in two portions)
//!     │                                      │ steps of the plan
//!     │ ◀──────────────── Network(fds) ───── │ (if there is a door; kept while the container runs)
//!     │ ◀──────────────── Meet ───────────── │ (if there is something for the parent to do)
//!     │ hooks, devices ──── GoOn ──────────▶ │
//!     │ ◀──────────────── Copy ───────────── │ (if its mounts are to be locked)
//!     │ Copy(fd) ──────────────────────────▶ │
//!     │ ◀──────────────── Terminal(fd) ───── │ (if one was asked for)
//!     │ ◀──────────────── Failed(error) ──── │ a step failed: it exits
//!     │ ◀──────────────── Ready ──────────── │ only the filter and execve are left
//!     │ ◀──────────────── Failed(error) ──── │ execve failed: it exits
//!     │ ◀──────────────── end of file ────── │ execve succeeded (the child's end is close-on-exec)
//! ```
//!
//! End of file without `Ready` means that the child was killed during set-up.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use tare_model::sandbox::NetworkSockets;

use crate::error::{Call, Error, Result};
use crate::mount::idmap::{self, Piece};

const FAILED: u8 = b'F';
const TERMINAL: u8 = b'T';
const READY: u8 = b'R';
const SIBLING: u8 = b'S';
const MAPPED: u8 = b'M';
const MEET: u8 = b'E';
const GO_ON: u8 = b'G';
const TURN: u8 = b'U';
const PIECES: u8 = b'P';
const LAST: u8 = b'L';
const LISTENER: u8 = b'N';
const COPY: u8 = b'C';
const NETWORK: u8 = b'W';
/// Longest message; an error text beyond it is cut.
const LONGEST: usize = 4096;
/// Pieces in one message: fewer than the kernel's limit of descriptors, and their places fit.
const PIECES_AT_ONCE: usize = 96;
/// Longest message of pieces: each place is a path.
const LONGEST_PIECES: usize = 64 << 10;

/// The parent's end.
#[derive(Debug)]
pub(crate) struct Launch {
    socket: OwnedFd,
    /// Sockets that came before it was asked for them.
    early: RefCell<Option<NetworkSockets>>,
}

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

/// What the parent does for the child while it waits for the program to run.
pub(crate) trait Service {
    /// What the child waits for at [`Report::meet`].
    fn meet(&self) -> Result<()>;
    /// A copy of the child's mount namespace that belongs to a user namespace below the child's.
    fn copy_mounts(&self) -> Result<OwnedFd>;
}

/// What the parent learns when the program runs.
#[derive(Debug, Default)]
pub(crate) struct Started {
    /// Master end of the terminal, if the child made one.
    pub(crate) terminal: Option<OwnedFd>,
    /// Sockets of its network namespace, if there is a door.
    pub(crate) network: Option<NetworkSockets>,
}

/// Makes both ends.
pub(crate) fn pair() -> Result<(Launch, Report)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .call(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)")?;
    Ok((Launch { socket: ours, early: RefCell::default() }, Report(theirs)))
}

/// A child that goes on in the place of another.
pub(crate) struct Sibling {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Places of pieces as they travel: which of the things handed over, and where in it.
type Places = Vec<(usize, Vec<u8>)>;

// === impl Launch ===

impl Launch {
    /// Waits for the child that goes on in the place of the first.
    pub(crate) fn sibling(&self) -> Result<Sibling> {
        let (message, fd) = self.receive()?;
        match (message.split_first(), fd) {
            (Some((&SIBLING, text)), Some(pidfd)) => {
                let pid = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                let pid = pid.ok_or_else(|| Error::invalid("launch channel: no process id"))?;
                Ok(Sibling { pid, pidfd })
            }
            (Some((&FAILED, text)), _) => Err(decode(text)),
            _ => Err(Error::new(tare_model::ErrorKind::System, "the process was killed at its beginning")),
        }
    }

    /// The child that goes on is known.
    pub(crate) fn go_on(&self) -> Result<()> {
        send(self.socket.as_fd(), GO_ON, &[], &[])
    }

    /// The user namespace has its ids.
    pub(crate) fn mapped(&self) -> Result<()> {
        send(self.socket.as_fd(), MAPPED, &[], &[])
    }

    /// Waits until the child has made what comes first.
    pub(crate) fn turn(&self) -> Result<()> {
        loop {
            let (message, fds) = receive(self.socket.as_fd(), LONGEST)?;
            match message.split_first() {
                Some((&TURN, _)) => return Ok(()),
                Some((&NETWORK, _)) => *self.early.borrow_mut() = NetworkSockets::from_descriptors(fds),
                Some((&FAILED, text)) => return Err(decode(text)),
                _ => return Err(killed()),
            }
        }
    }

    /// Hands over what was made, in order.
    pub(crate) fn pieces(&self, made: &[Vec<Piece>]) -> Result<()> {
        let all: Vec<(usize, &Piece)> =
            made.iter().enumerate().flat_map(|(at, pieces)| pieces.iter().map(move |p| (at, p))).collect();
        let mut rest = all.as_slice();
        loop {
            let fits = fitting(rest);
            let (now, later) = rest.split_at(fits);
            let places: Places =
                now.iter().map(|(at, p)| (*at, p.place.as_os_str().as_bytes().to_vec())).collect();
            let text = serde_json::to_vec(&places)
                .map_err(|e| Error::invalid(format!("launch channel: places of mounts: {e}")))?;
            let fds: Vec<BorrowedFd<'_>> = now.iter().map(|(_, piece)| piece.mount.as_fd()).collect();
            let tag = if later.is_empty() { LAST } else { PIECES };
            send(self.socket.as_fd(), tag, &text, &fds)?;
            if later.is_empty() {
                return Ok(());
            }
            rest = later;
        }
    }

    /// Waits until the program runs or failed to; or, with `Until::Ready`, only until it stands at the gate. The child's
    /// end must be closed here by now. `service` is what the child may wait for on its way.
    pub(crate) fn wait(&self, until: Until, service: &dyn Service) -> Result<Started> {
        let mut started = Started { network: self.early.take(), ..Started::default() };
        let mut ready = false;
        loop {
            let (message, mut fds) = receive(self.socket.as_fd(), LONGEST)?;
            match message.split_first() {
                None if ready => return Ok(started),
                None => return Err(killed()),
                Some((&READY, _)) if until == Until::Ready => return Ok(started),
                Some((&READY, _)) => ready = true,
                Some((&TERMINAL, _)) => started.terminal = fds.pop(),
                Some((&NETWORK, _)) => started.network = NetworkSockets::from_descriptors(fds),
                Some((&MEET, _)) => {
                    service.meet()?;
                    self.go_on()?;
                }
                Some((&COPY, _)) => send(self.socket.as_fd(), COPY, &[], &[service.copy_mounts()?.as_fd()])?,
                Some((_, text)) => return Err(decode(text)),
            }
        }
    }

    /// After it was ready: waits until the program runs or failed to.
    pub(crate) fn executed(&self) -> Result<()> {
        match self.receive()?.0.split_first() {
            None => Ok(()),
            Some((_, text)) => Err(decode(text)),
        }
    }

    /// After it was ready: the listener of the filter that the child has loaded.
    pub(crate) fn listener(&self) -> Result<OwnedFd> {
        let (message, fd) = self.receive()?;
        match (message.split_first(), fd) {
            (Some((&LISTENER, _)), Some(fd)) => Ok(fd),
            (Some((&FAILED, text)), _) => Err(decode(text)),
            _ => Err(Error::new(
                tare_model::ErrorKind::System,
                "the filter does not let the process send its listener (sendmsg)",
            )),
        }
    }

    /// What [`Report::copy`] hands over; this pair has no other use.
    pub(crate) fn copy(&self) -> Result<OwnedFd> {
        let (message, fd) = self.receive()?;
        match (message.split_first(), fd) {
            (Some((&COPY, _)), Some(fd)) => Ok(fd),
            (Some((&FAILED, text)), _) => Err(decode(text)),
            _ => Err(gone()),
        }
    }

    fn receive(&self) -> Result<(Vec<u8>, Option<OwnedFd>)> {
        let (message, mut fds) = receive(self.socket.as_fd(), LONGEST)?;
        Ok((message, fds.pop()))
    }
}

// === impl Report ===

impl Report {
    /// Only filter and `execve` are left.
    pub(crate) fn ready(&self) -> Result<()> {
        self.send(READY, &[], None)
    }

    /// Another child, `pid` in the parent's pid namespace, goes on from here.
    pub(crate) fn sibling(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        self.send(SIBLING, pid.to_string().as_bytes(), Some(pidfd))
    }

    /// Waits until the user namespace has its ids.
    pub(crate) fn await_ids(&self) -> Result<()> {
        self.await_word(MAPPED)
    }

    /// Waits until the parent knows this child.
    pub(crate) fn await_go_on(&self) -> Result<()> {
        self.await_word(GO_ON)
    }

    /// What comes first is made.
    pub(crate) fn turn(&self) -> Result<()> {
        self.send(TURN, &[], None)
    }

    /// Waits until the launching process has done its part.
    pub(crate) fn meet(&self) -> Result<()> {
        self.send(MEET, &[], None)?;
        self.await_word(GO_ON)
    }

    fn await_word(&self, word: u8) -> Result<()> {
        match receive(self.0.as_fd(), LONGEST)?.0.first() {
            Some(said) if *said == word => Ok(()),
            _ => Err(gone()),
        }
    }

    /// Takes over `count` things made by the parent, each in one or more pieces.
    pub(crate) fn take_pieces(&self, count: usize) -> Result<Vec<Vec<Piece>>> {
        let mut all: Vec<Vec<Piece>> = (0..count).map(|_| Vec::new()).collect();
        loop {
            let (message, fds) = receive(self.0.as_fd(), LONGEST_PIECES)?;
            let Some((tag @ (&PIECES | &LAST), text)) = message.split_first() else { return Err(gone()) };
            let odd = || Error::invalid("launch channel: pieces and their places do not match");
            let places: Places = serde_json::from_slice(text).map_err(|_| odd())?;
            if places.len() != fds.len() {
                return Err(odd());
            }
            for ((at, place), mount) in places.into_iter().zip(fds) {
                let piece = Piece { mount, place: idmap::place_from(&place) };
                all.get_mut(at).ok_or_else(odd)?.push(piece);
            }
            if *tag == LAST {
                return if all.iter().any(Vec::is_empty) { Err(odd()) } else { Ok(all) };
            }
        }
    }

    /// Hands over the terminal's master.
    pub(crate) fn terminal(&self, master: BorrowedFd<'_>) -> Result<()> {
        self.send(TERMINAL, &[], Some(master))
    }

    /// Hands over sockets of the network namespace.
    pub(crate) fn network(&self, sockets: &NetworkSockets) -> Result<()> {
        send(self.0.as_fd(), NETWORK, &[], &sockets.descriptors())
    }

    /// Hands over the listener of the loaded filter.
    pub(crate) fn listener(&self, listener: BorrowedFd<'_>) -> Result<()> {
        self.send(LISTENER, &[], Some(listener))
    }

    /// A copy of this process's mount namespace, made by the parent.
    pub(crate) fn copied_mounts(&self) -> Result<OwnedFd> {
        self.send(COPY, &[], None)?;
        let (message, mut fds) = receive(self.0.as_fd(), LONGEST)?;
        match (message.first(), fds.pop()) {
            (Some(&COPY), Some(fd)) => Ok(fd),
            _ => Err(gone()),
        }
    }

    /// Hands over a copy of the mount namespace.
    pub(crate) fn copy(&self, namespace: BorrowedFd<'_>) -> Result<()> {
        self.send(COPY, &[], Some(namespace))
    }

    /// The last word. Whether it can be said or not, the caller exits.
    pub(crate) fn failed(&self, error: Error) {
        let _ = self.send(FAILED, &encode(error), None);
    }

    fn send(&self, tag: u8, text: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
        send(self.0.as_fd(), tag, text, fd.as_slice())
    }
}

impl AsFd for Launch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for Report {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How many of the pieces go into one message.
fn fitting(pieces: &[(usize, &Piece)]) -> usize {
    // In JSON each byte is a number of up to three digits and a comma.
    let mut room = LONGEST_PIECES - 64;
    let fits = pieces.iter().take(PIECES_AT_ONCE).take_while(|(_, piece)| {
        let needs = 32 + 4 * piece.place.as_os_str().len();
        room.checked_sub(needs).map(|left| room = left).is_some()
    });
    // One always does: a path has at most 4096 bytes.
    fits.count().max(1).min(pieces.len())
}

fn killed() -> Error {
    let text = "the process was killed while it was being set up (memory limit? see the kernel's log)";
    Error::new(tare_model::ErrorKind::System, text)
}

fn gone() -> Error {
    Error::new(tare_model::ErrorKind::System, "the process that sets the container up has ended")
}

fn send(socket: BorrowedFd<'_>, tag: u8, text: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let tag = [tag];
    let parts = [IoSlice::new(&tag), IoSlice::new(text)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIECES_AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::io::retry_on_intr(|| sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))
        .call(|| "sendmsg(launch channel)")
        .map(drop)
}

/// The next message with its descriptors; an empty one is the end.
fn receive(socket: BorrowedFd<'_>, longest: usize) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0_u8; longest];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIECES_AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            // A peer that ended with something unread leaves a reset, which is told once and before its last words.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            other => break other.call(|| "recvmsg(launch channel)")?.bytes,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    bytes.truncate(length);
    Ok((bytes, fds))
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

    struct Parent<F>(F);

    impl<F: Fn() -> Result<()>> Service for Parent<F> {
        fn meet(&self) -> Result<()> {
            (self.0)()
        }

        fn copy_mounts(&self) -> Result<OwnedFd> {
            Err(Error::invalid("no mounts"))
        }
    }

    #[test]
    fn an_end_after_ready_is_success() {
        let (launch, report) = pair().unwrap();
        report.ready().unwrap();
        drop(report);
        assert!(launch.wait(Until::Executed, &Parent(|| Ok(()))).unwrap().terminal.is_none());
    }

    #[test]
    fn sockets_that_come_before_the_turn_are_not_lost() {
        let (launch, report) = pair().unwrap();
        let sockets = (0..4).map(|_| OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        report.network(&NetworkSockets::from_descriptors(sockets.collect()).unwrap()).unwrap();
        report.turn().unwrap();
        launch.turn().unwrap();
        report.ready().unwrap();
        assert!(launch.wait(Until::Ready, &Parent(|| Ok(()))).unwrap().network.is_some());
    }

    #[test]
    fn an_end_before_ready_is_a_death() {
        let (launch, report) = pair().unwrap();
        drop(report);
        assert!(
            launch
                .wait(Until::Executed, &Parent(|| Ok(())))
                .unwrap_err()
                .to_string()
                .contains("killed while")
        );
    }

    #[test]
    fn an_error_arrives_with_its_kind_even_after_ready() {
        let (launch, report) = pair().unwrap();
        report.ready().unwrap();
        report.failed(Error::new(tare_model::ErrorKind::CommandNotFound, "no such program"));
        let error = launch.wait(Until::Executed, &Parent(|| Ok(()))).unwrap_err();
        assert_eq!(error.kind(), tare_model::ErrorKind::CommandNotFound);
        assert_eq!(error.to_string(), "no such program");
    }

    #[test]
    fn a_meeting_that_fails_is_the_outcome() {
        let (launch, report) = pair().unwrap();
        report.send(MEET, &[], None).unwrap();
        let error = launch.wait(Until::Executed, &Parent(|| Err(Error::invalid("no")))).unwrap_err();
        assert_eq!(error.to_string(), "no");
        drop(launch);
        assert!(report.meet().is_err(), "nobody is there any more");
    }

    #[test]
    fn a_meeting_goes_on_when_the_parent_is_done() {
        let (launch, report) = pair().unwrap();
        report.send(MEET, &[], None).unwrap();
        report.ready().unwrap();
        assert!(launch.wait(Until::Ready, &Parent(|| Ok(()))).is_ok());
        let mut answer = [0];
        assert_eq!(rustix::io::read(&report.0, &mut answer), Ok(1));
        assert_eq!(answer, [GO_ON]);
    }

    #[test]
    fn a_long_error_is_cut_not_lost() {
        let (launch, report) = pair().unwrap();
        report.failed(Error::invalid("ä\"".repeat(9000)));
        let error = launch.wait(Until::Executed, &Parent(|| Ok(()))).unwrap_err();
        assert_eq!(error.kind(), tare_model::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("ä\"ä\""));
    }

    #[test]
    fn pieces_arrive_in_order_however_many_they_are() {
        let (launch, report) = pair().unwrap();
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        let piece = |place: &str| Piece { mount: file(), place: place.into() };
        let long = "a/".repeat(1500);
        let many: Vec<Piece> = (0..150).map(|n| piece(&format!("{n}/{long}"))).collect();
        let made = vec![vec![piece("")], many, vec![piece("")]];
        let sender = std::thread::spawn(move || {
            launch.mapped().unwrap();
            launch.pieces(&made).unwrap();
        });
        report.await_ids().unwrap();
        let taken = report.take_pieces(3).unwrap();
        sender.join().unwrap();
        assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [1, 150, 1]);
        let places = taken[1].iter().enumerate();
        assert!(places.into_iter().all(|(n, piece)| piece.place.starts_with(n.to_string())));
    }

    #[test]
    fn a_parent_that_ends_is_noticed() {
        let (launch, report) = pair().unwrap();
        drop(launch);
        assert!(report.await_ids().unwrap_err().to_string().contains("has ended"));
        assert!(report.take_pieces(1).unwrap_err().to_string().contains("has ended"));
    }

    #[test]
    fn the_last_words_of_a_child_that_read_nothing_arrive() {
        let (launch, report) = pair().unwrap();
        launch.mapped().unwrap();
        report.failed(Error::invalid("why"));
        drop(report);
        assert_eq!(launch.wait(Until::Executed, &Parent(|| Ok(()))).unwrap_err().to_string(), "why");
    }

    #[test]
    fn a_terminal_is_handed_over() {
        let (launch, report) = pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        report.terminal(write.as_fd()).unwrap();
        drop(write);
        report.ready().unwrap();
        drop(report);
        let got = launch.wait(Until::Executed, &Parent(|| Ok(()))).unwrap().terminal.unwrap();
        rustix::io::write(&got, b"x").unwrap();
        drop(got);
        let mut byte = [0; 2];
        assert_eq!(rustix::io::read(&read, &mut byte), Ok(1));
    }
}
