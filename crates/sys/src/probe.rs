//! System calls made in the odd ways an attacker would make them: wide registers, the 32-bit entry, the x32 flag.
//!
//! For tests of filters. Each is one fixed, memory-safe call; a descriptor that comes back is closed at once.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, Result};

/// `socket(domain, SOCK_STREAM, 0)` with all 64 bits of `domain` in the register.
pub fn socket_wide(domain: u64) -> Result<()> {
    // SAFETY: takes no pointer.
    close(unsafe { libc::syscall(libc::SYS_socket, domain, libc::SOCK_STREAM, 0) })
}

/// `socketpair(domain, SOCK_STREAM, 0)`.
pub fn socketpair(domain: i32) -> Result<()> {
    let mut pair: [RawFd; 2] = [-1, -1];
    // SAFETY: `pair` has room for the two descriptors that are written on success.
    let answer =
        unsafe { libc::syscall(libc::SYS_socketpair, domain, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) };
    answered(answer)?;
    // SAFETY: on success both descriptors are new and owned by nobody else.
    drop(pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
    Ok(())
}

/// `unshare(flags)` with all 64 bits in the register.
pub fn unshare_wide(flags: u64) -> Result<()> {
    // SAFETY: takes no pointer; it changes what the calling thread shares, no memory.
    answered(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

/// `personality(persona)` with all 64 bits in the register; gives the former one.
pub fn personality_wide(persona: u64) -> Result<u64> {
    // SAFETY: takes no pointer.
    let answer = answered(unsafe { libc::syscall(libc::SYS_personality, persona) })?;
    u64::try_from(answer).map_err(|_| Errno::OVERFLOW)
}

/// `clone3` with no arguments at all: `EINVAL` where the call is reachable.
pub fn clone3_empty() -> Result<()> {
    // SAFETY: a size of zero is refused before the (null) pointer is read.
    answered(unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0) }).map(drop)
}

/// `clone(flags)` without `CLONE_VM`. If a child comes to be it leaves at once and is reaped.
pub fn clone_with(flags: u64) -> Result<()> {
    let flags = flags | libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child has its own copy of memory and runs nothing but `_exit`, which is safe after a
    // fork of a process with threads.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: ends the child; touches nothing.
        unsafe { libc::_exit(0) };
    }
    let pid = i32::try_from(answered(pid)?).map_err(|_| Errno::OVERFLOW)?;
    let child = rustix::process::Pid::from_raw(pid).ok_or(Errno::CHILD)?;
    rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).map(drop)
}

/// A system call without arguments by its bare number.
pub fn nothing(number: i64) -> Result<i64> {
    // SAFETY: all argument registers are zero, so that no memory of ours is named.
    answered(unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) })
}

/// A call through the 32-bit entry `int 0x80` with up to three numbers (no pointers) as arguments.
#[cfg(target_arch = "x86_64")]
pub fn int80(number: u32, args: [u32; 3]) -> Result<i64> {
    let answer: i64;
    // SAFETY: `int 0x80` clobbers rax and, on some kernels, r8 to r11; rbx is saved by hand because LLVM keeps it for
    // itself. The arguments are numbers or null: no memory is named.
    unsafe {
        std::arch::asm!(
            "xchg {first:r}, rbx",
            "int 0x80",
            "mov rbx, {first:r}",
            first = inout(reg) u64::from(args[0]) => _,
            inlateout("rax") u64::from(number) => answer,
            in("rcx") u64::from(args[1]),
            in("rdx") u64::from(args[2]),
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    // The 32-bit entry answers in eax.
    let narrow = answer as i32;
    if (-4095..0).contains(&narrow) { Err(Errno::from_raw_os_error(-narrow)) } else { Ok(i64::from(narrow)) }
}

/// `socketcall(SYS_SOCKET, {family, kind, 0})` through the 32-bit entry.
#[cfg(target_arch = "x86_64")]
pub fn socketcall(family: u32, kind: u32) -> Result<()> {
    const SOCKETCALL: u32 = 102;
    const SYS_SOCKET: u32 = 1;
    // SAFETY: a new mapping touches no memory of ours. The 32-bit entry needs an address below 4 GiB.
    let page = unsafe {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        libc::mmap(std::ptr::null_mut(), 12, protection, flags | libc::MAP_32BIT, -1, 0)
    };
    let Ok(address) = u32::try_from(page as usize) else { return Err(Errno::NOMEM) };
    // SAFETY: the mapping is ours alone, writable, aligned and has room for three words.
    unsafe { page.cast::<[u32; 3]>().write([family, kind, 0]) };
    let answer = int80(SOCKETCALL, [SYS_SOCKET, address, 0]);
    // SAFETY: mapped above, and nothing refers to it any more.
    unsafe { libc::munmap(page, 12) };
    answer.and_then(close)
}

/// `socket(family, kind, 0)` through the 32-bit entry.
#[cfg(target_arch = "x86_64")]
pub fn socket_i386(family: u32, kind: u32) -> Result<()> {
    int80(359, [family, kind, 0]).and_then(close)
}

/// `socket(family, kind, 0)` by a number of one's choice: with the x32 flag, say.
pub fn socket_by_number(number: i64, family: u64, kind: u64) -> Result<()> {
    // SAFETY: for numbers of `socket`; other calls would get two small numbers and nulls, no memory of ours.
    close(unsafe { libc::syscall(number, family, kind, 0, 0, 0, 0) })
}

/// `fsopen("tmpfs", 0)`.
pub fn fsopen() -> Result<()> {
    // SAFETY: the name is a constant with its NUL.
    close(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0) })
}

fn answered(answer: libc::c_long) -> Result<libc::c_long> {
    if answer < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(answer)
}

fn close(answer: libc::c_long) -> Result<()> {
    let raw = RawFd::try_from(answered(answer)?).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: a descriptor that the call just made; nobody else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(raw) });
    Ok(())
}
