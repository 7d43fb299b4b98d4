//! A netlink socket: send a request, wait for what it brings.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use super::error::{Error, Result};
use super::parse::{Attributes, Message, Messages, u32_at};
use super::request::{F_ACK, F_DUMP, Request};
use crate::last_errno;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const F_DUMP_INTERRUPTED: u16 = 0x10;
const F_CAPPED: u16 = 0x100;
const F_EXPLAINED: u16 = 0x200;
const EXPLANATION: u16 = 1;
const NFNL_BATCH_BEGIN: u16 = 16;
const NFNL_BATCH_END: u16 = 17;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const SIOCGSKNS: libc::c_ulong = 0x894c;
/// The kernel fills dump packets up to this size when the reader offers it.
const PACKET: usize = 32 * 1024;
/// Room for a batch of tens of thousands of changes; not taken unless used.
const SEND_BUFFER: usize = 16 << 20;
/// Where a message's header says who caused it.
const SENDER: u32 = 12;
/// How often a dump that was torn by a change is begun again.
const ATTEMPTS: u32 = 16;

/// What a socket is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours, queueing.
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// A socket and the number of its last request. One user at a time.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// The network namespace that a socket, of whatever family, belongs to.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` over that namespace; `ENOTTY` for what is no socket.
pub fn namespace_of(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: takes no pointer; gives a new descriptor.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _) };
    if fd < 0 {
        return Err(last_errno().into());
    }
    // SAFETY: the call just made it, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

// === impl Socket ===

impl Socket {
    /// A socket of the calling thread's network namespace.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` where the kernel lacks the protocol.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let protocol = match protocol {
            // It is number 0, which rustix writes so.
            Protocol::Route => None,
            Protocol::Netfilter => Some(rustix::net::netlink::NETFILTER),
        };
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        let socket = Self::adopt(fd);
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            // Explanations are a courtesy: without them there is still the error itself.
            let _ = socket.set(option, 1);
        }
        // A batch is one packet, however many rules it has. Refused without privilege over the host: then large ones fail.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&socket.fd, SEND_BUFFER);
        Ok(socket)
    }

    /// A socket that was made elsewhere. Answers that its last user died before reading are thrown away: the kernel begins
    /// no list while one is half read.
    pub fn adopt(fd: OwnedFd) -> Self {
        let mut socket = Self { fd, sequence: 0, buffer: vec![0; PACKET] };
        let is_some =
            |read: Result<usize>| read.map_or_else(|e| e.errno() == Errno::MSGSIZE, |length| length > 0);
        while is_some(socket.receive(RecvFlags::DONTWAIT)) {}
        socket
    }

    /// The socket itself, to be handed on.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// The network namespace that it belongs to.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN` over that namespace.
    pub fn namespace(&self) -> Result<OwnedFd> {
        namespace_of(self.fd.as_fd())
    }

    /// Its number among the netlink sockets of its namespace; news name who made a change by it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn port(&self) -> Result<u32> {
        let address = || -> Result<SocketAddrNetlink> {
            Ok(rustix::net::getsockname(&self.fd)?.try_into().map_err(|_| Errno::AFNOSUPPORT)?)
        };
        match address()?.pid() {
            0 => {
                rustix::net::bind(&self.fd, &SocketAddrNetlink::new(0, 0))?;
                Ok(address()?.pid())
            }
            port => Ok(port),
        }
    }

    /// Receives the news of groups from now on; read with [`Socket::news`]. To be called once.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn subscribe(&self, groups: &[u32]) -> Result<()> {
        // The kernel gives no news to a socket without an address.
        rustix::net::bind(&self.fd, &SocketAddrNetlink::new(0, 0))?;
        for group in groups {
            let group = libc::c_int::try_from(*group).map_err(|_| Errno::INVAL)?;
            self.set(libc::NETLINK_ADD_MEMBERSHIP, group)?;
        }
        Ok(())
    }

    /// Receives nothing that the socket of this [`Socket::port`] has caused.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn deafen(&self, sender: u32) -> Result<()> {
        // The filter reads what it compares with as a number in the network's order, and the header has it in the machine's.
        let sender = u32::from_be_bytes(sender.to_ne_bytes());
        let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let mut program = [
            instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, SENDER),
            instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, sender),
            instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
            instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        ];
        let header = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the option's value is the header of a program, which the kernel copies; both live over the call.
        let answer = unsafe {
            let (value, size) = (std::ptr::from_ref(&header).cast(), size_of_val(&header) as libc::socklen_t);
            libc::setsockopt(self.fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, value, size)
        };
        if answer < 0 { Err(last_errno().into()) } else { Ok(()) }
    }

    /// Waits for one packet of news and gives its messages to `each`.
    ///
    /// # Errors
    /// `ENOBUFS` when news were lost because nobody read them: look at everything anew.
    pub fn news(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<()> {
        let length = self.receive(RecvFlags::empty())?;
        Messages::new(&self.buffer[..length]).for_each(&mut each);
        Ok(())
    }

    /// Sends a request and waits until the kernel has done it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn call(&mut self, request: Request) -> Result<()> {
        let sequence = self.next_sequence();
        self.send(&request.finish(F_ACK, sequence)?)?;
        self.collect(sequence, |_| {}).map(drop)
    }

    /// Sends a request that is answered by one object.
    ///
    /// # Errors
    /// The kernel's refusal; `ENOENT` if it answered nothing.
    pub fn get<T>(&mut self, request: Request, read: impl Fn(Message<'_>) -> Option<T>) -> Result<T> {
        let sequence = self.next_sequence();
        self.send(&request.finish(F_ACK, sequence)?)?;
        let mut found = None;
        self.collect(sequence, |message| found = found.take().or_else(|| read(message)))?;
        found.ok_or_else(|| Errno::NOENT.into())
    }

    /// Asks for all objects and gives what `read` makes of them. A list that changed while it was read is read again.
    ///
    /// # Errors
    /// The kernel's refusal; `EINTR` if the list never stood still.
    pub fn dump<T>(&mut self, request: &Request, read: impl Fn(Message<'_>) -> Option<T>) -> Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            let sequence = self.next_sequence();
            self.send(&request.clone().finish(F_DUMP, sequence)?)?;
            let mut found = Vec::new();
            if self.collect(sequence, |message| found.extend(read(message)))? {
                return Ok(found);
            }
        }
        Err(Errno::INTR.into())
    }

    /// Asks for all objects once and gives what `read` makes of them. If the list changes meanwhile, which where containers
    /// come and go it always does, objects may be missing or there twice.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn glance<T>(
        &mut self,
        request: &Request,
        read: impl Fn(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let sequence = self.next_sequence();
        self.send(&request.clone().finish(F_DUMP, sequence)?)?;
        let mut found = Vec::new();
        self.collect(sequence, |message| found.extend(read(message)))?;
        Ok(found)
    }

    /// Sends requests about links, addresses and routes in one packet. The kernel does them in this order, each by itself:
    /// those behind a refused one are tried too.
    ///
    /// # Errors
    /// The first refusal, with its place in the list.
    pub fn all(&mut self, requests: Vec<Request>) -> std::result::Result<(), (usize, Error)> {
        // A number that no request has, so that no late answer can be mistaken for the first.
        let before = self.next_sequence();
        let Some(packet) = self.packet(requests)? else { return Ok(()) };
        self.send(&packet).map_err(|error| (0, error))?;
        self.verdict(before, self.sequence)
    }

    /// Requests one behind the other, with one acknowledgement, of the last: refusals come anyway, and a thousand answers
    /// would not fit the buffer. None if there are no requests.
    fn packet(&mut self, requests: Vec<Request>) -> std::result::Result<Option<Vec<u8>>, (usize, Error)> {
        let Some(final_place) = requests.len().checked_sub(1) else { return Ok(None) };
        let mut packet = Vec::new();
        for (place, request) in requests.into_iter().enumerate() {
            let flags = if place == final_place { F_ACK } else { 0 };
            let sequence = self.next_sequence();
            packet.extend(request.finish(flags, sequence).map_err(|error| (place, error))?);
        }
        Ok(Some(packet))
    }

    /// Sends requests to nftables that take effect together or not at all.
    ///
    /// # Errors
    /// The refusal of the first one that the kernel refused, with its place in the list; nothing was changed.
    pub fn batch(&mut self, requests: Vec<Request>) -> std::result::Result<(), (usize, Error)> {
        let outer = |error: Error| (0, error);
        if requests.is_empty() {
            return Ok(());
        }
        let mut packet = self.frame(NFNL_BATCH_BEGIN).map_err(outer)?;
        let begin = self.sequence;
        packet.extend(self.packet(requests)?.unwrap_or_default());
        let last = self.sequence;
        packet.extend(self.frame(NFNL_BATCH_END).map_err(outer)?);
        self.send(&packet).map_err(outer)?;
        self.verdict(begin, last)
    }

    /// The opening or closing message of a batch.
    fn frame(&mut self, kind: u16) -> Result<Vec<u8>> {
        let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        let sequence = self.next_sequence();
        Request::new(kind, 0, &[0, 0, high, low]).finish(0, sequence)
    }

    /// Reads refusals until the last request of a batch is answered, or its beginning is, which stands for them all.
    fn verdict(&mut self, begin: u32, last: u32) -> std::result::Result<(), (usize, Error)> {
        let mut refused: Option<(usize, Error)> = None;
        loop {
            let length = self.receive(RecvFlags::DONTWAIT).map_err(|error| (0, error))?;
            for message in Messages::new(&self.buffer[..length]).filter(|message| message.kind == ERROR) {
                let Some(place) = message.sequence.checked_sub(begin).filter(|_| message.sequence <= last)
                else {
                    continue;
                };
                if let Err(error) = outcome(&message) {
                    let place = usize::try_from(place).unwrap_or(usize::MAX).saturating_sub(1);
                    refused.get_or_insert((place, error));
                }
                if message.sequence == begin || message.sequence == last {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Reads until the answer to `sequence` is complete; false if a dump was torn. Answers to other requests, left by a
    /// caller that gave up, are skipped.
    ///
    /// The kernel works while the request is sent: what it has to say is there already, so that nothing is waited for.
    fn collect(&mut self, sequence: u32, mut each: impl FnMut(Message<'_>)) -> Result<bool> {
        let mut whole = true;
        loop {
            let length = self.receive(RecvFlags::DONTWAIT)?;
            for message in Messages::new(&self.buffer[..length]).filter(|m| m.sequence == sequence) {
                whole &= message.flags & F_DUMP_INTERRUPTED == 0;
                match message.kind {
                    ERROR => return outcome(&message).map(|()| whole),
                    DONE => return outcome_of_dump(&message).map(|()| whole),
                    _ => each(message),
                }
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        // 0 stands for news.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sequence
    }

    fn send(&self, packet: &[u8]) -> Result<()> {
        let sent = rustix::io::retry_on_intr(|| send(&self.fd, packet, SendFlags::empty()))?;
        if sent == packet.len() { Ok(()) } else { Err(Errno::MSGSIZE.into()) }
    }

    fn receive(&mut self, flags: RecvFlags) -> Result<usize> {
        let fd = &self.fd;
        let buffer = &mut self.buffer;
        let (_, length) = rustix::io::retry_on_intr(|| recv(fd, &mut buffer[..], flags | RecvFlags::TRUNC))?;
        if length > self.buffer.len() { Err(Errno::MSGSIZE.into()) } else { Ok(length) }
    }

    fn set(&self, option: libc::c_int, value: libc::c_int) -> Result<()> {
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the option's value is an int, which `value` is and which lives over the call.
        let answer = unsafe {
            let value = std::ptr::from_ref(&value).cast();
            libc::setsockopt(self.fd.as_raw_fd(), libc::SOL_NETLINK, option, value, size)
        };
        if answer < 0 { Err(last_errno().into()) } else { Ok(()) }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn outcome(message: &Message<'_>) -> Result<()> {
    let number = status(message).ok_or(Errno::BADMSG)?;
    if number == 0 {
        return Ok(());
    }
    let explained = (message.flags & F_EXPLAINED != 0).then(|| explanation(message)).flatten();
    Err(Error::new(Errno::from_raw_os_error(number.wrapping_neg()), explained))
}

/// The end of a dump may carry an error of its own.
fn outcome_of_dump(message: &Message<'_>) -> Result<()> {
    match status(message) {
        None | Some(0..) => Ok(()),
        Some(number) => Err(Errno::from_raw_os_error(number.wrapping_neg()).into()),
    }
}

fn status(message: &Message<'_>) -> Option<i32> {
    u32_at(message.body, 0).map(|number| number as i32)
}

/// What follows the error: the header of the request, the rest of it unless capped, attributes.
fn explanation(message: &Message<'_>) -> Option<String> {
    let request = usize::try_from(u32_at(message.body, 4)?).ok()?;
    let echoed = if message.flags & F_CAPPED != 0 { super::request::HEADER } else { request };
    let attributes = message.body.get(4 + echoed.next_multiple_of(4)..)?;
    Attributes::new(attributes).str(EXPLANATION).map(str::to_owned)
}
