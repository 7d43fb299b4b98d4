//! The trash: directories are moved there in one step and emptied by a worker, off everybody's path.
//!
//! What lies in it was written by containers and images. The worker goes by descriptors and follows no symlink, keeps
//! only a few directories open however deep a tree is (deeper parts are moved up to the trash's own level and become
//! items themselves), and takes away the `immutable` and `append-only` flags that would keep a file.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use tare_model::Result;
use tare_sys::dir::{CallResult, Dir};

use crate::error::SystemContext;
use crate::layout::{Layout, unique_name};

/// Directories kept open at once while emptying.
const OPEN_MAX: usize = 48;

/// How long what was thrown away lies: whoever did it goes on meanwhile, without the worker at the same locks of the file system
/// and on a processor that a client's command could use.
const LULL: Duration = Duration::from_millis(100);

/// The worker; it ends when this is dropped, wherever it is.
pub(crate) struct Trash {
    wake: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

// === impl Trash ===

impl Trash {
    /// Starts the worker, which first empties what an earlier engine left.
    pub(crate) fn start(layout: &Arc<Layout>) -> Result<Self> {
        let (wake, woken) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (layout, stopped) = (Arc::clone(layout), Arc::clone(&stop));
        let work = move || loop {
            empty(&layout.trash, &|| stopped.load(Ordering::Relaxed));
            if woken.recv().is_err() {
                return;
            }
            if !lull(&woken) {
                // The engine ends: what goes at once goes now, the rest at the next start.
                let end = Instant::now() + LULL;
                return empty(&layout.trash, &|| Instant::now() >= end);
            }
        };
        let worker = std::thread::Builder::new()
            .name("trash".into())
            .spawn(work)
            .while_(|| "start the trash worker")?;
        Ok(Self { wake: Some(wake), stop, worker: Some(worker) })
    }

    /// Tells the worker that something is there.
    pub(crate) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // The worker only goes when this value does.
            let _ = wake.send(());
        }
    }
}

impl Drop for Trash {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has nothing more to say.
            let _ = worker.join();
        }
    }
}

/// Lets a moment pass, in which more may come. False if nobody is there any more to send it.
fn lull(woken: &Receiver<()>) -> bool {
    let end = Instant::now() + LULL;
    loop {
        match woken.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// Removes everything in `trash`. What cannot be removed stays for the next time.
pub(crate) fn empty(trash: &Dir, stop: &dyn Fn() -> bool) {
    let mut emptier = Emptier { trash, stop, removed: 0 };
    // Deep parts come up while we work, so go on until a whole round removes nothing.
    loop {
        let before = emptier.removed;
        let Ok(entries) = trash.entries() else { return };
        for (name, kind) in entries.flatten() {
            // The others can go even if this one cannot.
            let _ = emptier.remove(&name, kind);
        }
        if emptier.removed == before || stop() {
            return;
        }
    }
}

struct Emptier<'a> {
    trash: &'a Dir,
    stop: &'a dyn Fn() -> bool,
    removed: u64,
}

/// A directory being emptied.
struct Level {
    name: OsString,
    dir: Dir,
    entries: Box<dyn Iterator<Item = CallResult<(OsString, FileType)>>>,
}

// === impl Emptier ===

impl Emptier<'_> {
    /// Removes the entry `name` of the trash. Directories too deep to hold open come up into the trash.
    fn remove(&mut self, name: &OsStr, kind: FileType) -> Result<()> {
        if !is_dir(self.trash, name, kind)? {
            return self.unlink(self.trash, name);
        }
        let mut levels = vec![Level::enter(self.trash, name)?];
        loop {
            let full = levels.len() >= OPEN_MAX;
            let Some(level) = levels.last_mut() else { break };
            if (self.stop)() {
                return Ok(());
            }
            let Some(entry) = level.entries.next() else {
                // Emptied: leave it and take it away from above.
                let Some(done) = levels.pop() else { break };
                let above = levels.last().map_or(self.trash, |level| &level.dir);
                unflagged(above, &done.name, || above.remove_dir(&done.name)).while_(|| "empty the trash")?;
                self.removed += 1;
                continue;
            };
            let (child, kind) = entry.while_(|| "empty the trash")?;
            if !is_dir(&level.dir, &child, kind)? {
                self.unlink(&level.dir, &child)?;
            } else if full {
                let (dir, up) = (&level.dir, unique_name()?);
                unflagged(dir, &child, || dir.rename(&child, self.trash, &up, false))
                    .while_(|| "empty the trash")?;
                self.removed += 1;
            } else {
                let inner = Level::enter(&level.dir, &child)?;
                levels.push(inner);
            }
        }
        Ok(())
    }

    fn unlink(&mut self, parent: &Dir, name: &OsStr) -> Result<()> {
        match unflagged(parent, name, || parent.unlink(name)) {
            Err(e) if e.errno() == Errno::NOENT => Ok(()),
            done => done.while_(|| "empty the trash").map(|()| self.removed += 1),
        }
    }
}

// === impl Level ===

impl Level {
    fn enter(parent: &Dir, name: &OsStr) -> Result<Self> {
        let dir = parent.open_dir(name).while_(|| "empty the trash")?;
        let entries = Box::new(dir.entries().while_(|| "empty the trash")?);
        Ok(Self { name: name.to_owned(), dir, entries })
    }
}

fn is_dir(parent: &Dir, name: &OsStr, kind: FileType) -> Result<bool> {
    Ok(match kind {
        FileType::Unknown => {
            let stat = parent.stat(name).while_(|| "empty the trash")?;
            stat.is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
        }
        known => known == FileType::Directory,
    })
}

/// Runs `act`; if the kernel forbids it, takes the flags that do from the directory and its entry, and tries again.
fn unflagged(parent: &Dir, name: &OsStr, act: impl Fn() -> CallResult<()>) -> CallResult<()> {
    match act() {
        Err(e) if e.errno() == Errno::PERM => {
            clear_flags(parent.as_fd());
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let kind = parent.stat(name)?.map(|s| FileType::from_raw_mode(s.st_mode));
            // Only these can have flags, and only these are harmless to open.
            if matches!(kind, Some(FileType::RegularFile | FileType::Directory))
                && let Ok(fd) = parent.open(name, flags, Mode::empty())
            {
                clear_flags(fd.as_fd());
            }
            act()
        }
        done => done,
    }
}

fn clear_flags(fd: std::os::fd::BorrowedFd<'_>) {
    // Where this fails, so does the second attempt, with its own error.
    if let Ok(flags) = ioctl_getflags(fd) {
        let _ = ioctl_setflags(fd, flags - IFlags::IMMUTABLE - IFlags::APPEND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, Dir) {
        let scratch = tempfile::tempdir_in("/var/tmp").expect("scratch on a disk");
        let dir = Dir::open_trusted_path(scratch.path()).expect("opens");
        (scratch, dir)
    }

    fn run(trash: &Dir) -> usize {
        empty(trash, &|| false);
        trash.entries().expect("lists").count()
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes_without_recursion() {
        let (_scratch, trash) = scratch();
        let mut dir = trash.ensure_dir("top", 0o755).expect("directory");
        for _ in 0..5000 {
            dir.create_file("file", 0o600).expect("file");
            dir = dir.ensure_dir("d", 0o755).expect("directory");
        }
        assert_eq!(run(&trash), 0);
    }

    #[test]
    fn what_symlinks_point_to_stays() {
        let (scratch, trash) = scratch();
        let outside = tempfile::tempdir().expect("outside");
        std::fs::write(outside.path().join("keep"), "x").expect("file");
        let item = scratch.path().join("item");
        std::fs::create_dir(&item).expect("directory");
        std::os::unix::fs::symlink(outside.path(), item.join("link")).expect("symlink");
        std::os::unix::fs::symlink(outside.path(), scratch.path().join("link")).expect("symlink");
        assert_eq!(run(&trash), 0);
        assert!(outside.path().join("keep").exists());
    }

    #[test]
    fn immutable_files_and_append_only_directories_go_too() {
        let (_scratch, trash) = scratch();
        let item = trash.ensure_dir("item", 0o000).expect("directory");
        let file = item.create_file("fixed", 0o400).expect("file");
        let inner = item.ensure_dir("inner", 0o755).expect("directory");
        inner.create_file("f", 0o600).expect("file");
        for (fd, flag) in [
            (file.as_fd(), IFlags::IMMUTABLE),
            (inner.as_fd(), IFlags::APPEND),
            (item.as_fd(), IFlags::IMMUTABLE),
        ] {
            ioctl_setflags(fd, flag).expect("a file system with flags");
        }
        assert_eq!(run(&trash), 0);
    }

    #[test]
    fn what_was_thrown_away_last_goes_before_the_engine_ends() {
        let scratch = tempfile::tempdir_in("/var/tmp").expect("scratch on a disk");
        let layout = Arc::new(Layout::open(scratch.path()).expect("opens"));
        layout.trash.ensure_dir("earlier", 0o755).expect("directory");
        let trash = Trash::start(&layout).expect("starts");
        while layout.trash.entries().expect("lists").count() > 0 {
            std::thread::yield_now();
        }
        layout.trash.ensure_dir("item", 0o755).expect("directory").create_file("file", 0o600).expect("file");
        trash.wake();
        drop(trash);
        assert_eq!(layout.trash.entries().expect("lists").count(), 0);
    }

    #[test]
    fn devices_fifos_and_sockets_are_unlinked_unopened() {
        let (_scratch, trash) = scratch();
        trash.make_node("fifo", FileType::Fifo, 0o600, 0).expect("fifo");
        trash.make_node("white", FileType::CharacterDevice, 0, 0).expect("node");
        trash.make_node("socket", FileType::Socket, 0o600, 0).expect("socket");
        assert_eq!(run(&trash), 0);
    }
}
