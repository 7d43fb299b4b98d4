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
//! Read in this order: `profile`, `oci`, `codegen`, `assembler`, `builtin`; `listener` stands alone.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::runtime::LinuxSeccomp;
use tare_model::capability::CapSet;
use tare_sys::seccomp::{self as kernel, Flags, Instruction};

#[rustfmt::skip] // lists in lines
mod allowed;
mod arch;
mod assembler;
mod builtin;
mod codegen;
pub(crate) mod listener;
mod oci;
mod profile;
mod syscalls;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(any(test, feature = "fuzzing"))]
mod interpreter;
#[cfg(test)]
mod kernel_tests;
#[cfg(any(test, feature = "fuzzing"))]
mod meaning;
#[cfg(test)]
mod tests;

pub use arch::Arch;
pub use builtin::{Builtin, ThirtyTwoBit, builtin_program};

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
    /// A message to nobody.
    #[error("seccomp profile: listenerMetadata without listenerPath; give both or neither")]
    MetadataForNobody,
    /// Rules that contradict each other.
    #[error(
        "seccomp profile: {call}: one rule says {first}, another {second}, and one of them could never apply; \
         remove one, or give conditions to both"
    )]
    Conflict {
        /// The call.
        call: String,
        /// What one says.
        first: String,
        /// What the other says.
        second: String,
    },
    /// A flag that this kernel does not have.
    #[error("seccomp profile: flag {flag}: this kernel does not have it; leave it out")]
    NoSuchFlag {
        /// As the profile names it.
        flag: &'static str,
    },
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

/// As [`compile`], from memory where the same profile was compiled by this process or the one it was forked from.
///
/// # Errors
/// As [`compile`].
pub fn compiled(spec: &LinuxSeccomp) -> Result<Arc<Program>> {
    // A panic elsewhere leaves the list whole: entries are inserted complete.
    let mut cache = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, program)) = cache.iter().find(|(known, _)| known == spec) {
        return Ok(Arc::clone(program));
    }
    let program = Arc::new(compile(spec)?);
    if cache.len() >= COMPILED_MAX {
        cache.remove(0);
    }
    cache.push((spec.clone(), Arc::clone(&program)));
    Ok(program)
}

/// Profiles are many rules; few machines have more than a handful in use.
const COMPILED_MAX: usize = 16;
static COMPILED: Mutex<Vec<(LinuxSeccomp, Arc<Program>)>> = Mutex::new(Vec::new());

fn compile_for(spec: &LinuxSeccomp, native: Arch) -> Result<Program> {
    let read = oci::read(spec, native)?;
    check_flags(read.flags)?;
    let code = codegen::generate(&read.profile)?;
    let notifies = read.profile.rules.iter().any(|rule| rule.action == profile::Action::Notify);
    Ok(Program { code, flags: read.flags, notes: read.notes, notifies })
}

/// Compiles what nearly every container needs, so that a copy of this process has it ready.
pub fn warm_up() {
    let usual = [
        (Builtin::Default, CapSet::CONTAINER_DEFAULT),
        (Builtin::Strict, CapSet::CONTAINER_STRICT),
        (Builtin::Docker, CapSet::CONTAINER_DEFAULT),
    ];
    for (kind, caps) in usual {
        let thirty_two = if kind == Builtin::Docker { ThirtyTwoBit::Allowed } else { ThirtyTwoBit::Refused };
        builtin_program(kind, caps, thirty_two);
    }
}

/// The flags of documents; the second is what the kernel wants beside it.
const FLAGS: [(Flags, Flags, &str); 4] = [
    (Flags::LOG, Flags::NONE, "SECCOMP_FILTER_FLAG_LOG"),
    (Flags::TSYNC, Flags::NONE, "SECCOMP_FILTER_FLAG_TSYNC"),
    (Flags::SPEC_ALLOW, Flags::NONE, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
    (Flags::WAIT_KILLABLE_RECV, Flags::NEW_LISTENER, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
];

/// The flags that a document may name, and whether this kernel has each.
pub fn known_flags() -> Vec<(&'static str, bool)> {
    FLAGS.iter().map(|(flag, with, name)| (*name, kernel::supports(*flag | *with))).collect()
}

/// The architectures that a document may name and whose calls are known.
pub fn known_architectures() -> Vec<oci_spec::runtime::Arch> {
    arch::NAMES.iter().map(|(name, _)| *name).collect()
}

/// Names a flag that this kernel would refuse without a word.
fn check_flags(flags: Flags) -> Result<()> {
    for (flag, with, name) in FLAGS {
        if flags.contains(flag) && !kernel::supports(flag | with) {
            return Err(Error::NoSuchFlag { flag: name });
        }
    }
    Ok(())
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
