//! The way out of the shared namespace: pasta, kept running by a thread that stays in the host's.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tare_model::{Error, Result};
use tare_sys::process::ends_with_this_thread;

/// What to do where there is no pasta.
pub(crate) const MISSING: &str = "this engine is an ordinary user's and has the networks \"none\" and \"host\" only: for others it \
                                  needs pasta when it starts (Debian, Ubuntu and Fedora: package passt)";

/// Where programs are when `PATH` does not say.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Between two looks for a route, and before pasta is started again.
const PAUSE: Duration = Duration::from_secs(2);

/// What became of the first attempt.
pub(super) enum News {
    /// The host has no way out itself; once it has one, so has the namespace.
    Offline,
    /// It runs and sets its link up.
    Started,
    /// It has ended, with these last words.
    Ended(String),
}

/// pasta's path, if it is installed.
pub(super) fn find() -> Option<PathBuf> {
    let path = std::env::var("PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| PATH.to_owned());
    let here =
        |dir: &str| Some(Path::new(dir).join("pasta")).filter(|file| dir.starts_with('/') && file.is_file());
    path.split(':').find_map(here)
}

/// Whether the calling thread's network namespace has a default route.
pub(super) fn has_default_route() -> bool {
    let table = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    leads_anywhere(&table("route"), &table("ipv6_route"))
}

fn leads_anywhere(ipv4: &str, ipv6: &str) -> bool {
    let v4 = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")
    };
    // The kernel has unreachable ones on lo.
    let v6 = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.first().is_some_and(|to| to.bytes().all(|digit| digit == b'0'))
            && fields.get(1) == Some(&"00")
            && fields.last() != Some(&"lo")
    };
    ipv4.lines().any(v4) || ipv6.lines().any(v6)
}

/// Keeps pasta running for `namespace` until `stop` is closed at its other end.
pub(super) fn keep(pasta: &Path, namespace: &OwnedFd, stop: &OwnedFd, news: &Sender<News>) {
    // Nobody listens after the first.
    let tell = |what| drop(news.send(what));
    loop {
        if has_default_route() {
            match start(pasta, namespace) {
                Ok((child, words)) => {
                    tell(News::Started);
                    if !watch(child, stop) {
                        return;
                    }
                    let words = words.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    tracing::error!("pasta has ended and is started again: {words}");
                    tell(News::Ended(words));
                }
                Err(e) => tell(News::Ended(e.message().to_owned())),
            }
        } else {
            tell(News::Offline);
        }
        if is_over(stop, None, Some(PAUSE)) {
            return;
        }
    }
}

/// Waits for the first attempt, in the namespace that it is for.
///
/// # Errors
/// `System` with pasta's words if it does not run.
pub(super) fn first(news: &Receiver<News>) -> Result<()> {
    const LOOK: Duration = Duration::from_millis(5);
    const LOOKS: u32 = 2000;
    for _ in 0..LOOKS {
        match news.recv_timeout(LOOK) {
            Ok(News::Offline) => return Ok(()),
            Ok(News::Ended(words)) => {
                return Err(Error::system(format!(
                    "pasta, which connects containers with the network: {words}"
                )));
            }
            _ if has_default_route() => return Ok(()),
            _ => {}
        }
    }
    Err(Error::system("pasta, which connects containers with the network, has set up no link in ten seconds"))
}

/// It ends with the calling thread, which is in [`keep`] for as long as the keeper lives: nobody else would end the pasta of a
/// keeper that was killed. The namespace is its standard input: of another process's it may not open the file. Nothing of the
/// host's is within reach of containers by it: no loopback, no ports.
fn start(pasta: &Path, namespace: &OwnedFd) -> Result<(Child, Arc<Mutex<String>>)> {
    let failed = |e: std::io::Error| Error::system(format!("{}: {e}", pasta.display()));
    let mut command = Command::new(pasta);
    command
        .args(["--foreground", "--quiet", "--config-net", "--no-map-gw"])
        .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"])
        .args(["--netns", "/proc/self/fd/0"])
        .stdin(Stdio::from(namespace.try_clone().map_err(failed)?))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = ends_with_this_thread(&mut command).spawn().map_err(failed)?;
    let words = Arc::new(Mutex::new("it said nothing".to_owned()));
    if let Some(stderr) = child.stderr.take() {
        let last = Arc::clone(&words);
        let listen = move || {
            for line in BufReader::new(stderr).lines().map_while(std::result::Result::ok) {
                if !line.trim().is_empty() && !line.contains("syslog") {
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = line;
                }
            }
        };
        thread::Builder::new().name("pasta".into()).spawn(listen).map_err(failed)?;
    }
    Ok((child, words))
}

/// Waits for its end, or ends it; whether it is to be started again.
fn watch(mut child: Child, stop: &OwnedFd) -> bool {
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
    let stopped = is_over(stop, pidfd.as_ref(), None);
    // It has ended already, or has to.
    let _ = (child.kill(), child.wait());
    !stopped
}

/// Waits until `stop` is closed, which is true, or something else has happened.
fn is_over(stop: &OwnedFd, child: Option<&OwnedFd>, patience: Option<Duration>) -> bool {
    let mut fds = vec![PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN)];
    fds.extend(child.map(|child| PollFd::from_borrowed_fd(child.as_fd(), PollFlags::IN)));
    let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
    let _ = rustix::io::retry_on_intr(|| poll(&mut fds, patience.as_ref()));
    fds.first().is_some_and(|stop| !stop.revents().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_one_to_everywhere_by_a_link() {
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let v4 =
            |to: &str, mask: &str| format!("{head}eth0\t{to}\t010200C0\t0003\t0\t0\t0\t{mask}\t0\t0\t0\n");
        assert!(leads_anywhere(&v4("00000000", "00000000"), ""));
        assert!(!leads_anywhere(&v4("000200C0", "00FFFFFF"), ""));
        // Half of everything, as some VPNs have it.
        assert!(!leads_anywhere(&v4("00000000", "00000080"), ""));
        let zero = "0".repeat(32);
        let v6 = |link: &str| format!("{zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 {link}\n");
        assert!(leads_anywhere("", &v6("eth0")));
        assert!(!leads_anywhere(head, &v6("lo")));
    }
}
