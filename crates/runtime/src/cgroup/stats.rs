//! What a container uses, in the words of [`tare_model::sandbox::Stats`]. Reading only; a file that is missing leaves its
//! figure out.

use std::collections::BTreeMap;

use tare_model::sandbox::{BlockIo, CpuStats, MemoryStats, PidsStats, Stats};

use super::Cgroup;
use super::controller::{Controller, Version};
use super::error::Result;
use super::file::number;
use super::layout::Hierarchy;
use super::parse::{DeviceFigure, figures, io_v1, io_v2, keyed, pairs};

/// v1 writes "no limit" as the largest number of whole pages.
const NO_LIMIT_V1: u64 = i64::MAX as u64 - 0xffff;

impl Cgroup {
    /// Reads everything. Networks are not a matter of cgroups and stay empty.
    ///
    /// # Errors
    /// A file that is there could not be read or makes no sense.
    pub fn stats(&self) -> Result<Stats> {
        Ok(Stats {
            cpu: self.cpu_stats()?,
            memory: self.memory_stats()?,
            pids: self.pids_stats()?,
            block_io: self.block_io_stats()?,
            networks: BTreeMap::new(),
        })
    }

    /// Bytes of memory charged now.
    pub(super) fn memory_used(&self) -> Result<Option<u64>> {
        let Some(hierarchy) = self.with(Controller::Memory) else { return Ok(None) };
        let file = by_version(hierarchy, "memory.usage_in_bytes", "memory.current");
        self.figure(hierarchy, file)
    }

    /// Bytes swapped out now.
    pub(super) fn swap_used(&self) -> Result<u64> {
        let Some(hierarchy) = self.with(Controller::Memory) else { return Ok(0) };
        let file = by_version(hierarchy, "memory.memsw.usage_in_bytes", "memory.swap.current");
        let figure = self.figure(hierarchy, file)?.unwrap_or_default();
        Ok(match hierarchy.version {
            Version::V1 => figure.saturating_sub(self.memory_used()?.unwrap_or_default()),
            Version::V2 => figure,
        })
    }

    /// A limit in force; `None`: there is none, or no such file.
    pub(super) fn limit(&self, controller: Controller, file: &str) -> Result<Option<u64>> {
        let Some(hierarchy) = self.with(controller) else { return Ok(None) };
        Ok(self.figure(hierarchy, file)?.filter(|limit| *limit < NO_LIMIT_V1))
    }

    pub(super) fn cpu_stats(&self) -> Result<Option<CpuStats>> {
        let mut stats = CpuStats::default();
        let mut any = false;
        // v2 counts time without the controller, but beside v1 only what came in by the v2 group.
        let cpu = self.with(Controller::Cpu).or_else(|| self.unified());
        if let Some(hierarchy) = cpu
            && let Some(content) = hierarchy.read_if_there(&self.path.join("cpu.stat"))?
        {
            any = true;
            let figure = |key: &str| keyed(&content, key).unwrap_or_default();
            stats.periods = figure("nr_periods");
            stats.throttled_periods = figure("nr_throttled");
            stats.throttled_time =
                keyed(&content, "throttled_time").unwrap_or(figure("throttled_usec") * 1000);
            stats.usage = figure("usage_usec") * 1000;
            stats.user = figure("user_usec") * 1000;
            stats.system = figure("system_usec") * 1000;
        }
        if let Some(hierarchy) = self.with(Controller::Cpuacct) {
            any = true;
            stats.usage = self.figure(hierarchy, "cpuacct.usage")?.unwrap_or_default();
            stats.user = self.figure(hierarchy, "cpuacct.usage_user")?.unwrap_or_default();
            stats.system = self.figure(hierarchy, "cpuacct.usage_sys")?.unwrap_or_default();
            let each = hierarchy.read_if_there(&self.path.join("cpuacct.usage_percpu"))?.unwrap_or_default();
            stats.per_cpu = figures(&each);
        }
        Ok(any.then_some(stats))
    }

    fn memory_stats(&self) -> Result<Option<MemoryStats>> {
        let Some(hierarchy) = self.with(Controller::Memory) else { return Ok(None) };
        let file = |v1, v2| by_version(hierarchy, v1, v2);
        let Some(usage) = self.memory_used()? else { return Ok(None) };
        let most = self.figure(hierarchy, file("memory.max_usage_in_bytes", "memory.peak"))?;
        let limit = self.figure(hierarchy, file("memory.limit_in_bytes", "memory.max"))?;
        let failures = match hierarchy.version {
            Version::V1 => self.figure(hierarchy, "memory.failcnt")?,
            Version::V2 => hierarchy
                .read_if_there(&self.path.join("memory.events"))?
                .and_then(|events| keyed(&events, "max")),
        };
        let detail = hierarchy.read_if_there(&self.path.join("memory.stat"))?.unwrap_or_default();
        Ok(Some(MemoryStats {
            usage,
            max_usage: most.unwrap_or_default(),
            limit: limit.filter(|limit| *limit < NO_LIMIT_V1),
            failures: failures.unwrap_or_default(),
            detail: pairs(&detail),
        }))
    }

    pub(super) fn pids_stats(&self) -> Result<Option<PidsStats>> {
        let Some(hierarchy) = self.with(Controller::Pids) else { return Ok(None) };
        let Some(current) = self.figure(hierarchy, "pids.current")? else { return Ok(None) };
        Ok(Some(PidsStats { current, limit: self.figure(hierarchy, "pids.max")? }))
    }

    fn block_io_stats(&self) -> Result<Vec<BlockIo>> {
        let Some(hierarchy) = self.with(Controller::Io) else { return Ok(Vec::new()) };
        if hierarchy.version == Version::V2 {
            let content = hierarchy.read_if_there(&self.path.join("io.stat"))?.unwrap_or_default();
            return Ok(moved(io_v2(&content, operation)));
        }
        // Kernels differ in which of these they fill.
        for file in ["blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"] {
            let found = moved(io_v1(&hierarchy.read_if_there(&self.path.join(file))?.unwrap_or_default()));
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// A file that holds one number, or `max`, which is none.
    fn figure(&self, hierarchy: &Hierarchy, file: &str) -> Result<Option<u64>> {
        let path = self.path.join(file);
        match hierarchy.read_if_there(&path)? {
            Some(content) if content.trim() != "max" => number(&hierarchy.shown(&path), &content).map(Some),
            _ => Ok(None),
        }
    }
}

fn by_version<'a>(hierarchy: &Hierarchy, v1: &'a str, v2: &'a str) -> &'a str {
    match hierarchy.version {
        Version::V1 => v1,
        Version::V2 => v2,
    }
}

/// Bytes read and written, in the engine's words.
fn moved(figures: Vec<DeviceFigure>) -> Vec<BlockIo> {
    let one = |figure: DeviceFigure| {
        let operation = figure.op.to_ascii_lowercase();
        let moves_data = matches!(operation.as_str(), "read" | "write");
        let DeviceFigure { major, minor, value: bytes, .. } = figure;
        moves_data.then_some(BlockIo { major, minor, operation, bytes })
    };
    figures.into_iter().filter_map(one).collect()
}

fn operation(key: &str) -> Option<&'static str> {
    match key {
        "rbytes" => Some("read"),
        "wbytes" => Some("write"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_by_device_are_read_in_both_versions() {
        let v1 = moved(io_v1("8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Total 12288\nTotal 12288\n"));
        let line = "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n7:0\n";
        let v2 = moved(io_v2(line, operation));
        let entry =
            |operation: &str, bytes| BlockIo { major: 8, minor: 0, operation: operation.to_owned(), bytes };
        assert_eq!(v1, [entry("read", 4096), entry("write", 8192)]);
        assert_eq!(v2, v1);
    }

    #[test]
    fn lines_that_make_no_sense_are_passed_over() {
        assert_eq!(
            pairs("cache 5\nnonsense\nrss x\nfile 7\n"),
            [("cache".into(), 5), ("file".into(), 7)].into()
        );
        assert!(io_v1("x:y Read z\n").is_empty());
    }
}
