//! eBPF programs: those that decide on devices, loaded, attached to a v2 group, listed and detached; those that classify
//! packets, loaded; those that rewrite the addresses of sockets ([`AddressHook`]); and maps ([`Map`]).
//!
//! See [bpf(2)](https://man7.org/linux/man-pages/man2/bpf.2.html). Programs are made elsewhere.

mod address;
mod map;

pub use address::{AddressHook, Link, network_cookie};
pub use map::{Map, MapKind};

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, Result};

/// One instruction, laid out as the kernel's `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low, source register in the high four bits (on little-endian machines).
    pub registers: u8,
    /// Jump distance or address offset.
    pub offset: i16,
    /// Constant operand.
    pub immediate: i32,
}

impl Instruction {
    /// An instruction from its parts.
    pub const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
        Self { code, registers, offset, immediate }
    }
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const TYPE_CLASSIFIER: u32 = 3;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// `union bpf_attr` as `BPF_PROG_LOAD` reads it; what follows in newer kernels is optional.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    link: u32,
    attach: u32,
}

/// As `BPF_PROG_ATTACH` and `_DETACH` read it.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// As `BPF_PROG_QUERY` reads and fills it.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// As `BPF_PROG_GET_FD_BY_ID` reads it.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Loads a program that decides on devices.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` (or `CAP_BPF` and `CAP_NET_ADMIN`) in the initial user namespace; `EINVAL` or `EACCES` if the kernel's
/// checker does not like it.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    load(TYPE_CGROUP_DEVICE, ATTACH_CGROUP_DEVICE, *b"tare_devices\0\0\0\0", program)
}

/// Loads a program that classifies packets, to be named in a traffic control filter.
///
/// # Errors
/// As [`load_device_program`].
pub fn load_classifier(program: &[Instruction]) -> Result<OwnedFd> {
    load(TYPE_CLASSIFIER, 0, *b"tare_shape\0\0\0\0\0\0", program)
}

/// Where it is attached only some kinds are loaded for.
fn load(kind: u32, attach: u32, name: [u8; 16], program: &[Instruction]) -> Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attributes = Load {
        kind,
        count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name,
        link: 0,
        attach,
    };
    // SAFETY: the instructions and the licence live over the call, their lengths are right, and the kernel only reads them;
    // `Instruction` has the layout of `struct bpf_insn`.
    let fd = unsafe { bpf(PROG_LOAD, &mut attributes) }?;
    // SAFETY: the answer is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a group beside whatever is attached there and above; a device must please all of them.
pub fn attach_device_program(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attributes =
        Attach { target: raw(group), program: raw(program), kind: ATTACH_CGROUP_DEVICE, flags: ALLOW_MULTI };
    // SAFETY: the attributes hold numbers only.
    unsafe { bpf(PROG_ATTACH, &mut attributes) }.map(drop)
}

/// Detaches one program.
pub fn detach_device_program(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attributes =
        Attach { target: raw(group), program: raw(program), kind: ATTACH_CGROUP_DEVICE, flags: 0 };
    // SAFETY: the attributes hold numbers only.
    unsafe { bpf(PROG_DETACH, &mut attributes) }.map(drop)
}

/// The programs attached to this very group (not above it).
pub fn device_programs(group: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64]; // as many as the kernel attaches to one group
    let mut attributes = Query {
        target: raw(group),
        kind: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        padding: 0,
    };
    // SAFETY: `ids` has room for `count` numbers and lives over the call.
    unsafe { bpf(PROG_QUERY, &mut attributes) }?;
    ids.iter().take(attributes.count as usize).map(|id| by_id(*id)).collect()
}

fn by_id(id: u32) -> Result<OwnedFd> {
    let mut attributes = ById { id, next: 0, flags: 0 };
    // SAFETY: the attributes hold numbers only.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attributes) }?;
    // SAFETY: the answer is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

/// # Safety
/// Addresses in `attributes` must be valid for what `command` reads and writes there.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> Result<RawFd> {
    // SAFETY: the size is that of the attributes; the rest is the caller's promise.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if answer < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    RawFd::try_from(answer).map_err(|_| Errno::OVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: [Instruction; 2] = [Instruction::new(0xb7, 0, 0, 0, 1), Instruction::new(0x95, 0, 0, 0, 0)];

    #[test]
    fn a_program_that_always_allows_is_accepted() {
        load_device_program(&ALLOW).unwrap();
    }

    #[test]
    fn a_program_that_never_ends_well_is_refused() {
        let no_answer = [Instruction::new(0x95, 0, 0, 0, 0)];
        assert!(load_device_program(&no_answer).is_err());
    }
}
