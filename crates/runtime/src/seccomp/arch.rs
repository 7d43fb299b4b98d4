//! Architectures a filter can tell apart: the one the machine has and the ones its kernel also runs.

use oci_spec::runtime::Arch as OciArch;

/// A system-call convention with numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, on a 64-bit kernel through `int 0x80` and its kin.
    I386,
    /// 32-bit pointers in 64-bit mode: x86_64's token, numbers with a flag.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM (EABI), also on 64-bit processors that still run it.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// What this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Self = Self::X86_64;
    /// What this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Self = Self::Aarch64;
    /// What this program was built for.
    #[cfg(target_arch = "riscv64")]
    pub const NATIVE: Self = Self::Riscv64;

    /// All that there are tables for.
    pub(crate) const ALL: [Self; 6] =
        [Self::X86_64, Self::I386, Self::X32, Self::Aarch64, Self::Arm, Self::Riscv64];

    /// The `AUDIT_ARCH_*` token in `seccomp_data.arch`.
    pub(crate) fn token(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
        }
    }

    /// Every architecture that a kernel for this one may run, itself first.
    pub(crate) fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::X86_64, Self::I386, Self::X32],
            Self::I386 => &[Self::I386],
            Self::X32 => &[Self::X32],
            Self::Aarch64 => &[Self::Aarch64, Self::Arm],
            Self::Arm => &[Self::Arm],
            Self::Riscv64 => &[Self::Riscv64],
        }
    }

    /// The architecture an OCI document names, if we have its numbers. We have those of every architecture that runs on
    /// a machine this program can be built for.
    pub(crate) fn from_oci(arch: OciArch, native: Self) -> Option<Self> {
        match arch {
            OciArch::ScmpArchNative => Some(native),
            other => NAMES.iter().find(|(name, _)| *name == other).map(|(_, arch)| *arch),
        }
    }
}

/// What OCI documents call those that there are tables for.
pub(crate) const NAMES: [(OciArch, Arch); 6] = [
    (OciArch::ScmpArchX86_64, Arch::X86_64),
    (OciArch::ScmpArchX86, Arch::I386),
    (OciArch::ScmpArchX32, Arch::X32),
    (OciArch::ScmpArchAarch64, Arch::Aarch64),
    (OciArch::ScmpArchArm, Arch::Arm),
    (OciArch::ScmpArchRiscv64, Arch::Riscv64),
];
