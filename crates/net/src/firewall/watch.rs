//! Somebody else's changes to our tables are undone as soon as the kernel tells of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tare_model::error::{Error, Result};
use tare_sys::netlink::link::News;
use tare_sys::netlink::{Socket, link};
use tare_sys::nftables::Monitor;

use super::direct::{Judges, TICK};
use super::{Firewall, Hold};

/// After how long a failed repair is tried again.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What became of tables that were not, or may not have been, as they should be.
#[derive(Debug)]
pub enum Repair {
    /// They are as they should be, so long after the news were read.
    Done(Cause, Duration),
    /// They are not; it is tried again ten times a second.
    Failed(Error),
}

/// Why tables are loaded anew; of several, the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// What they need beside them was not as it should be: links, forwarding, chains of the host's that drop by policy.
    Beside,
    /// News were lost, and somebody could have changed them.
    Lost,
    /// Somebody else changed them.
    Changed,
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: OwnedFd,
    /// Looks after the tables, and talks to firewalld, which may take its time.
    threads: Vec<JoinHandle<()>>,
}

// === impl Watch ===

impl Watch {
    /// Begins; `report` hears of every repair. The tables must be loaded already.
    ///
    /// # Errors
    /// The kernel's refusal of a socket, an event or a thread.
    pub fn start(firewall: Arc<Firewall>, report: impl Fn(Repair) + Send + 'static) -> Result<Self> {
        let refused = |what, error: &dyn std::fmt::Display| {
            Error::system(format!("watch the firewall: {what}: {error}"))
        };
        let monitor = Monitor::open(firewall.port).map_err(|e| refused("subscribe to nftables' news", &e))?;
        let links = link::monitor().map_err(|e| refused("subscribe to news of links", &e))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| refused("eventfd()", &e))?;
        let heard = rustix::io::dup(&stop).map_err(|e| refused("dup(eventfd)", &e))?;
        // What was changed before we listened is found by loading once more.
        firewall.restore()?;
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.into());
            thread.spawn(work).map_err(|e: io::Error| refused("start a thread", &e))
        };
        let (tell, told) = sync_channel(1);
        let talks = Arc::clone(&firewall);
        let talker = spawn("firewalld", Box::new(move || told.iter().for_each(|()| talks.let_out())))?;
        let guard = spawn(
            "firewall",
            Box::new(move || {
                run(
                    &firewall,
                    Ears { monitor, links, stop: heard, firewalld: tell, judges: Judges::default() },
                    report,
                )
            }),
        )?;
        Ok(Self { stop, threads: vec![guard, talker] })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An event that is counted cannot be lost, and the counter cannot be full of ones.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(firewall: &Firewall, mut ears: Ears, report: impl Fn(Repair)) {
    let (mut broken, mut leased) = (None, None);
    loop {
        let timeout = if broken.is_some() { Some(AGAIN) } else { leased.map(until) };
        let Some([rules, links, stirred]) = ears.wait(firewall, timeout.as_ref()) else { break };
        let read = Instant::now();
        let mut look = stirred || leased.is_some_and(|since| since.elapsed() >= TICK);
        if stirred {
            // What comes behind it is for the next turn.
            let _ = rustix::io::read(&firewall.stir, &mut [0; 8]);
        }
        if rules {
            let heard = ears.hear_of_rules(firewall);
            broken = broken.max(heard.broken);
            look |= heard.may_judge;
        }
        if links && ears.hear_of_links(firewall) {
            broken = broken.max(Some(Cause::Beside));
        }
        // At once: what somebody has laid down on input is to hold.
        if look {
            leased = firewall.lease(&mut ears.judges).then_some(read);
        }
        if let Some(cause) = broken {
            match firewall.restore() {
                Ok(()) => {
                    broken = None;
                    report(Repair::Done(cause, read.elapsed()));
                }
                Err(error) => report(Repair::Failed(error)),
            }
        }
    }
    firewall.end_lease();
}

/// How long it is until a lease of then is to be renewed.
fn until(since: Instant) -> Timespec {
    let left = TICK.saturating_sub(since.elapsed());
    Timespec { tv_sec: left.as_secs().try_into().unwrap_or(0), tv_nsec: left.subsec_nanos().into() }
}

/// What is listened to.
struct Ears {
    monitor: Monitor,
    links: Socket,
    stop: OwnedFd,
    firewalld: SyncSender<()>,
    /// Who judged what is published when it was last looked.
    judges: Judges,
}

/// What became of rules.
#[derive(Default)]
struct Heard {
    /// Our tables are to be loaded anew. Tables with an owner nobody else can change, so that lost news are none of them.
    broken: Option<Cause>,
    /// Others may have come to decide about what comes to the host, or have gone.
    may_judge: bool,
}

// === impl Ears ===

impl Ears {
    /// Reads all news there are, which are others'.
    fn hear_of_rules(&mut self, firewall: &Firewall) -> Heard {
        let (mut heard, mut policy) = (Heard::default(), false);
        loop {
            let mut zones = false;
            let judges = &self.judges;
            let read = self.monitor.wait(|news| {
                if firewall.concerns(news) {
                    heard.broken = Some(Cause::Changed);
                }
                heard.may_judge |= judges.may_change(news);
                policy |= Firewall::is_policy(news);
                zones |= Firewall::is_firewalld(news);
            });
            let lost = read.is_err();
            if lost && firewall.hold() != Hold::Lasting {
                heard.broken = heard.broken.max(Some(Cause::Lost));
            }
            heard.may_judge |= lost;
            policy |= lost;
            zones |= lost;
            if zones {
                // If one is waiting already, that one will see this too.
                let _ = self.firewalld.try_send(());
            }
            if !self.has_more(firewall, [true, false, false]) {
                // What fails here is tried again with everything else.
                if policy && firewall.settle().is_err() {
                    heard.broken = heard.broken.max(Some(Cause::Beside));
                }
                return heard;
            }
        }
    }

    /// Reads all news there are; true if first packets to published ports no longer find their way round.
    fn hear_of_links(&mut self, firewall: &Firewall) -> bool {
        let (mut ours, mut forwarding) = (false, false);
        let excepted = firewall.excepted();
        let is_excepted = |name: &str| excepted.iter().flat_map(|shut| &shut.but).any(|link| link == name);
        let is_known =
            |name: &str| excepted.iter().all(|shut| shut.bridges.iter().any(|known| known == name));
        loop {
            let read = link::news(&mut self.links, |news| match news {
                News::Link(name) => {
                    ours |= firewall.ends.iter().any(|end| end == name);
                    // Another link may have its name now.
                    forwarding |= is_excepted(name);
                }
                News::Bridge(name) => {
                    forwarding |= is_excepted(name) || !is_known(name) && firewall.is_others_bridge(name);
                }
                // Most links begin with what we have set for all.
                News::Forwarding { link: Some(link), value: Some(value) } if value != 1 => {
                    let may = excepted.iter().any(|shut| !shut.but.is_empty());
                    forwarding |= may && firewall.name_of(link).as_deref().is_some_and(is_excepted);
                }
                News::Forwarding { .. } => forwarding = true,
            });
            ours |= read.is_err();
            forwarding |= read.is_err();
            if !self.has_more(firewall, [false, true, false]) {
                let unheeded = forwarding && firewall.heed_forwarding().is_err();
                return unheeded || ours && firewall.lacks_round();
            }
        }
    }

    fn has_more(&self, firewall: &Firewall, which: [bool; 3]) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.wait(firewall, Some(&at_once))
            .is_some_and(|more| more.iter().zip(which).any(|(more, asked)| *more && asked))
    }

    /// Whether there are news of rules, of links, and of what we ourselves did; none of them if the time is over. None if it is
    /// time to stop.
    fn wait(&self, firewall: &Firewall, timeout: Option<&Timespec>) -> Option<[bool; 3]> {
        let mut fds = [
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::from_borrowed_fd(self.monitor.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.links.as_fd(), PollFlags::IN),
            PollFd::new(&firewall.stir, PollFlags::IN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // It cannot fail but for want of memory: then as if there were news.
            Err(_) => return Some([true; 3]),
        }
        let [stop, rules, links, stirred] = fds.map(|fd| !fd.revents().is_empty());
        if stop { None } else { Some([rules, links, stirred]) }
    }
}
