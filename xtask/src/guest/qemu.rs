//! The machine itself: QEMU's command line, its end in time, and what it says while it runs.
//!
//! ```text
//!   guest                                   QEMU                    this task
//!   job's stdout ── virtio port `out`  ──▶ standard output ──pipe──▶ `say`, as it comes
//!   job's stderr ── virtio port `err`  ──▶ standard error  ──pipe──▶ our standard error
//!   exit code    ── virtio port `code` ──▶ a file; missing: the guest did not get that far
//!   kernel       ── serial console     ──▶ a file, shown if the guest did not get that far
//! ```

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tare_kit::wait::readable;

use super::packages::{self, Tool};
use super::{Init, Lsm, Machine};
use crate::shell::{self, Done};

/// Longest piece of the console that an error shows, in lines.
const SHOWN: usize = 60;

/// What makes the kernel quicker to emulate. QEMU knows translated code by its address: programs that lie at the same place each time
/// are translated once. Nobody attacks this machine, and retpolines are slow.
const FAST: &str = "nokaslr norandmaps mitigations=off";

/// The files that one boot needs.
pub(super) struct Files {
    /// ELF image of the kernel.
    pub(super) kernel: PathBuf,
    /// First file system.
    pub(super) initramfs: PathBuf,
    /// vda, vdb, …; none is written to.
    pub(super) disks: Vec<PathBuf>,
    /// A disk of zeros behind those, with the serial number `scratch`: tests may do with it what they like.
    pub(super) blank: PathBuf,
    /// Where the machine may write, removed by the caller.
    pub(super) scratch: PathBuf,
}

/// Boots, hands what the job writes to `say`, and returns its exit code.
pub(super) fn boot(machine: &Machine, files: &Files, say: &mut dyn FnMut(&[u8])) -> Done<u8> {
    let qemu = packages::tool("qemu-system-x86", "qemu-system-x86_64")?;
    let console = files.scratch.join("console");
    let code = files.scratch.join("code");
    // A file of the boot before must not speak for this one.
    let _ = fs::remove_file(&code);
    let mut command = command(&qemu, machine, files);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = shell::shown(&command);
    let mut child = command.spawn().map_err(|e| format!("cannot run `{shown}`: {e}"))?;
    let late = watch(&child, machine.timeout)?;
    let errors = child.stderr.take().map(|from| thread::spawn(move || copy(from, &mut say_error)));
    if let Some(from) = child.stdout.take() {
        copy(from, say);
    }
    let status = child.wait().map_err(|e| format!("cannot wait for `{shown}`: {e}"))?;
    drop(errors.map(thread::JoinHandle::join));
    let late = late.join().unwrap_or(false);
    let said = fs::read_to_string(&code).unwrap_or_default();
    if let Ok(code) = said.trim().parse() {
        return Ok(code);
    }
    let why =
        if late { format!("took longer than {} s", machine.timeout.as_secs()) } else { "crashed".into() };
    Err(format!("the guest {why} (QEMU: {status}); its console said at last:\n{}", tail(&console)))
}

/// Kills the machine when its time is up; true if it had to.
fn watch(child: &Child, timeout: Duration) -> Done<thread::JoinHandle<bool>> {
    let pidfd: OwnedFd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())
        .map_err(|e| format!("pidfd_open({}): {e}", child.id()))?;
    Ok(thread::spawn(move || {
        let ended = readable(&pidfd, timeout);
        !ended && pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
    }))
}

fn say_error(bytes: &[u8]) {
    let _ = std::io::stderr().write_all(bytes);
}

fn copy(mut from: impl Read, say: &mut dyn FnMut(&[u8])) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        say(&buffer[..length]);
    }
}

fn tail(console: &Path) -> String {
    let said = fs::read(console).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

/// QEMU dies with us; `snapshot` keeps what the guest writes in a file that has no name.
fn command(qemu: &Tool, machine: &Machine, files: &Files) -> Command {
    let scratch = files.scratch.display();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(&qemu.path);
    command.env("LD_LIBRARY_PATH", qemu.libraries()).env("TMPDIR", &files.scratch);
    if let Some(modules) = qemu.plugins("qemu") {
        command.env("QEMU_MODULE_DIR", modules);
    }
    for data in ["usr/share/qemu", "usr/share/seabios"].map(|d| qemu.root.join(d)) {
        if data.is_dir() {
            command.arg("-L").arg(data);
        }
    }
    command.args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-nodefaults",
        "-display",
        "none",
    ]);
    command.args(["-m", &machine.memory, "-no-reboot", "-snapshot"]);
    command.arg("-kernel").arg(&files.kernel).arg("-initrd").arg(&files.initramfs);
    command.args(["-append", &machine.kernel_words()]);
    command.args(["-serial", &format!("file:{scratch}/console"), "-device", "virtio-serial-pci"]);
    let ports =
        [("out", "/dev/fd/1".into()), ("err", "/dev/fd/2".into()), ("code", format!("{scratch}/code"))];
    for (name, path) in ports {
        command.args(["-chardev", &format!("file,id={name},path={path}")]);
        command.args(["-device", &format!("virtserialport,chardev={name},name={name}")]);
    }
    let named = files.disks.iter().zip(["vda", "vdb", "vdc", "vdd"]);
    for (disk, name) in named.chain([(&files.blank, "scratch")]) {
        command.args(["-drive", &format!("file={},format=raw,if=none,id={name}", disk.display())]);
        command.args(["-device", &format!("virtio-blk-pci,drive={name},serial={name}")]);
    }
    command
}

// === impl Machine ===

impl Machine {
    /// The kernel's command line; the scripts read from it what is theirs.
    fn kernel_words(&self) -> String {
        let mut words: Vec<String> = vec!["console=ttyS0 panic=-1 quiet cgroup_no_v1=all".into()];
        match self.lsm {
            Lsm::AppArmor => words.push("security=apparmor".into()),
            Lsm::SeLinux => words.push("security=selinux selinux=1".into()),
        }
        if self.init == Init::Systemd {
            words.push(
                "guest.systemd systemd.unit=guest-job.service systemd.unified_cgroup_hierarchy=1".into(),
            );
        }
        words.push(FAST.into());
        words.extend(self.user.iter().map(|user| format!("guest.user={user}")));
        words.join(" ") + " "
    }
}
