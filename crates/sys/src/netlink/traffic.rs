//! Traffic control: queueing disciplines, classes and filters of links.
//!
//! As much of it as shaping needs: a tree of token buckets (`htb`) with a queue in each leaf (`bfifo`, `fq_codel`, and `tbf` for
//! what it does to large packets), and the hook (`clsact`) at which packets of another link are led there by a classifier; and
//! the discipline that spoils what passes (`netem`).
//!
//! See [tc(8)](https://man7.org/linux/man-pages/man8/tc.8.html), [tc-htb(8)](https://man7.org/linux/man-pages/man8/tc-htb.8.html),
//! [tc-tbf(8)](https://man7.org/linux/man-pages/man8/tc-tbf.8.html), [tc-fq_codel(8)](https://man7.org/linux/man-pages/man8/tc-fq_codel.8.html),
//! [tc-netem(8)](https://man7.org/linux/man-pages/man8/tc-netem.8.html) and `linux/pkt_sched.h`.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Attributes, Message, Request, Result, Socket};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTCLASS: u16 = 40;
const RTM_DELTCLASS: u16 = 41;
const RTM_GETTCLASS: u16 = 42;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TCA_FQ_CODEL_TARGET: u16 = 1;
const TCA_FQ_CODEL_LIMIT: u16 = 2;
const TCA_FQ_CODEL_INTERVAL: u16 = 3;
const TCA_FQ_CODEL_ECN: u16 = 4;
const TCA_FQ_CODEL_MEMORY_LIMIT: u16 = 9;
const TCA_NETEM_REORDER: u16 = 3;
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
const TCA_BPF_ACT: u16 = 1;
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_SKBEDIT_PARMS: u16 = 2;
const TCA_SKBEDIT_PRIORITY: u16 = 3;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: u32 = 1;
const TC_ACT_PIPE: u32 = 3;
const TC_ACT_STOLEN: u32 = 4;
/// `struct sock_filter`: a program of classic BPF that answers with the filter's own verdict, whatever it sees.
const EVERYTHING: [u8; 8] = [0x06, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
const ROOT: u32 = 0xffff_ffff;
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// Of every [`Netem`]: what the host put on a link itself is not ours to take away.
const NETEM_HANDLE: u32 = 0x7a7f_0000;
const HTB_VERSION: u32 = 3;
/// `TC_LINKLAYER_ETHERNET`: with it the kernel wants no table of rates.
const ETHERNET: u8 = 1;
/// Bytes per second of a bucket that never runs dry: no packet takes it a nanosecond.
const ENDLESS: u64 = 1_000_000_000_000_000;
/// The kernel counts bursts in these.
const TICK_NS: u128 = 64;
/// Bytes of `struct tcmsg`.
const FIXED: usize = 20;
/// Place of a filter of ours in its hook: `prio 1`, `protocol all`.
const FILTER_INFO: u32 = 1 << 16 | (libc::ETH_P_ALL as u16).to_be() as u32;
const FILTER_HANDLE: u32 = 1;

/// Where packets of a link meet a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Those that it receives.
    Ingress,
    /// Those that it sends.
    Egress,
}

/// What gives packets their class before they are sent elsewhere.
#[derive(Clone, Copy, Debug)]
pub enum Lead<'a> {
    /// An eBPF classifier; packets that it answers with 0 are not sent elsewhere.
    Program(BorrowedFd<'a>),
    /// The action `skbedit`, which needs no rights over the machine: the class that this priority names, for all of them.
    Priority(u32),
}

/// A class of a tree of token buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Index of the link.
    pub link: u32,
    /// Number of the tree, 16 bits, and of the class in it, 16 bits.
    pub id: u32,
    /// The class that it borrows from; absent: none.
    pub parent: Option<u32>,
    /// Bytes per second that it has at any time.
    pub rate: u64,
    /// Bytes per second that it has at most, what is borrowed included.
    pub ceiling: u64,
    /// Bytes that it sends at once after a pause.
    pub burst: u32,
    /// Bytes that it sends in its turn when several borrow.
    pub quantum: u32,
}

/// What becomes of packets that a link sends. Odds are parts of [`u32::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Netem {
    /// Nanoseconds that each is held back.
    pub latency: u64,
    /// Up to so many less or more.
    pub jitter: u64,
    /// Packets that may be held back; others are dropped.
    pub limit: u32,
    /// Lost.
    pub loss: u32,
    /// With a wrong bit.
    pub corrupt: u32,
    /// Sent twice.
    pub duplicate: u32,
    /// Not held back.
    pub reorder: u32,
    /// Bytes per second; absent: as fast as it goes.
    pub rate: Option<u64>,
}

// === impl Netem ===

impl Netem {
    /// Asks for a link to send so, whatever it did before.
    pub fn request(&self, link: u32) -> Request {
        let flags = Request::CREATE | Request::REPLACE;
        let mut request = Request::new(RTM_NEWQDISC, flags, &head(link, NETEM_HANDLE, ROOT, 0));
        request.put_str(TCA_KIND, "netem");
        request.nest(TCA_OPTIONS, |options| {
            // `struct tc_netem_qopt`; the delays are in attributes of their own, which are exact. Who reorders begins with the
            // second packet.
            let gap = u32::from(self.reorder > 0);
            let numbers = [0, self.limit, self.loss, gap, self.duplicate, 0];
            options.raw(&numbers.iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<_>>());
            options.put(TCA_NETEM_LATENCY64, &self.latency.to_ne_bytes());
            options.put(TCA_NETEM_JITTER64, &self.jitter.to_ne_bytes());
            for (kind, odds) in [(TCA_NETEM_REORDER, self.reorder), (TCA_NETEM_CORRUPT, self.corrupt)] {
                // `struct tc_netem_reorder`, `tc_netem_corrupt`: odds, and how much they depend on the packet before.
                options.put(kind, &[odds.to_ne_bytes(), [0; 4]].concat());
            }
            if let Some(rate) = self.rate {
                // `struct tc_netem_rate`: rate, overhead of a packet, size and overhead of a cell.
                let narrow = u32::try_from(rate).unwrap_or(u32::MAX);
                options.put(TCA_NETEM_RATE, &[&narrow.to_ne_bytes()[..], &[0; 12]].concat());
                if narrow == u32::MAX {
                    options.put(TCA_NETEM_RATE64, &rate.to_ne_bytes());
                }
            }
        });
        request
    }
}

/// Takes a link's [`Netem`] away.
///
/// # Errors
/// `ENOENT` or `EINVAL` if there is none, `ENODEV` if there is no such link.
pub fn mend(socket: &mut Socket, link: u32) -> Result<()> {
    socket.call(Request::new(RTM_DELQDISC, 0, &head(link, NETEM_HANDLE, ROOT, 0)))
}

// === impl Hook ===

impl Hook {
    fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }
}

// === impl Class ===

impl Class {
    /// Asks for it to be made, or to be as given if it is there; a class keeps its parent.
    pub fn request(&self) -> Request {
        let head = head(self.link, self.id, self.parent.unwrap_or(ROOT), 0);
        let mut request = Request::new(RTM_NEWTCLASS, Request::CREATE, &head);
        request.put_str(TCA_KIND, "htb");
        request.nest(TCA_OPTIONS, |options| {
            options.put(TCA_HTB_PARMS, &self.parameters());
            for (kind, rate) in [(TCA_HTB_RATE64, self.rate), (TCA_HTB_CEIL64, self.ceiling)] {
                if rate > u64::from(u32::MAX) {
                    options.put(kind, &rate.to_ne_bytes());
                }
            }
        });
        request
    }

    /// Asks for it to be taken away, with what waits in it.
    pub fn deletion(&self) -> Request {
        Request::new(RTM_DELTCLASS, 0, &head(self.link, self.id, 0, 0))
    }

    /// `struct tc_htb_opt`.
    fn parameters(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(44);
        for rate in [self.rate, self.ceiling] {
            bytes.extend_from_slice(&[0, ETHERNET, 0, 0, 0, 0, 0, 0]);
            bytes.extend_from_slice(&u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
        }
        let numbers = [ticks(self.burst, self.rate), ticks(self.burst, self.ceiling), self.quantum, 0, 0];
        numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_ne_bytes()));
        bytes
    }

    fn read(message: Message<'_>) -> Option<Self> {
        let head = message.body.get(..FIXED).filter(|_| message.kind == RTM_NEWTCLASS)?;
        let number = |at: usize| Some(u32::from_ne_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let options: Attributes<'_> = message.attributes(FIXED).nested(TCA_OPTIONS);
        let parameters = options.find(TCA_HTB_PARMS)?;
        let parameter = |at: usize| Some(u32::from_ne_bytes(parameters.get(at..at + 4)?.try_into().ok()?));
        let long = |kind| options.find(kind).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes);
        let rate = long(TCA_HTB_RATE64).unwrap_or(parameter(8)?.into());
        let burst = u128::from(parameter(24)?) * TICK_NS * u128::from(rate) / 1_000_000_000;
        Some(Self {
            link: number(4)?,
            id: number(8)?,
            parent: number(12).filter(|parent| *parent != ROOT),
            rate,
            ceiling: long(TCA_HTB_CEIL64).unwrap_or(parameter(20)?.into()),
            burst: u32::try_from(burst).unwrap_or(u32::MAX),
            quantum: parameter(32)?,
        })
    }
}

/// Asks for a link to send through a tree of token buckets of that number, which has no class yet: what belongs to none passes
/// at once. A packet belongs to the class that its priority names.
pub fn tree(link: u32, number: u16) -> Request {
    let head = head(link, u32::from(number) << 16, ROOT, 0);
    let mut request = Request::new(RTM_NEWQDISC, Request::CREATE | Request::EXCLUSIVE, &head);
    request.put_str(TCA_KIND, "htb");
    request.nest(TCA_OPTIONS, |options| {
        // `struct tc_htb_glob`: version, bytes per second and byte of a quantum, class of the rest, and two outputs.
        let glob: Vec<u8> = [HTB_VERSION, 10, 0, 0, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
        options.put(TCA_HTB_INIT, &glob);
    });
    request
}

/// Asks for packets of a class to wait in a queue of at most `bytes`; others are dropped.
pub fn queue(link: u32, class: u32, bytes: u32) -> Request {
    let mut request =
        Request::new(RTM_NEWQDISC, Request::CREATE | Request::REPLACE, &head(link, 0, class, 0));
    request.put_str(TCA_KIND, "bfifo").put_u32(TCA_OPTIONS, bytes);
    request
}

/// Asks for packets of a class to wait in a queue of at most `bytes`, of which each has at most `frame` bytes: larger ones that
/// the kernel has put together are taken apart, others are dropped.
///
/// What waits there may wait otherwise: in what is asked for with [`inner`] of the class in place of the class.
pub fn split(link: u32, class: u32, frame: u32, bytes: u32) -> Request {
    let handle = inner(class) & 0xffff_0000;
    let mut request =
        Request::new(RTM_NEWQDISC, Request::CREATE | Request::REPLACE, &head(link, handle, class, 0));
    request.put_str(TCA_KIND, "tbf");
    request.nest(TCA_OPTIONS, |options| {
        // `struct tc_tbf_qopt`: rate and peak rate, twelve bytes each, limit, and two sizes that the attributes give.
        let mut parameters = [0; 36];
        parameters[1] = ETHERNET;
        parameters[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
        parameters[24..28].copy_from_slice(&bytes.to_ne_bytes());
        options.put(TCA_TBF_PARMS, &parameters);
        options.put(TCA_TBF_RATE64, &ENDLESS.to_ne_bytes());
        options.put_u32(TCA_TBF_BURST, frame);
    });
    request
}

/// The class of what waits behind a [`split`].
pub fn inner(class: u32) -> u32 {
    class << 16 | 1
}

/// Asks for connections in a class to wait each for itself, and to be told to slow down if they wait longer than `target`
/// microseconds. All together use at most `memory` bytes.
pub fn fair(link: u32, class: u32, target: u32, memory: u32) -> Request {
    let mut request =
        Request::new(RTM_NEWQDISC, Request::CREATE | Request::REPLACE, &head(link, 0, class, 0));
    request.put_str(TCA_KIND, "fq_codel");
    request.nest(TCA_OPTIONS, |options| {
        options.put_u32(TCA_FQ_CODEL_TARGET, target);
        // What a burst may last; at least what the kernel takes by itself.
        options.put_u32(TCA_FQ_CODEL_INTERVAL, target.saturating_mul(10).max(100_000));
        options.put_u32(TCA_FQ_CODEL_LIMIT, 10_240).put_u32(TCA_FQ_CODEL_ECN, 1);
        options.put_u32(TCA_FQ_CODEL_MEMORY_LIMIT, memory);
    });
    request
}

/// Asks for filters to be possible at both hooks of a link.
pub fn hooks(link: u32) -> Request {
    let head = head(link, CLSACT_HANDLE, CLSACT, 0);
    let mut request = Request::new(RTM_NEWQDISC, Request::CREATE | Request::EXCLUSIVE, &head);
    request.put_str(TCA_KIND, "clsact");
    request
}

/// Asks for packets at a hook to be sent by `to` instead, with the class that `lead` gives them. Takes the place of what was asked
/// for there before.
pub fn redirect(link: u32, hook: Hook, lead: Lead<'_>, to: u32) -> Request {
    let head = head(link, FILTER_HANDLE, hook.parent(), FILTER_INFO);
    let mut request = Request::new(RTM_NEWTFILTER, Request::CREATE | Request::REPLACE, &head);
    request.put_str(TCA_KIND, "bpf");
    request.nest(TCA_OPTIONS, |options| {
        options.nest(TCA_BPF_ACT, |actions| {
            // They are numbered, in their order.
            let mut last = 1;
            if let Lead::Priority(class) = lead {
                last = 2;
                actions.nest(1, |action| {
                    action.put_str(TCA_ACT_KIND, "skbedit");
                    action.nest(TCA_ACT_OPTIONS, |edit| {
                        // `struct tc_skbedit`: index, capabilities, verdict, two counts.
                        let numbers = [0, 0, TC_ACT_PIPE, 0, 0];
                        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
                        edit.put(TCA_SKBEDIT_PARMS, &bytes).put_u32(TCA_SKBEDIT_PRIORITY, class);
                    });
                });
            }
            actions.nest(last, |action| {
                action.put_str(TCA_ACT_KIND, "mirred");
                action.nest(TCA_ACT_OPTIONS, |mirred| {
                    // `struct tc_mirred`: index, capabilities, verdict, two counts, what to do, link.
                    let numbers = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to];
                    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
                    mirred.put(TCA_MIRRED_PARMS, &bytes);
                });
            });
        });
        match lead {
            Lead::Program(program) => {
                options.put(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
                options.put_str(TCA_BPF_NAME, "tare_shape");
            }
            Lead::Priority(_) => {
                options.put(TCA_BPF_OPS_LEN, &1u16.to_ne_bytes()).put(TCA_BPF_OPS, &EVERYTHING);
            }
        }
    });
    request
}

/// Asks for what becomes of packets at a hook to be what `program`, an eBPF classifier, answers (`TC_ACT_*`). Takes the place of
/// what was asked for there before.
pub fn decide(link: u32, hook: Hook, program: BorrowedFd<'_>) -> Request {
    let head = head(link, FILTER_HANDLE, hook.parent(), FILTER_INFO);
    let mut request = Request::new(RTM_NEWTFILTER, Request::CREATE | Request::REPLACE, &head);
    request.put_str(TCA_KIND, "bpf");
    request.nest(TCA_OPTIONS, |options| {
        options.put(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
        options.put_str(TCA_BPF_NAME, "tare_round").put_u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
    });
    request
}

/// Takes the filter of [`redirect`] away.
///
/// # Errors
/// `ENOENT` or `EINVAL` if there is none.
pub fn pass(socket: &mut Socket, link: u32, hook: Hook) -> Result<()> {
    let head = head(link, FILTER_HANDLE, hook.parent(), FILTER_INFO);
    let mut request = Request::new(RTM_DELTFILTER, 0, &head);
    request.put_str(TCA_KIND, "bpf");
    socket.call(request)
}

/// Takes both hooks of a link away, with their filters.
///
/// # Errors
/// `ENOENT` or `EINVAL` if there are none, `ENODEV` if there is no such link.
pub fn remove_hooks(socket: &mut Socket, link: u32) -> Result<()> {
    socket.call(Request::new(RTM_DELQDISC, 0, &head(link, CLSACT_HANDLE, CLSACT, 0)))
}

/// The classes of a link's trees of token buckets.
///
/// # Errors
/// The kernel's refusal.
pub fn classes(socket: &mut Socket, link: u32) -> Result<Vec<Class>> {
    socket.dump(&Request::new(RTM_GETTCLASS, 0, &head(link, 0, 0, 0)), Class::read)
}

/// How long `bytes` take, as the kernel counts it.
fn ticks(bytes: u32, rate: u64) -> u32 {
    let ticks = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1)) / TICK_NS;
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// `struct tcmsg`.
fn head(link: u32, handle: u32, parent: u32, info: u32) -> [u8; FIXED] {
    let mut head = [0; FIXED];
    for (place, number) in [link, handle, parent, info].into_iter().enumerate() {
        head[4 + place * 4..8 + place * 4].copy_from_slice(&number.to_ne_bytes());
    }
    head
}
