//! One daemon per run directory. (The root has a lock of its own, which the store holds.)
//!
//! ```text
//! opening ──socket in place──▶ serving ──told to stop──▶ leaving ──▶ (gone, and the kernel lets go of the lock)
//! ```
//!
//! The lock file names its holder and where in this life it is. A daemon that finds the lock held by one that serves says
//! so at once. One that is on its way, either way, is waited for: whoever starts a daemon right after the old one was
//! killed must not be told that it runs already.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tare_model::{Error, Result};

/// How long a daemon may take to come up or to go away before the next one gives up on it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

const OPENING: &str = "opening";
const SERVING: &str = "serving";
const LEAVING: &str = "leaving";

/// Held while this process runs; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

// === impl Lock ===

impl Lock {
    /// Makes the run directory if need be, and takes its lock.
    ///
    /// # Errors
    /// `Conflict` ("already running (pid N)") when another daemon has it.
    pub(crate) fn take(run_dir: &Path) -> Result<Self> {
        // Open to be passed through: a group may be allowed to use the socket inside.
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(run_dir)
            .map_err(|e| Error::system(format!("mkdir({}): {e}", run_dir.display())))?;
        let path = run_dir.join("tared.lock");
        let fail =
            |call: &str, e: &dyn std::fmt::Display| Error::system(format!("{call}({}): {e}", path.display()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = Self { file: file.map_err(|e| fail("open", &e))? };
        let patience = Instant::now() + PATIENCE;
        while let Err(e) = flock(&lock.file, FlockOperation::NonBlockingLockExclusive) {
            if e != Errno::WOULDBLOCK {
                return Err(fail("flock", &e));
            }
            let holder = Holder::read(&lock.file);
            if holder.stays() || Instant::now() >= patience {
                let (pid, place) = (holder.pid, run_dir.display());
                return Err(Error::conflict(format!("tared is already running (pid {pid}) for {place}")));
            }
            pause();
        }
        lock.say(OPENING).map_err(|e| fail("write", &e))?;
        Ok(lock)
    }

    /// Clients can connect. Failing to say so only makes others wait before they give up.
    pub(crate) fn serving(&self) {
        let _ = self.say(SERVING);
    }

    /// Clients cannot connect any more.
    pub(crate) fn leaving(&self) {
        let _ = self.say(LEAVING);
    }

    /// In one write, for others read it at any time.
    fn say(&self, word: &str) -> std::io::Result<()> {
        let line = format!("{} {word}\n", std::process::id());
        self.file.write_all_at(line.as_bytes(), 0)?;
        self.file.set_len(line.len() as u64)
    }
}

/// Who has the lock, as far as the file tells.
struct Holder {
    pid: String,
    serves: bool,
}

// === impl Holder ===

impl Holder {
    fn read(file: &File) -> Self {
        let mut bytes = [0; 64];
        let n = file.read_at(&mut bytes, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
        let mut words = text.split_whitespace().map(str::to_owned);
        Self { pid: words.next().unwrap_or_default(), serves: words.next().is_some_and(|w| w == SERVING) }
    }

    /// It serves and nothing ends it just now. Looked at twice: between taking the signal that ends it and being marked
    /// as ending a process looks like any other for some microseconds.
    fn stays(&self) -> bool {
        let look = || self.serves && !is_ending(&self.pid);
        look() && {
            pause();
            look()
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a lock has no event, and that a process begins to end has none either"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// Whether the process is gone, a zombie, within exit(2), or has a SIGKILL that it has not taken yet.
fn is_ending(pid: &str) -> bool {
    /// PF_EXITING of the kernel's `task_struct.flags`.
    const EXITING: u64 = 0x4;
    const KILL: u64 = 1 << (9 - 1);
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let Some((stat, status)) = read("stat").zip(read("status")) else { return true };
    // The program's name, in parentheses, may hold anything; what follows is the state and then numbers.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let dead = fields.next().is_none_or(|state| matches!(state, "Z" | "X"));
    let flags = fields.nth(5).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let pending = status.lines().filter_map(|l| l.strip_prefix("SigPnd:").or(l.strip_prefix("ShdPnd:")));
    let killed = pending.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|m| m & KILL != 0);
    dead || flags & EXITING != 0 || killed
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A lock that this process holds in another's name, for a while.
    fn held_for_a_moment(run_dir: &Path, content: String) -> std::thread::JoinHandle<()> {
        let file = Lock::take(run_dir).expect("free").file;
        std::fs::write(run_dir.join("tared.lock"), content).expect("written");
        std::thread::spawn(move || {
            (0..5).for_each(|_| pause());
            drop(file);
        })
    }

    fn dead() -> Child {
        let child = Command::new("true").spawn().expect("spawns");
        while !is_ending(&child.id().to_string()) {
            pause();
        }
        child
    }

    #[test]
    fn the_loser_learns_who_runs_already() {
        let scratch = tempfile::tempdir().expect("scratch");
        let run_dir = scratch.path().join("a/run");
        let first = Lock::take(&run_dir).expect("free");
        first.serving();
        let e = Lock::take(&run_dir).expect_err("taken");
        assert!(e.message().contains(&format!("already running (pid {})", std::process::id())), "{e}");
        drop(first);
        Lock::take(&run_dir).expect("free again");
    }

    #[test]
    fn a_holder_that_is_dying_is_waited_for() {
        let scratch = tempfile::tempdir().expect("scratch");
        let mut zombie = dead();
        let ends = held_for_a_moment(scratch.path(), format!("{} {SERVING}\n", zombie.id()));
        Lock::take(scratch.path()).expect("free in a moment");
        ends.join().expect("ends");
        zombie.wait().expect("reaped");
    }

    #[test]
    fn a_holder_that_comes_or_goes_is_waited_for() {
        for word in [OPENING, LEAVING] {
            let scratch = tempfile::tempdir().expect("scratch");
            let ends = held_for_a_moment(scratch.path(), format!("{} {word}\n", std::process::id()));
            Lock::take(scratch.path()).expect("free in a moment");
            ends.join().expect("ends");
        }
    }

    #[test]
    fn the_living_are_told_from_the_dead() {
        assert!(!is_ending(&std::process::id().to_string()));
        let mut zombie = dead();
        zombie.wait().expect("reaped");
        assert!(is_ending(&zombie.id().to_string()) && is_ending("") && is_ending("0"));
    }
}
