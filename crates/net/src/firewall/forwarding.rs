//! Forwarding between links: switched on because of us, and off again, with everything that hangs on it as the host had it.
//!
//! The kernel has one switch for each family, and a setting of every link that the switch overwrites. We write 2 where others
//! write 1: to the kernel both are on, and so it outlives us who wanted it. Who else comes to want it writes 1 over it, and it
//! is theirs from then on.
//!
//! | | decides about a packet | is overwritten by the switch |
//! |---|---|---|
//! | IPv4 | `forwarding` of the link that it came by | that of all links, `default`, and whether redirects are accepted |
//! | IPv6 | the switch itself, or `force_forwarding` of that link (6.17) | `forwarding` of all links and `default`, which says only whether it is a router's: then routes learnt from routers go |
//!
//! So of IPv4 links keep a 1 of their own, which passes as before us, and of IPv6 whatever they had.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use tare_model::error::{Error, Result};

use super::IpFamily;

const ROOT: &str = "/proc/sys/net";
/// On, because of an engine of ours.
const OURS: &str = "2";
/// On, because somebody wants it.
const THEIRS: &str = "1";
const OFF: &str = "0";
/// How long another engine may take. What it then still does is done again if it is undone by us.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Whether packets of a family are forwarded between links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Off,
    /// Only because of engines of ours.
    ForUs,
    /// Whether we are there or not.
    Anyway,
}

/// A family that is forwarded because of us only, and what passes even so, since it did before us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shut {
    pub(super) family: IpFamily,
    /// Links by which it comes.
    pub(super) but: Vec<String>,
    /// Bridges of others: what they pass on between their ports `br_netfilter` shows to the rules of what is forwarded.
    pub(super) bridges: Vec<String>,
}

/// Engines of a network namespace switch one after another, while they hold this. It ends with its holder.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: Option<File>,
}

// === impl Turn ===

impl Turn {
    /// Waits for it; who waits for too long goes on without.
    pub(super) fn take() -> Self {
        // A file of the network namespace that only its root can open. Nothing is written to it, which would empty a cache.
        let file = File::options().write(true).open(Path::new(ROOT).join("ipv4/route/flush")).ok();
        let begun = Instant::now();
        while let Some(Err(TryLockError::WouldBlock)) = file.as_ref().map(File::try_lock) {
            if begun.elapsed() > PATIENCE {
                break;
            }
            // The kernel tells of no event by which a lock could be waited for with an end.
            let _ = poll(&mut [], Some(&PAUSE));
        }
        Self { _lock: file }
    }
}

/// How it is.
pub(super) fn state(family: IpFamily) -> Result<State> {
    let path = switch(family);
    match fs::read_to_string(&path) {
        Ok(value) => Ok(match value.trim() {
            OFF => State::Off,
            OURS => State::ForUs,
            _ => State::Anyway,
        }),
        // The kernel or the host is without IPv6: there is nothing to forward.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::Anyway),
        Err(error) => Err(failed("read", &path, &error)),
    }
}

/// Links by which came what was forwarded before us, and passes with us too.
pub(super) fn passing(family: IpFamily) -> Result<Vec<String>> {
    let setting = match family {
        IpFamily::V4 => "forwarding",
        IpFamily::V6 => "force_forwarding",
    };
    let mut names = links(family)?;
    names.retain(|name| name != DEFAULT && has(family, name, setting, THEIRS));
    names.sort();
    Ok(names)
}

/// Switches it on, for us.
pub(super) fn start(family: IpFamily) -> Result<()> {
    set(family, OURS)
}

/// Switches it off, if it is on because of us.
pub(super) fn stop(family: IpFamily) -> Result<()> {
    if state(family)? == State::ForUs { set(family, OFF) } else { Ok(()) }
}

fn set(family: IpFamily, value: &str) -> Result<()> {
    match family {
        IpFamily::V4 => set_ipv4(value),
        IpFamily::V6 => set_ipv6(value),
    }
}

fn set_ipv4(value: &str) -> Result<()> {
    let family = IpFamily::V4;
    // The kernel accepts redirects as soon as it forwards no longer, though the host may have forbidden it.
    let redirects = conf(family, "all", "accept_redirects");
    let before = fs::read_to_string(&redirects).map_err(|error| failed("read", &redirects, &error))?;
    let mut own = links(family)?;
    own.retain(|name| has(family, name, "forwarding", THEIRS));
    let switched = write(&switch(family), value);
    let mut outcomes = vec![switched, write(&redirects, before.trim())];
    outcomes.extend(own.iter().map(|name| put(family, name, "forwarding", THEIRS)));
    outcomes.into_iter().fold(Ok(()), Result::and)
}

fn set_ipv6(value: &str) -> Result<()> {
    let family = IpFamily::V6;
    let links = links(family)?;
    let before = |name: &String| {
        let own = fs::read_to_string(conf(family, name, "forwarding")).ok()?;
        // What is ours is from an engine that ended before it had put back what the switch overwrote.
        let own = if own.trim() == OURS { OFF } else { own.trim() };
        Some((name.clone(), own.to_owned()))
    };
    let own: Vec<_> = links.iter().filter_map(before).collect();
    // Who forwards keeps no routes that it learnt, but for links that are told twice to believe routers.
    let learners: Vec<_> = links.iter().filter(|name| has(family, name, "accept_ra", "1")).collect();
    let believe = |value| learners.iter().map(move |name| put(family, name, "accept_ra", value));
    let mut outcomes: Vec<_> = believe("2").collect();
    outcomes.push(write(&switch(family), value));
    outcomes.extend(own.iter().map(|(name, value)| put(family, name, "forwarding", value)));
    outcomes.extend(believe("1"));
    outcomes.into_iter().fold(Ok(()), Result::and)
}

/// What new links begin with is among them.
fn links(family: IpFamily) -> Result<Vec<String>> {
    let conf = Path::new(ROOT).join(word(family)).join("conf");
    let found = fs::read_dir(&conf).map_err(|error| failed("list", &conf, &error))?;
    let names = found.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| name != "all").collect())
}

const DEFAULT: &str = "default";

fn has(family: IpFamily, link: &str, setting: &str, value: &str) -> bool {
    fs::read_to_string(conf(family, link, setting)).is_ok_and(|found| found.trim() == value)
}

/// Of a link that may have gone.
fn put(family: IpFamily, link: &str, setting: &str, value: &str) -> Result<()> {
    let path = conf(family, link, setting);
    if path.exists() { write(&path, value) } else { Ok(()) }
}

fn conf(family: IpFamily, link: &str, setting: &str) -> PathBuf {
    Path::new(ROOT).join(word(family)).join("conf").join(link).join(setting)
}

fn switch(family: IpFamily) -> PathBuf {
    Path::new(ROOT).join(match family {
        IpFamily::V4 => "ipv4/ip_forward",
        IpFamily::V6 => "ipv6/conf/all/forwarding",
    })
}

fn word(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "ipv4",
        IpFamily::V6 => "ipv6",
    }
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).map_err(|error| failed(&format!("write {value} to"), path, &error))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::system(format!("{what} {}: {error}; is /proc/sys writable here?", path.display()))
}
