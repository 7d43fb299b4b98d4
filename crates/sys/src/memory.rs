//! Memory that a process used once and does not need any more.

use rustix::process::getpid;
use rustix::thread::gettid;

unsafe extern "C" {
    /// Where the program is mapped; the linker's symbol, not a variable.
    static __executable_start: u8;
    /// The end of its code; likewise.
    static etext: u8;
}

/// How far below the present stack is given back.
const STACK: usize = 512 * 1024;
/// What stays below the caller's frame: this function's own, and what it calls.
const KEPT: usize = 8 * 1024;

/// Gives unused memory back to the kernel: what the allocator holds free, the part of the stack that deeper calls have
/// touched, and the program's code and constants, of which what is needed again is mapped again from the page cache. For a
/// process that did much at its start and then waits. On any but the main thread it does nothing.
#[inline(never)]
pub fn give_back() {
    if gettid() != getpid() {
        return;
    }
    // SAFETY: the allocator gives back only what nobody holds.
    unsafe { libc::malloc_trim(0) };
    let here = 0u8;
    let page = rustix::param::page_size();
    let end = (std::ptr::from_ref(&here) as usize).saturating_sub(KEPT) / page * page;
    let start = end.saturating_sub(STACK);
    // SAFETY: the range is below every frame that is in use, and nothing but the main thread's stack is ever there: the
    // kernel keeps at least 128 MiB below its top free for it. Nobody reads there before writing. Parts that the stack has
    // never reached are not mapped, which the kernel tells and otherwise ignores.
    unsafe { libc::madvise(start as *mut libc::c_void, STACK, libc::MADV_DONTNEED) };
    let start = (&raw const __executable_start) as usize / page * page;
    let end = (&raw const etext) as usize / page * page;
    // SAFETY: from its start to the end of its code a program is mapped from its file and never written to (what is
    // relocated comes behind): what is dropped here comes back as it was, this very code included.
    unsafe { libc::madvise(start as *mut libc::c_void, end.saturating_sub(start), libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_threads_are_left_alone() {
        // A test runs on a thread whose stack is smaller than what would be given back: this must not crash.
        std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(give_back)
            .expect("spawns")
            .join()
            .expect("still there");
    }
}
