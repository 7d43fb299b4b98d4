//! How the kernel treats the calling thread: scheduler, I/O priority, execution domain, NUMA memory policy.
//!
//! See [sched_setattr(2)](https://man7.org/linux/man-pages/man2/sched_setattr.2.html),
//! [ioprio_set(2)](https://man7.org/linux/man-pages/man2/ioprio_set.2.html),
//! [personality(2)](https://man7.org/linux/man-pages/man2/personality.2.html) and
//! [set_mempolicy(2)](https://man7.org/linux/man-pages/man2/set_mempolicy.2.html).

use rustix::io::Result;

use crate::last_errno;

/// What [`set_scheduler`] takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduler {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For ordinary and batch processes.
    pub nice: i32,
    /// For real-time processes.
    pub priority: u32,
    /// For deadline processes, in nanoseconds.
    pub runtime: u64,
    /// For deadline processes, in nanoseconds.
    pub deadline: u64,
    /// For deadline processes, in nanoseconds.
    pub period: u64,
}

/// As the kernel lays it out: its first version, of 48 bytes.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets policy and attributes of the calling thread's scheduling.
///
/// # Errors
/// `EPERM` for what needs `CAP_SYS_NICE`, `EINVAL` for values that make no sense together.
pub fn set_scheduler(wanted: Scheduler) -> Result<()> {
    let Scheduler { policy, flags, nice, priority, runtime, deadline, period } = wanted;
    let size = u32::try_from(std::mem::size_of::<Attributes>()).unwrap_or(0);
    let attributes = Attributes { size, policy, flags, nice, priority, runtime, deadline, period };
    // SAFETY: the structure lives over the call, and its own first field tells its size; 0 is the calling thread.
    done(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&attributes), 0) })
}

/// Sets class and level of the calling thread's I/O priority.
///
/// # Errors
/// `EPERM` for the real-time class without privilege.
pub fn set_io_priority(class: u8, level: u8) -> Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    let value = (libc::c_int::from(class) << CLASS_SHIFT) | libc::c_int::from(level);
    // SAFETY: takes no pointer.
    done(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) })
}

/// Sets the execution domain.
///
/// # Errors
/// None that the kernel is known to give for the domains it has.
pub fn set_personality(domain: u32) -> Result<()> {
    // SAFETY: takes no pointer.
    done(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(domain)) })
}

/// Sets the memory policy; `nodes` is a bit mask, lowest node first, as long as it needs to be.
///
/// # Errors
/// `EINVAL` for nodes that are not there or a mode that wants others, `ENOSYS` from a kernel without NUMA.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel reads one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads the words that hold `bits - 1` bits, which is all of `nodes`, or nothing of a null mask.
    done(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) })
}

fn done(answer: libc::c_long) -> Result<()> {
    if answer < 0 { Err(last_errno()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_becomes_a_nice_batch_one() {
        // A thread of its own: the policy must not stay on the harness's.
        let policy = std::thread::spawn(|| {
            set_scheduler(Scheduler { policy: 3, nice: 7, ..Scheduler::default() }).unwrap();
            // SAFETY: takes no pointer.
            unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) }
        });
        assert_eq!(policy.join().unwrap(), 3);
    }

    #[test]
    fn an_idle_io_class_is_read_back() {
        let value = std::thread::spawn(|| {
            set_io_priority(3, 4).unwrap();
            // SAFETY: takes no pointer.
            unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) }
        });
        assert_eq!(value.join().unwrap(), (3 << 13) | 4);
    }

    #[test]
    fn a_policy_that_makes_no_sense_is_refused() {
        let unknown = Scheduler { policy: 99, ..Scheduler::default() };
        assert_eq!(set_scheduler(unknown), Err(rustix::io::Errno::INVAL));
    }
}
