//! The compiled program against a direct reading of the profile ([`meaning`]), the default filter ([`builtin`]) and OCI
//! documents ([`oci`]) as single stories.

mod builtin;
mod meaning;
mod oci;

use super::arch::Arch;
use super::interpreter::Call;
use super::syscalls;

const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const HIGH: u64 = 1 << 32;

fn on(arch: Arch, name: &str, args: [u64; 6]) -> Call {
    Call { nr: syscalls::number(arch, name).unwrap(), arch: arch.token(), args }
}

fn x86_64(name: &str, first: u64) -> Call {
    on(Arch::X86_64, name, [first, 0, 0, 0, 0, 0])
}
