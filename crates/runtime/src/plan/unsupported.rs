//! Fields of the specification that are not offered yet are refused by name, never ignored.

use oci_spec::runtime::{Process, Spec};

use crate::error::{Error, Result};

pub(crate) fn check(spec: &Spec) -> Result<()> {
    for (there, field) in [
        (spec.solaris().is_some(), "solaris"),
        (spec.windows().is_some(), "windows"),
        (spec.vm().is_some(), "vm"),
        (spec.zos().is_some(), "zos"),
        (spec.linux().is_none(), "a specification without linux"),
    ] {
        refuse_if(there, field)?;
    }
    match spec.process() {
        Some(process) => check_process(process),
        // Needed only to start it.
        None => Ok(()),
    }
}

fn check_process(process: &Process) -> Result<()> {
    // Windows only.
    let command_line = process.command_line().as_ref().is_some_and(|text| !text.is_empty());
    refuse_if(command_line, "process.commandLine")
}

fn refuse_if(there: bool, field: &str) -> Result<()> {
    if there { refuse(field) } else { Ok(()) }
}

fn refuse(field: &str) -> Result<()> {
    Err(Error::unsupported(format!("{field}: not supported yet")))
}
