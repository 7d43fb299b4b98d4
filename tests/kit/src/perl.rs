//! The machine's own perl as a layer of an image: system calls by number, for attacks that no small program offers.

use std::fs;
use std::path::PathBuf;

use crate::cmd::Cmd;
use crate::image::Layer;

/// Perl's program and the libraries that it is linked with.
pub fn layer() -> Layer {
    let linked = Cmd::new("ldd").args([program()]).ok();
    let words = linked.split_whitespace().filter(|word| word.starts_with('/'));
    let mut files: Vec<PathBuf> = words.map(PathBuf::from).collect();
    files.sort();
    files.dedup();
    let layer = Layer::new().program("bin/perl", read(&program()));
    files.into_iter().fold(layer, |layer, path| {
        let name = path.display().to_string();
        layer.program(name.trim_start_matches('/'), read(&path))
    })
}

/// Where it is on the machine.
pub fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("perl")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no perl on PATH: Debian's perl-base has it"))
}

fn read(path: &std::path::Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

/// The start of every script: `call(NAME, ARGUMENTS…)` makes a system call and gives its answer, -1 for a failure with
/// the reason in `$!`; `nul($path)` ends a string as the kernel wants it.
pub fn prelude() -> String {
    let at = usize::from(cfg!(target_arch = "aarch64"));
    let table: Vec<String> = CALLS.iter().map(|(name, numbers)| format!("{name}=>{}", numbers[at])).collect();
    format!(
        "$|=1; my %nr=({}); sub call {{ my $name=shift; syscall($nr{{$name}}, @_) }} \
         sub nul {{ $_[0].\"\\0\" }}\n",
        table.join(",")
    )
}

/// Numbers on x86-64 and on 64-bit ARM.
const CALLS: &[(&str, [u16; 2])] = &[
    ("acct", [163, 89]),
    ("add_key", [248, 217]),
    ("adjtimex", [159, 171]),
    ("bpf", [321, 280]),
    ("clock_settime", [227, 112]),
    ("delete_module", [176, 106]),
    ("finit_module", [313, 273]),
    ("fsopen", [430, 430]),
    ("getuid", [102, 174]),
    ("init_module", [175, 105]),
    ("ioprio_set", [251, 30]),
    ("kexec_load", [246, 104]),
    ("keyctl", [250, 219]),
    ("mount", [165, 40]),
    ("name_to_handle_at", [303, 264]),
    ("open_by_handle_at", [304, 265]),
    ("perf_event_open", [298, 241]),
    ("pidfd_open", [434, 434]),
    ("prlimit64", [302, 261]),
    ("process_vm_readv", [310, 270]),
    ("ptrace", [101, 117]),
    ("quotactl", [179, 60]),
    ("reboot", [169, 142]),
    ("renameat2", [316, 276]),
    ("sched_setscheduler", [144, 119]),
    ("setns", [308, 268]),
    ("setpriority", [141, 140]),
    ("settimeofday", [164, 170]),
    ("socket", [41, 198]),
    ("swapoff", [168, 225]),
    ("swapon", [167, 224]),
    ("syslog", [103, 116]),
    ("umount2", [166, 39]),
    ("unshare", [272, 97]),
];
