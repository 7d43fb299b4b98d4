//! Attributes given to the calling process, and where a further process is made.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tare_sys::process::Forked;
use tare_sys::scheduling;

use crate::error::{Call, Context, Result};
use crate::plan::Attribute;

/// Gives the calling process an attribute.
pub(crate) fn give(attribute: &Attribute) -> Result<()> {
    match attribute {
        Attribute::Scheduler(wanted) => scheduling::set_scheduler(*wanted)
            .call(|| format!("sched_setattr(0, {wanted:?})"))
            .context(|| "process.scheduler (real-time classes need CAP_SYS_NICE)"),
        Attribute::IoPriority { class, level } => scheduling::set_io_priority(*class, *level)
            .call(|| format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, {class}:{level})"))
            .context(|| "process.ioPriority"),
        Attribute::Personality(domain) => scheduling::set_personality(*domain)
            .call(|| format!("personality({domain:#x})"))
            .context(|| "linux.personality"),
        Attribute::MemoryPolicy { mode, nodes } => scheduling::set_memory_policy(*mode, nodes)
            .call(|| format!("set_mempolicy({mode:#x}, {nodes:x?})"))
            .context(|| "linux.memoryPolicy"),
        Attribute::Processors(list) => move_to(list).context(|| "process.execCPUAffinity.final"),
    }
}

/// Forks on these processors, if any are named, and goes back to where this process was; the child stays.
pub(crate) fn fork_on(list: &[usize], make: impl FnOnce() -> Result<Forked>) -> Result<Forked> {
    if list.is_empty() {
        return make();
    }
    let home = sched_getaffinity(None).call(|| "sched_getaffinity(0)")?;
    move_to(list).context(|| "process.execCPUAffinity.initial")?;
    let made = make();
    if !matches!(made, Ok(Forked::Child)) {
        sched_setaffinity(None, &home).call(|| "sched_setaffinity(0, as before)")?;
    }
    made
}

fn move_to(list: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for processor in list {
        set.set(*processor);
    }
    sched_setaffinity(None, &set).call(|| format!("sched_setaffinity(0, {list:?})"))
}
