//! Races: a name and a link beside it that change places all the time while a test starts containers on them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// How long something is repeated: `TARE_TEST_ROUNDS` times, or as often as fits into ten seconds, and ten times at
/// least.
pub struct Rounds {
    end: Instant,
    rounds: Option<u64>,
    done: u64,
}

impl Rounds {
    /// Begins to count.
    #[expect(clippy::new_without_default, reason = "it begins now, which is not a default")]
    pub fn new() -> Rounds {
        let rounds = std::env::var("TARE_TEST_ROUNDS").ok().map(|n| n.parse().expect("a number of rounds"));
        Rounds { end: Instant::now() + Duration::from_secs(10), rounds, done: 0 }
    }

    /// True if there is another round.
    pub fn another(&mut self) -> bool {
        self.done += 1;
        match self.rounds {
            Some(rounds) => self.done <= rounds,
            None => self.done <= 10 || Instant::now() < self.end,
        }
    }
}

/// A name in a directory, and `link` beside it, that change places.
pub struct Race {
    name: PathBuf,
    link: PathBuf,
}

impl Race {
    /// Makes the link, to `target`; what is called `name` is there.
    pub fn new(dir: &Path, name: &str, target: impl AsRef<Path>) -> Race {
        let race = Race { name: dir.join(name), link: dir.join("link") };
        symlink(target, &race.link).unwrap_or_else(|e| panic!("cannot make {}: {e}", race.link.display()));
        race
    }

    /// Runs `attempt` again and again meanwhile; it says whether the container ran, and some must: that none is let in
    /// defends nothing. Afterwards the names are as they were.
    #[track_caller]
    pub fn run(&self, mut attempt: impl FnMut() -> bool) {
        let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let ran = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) || count.load(Ordering::Relaxed) % 2 == 1 {
                    // Somebody may hold one of the two for a moment.
                    let done = renameat_with(CWD, &self.name, CWD, &self.link, RenameFlags::EXCHANGE);
                    count.fetch_add(u64::from(done.is_ok()), Ordering::Relaxed);
                }
            });
            let _stop = Stop(&over);
            let (mut rounds, mut ran) = (Rounds::new(), 0);
            while rounds.another() {
                ran += u64::from(attempt());
            }
            ran
        });
        assert!(ran > 0, "not one container ran");
        assert!(count.load(Ordering::Relaxed) > 1000, "the names did not change places");
    }
}

/// Also when an attempt fails the test, so that the scope can end.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
