//! The first file system of the guest: busybox, the modules that reach the disks, and the scripts that turn a plain
//! Debian disk into a test machine. It is packed anew for each run, which takes milliseconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tare_kit::debs;

use super::cache;
use super::kernel;
use crate::shell::Done;

/// What must be there before the disks are. Not `crc32c_intel`: emulated, its instruction is slower than a table.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "virtio_console", "crc32c_generic", "ext4"];

/// The scripts, and where they go.
const SCRIPTS: &[(&str, &str)] = &[
    ("init", include_str!("scripts/init.sh")),
    ("glue/start", include_str!("scripts/start.sh")),
    ("glue/job", include_str!("scripts/job.sh")),
    ("glue/guest-job.service", include_str!("scripts/guest-job.service")),
];

/// Packs it into `path`.
pub(super) fn pack(path: &Path, kernel: &kernel::Parts) -> Done {
    let mut archive = Archive::default();
    for dir in ["bin", "dev", "glue", "modules", "new", "proc", "sys"] {
        archive.directory(dir);
    }
    archive.program("bin/busybox", &cache::read(&debs::busybox())?);
    for (name, text) in SCRIPTS {
        archive.program(name, text.as_bytes());
    }
    let read = |name: &str| {
        let path = kernel.modules.join(name);
        fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
    };
    let order = load_order(MODULES, &read("modules.dep")?, &read("modules.builtin")?)?;
    let mut list = String::new();
    for module in order {
        let name = format!("modules/{}", base_name(&module));
        archive.program(&name, &cache::read(&kernel.modules.join(&module))?);
        list.push_str(&format!("/{name}\n"));
    }
    archive.program("modules/order", list.as_bytes());
    cache::write(path, archive.finish())
}

// === the order of modules ===

/// Files of the wanted modules and all that they need, in the order in which to load them. What is part of the kernel
/// itself is left out.
fn load_order(wanted: &[&str], dependencies: &str, builtin: &str) -> Done<Vec<String>> {
    let needs: BTreeMap<String, (&str, Vec<&str>)> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needed)| (module_name(file), (file, needed.split_whitespace().collect())))
        .collect();
    let builtin: Vec<String> = builtin.lines().map(module_name).collect();
    let mut order: Vec<String> = Vec::new();
    for name in wanted.iter().filter(|name| !builtin.iter().any(|b| b == *name)) {
        let (file, needed) = needs.get(*name).ok_or_else(|| format!("the kernel has no module {name}"))?;
        // depmod names them with the nearest first.
        for each in needed.iter().rev().chain([file]) {
            if !order.iter().any(|o| o == each) {
                order.push((*each).to_string());
            }
        }
    }
    Ok(order)
}

/// `kernel/fs/ext4/ext4.ko` is `ext4`; dashes and underscores mean the same.
fn module_name(file: &str) -> String {
    let name = base_name(file);
    name.split_once('.').map_or(name, |(stem, _)| stem).replace('-', "_")
}

fn base_name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

// === the archive ===

/// A cpio archive in the form the kernel reads (`newc`, `Documentation/driver-api/early-userspace/buffer-format.rst`).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: usize,
}

// === impl Archive ===

impl Archive {
    fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn program(&mut self, name: &str, data: &[u8]) {
        self.entry(name, 0o100_755, data);
    }

    fn entry(&mut self, name: &str, mode: usize, data: &[u8]) {
        self.entries += 1;
        let (links, zero) = (1, 0);
        let fields = [
            self.entries,
            mode,
            zero,
            zero,
            links,
            zero,
            data.len(),
            zero,
            zero,
            zero,
            zero,
            name.len() + 1,
            zero,
        ];
        let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        self.bytes.extend(format!("070701{fields}{name}\0").bytes());
        self.align();
        self.bytes.extend(data);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\n\
        kernel/fs/jbd2/jbd2.ko: kernel/lib/crc16.ko\nkernel/lib/crc16.ko:\n\
        kernel/arch/x86/crypto/crc32c-intel.ko:\n";

    #[test]
    fn modules_come_after_what_they_need_and_once() {
        let order = load_order(&["ext4", "jbd2", "crc32c_intel"], DEPENDENCIES, "").unwrap();
        let names: Vec<_> = order.iter().map(|file| module_name(file)).collect();
        assert_eq!(names, ["crc16", "jbd2", "ext4", "crc32c_intel"]);
    }

    #[test]
    fn what_the_kernel_has_inside_is_not_loaded_and_what_it_lacks_is_named() {
        let builtin = "kernel/drivers/virtio/virtio_pci.ko\n";
        assert_eq!(load_order(&["virtio_pci"], DEPENDENCIES, builtin).unwrap(), Vec::<String>::new());
        assert!(load_order(&["btrfs"], DEPENDENCIES, builtin).unwrap_err().contains("btrfs"));
    }

    #[test]
    fn busybox_reads_the_archive() {
        let mut archive = Archive::default();
        archive.directory("a");
        archive.program("a/odd", b"12345");
        archive.program("a/even", b"1234");
        let dir = tempfile::tempdir().unwrap();
        let busybox = debs::busybox();
        let args = ["-c".as_ref(), "cd \"$1\" && \"$0\" cpio -i".as_ref(), busybox.as_path(), dir.path()];
        tare_kit::Cmd::new("sh").args(args).input(archive.finish()).ok();
        assert_eq!(fs::read(dir.path().join("a/odd")).unwrap(), b"12345");
        assert_eq!(fs::read(dir.path().join("a/even")).unwrap(), b"1234");
    }
}
