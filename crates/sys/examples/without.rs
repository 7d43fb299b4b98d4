//! `without CALLS PROGRAM ARGS…`: runs a program as if the kernel were older.
//!
//! CALLS is a list of `openat2`, `clone3`, `mount`, `pidfd` and `close_range`, separated by commas, or `all`. Those calls
//! answer `ENOSYS` to the program and to every process that comes from it, by a filter that is loaded before the program
//! is executed. Tests are run so, to have what is used instead.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use tare_sys::process::execve;
use tare_sys::seccomp::{Flags, Instruction, load};

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const TO_INDEX: u16 = 0x07;
const SUBTRACT: u16 = 0x14;
const AND_INDEX: u16 = 0x5c;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

/// Where the number of the call and its arguments are.
const NUMBER: u32 = 0;
const fn argument(at: u32) -> u32 {
    16 + 8 * at
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let calls = args.next().unwrap_or_default().into_string().unwrap_or_default();
    let args: Vec<CString> = args.filter_map(|arg| CString::new(arg.into_vec()).ok()).collect();
    let (Some(program), Some(filter)) = (args.first(), filter(&calls)) else {
        eprintln!("usage: without openat2,clone3,mount,pidfd,close_range|all /PATH/OF/PROGRAM ARGS…");
        return ExitCode::from(2);
    };
    if let Err(error) = load(&filter, Flags::SPEC_ALLOW) {
        eprintln!("without: seccomp: {error}; this needs root");
        return ExitCode::from(125);
    }
    let environment =
        std::env::vars_os().map(|(name, value)| [name.into_vec(), b"=".to_vec(), value.into_vec()].concat());
    let environment: Vec<CString> = environment.filter_map(|entry| CString::new(entry).ok()).collect();
    let error = execve(program, &args, &environment);
    eprintln!("without: execve({program:?}): {error}");
    ExitCode::from(126)
}

/// The program for these calls; `None` if one is not known.
fn filter(calls: &str) -> Option<Vec<Instruction>> {
    let all = ["openat2", "clone3", "mount", "pidfd", "close_range"];
    let calls: Vec<&str> = if calls == "all" { all.to_vec() } else { calls.split(',').collect() };
    let mut program = vec![one(LOAD, NUMBER)];
    for call in calls {
        let numbers: &[libc::c_long] = match call {
            "openat2" => &[libc::SYS_openat2],
            "clone3" => &[libc::SYS_clone3],
            "mount" => &[
                libc::SYS_open_tree,
                libc::SYS_move_mount,
                libc::SYS_fsopen,
                libc::SYS_fsconfig,
                libc::SYS_fsmount,
                libc::SYS_fspick,
                libc::SYS_mount_setattr,
            ],
            "pidfd" => &[libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_pidfd_getfd],
            "close_range" => &[libc::SYS_close_range],
            _ => return None,
        };
        for number in numbers {
            program.extend([equal(*number, 0, 1), error(libc::ENOSYS)]);
        }
        if call == "pidfd" {
            program.extend(older_calls_with_pidfds());
        }
    }
    program.push(one(RETURN, ALLOW));
    Some(program)
}

/// Before there were pidfds these two took none: waitid(P_PIDFD), and setns of several kinds at once.
fn older_calls_with_pidfds() -> Vec<Instruction> {
    vec![
        equal(libc::SYS_waitid, 0, 4),
        one(LOAD, argument(0)),
        equal(3, 0, 1), // P_PIDFD
        error(libc::EINVAL),
        one(RETURN, ALLOW),
        equal(libc::SYS_setns, 0, 7),
        one(LOAD, argument(1)),
        one(TO_INDEX, 0),
        one(SUBTRACT, 1),
        one(AND_INDEX, 0),
        equal(0, 0, 1), // at most one bit
        one(RETURN, ALLOW),
        error(libc::EINVAL),
    ]
}

fn one(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn equal(number: libc::c_long, jt: u8, jf: u8) -> Instruction {
    Instruction { code: EQUAL, jt, jf, k: u32::try_from(number).unwrap_or(u32::MAX) }
}

fn error(errno: i32) -> Instruction {
    one(RETURN, ERRNO | errno.unsigned_abs())
}
