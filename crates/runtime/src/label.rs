//! The label that the kernel's security module gives the program when it is executed.
//!
//! Asked for through `/proc/self/attr`, while the host's procfs is the one to be seen, by descriptor and only on a real
//! procfs (CVE-2019-16884: a fake one takes the request and does nothing). A module that is not there is refused by name.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, StatFs, statfs};
use rustix::io::Errno;

use crate::error::{Call, Context, Error, Result};
use crate::kernel::require_proc;
use crate::plan::{Label, Plan, Step};

/// `SELINUX_MAGIC`.
const SELINUX_MAGIC: u64 = 0xf97c_ff8c;

/// Refuses labels of modules that this kernel does not run.
pub(crate) fn require_modules(plan: &Plan) -> Result<()> {
    for step in &plan.steps {
        if let Step::Label(label) = step {
            require(label)?;
        }
    }
    if plan.mount_label.is_some() && !selinux() {
        return Err(Error::unsupported("linux.mountLabel: SELinux is not enabled on this machine"));
    }
    Ok(())
}

fn require(label: &Label) -> Result<()> {
    match label {
        // Without the module everything is.
        Label::AppArmor(profile) if profile == "unconfined" => Ok(()),
        Label::AppArmor(profile) if !apparmor() => Err(Error::unsupported(format!(
            "process.apparmorProfile {profile:?}: AppArmor is not enabled on this machine"
        ))),
        Label::SeLinux(label) if !selinux() => Err(Error::unsupported(format!(
            "process.selinuxLabel {label:?}: SELinux is not enabled on this machine"
        ))),
        _ => Ok(()),
    }
}

/// Whether AppArmor runs.
pub fn apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// Whether SELinux runs.
pub fn selinux() -> bool {
    let magic = |fs: StatFs| u64::try_from(fs.f_type).ok();
    statfs("/sys/fs/selinux").is_ok_and(|fs| magic(fs) == Some(SELINUX_MAGIC))
}

/// Asks for the label.
pub(crate) fn ask(label: &Label) -> Result<()> {
    match label {
        Label::AppArmor(profile) if profile == "unconfined" && !apparmor() => Ok(()),
        Label::AppArmor(profile) => {
            let text = format!("exec {profile}");
            let what = || format!("process.apparmorProfile {profile:?} (is the profile loaded?)");
            match write("/proc/self/attr/apparmor/exec", &text) {
                // Before 5.8 there is one set of files for all modules.
                Err(error) if error.errno() == Some(Errno::NOENT) => write("/proc/self/attr/exec", &text),
                other => other,
            }
            .context(what)
        }
        Label::SeLinux(label) => {
            write("/proc/self/attr/exec", label).context(|| format!("process.selinuxLabel {label:?}"))
        }
    }
}

/// Asks for the label of keys and keyrings that this process makes until it executes the program: SELinux gives them that of
/// who makes them, and the container could not look into its own.
pub(crate) fn of_keys(label: &str) -> Result<()> {
    write("/proc/self/attr/keycreate", label).context(|| format!("process.selinuxLabel {label:?}, of keys"))
}

fn write(path: &str, text: &str) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).call(|| format!("open({path:?}, O_WRONLY)"))?;
    require_proc(file.as_fd())?;
    rustix::io::write(&file, text.as_bytes()).call(|| format!("write({path:?}, {text:?})")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CVE-2019-16884: a file that only looks like procfs's takes the request and does nothing.
    #[test]
    fn a_label_is_asked_for_on_procfs_or_not_at_all() {
        let fake = tempfile::NamedTempFile::new().unwrap();
        let error = write(fake.path().to_str().unwrap(), "exec profile").unwrap_err();
        assert_eq!(error.kind(), tare_model::ErrorKind::Forbidden, "{error}");
        assert_eq!(std::fs::read_to_string(fake.path()).unwrap(), "");
        // On procfs the kernel answers.
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        write("/proc/self/oom_score_adj", own.trim()).unwrap();
    }
}
