//! Disks of the guest: file system images made from directories, without mounting anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tare_kit::debs;

use super::cache;
use super::packages;
use crate::shell::{self, Done};

/// Changes whenever what is made here does, other than by its packages.
const RECIPE: &str = "2";

/// What the Debian root has beyond the smallest one.
const PACKAGES: &[&str] = &[
    "apparmor",
    "criu",
    "dbus",
    "dbus-user-session",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "libpam-systemd",
    "nftables",
    "nginx-light",
    "passt",
    "passwd",
    "procps",
    "secilc",
    "systemd",
    "systemd-sysv",
    "udev",
    "uidmap",
];

/// Room for what the guest writes, in MiB; a sparse file, so it costs nothing.
const FREE: u64 = 4096;

/// Bytes of the disk that tests may write to.
const BLANK: u64 = 64 << 20;

/// The Debian root: an ext4 image made once.
pub(super) fn root() -> Done<PathBuf> {
    let key = format!("{RECIPE} {}", PACKAGES.join(" "));
    let dir = cache::once("root", &key, |dir| {
        let archive = debs::debian(&format!("guest-{}", digest(&key)), PACKAGES);
        let tree = dir.join("tree");
        cache::make_dir(&tree)?;
        let mut unpack = Command::new("tar");
        unpack.args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-x", "-f"]);
        shell::quiet(unpack.arg(&archive).arg("-C").arg(&tree))?;
        image(&tree, &dir.join("root.img"), FREE)?;
        fs::remove_dir_all(&tree).map_err(|e| format!("cannot remove {}: {e}", tree.display()))
    })?;
    Ok(dir.join("root.img"))
}

/// A short name for a key. It need not resist anybody, only tell versions of this file apart.
fn digest(key: &str) -> String {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let fnv = key.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{fnv:016x}")
}

/// A disk of zeros, which costs nothing.
pub(super) fn blank(path: &Path) -> Done<PathBuf> {
    let file = fs::File::create(path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
    file.set_len(BLANK).map_err(|e| format!("cannot make {} so long: {e}", path.display()))?;
    Ok(path.into())
}

/// Makes an ext4 image of `tree` with `free` MiB to spare. Without checksums: the instruction for them, which is taken where there
/// is one, is emulated bit by bit, and was a quarter of all that the machine did.
pub(super) fn image(tree: &Path, image: &Path, free: u64) -> Done {
    let mke2fs = packages::tool("e2fsprogs", "mke2fs")?;
    let used = shell::output(Command::new("du").args(["-s", "-k", "--apparent-size"]).arg(tree))?;
    let files = shell::output(Command::new("du").args(["-s", "--inodes"]).arg(tree))?;
    let number = |text: &str| text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    // Files end in the middle of a block, and the file system has tables of its own.
    let kib = number(&used) * 11 / 10 + number(&files) * 4 + 16 * 1024 + free * 1024;
    let inodes = number(&files) + 1024 + free * 64;
    let mut command = mke2fs.command();
    command.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-m", "0", "-I", "256"]);
    command.args(["-E", "lazy_itable_init=1", "-N", &inodes.to_string(), "-d"]).arg(tree);
    shell::quiet(command.arg(image).arg(format!("{kib}k")))
}
