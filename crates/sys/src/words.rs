//! Two numbers that a process shares with a child: each side writes one and reads the other.
//!
//! For the moment in which the child can make no system call at all, not even to wait.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::{Errno, Result};

/// A page of shared memory. A child made by a fork has it too; dropping it in one process leaves the other its own.
#[derive(Debug)]
pub struct Words {
    page: *mut AtomicU32,
}

/// Which of the two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Written by the child.
    Child,
    /// Written by the parent.
    Parent,
}

const SIZE: usize = 2 * size_of::<AtomicU32>();

// === impl Words ===

impl Words {
    /// Both are zero.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, protection, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOMEM));
        }
        Ok(Self { page: page.cast() })
    }

    /// Reads a word, and with it everything that was written before it.
    pub fn get(&self, word: Word) -> u32 {
        self.at(word).load(Ordering::Acquire)
    }

    /// Writes a word.
    pub fn set(&self, word: Word, value: u32) {
        self.at(word).store(value, Ordering::Release);
    }

    fn at(&self, word: Word) -> &AtomicU32 {
        let index = usize::from(word == Word::Parent);
        // SAFETY: the page is mapped as long as `self` lives, aligned, zeroed (a valid number), has room for both words, and
        // is only ever touched through atomics.
        unsafe { &*self.page.add(index) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size; nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.page.cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_word_is_seen_by_the_parent() {
        let words = Words::new().unwrap();
        assert_eq!((words.get(Word::Child), words.get(Word::Parent)), (0, 0));
        words.set(Word::Parent, 7);
        // SAFETY: the child touches nothing but the shared words and leaves at once.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            words.set(Word::Child, words.get(Word::Parent) + 1);
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        let child = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).unwrap();
        assert_eq!((words.get(Word::Child), words.get(Word::Parent)), (8, 7));
    }
}
