//! Fields of the specification that are not offered yet are refused by name, never ignored.

use oci_spec::runtime::{Linux, Process, Spec};

use crate::error::{Error, Result};

pub(crate) fn check(spec: &Spec) -> Result<()> {
    if let Some(hooks) = spec.hooks() {
        // Docker and containerd write an empty object.
        if *hooks != oci_spec::runtime::Hooks::default() && has_hooks(hooks) {
            return refuse("hooks");
        }
    }
    for (there, field) in [
        (spec.solaris().is_some(), "solaris"),
        (spec.windows().is_some(), "windows"),
        (spec.vm().is_some(), "vm"),
        (spec.zos().is_some(), "zos"),
        (spec.linux().is_none(), "a specification without linux"),
    ] {
        refuse_if(there, field)?;
    }
    if let Some(linux) = spec.linux() {
        check_linux(linux)?;
    }
    match spec.process() {
        Some(process) => check_process(process),
        None => Err(Error::invalid("process: missing")),
    }
}

fn has_hooks(hooks: &oci_spec::runtime::Hooks) -> bool {
    #[allow(deprecated)] // `prestart` is deprecated by the specification, and still has to be refused.
    [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ]
    .into_iter()
    .any(|list| list.as_ref().is_some_and(|list| !list.is_empty()))
}

fn check_linux(linux: &Linux) -> Result<()> {
    for (there, field) in [
        (text(linux.mount_label().as_ref()), "linux.mountLabel"),
        (linux.intel_rdt().is_some(), "linux.intelRdt"),
        (linux.memory_policy().is_some(), "linux.memoryPolicy"),
        (linux.personality().is_some(), "linux.personality"),
        (linux.time_offsets().as_ref().is_some_and(|map| !map.is_empty()), "linux.timeOffsets"),
        (linux.net_devices().as_ref().is_some_and(|map| !map.is_empty()), "linux.netDevices"),
    ] {
        refuse_if(there, field)?;
    }
    Ok(())
}

fn check_process(process: &Process) -> Result<()> {
    for (there, field) in [
        (text(process.apparmor_profile().as_ref()), "process.apparmorProfile"),
        (text(process.selinux_label().as_ref()), "process.selinuxLabel"),
        (process.io_priority().is_some(), "process.ioPriority"),
        (process.scheduler().is_some(), "process.scheduler"),
        (process.exec_cpu_affinity().is_some(), "process.execCPUAffinity"),
        (text(process.command_line().as_ref()), "process.commandLine"),
    ] {
        refuse_if(there, field)?;
    }
    Ok(())
}

/// Whether a text says something; `unconfined` asks for what happens anyway.
fn text(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty() && text != "unconfined")
}

fn refuse_if(there: bool, field: &str) -> Result<()> {
    if there { refuse(field) } else { Ok(()) }
}

fn refuse(field: &str) -> Result<()> {
    Err(Error::unsupported(format!("{field}: not supported yet")))
}
