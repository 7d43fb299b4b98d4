//! A network namespace that stands for a machine's: it is there as long as this value, whoever lives in it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cmd::Cmd;
use crate::{debs, wait};

/// Addresses on the LAN between two machines: the engine's, and its neighbour's.
pub const HERE: &str = "203.0.113.1";
/// See [`HERE`].
pub const HERE6: &str = "2001:db8::1";
/// See [`HERE`].
pub const NEIGHBOUR: &str = "203.0.113.2";
/// See [`HERE`].
pub const NEIGHBOUR6: &str = "2001:db8::2";

/// How long the kernel may take to clear away what a dead namespace had.
const GOING: Duration = Duration::from_secs(30);

/// See the head of this file.
pub struct Space {
    namespace: File,
}

// === impl Space ===

impl Space {
    /// A fresh one, in which there is a loopback and nothing else.
    #[expect(clippy::new_without_default, reason = "it asks the kernel for something")]
    pub fn new() -> Space {
        let script = "ip link set lo up && echo up && exec cat";
        let mut first = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cannot run unshare");
        first.stdout.take().expect("a pipe").read_exact(&mut [0; 3]).expect("a namespace with a loopback");
        let namespace = File::open(format!("/proc/{}/ns/net", first.id())).expect("a namespace");
        // The end of its input is the end of it.
        drop(first.stdin.take());
        first.wait().expect("waiting for the first process of a namespace");
        Space { namespace }
    }

    /// Another machine on a LAN with this one, which sends by this one what is for elsewhere.
    pub fn neighbour(&self) -> Space {
        let other = Space::new();
        let path = other.path();
        self.sh(&format!(
            "ip link add lan type veth peer name lan netns {path}; ip address add {HERE}/24 dev lan; \
             ip address add {HERE6}/64 dev lan nodad; ip link set lan up"
        ));
        other.sh(&format!(
            "ip address add {NEIGHBOUR}/24 dev lan; ip address add {NEIGHBOUR6}/64 dev lan nodad; ip link set lan up; \
             ip route add default via {HERE}; ip -6 route add default via {HERE6}"
        ));
        other
    }

    /// A command in it.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        Cmd::new("nsenter").args([&format!("--net={}", self.path()), "--"]).args(args)
    }

    /// A script in it, which must succeed in every part; its standard output.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.run(["sh", "-ec", script]).ok()
    }

    /// Does something in it. Sockets that are made then are of it wherever they are used.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(rustix::fd::AsFd::as_fd(&self.namespace), kind).expect("setns");
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd())
    }

    /// What an engine that has ended left in it, as sentences. The kernel is given a moment.
    pub(crate) fn left(&self) -> Vec<String> {
        wait::until(GOING, || self.look().is_empty().then_some(()));
        self.look()
    }

    fn look(&self) -> Vec<String> {
        let mut left = Vec::new();
        let lists = ["-o link", "-o address", "route", "-6 route"];
        for list in lists {
            let listed = self.sh(&format!("ip {list}"));
            let of_loopback =
                |line: &&str| ["1: lo:", "1: lo ", "dev lo "].iter().any(|lo| line.contains(lo));
            let others = listed.lines().filter(|line| !of_loopback(line));
            left.extend(others.map(|line| format!("in its namespace, ip {list}: {line}")));
        }
        let rules = debs::nft(|nft| self.run([nft])).args(["list", "tables"]).ok();
        left.extend(rules.lines().map(|line| format!("in its namespace, firewall: {line}")));
        left
    }
}
