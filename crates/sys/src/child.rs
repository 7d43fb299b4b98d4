//! Children: whether the kernel reaps them.

use rustix::io::{Errno, Result};

/// Has the kernel reap children of this process: they leave no zombies, and cannot be waited for.
///
/// # Errors
/// None that the kernel is known to give.
pub fn ignore_children() -> Result<()> {
    set_child_action(libc::SIG_IGN)
}

/// Undoes [`ignore_children`]: children are waited for.
///
/// # Errors
/// None that the kernel is known to give.
pub fn wait_for_children() -> Result<()> {
    set_child_action(libc::SIG_DFL)
}

fn set_child_action(action: libc::sighandler_t) -> Result<()> {
    // SAFETY: both actions run no code of ours.
    let old = unsafe { libc::signal(libc::SIGCHLD, action) };
    if old == libc::SIG_ERR { Err(Errno::INVAL) } else { Ok(()) }
}
