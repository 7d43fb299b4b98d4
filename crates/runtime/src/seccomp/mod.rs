//! System-call filters: from an OCI profile, or the engine's own default, to a program the kernel runs.
//!
//! ```text
//!   LinuxSeccomp ──oci──▶ Profile ──codegen──▶ Program ──load──▶ the calling thread, for good
//!   CapSet ─────builtin──▶
//! ```
//!
//! Everything but [`Program::load`] is pure. A `Profile` is the meaning, stated in
//! `profile`; the tests compare the compiled [`Program`], run by an interpreter, with a direct reading of that
//! statement, and some calls with the kernel itself.
//!
//! Fails at: an action with a number it does not take, a missing listener, an argument index above five, a program longer
//! than the kernel's 4096 instructions ([`Error`]). Unknown call names are no failure ([`Program::notes`]): profiles are
//! written for newer kernels than ours.
//!
//! Read in this order: `profile`, `oci`, `codegen`, `assembler`, `builtin`.

use std::os::fd::OwnedFd;

use oci_spec::runtime::LinuxSeccomp;
use tare_sys::seccomp::{self as kernel, Flags, Instruction};

#[rustfmt::skip] // lists in lines
mod allowed;
mod arch;
mod assembler;
mod builtin;
mod codegen;
mod oci;
mod profile;
mod syscalls;

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod tests;

pub use arch::Arch;
pub use builtin::{ThirtyTwoBit, default_program, default_program_for};

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct Program {
    code: Vec<Instruction>,
    flags: Flags,
    notes: Vec<String>,
    notifies: bool,
}

/// Why a profile cannot become a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `errnoRet` beside an action that answers nothing.
    #[error("seccomp profile: {place}: action {action} takes no errnoRet (it has {number}); remove it")]
    NumberNotTaken {
        /// First call name of the rule, or `defaultAction`.
        place: String,
        /// The action.
        action: String,
        /// What was given.
        number: u32,
    },
    /// `errnoRet` that is no error number.
    #[error("seccomp profile: {place}: errnoRet {number} is no error number (0 to 4095)")]
    NumberTooLarge {
        /// First call name of the rule, or `defaultAction`.
        place: String,
        /// What was given.
        number: u32,
    },
    /// Notification as the default action: the first call of the new program would wait for a listener that
    /// cannot have been told yet.
    #[error(
        "seccomp profile: SCMP_ACT_NOTIFY cannot be the default action; name the calls to be notified of"
    )]
    NotifyByDefault,
    /// Notification with nobody to notify.
    #[error("seccomp profile: a rule has SCMP_ACT_NOTIFY but there is no listenerPath")]
    NoListener,
    /// A rule for nothing.
    #[error("seccomp profile: a rule has an empty list of names")]
    NoNames,
    /// An argument that system calls do not have.
    #[error("seccomp profile: {call}: argument index {index} does not exist (0 to 5)")]
    NoSuchArgument {
        /// First call name of the rule.
        call: String,
        /// What was given.
        index: usize,
    },
    /// More than the kernel takes.
    #[error(
        "seccomp profile: it compiles to {instructions} instructions, the kernel takes at most 4096; use fewer rules with arguments"
    )]
    TooLong {
        /// What it came to.
        instructions: usize,
    },
}

impl From<Error> for tare_model::Error {
    fn from(error: Error) -> Self {
        Self::new(tare_model::ErrorKind::InvalidInput, error.to_string())
    }
}

/// `Result` with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Compiles an OCI profile for this machine.
///
/// # Errors
/// The profile contradicts itself or is too long, see [`Error`].
pub fn compile(spec: &LinuxSeccomp) -> Result<Program> {
    compile_for(spec, Arch::NATIVE)
}

fn compile_for(spec: &LinuxSeccomp, native: Arch) -> Result<Program> {
    let read = oci::read(spec, native)?;
    let code = codegen::generate(&read.profile)?;
    let notifies = read.profile.rules.iter().any(|rule| rule.action == profile::Action::Notify);
    Ok(Program { code, flags: read.flags, notes: read.notes, notifies })
}

// === impl Program ===

impl Program {
    /// Loads it into the calling thread. Gives the listener's descriptor if any rule notifies
    /// ([`Program::needs_listener`]). Allocates nothing: fit for the time between `fork` and `execve`.
    ///
    /// # Errors
    /// As the kernel says; `EACCES` if neither `no_new_privs` is set nor `CAP_SYS_ADMIN` held.
    pub fn load(&self) -> rustix::io::Result<Option<OwnedFd>> {
        let mut flags = self.flags;
        if self.notifies {
            flags = flags | Flags::NEW_LISTENER;
            if flags.contains(Flags::TSYNC) {
                flags = flags | Flags::TSYNC_ESRCH;
            }
        }
        kernel::load(&self.code, flags)
    }

    /// Whether loading gives a listener that somebody must serve.
    pub fn needs_listener(&self) -> bool {
        self.notifies
    }

    /// What was passed over in the profile, for people: unknown calls, foreign architectures.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.code
    }
}
