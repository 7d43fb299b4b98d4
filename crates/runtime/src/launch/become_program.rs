//! The last steps of a process that becomes the program: streams, user, capabilities, filter, `execve`.
//!
//! The order matters and is this:
//!
//! 1. streams in place, everything else close-on-exec, signals as programs expect them;
//! 2. bounding set limited, groups and ids changed (capabilities kept over it), the other sets cut to what was asked for,
//!    plus `CAP_SYS_ADMIN` if the filter needs it;
//! 3. `no_new_privs`, [`Report::ready`](crate::channel::Report::ready), the filter;
//! 4. `CAP_SYS_ADMIN` given up, `execve`.
//!
//! So the filter has to allow nothing but `capset`, `sendmsg` for an error, and `execve`.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, Uid, fchown, fstat};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tare_sys::capability::{self as kernel, Sets};
use tare_sys::{fd, process};

use crate::error::{Call, Context, Result};
use crate::identity::User;
use crate::plan::Capabilities;
use crate::program;

use super::apply::Child;

/// Standard streams of the program.
#[derive(Debug)]
pub(crate) enum Streams {
    /// Three descriptors.
    Three([OwnedFd; 3]),
    /// One terminal for all three, which becomes the controlling one.
    Terminal(OwnedFd),
    /// Not there yet: the terminal has still to be made.
    Pending,
}

const SYS_ADMIN: u64 = 1 << 21;

/// Out of reach for processes of the container from the first moment on; and not left behind by a dying monitor.
///
/// Whatever descriptor is not needed is closed before anything is joined: a container that may trace its processes could
/// take them from us (CVE-2016-9962).
pub(crate) fn guard(die_with_parent: bool, preserved: u32, needed: &[BorrowedFd<'_>]) -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .call(|| "prctl(PR_SET_DUMPABLE, 0)")?;
    fd::abandon_all_but(3 + preserved, needed).call(|| "close_range()")?;
    rustix::process::umask(Mode::empty());
    die_with(die_with_parent)
}

pub(crate) fn die_with(parent: bool) -> Result<()> {
    if !parent {
        return Ok(());
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .call(|| "prctl(PR_SET_PDEATHSIG, SIGKILL)")
}

/// Becomes root of the user namespace that it is in; the ids that it came with are nobody there.
///
/// It stays out of reach: its memory still belongs to the namespace that the parent is in, where nobody inside has rights.
pub(crate) fn become_root(die_with_parent: bool) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    set_thread_res_gid(gid, gid, gid).call(|| "setresgid(0, 0, 0)")?;
    set_thread_res_uid(uid, uid, uid).call(|| "setresuid(0, 0, 0)")?;
    // The change of ids, or of the process, has cleared it.
    die_with(die_with_parent)
}

/// Pipes go to the container's root, which may then give them to the program's user (see [`give`]).
pub(crate) fn give_to_root(streams: &Streams, (uid, gid): (u32, u32)) -> Result<()> {
    let Streams::Three(three) = streams else { return Ok(()) };
    for stream in three {
        if is_pipe(stream.as_fd())? {
            fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .call(|| format!("fchown(stream, {uid}, {gid})"))?;
        }
    }
    Ok(())
}

/// Becomes the program. Returns only if that failed.
pub(crate) fn become_program(child: Child<'_>) -> Result<Infallible> {
    let process_plan = &child.plan.process;
    let user = child.user;
    install(&child.streams, user.uid)?;
    fd::close_on_exec_from(3 + child.given.preserved).call(|| "close_range(3, ~0, CLOSE_RANGE_CLOEXEC)")?;
    process::default_signals();
    rustix::process::umask(Mode::from_raw_mode(process_plan.umask));

    let filter = child.given.filter;
    let admin = if filter.is_some() && !process_plan.no_new_privileges { SYS_ADMIN } else { 0 };
    let wanted = available(process_plan.capabilities)?;
    change_user(&user, &wanted, admin)?;
    // The change of ids has cleared it.
    die_with(child.given.die_with_parent)?;
    if process_plan.no_new_privileges {
        set_no_new_privs(true).call(|| "prctl(PR_SET_NO_NEW_PRIVS)")?;
    }
    let env = environment(&process_plan.env, &user);
    let agent = child.given.listener;
    if child.given.gate.is_none() || agent.is_some() {
        child.report.ready()?;
    }
    let drop_admin = || if admin & !wanted.permitted != 0 { set(&wanted, 0) } else { Ok(()) };
    if let (Some(filter), Some(agent)) = (filter, agent) {
        agent.load(filter, child.report)?;
        child.given.wait_at_gate()?;
        drop_admin()?;
    }
    let seal = || match (filter, agent) {
        (Some(filter), None) => {
            filter.load().call(|| "seccomp(SECCOMP_SET_MODE_FILTER)")?;
            drop_admin()
        }
        // With an agent, whatever starts from here has the filter already; without a filter there is nothing to load.
        _ => Ok(()),
    };
    // Programs of the container's own: with no more rights than its own program.
    if let Some(subject) = child.given.subject {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        subject
            .run_sealed(&child.plan.hooks.start_container, "created", pid, &seal)
            .context(|| "startContainer")?;
    }
    seal()?;
    let errno = process::execve(&child.program, &process_plan.args, &env);
    Err(program::cannot(&child.program.to_string_lossy(), errno, false))
}

fn install(streams: &Streams, uid: u32) -> Result<()> {
    match streams {
        Streams::Three(three) => {
            for stream in three {
                give(stream.as_fd(), uid)?;
            }
            let [stdin, stdout, stderr] = three;
            fd::install_stdio([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]).call(|| "dup2(stream, 0..2)")
        }
        Streams::Terminal(slave) => {
            rustix::process::ioctl_tiocsctty(slave).call(|| "ioctl(pty, TIOCSCTTY)")?;
            fd::install_stdio([slave.as_fd(); 3]).call(|| "dup2(pty, 0..2)")
        }
        Streams::Pending => Err(crate::error::Error::invalid("plan: no step makes the terminal")),
    }
}

/// Pipes go to the program's user, or it could not open /dev/stdout anew. Files and devices of the host never do.
fn give(stream: BorrowedFd<'_>, uid: u32) -> Result<()> {
    if uid == 0 {
        return Ok(());
    }
    if !is_pipe(stream)? {
        return Ok(());
    }
    fchown(stream, Some(Uid::from_raw(uid)), None::<Gid>).call(|| format!("fchown(stream, {uid}, -1)"))
}

fn is_pipe(stream: BorrowedFd<'_>) -> Result<bool> {
    let stat = fstat(stream).call(|| "fstat(stream)")?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// What was asked for as far as this machine lets us have it; the specification wants no error for the rest.
fn available(wanted: Capabilities) -> Result<Capabilities> {
    let permitted = kernel::get().call(|| "capget()")?.permitted;
    let permitted = wanted.permitted & permitted;
    Ok(Capabilities {
        bounding: wanted.bounding,
        permitted,
        effective: wanted.effective & permitted,
        inheritable: wanted.inheritable & permitted,
        ambient: wanted.ambient & wanted.inheritable & permitted,
    })
}

fn change_user(user: &User, wanted: &Capabilities, admin: u64) -> Result<()> {
    kernel::limit_bounding(wanted.bounding).call(|| "prctl(PR_CAPBSET_DROP)")?;
    let keeps = user.uid != 0;
    if keeps {
        kernel::keep_over_setuid(true).call(|| "prctl(PR_SET_KEEPCAPS, 1)")?;
    }
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups).call(|| format!("setgroups({:?})", user.groups))?;
    let gid = Gid::from_raw(user.gid);
    set_thread_res_gid(gid, gid, gid).call(|| format!("setresgid({0}, {0}, {0})", user.gid))?;
    let uid = Uid::from_raw(user.uid);
    set_thread_res_uid(uid, uid, uid).call(|| format!("setresuid({0}, {0}, {0})", user.uid))?;
    set(wanted, admin)?;
    if keeps {
        kernel::keep_over_setuid(false).call(|| "prctl(PR_SET_KEEPCAPS, 0)")?;
    }
    if wanted.ambient != 0 {
        kernel::set_ambient(wanted.ambient)
            .call(|| format!("prctl(PR_CAP_AMBIENT, {:#x})", wanted.ambient))?;
    }
    Ok(())
}

fn set(wanted: &Capabilities, more: u64) -> Result<()> {
    let sets = Sets {
        effective: wanted.effective | more,
        permitted: wanted.permitted | more,
        inheritable: wanted.inheritable,
    };
    kernel::set(sets)
        .call(|| format!("capset({:#x}, {:#x}, {:#x})", sets.effective, sets.permitted, sets.inheritable))
}

/// The environment, with `HOME` if nobody gave one.
fn environment(env: &[CString], user: &User) -> Vec<CString> {
    let mut env = env.to_vec();
    let has_home = env.iter().any(|entry| entry.as_bytes().starts_with(b"HOME="));
    if let Some(home) = user.home.as_ref().filter(|_| !has_home) {
        env.extend(CString::new(format!("HOME={home}")).ok());
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(home: Option<&str>) -> User {
        User { home: home.map(str::to_owned), ..User::default() }
    }

    #[test]
    fn home_is_added_only_if_it_is_missing() {
        let env = [c"A=1".to_owned()];
        assert_eq!(environment(&env, &user(Some("/root"))), [c"A=1".to_owned(), c"HOME=/root".to_owned()]);
        let env = [c"HOME=/mine".to_owned()];
        assert_eq!(environment(&env, &user(Some("/root"))), env);
        assert!(environment(&[], &user(None)).is_empty());
    }

    #[test]
    fn the_bit_of_sys_admin_is_the_right_one() {
        assert_eq!(SYS_ADMIN, 1 << tare_model::capability::Capability::SYS_ADMIN.number());
    }

    #[test]
    fn only_ambient_capabilities_that_are_inheritable_are_asked_for() {
        let all = Capabilities { inheritable: 1, ambient: 3, ..Capabilities::all() };
        assert_eq!(available(all).unwrap().ambient, 1);
    }
}
