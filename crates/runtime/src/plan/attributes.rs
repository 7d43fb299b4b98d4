//! How the kernel is to treat the process: scheduler, I/O priority, execution domain, memory policy, processors.

use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler as OciScheduler,
    Spec,
};
use tare_sys::scheduling::Scheduler;

use crate::error::{Context, Error, Result};

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `process.scheduler`.
    Scheduler(Scheduler),
    /// `process.ioPriority`.
    IoPriority {
        /// The kernel's number of the class.
        class: u8,
        /// 0 (highest) to 7.
        level: u8,
    },
    /// `linux.personality`.
    Personality(u32),
    /// `linux.memoryPolicy`.
    MemoryPolicy {
        /// The kernel's number of the mode, with flags.
        mode: u32,
        /// Bit mask of nodes.
        nodes: Vec<u64>,
    },
    /// `process.execCPUAffinity.final`.
    Processors(Vec<usize>),
}

/// Highest processor or memory node that is taken.
const MOST: usize = 1023;

/// All attributes of a process of this specification, a first or (`further`) another one.
pub(crate) fn of(spec: &Spec, further: bool) -> Result<Vec<Attribute>> {
    let mut all = Vec::new();
    if let Some(linux) = spec.linux() {
        all.extend(of_linux(linux)?);
    }
    let Some(process) = spec.process() else { return Ok(all) };
    if let Some(asked) = process.scheduler() {
        all.push(Attribute::Scheduler(scheduler(asked).context(|| "process.scheduler")?));
    }
    if let Some(asked) = process.io_priority() {
        let level = u8::try_from(asked.priority()).ok().filter(|level| *level <= 7).ok_or_else(|| {
            Error::invalid(format!("process.ioPriority: priority {} is not 0 to 7", asked.priority()))
        })?;
        let class = match asked.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        all.push(Attribute::IoPriority { class, level });
    }
    if further && let Some(list) = affinity(process, |asked| asked.cpu_affinity_final().as_ref())? {
        all.push(Attribute::Processors(list));
    }
    Ok(all)
}

/// `process.execCPUAffinity.initial`: where the process is made, before it comes to the container's groups.
pub(crate) fn first_processors(spec: &Spec) -> Result<Vec<usize>> {
    match spec.process() {
        Some(process) => Ok(affinity(process, |asked| asked.initial().as_ref())?.unwrap_or_default()),
        None => Ok(Vec::new()),
    }
}

fn affinity(
    process: &Process,
    pick: impl Fn(&oci_spec::runtime::ExecCPUAffinity) -> Option<&String>,
) -> Result<Option<Vec<usize>>> {
    let Some(text) = process.exec_cpu_affinity().as_ref().and_then(pick) else { return Ok(None) };
    let list = ranges(text).context(|| "process.execCPUAffinity")?;
    Ok((!list.is_empty()).then_some(list))
}

fn of_linux(linux: &Linux) -> Result<Vec<Attribute>> {
    let mut all = Vec::new();
    if let Some(asked) = linux.personality() {
        all.push(Attribute::Personality(personality(asked)?));
    }
    if let Some(asked) = linux.memory_policy() {
        all.push(memory_policy(asked).context(|| "linux.memoryPolicy")?);
    }
    Ok(all)
}

fn personality(asked: &LinuxPersonality) -> Result<u32> {
    if let Some(flag) = asked.flags().iter().flatten().next() {
        let text = format!("linux.personality: flag {flag:?}: the specification has none so far");
        return Err(Error::unsupported(text));
    }
    Ok(match asked.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

fn memory_policy(asked: &LinuxMemoryPolicy) -> Result<Attribute> {
    let mode = match asked.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let mut flags = 0_u32;
    for flag in asked.flags().iter().flatten() {
        flags |= match flag {
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
        };
    }
    let mut nodes = Vec::new();
    for node in ranges(asked.nodes().as_deref().unwrap_or_default())? {
        if nodes.len() <= node / 64 {
            nodes.resize(node / 64 + 1, 0);
        }
        nodes[node / 64] |= 1 << (node % 64);
    }
    Ok(Attribute::MemoryPolicy { mode: mode | flags, nodes })
}

fn scheduler(asked: &OciScheduler) -> Result<Scheduler> {
    let policy = match asked.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let mut flags = 0_u64;
    for flag in asked.flags().iter().flatten() {
        flags |= match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x1,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x2,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x4,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x8,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            // They need values that the specification has no field for.
            LinuxSchedulerFlag::SchedFlagUtilClampMin | LinuxSchedulerFlag::SchedFlagUtilClampMax => {
                return Err(Error::unsupported(format!("flag {flag}: there is no field for its value")));
            }
        };
    }
    let priority = asked.priority().unwrap_or(0);
    let priority =
        u32::try_from(priority).map_err(|_| Error::invalid(format!("priority {priority} is negative")))?;
    if !matches!(policy, 1 | 2) && priority != 0 {
        return Err(Error::invalid(format!("priority {priority} is for SCHED_FIFO and SCHED_RR only")));
    }
    let times = (*asked.runtime(), *asked.deadline(), *asked.period());
    if policy != 6 && times != (None, None, None) {
        return Err(Error::invalid("runtime, deadline and period are for SCHED_DEADLINE only"));
    }
    Ok(Scheduler {
        policy,
        flags,
        nice: asked.nice().unwrap_or(0),
        priority,
        runtime: times.0.unwrap_or(0),
        deadline: times.1.unwrap_or(0),
        period: times.2.unwrap_or(0),
    })
}

/// `0-3,7` as numbers.
fn ranges(text: &str) -> Result<Vec<usize>> {
    let wrong = || Error::invalid(format!("{text:?} is no list such as 0-3,7 of numbers up to {MOST}"));
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number <= MOST);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => all.extend(first..=last),
            _ => return Err(wrong()),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(process: &serde_json::Value, linux: &serde_json::Value) -> Result<Vec<Attribute>> {
        let mut process = process.clone();
        process["cwd"] = "/".into();
        process["user"] = serde_json::json!({"uid": 0, "gid": 0});
        let spec = serde_json::json!({"ociVersion": "1.3.0", "process": process, "linux": linux});
        of(&serde_json::from_value(spec).unwrap(), true)
    }

    #[test]
    fn each_attribute_becomes_the_kernels_numbers() {
        let process = serde_json::json!({
            "scheduler": {"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_RESET_ON_FORK"]},
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
            "execCPUAffinity": {"initial": "7", "final": "0-2,4"},
        });
        let linux = serde_json::json!({
            "personality": {"domain": "LINUX32"},
            "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0,65", "flags": ["MPOL_F_STATIC_NODES"]},
        });
        let got = planned(&process, &linux);
        let want = [
            Attribute::Personality(8),
            Attribute::MemoryPolicy { mode: 3 | 1 << 15, nodes: vec![1, 2] },
            Attribute::Scheduler(Scheduler { policy: 3, nice: 5, flags: 1, ..Scheduler::default() }),
            Attribute::IoPriority { class: 3, level: 4 },
            Attribute::Processors(vec![0, 1, 2, 4]),
        ];
        assert_eq!(got.unwrap(), want);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let none = serde_json::json!({});
        for (process, linux, word) in [
            (
                serde_json::json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}),
                &none,
                "ioPriority",
            ),
            (serde_json::json!({"scheduler": {"policy": "SCHED_OTHER", "priority": 1}}), &none, "SCHED_FIFO"),
            (
                serde_json::json!({"scheduler": {"policy": "SCHED_FIFO", "runtime": 1}}),
                &none,
                "SCHED_DEADLINE",
            ),
            (serde_json::json!({"execCPUAffinity": {"final": "3-1"}}), &none, "execCPUAffinity"),
            (serde_json::json!({"execCPUAffinity": {"final": "9999"}}), &none, "1023"),
            (
                serde_json::json!({}),
                &serde_json::json!({"personality": {"domain": "LINUX", "flags": ["X"]}}),
                "personality",
            ),
            (
                serde_json::json!({}),
                &serde_json::json!({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "x"}}),
                "memoryPolicy",
            ),
        ] {
            let error = planned(&process, linux).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
