//! A kernel as the guest wants it: the ELF image, which boots in half the time of the packed one, and the modules that
//! a container engine can meet.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Kernel;
use super::cache;
use super::disk;
use super::packages::{self, files};
use crate::shell::{self, Done};

/// Changes whenever what is made here does.
const RECIPE: &str = "1";

/// Directories of modules that are kept; those of hardware that the guest has not make nine tenths of the rest.
const KEPT: &[&str] = &[
    "arch",
    "block",
    "crypto",
    "drivers/block",
    "drivers/char",
    "drivers/md",
    "drivers/net/bonding",
    "drivers/net/ipvlan",
    "drivers/net/netdevsim",
    "drivers/net/vxlan",
    "drivers/net/wireguard",
    "drivers/virtio",
    "fs",
    "lib",
    "mm",
    "net",
    "security",
    "virt",
];

/// A directory of which only the modules right in it are kept: veth, dummy, macvlan, tun and their like.
const KEPT_FLAT: &str = "drivers/net";

/// A kernel ready to boot.
pub(super) struct Parts {
    /// The ELF image.
    pub(super) image: PathBuf,
    /// Its modules as a disk, to be mounted where modules are looked for.
    pub(super) disk: PathBuf,
    /// The same modules, unpacked: `VERSION/…`.
    pub(super) modules: PathBuf,
}

/// Downloads and unpacks a kernel once.
pub(super) fn parts(kernel: Kernel) -> Done<Parts> {
    let dir = cache::once(&format!("kernel-{}", kernel.series()), RECIPE, |dir| make(kernel, dir))?;
    let modules = only(&dir.join("modules"))?;
    Ok(Parts { image: dir.join("vmlinux"), disk: dir.join("modules.img"), modules })
}

fn make(kernel: Kernel, dir: &Path) -> Done {
    let package = dir.join("package");
    cache::make_dir(&package)?;
    packages::unpack_kernel(kernel, &package)?;
    let packed = files(&package.join("boot"))?.into_iter().find(|p| p.to_string_lossy().contains("vmlinuz"));
    let packed = packed.ok_or("the kernel's package has no boot/vmlinuz")?;
    unpack_image(&packed, &dir.join("vmlinux"))?;
    keep_modules(&only(&package.join("lib/modules"))?, &dir.join("modules"))?;
    fs::remove_dir_all(&package).map_err(|e| format!("cannot remove {}: {e}", package.display()))?;
    disk::image(&dir.join("modules"), &dir.join("modules.img"), 0)
}

/// The one entry of a directory.
fn only(dir: &Path) -> Done<PathBuf> {
    match &files(dir)?[..] {
        [one] => Ok(one.clone()),
        several => Err(format!("{} has {} entries, not one", dir.display(), several.len())),
    }
}

// === the image ===

/// How the image inside a bzImage is packed.
#[derive(Debug, PartialEq, Eq)]
enum Packer {
    Xz,
    Zstd,
}

fn unpack_image(packed: &Path, image: &Path) -> Done {
    let bytes = cache::read(packed)?;
    let (packer, payload) = payload(&bytes).map_err(|why| format!("{}: {why}", packed.display()))?;
    let stream = image.with_extension("packed");
    cache::write(&stream, payload)?;
    let tool = match packer {
        Packer::Xz => packages::tool("xz-utils", "xz")?,
        Packer::Zstd => packages::tool("zstd", "zstd")?,
    };
    let open = |e: std::io::Error| format!("cannot open {}: {e}", stream.display());
    let input = File::open(&stream).map_err(open)?;
    let output = File::create(image).map_err(|e| format!("cannot make {}: {e}", image.display()))?;
    let mut command = tool.command();
    let shown = format!("{} < {}", tool.path.display(), stream.display());
    let status = command.args(["-d", "-c"]).stdin(input).stdout(output).stderr(Stdio::inherit()).status();
    let status = status.map_err(|e| format!("cannot run `{shown}`: {e}"))?;
    let _ = fs::remove_file(&stream);
    if status.success() { Ok(()) } else { Err(format!("`{shown}` failed: {status}")) }
}

/// The packed ELF image in a bzImage: the boot protocol's header says where it is (`Documentation/arch/x86/boot.rst`).
fn payload(bytes: &[u8]) -> Done<(Packer, &[u8])> {
    let number = |at: usize| -> Option<usize> {
        let four = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(four)).ok()
    };
    if bytes.get(0x202..0x206) != Some(b"HdrS") {
        return Err("is no bzImage".into());
    }
    let sectors = bytes.get(0x1f1).map_or(0, |n| usize::from(*n));
    let found = || {
        let start = (sectors + 1) * 512 + number(0x248)?;
        // The last four bytes are the unpacked size, which is not of the stream.
        bytes.get(start..start + number(0x24c)?.checked_sub(4)?)
    };
    let payload = found().ok_or("its header points beyond its end")?;
    match payload {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok((Packer::Xz, payload)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok((Packer::Zstd, payload)),
        _ => Err("its image is packed neither by xz nor by zstd".into()),
    }
}

// === the modules ===

/// Moves what is kept of `from` to `to/VERSION` and indexes it.
fn keep_modules(from: &Path, to: &Path) -> Done {
    let version = from.file_name().unwrap_or_default();
    let kept = to.join(version);
    for dir in KEPT.iter().map(|d| Path::new("kernel").join(d)).filter(|d| from.join(d).is_dir()) {
        rename(&from.join(&dir), &kept.join(&dir))?;
    }
    let flat = Path::new("kernel").join(KEPT_FLAT);
    for file in files(&from.join(&flat))?.into_iter().filter(|p| p.is_file()) {
        rename(&file, &kept.join(&flat).join(file.file_name().unwrap_or_default()))?;
    }
    for list in files(from)?.into_iter().filter(|p| p.is_file()) {
        rename(&list, &kept.join(list.file_name().unwrap_or_default()))?;
    }
    unpack_modules(&kept)?;
    let kmod = packages::tool("kmod", "kmod")?;
    // The program acts by the name that it is called by.
    let mut depmod = kmod.command();
    std::os::unix::process::CommandExt::arg0(&mut depmod, "depmod");
    let root = to.with_extension("root");
    cache::make_dir(&root.join("lib"))?;
    rename(to, &root.join("lib/modules"))?;
    shell::quiet(depmod.arg("-b").arg(&root).arg(version))?;
    rename(&root.join("lib/modules"), to)?;
    fs::remove_dir_all(&root).map_err(|e| format!("cannot remove {}: {e}", root.display()))
}

/// Modules of newer kernels come packed, and unpacking them here is quicker than in the guest.
fn unpack_modules(dir: &Path) -> Done {
    let xz = packages::tool("xz-utils", "xz")?;
    let mut find = Command::new("find");
    find.arg(dir).args(["-name", "*.ko.xz", "-exec"]).arg(&xz.path).args(["-d", "-q", "{}", "+"]);
    shell::quiet(&mut find)
}

fn rename(from: &Path, to: &Path) -> Done {
    if let Some(parent) = to.parent() {
        cache::make_dir(parent)?;
    }
    fs::rename(from, to).map_err(|e| format!("cannot rename {} to {}: {e}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bz_image(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[0x1f1] = 1;
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x248..0x24c].copy_from_slice(&7_u32.to_le_bytes());
        let length = u32::try_from(payload.len() + 4).unwrap();
        bytes[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        bytes.extend([1; 7]);
        bytes.extend(payload);
        bytes.extend([2; 20]);
        bytes
    }

    #[test]
    fn the_packed_image_is_found_by_the_header() {
        let xz = b"\xfd7zXZ\0 and so on";
        assert_eq!(payload(&bz_image(xz)).unwrap(), (Packer::Xz, &xz[..]));
        let zstd = b"\x28\xb5\x2f\xfd and so on";
        assert_eq!(payload(&bz_image(zstd)).unwrap(), (Packer::Zstd, &zstd[..]));
    }

    #[test]
    fn what_is_no_kernel_is_said_to_be_none() {
        assert!(payload(b"short").unwrap_err().contains("no bzImage"));
        assert!(payload(&bz_image(b"gzip perhaps")).unwrap_err().contains("neither"));
        let mut cut = bz_image(b"\x28\xb5\x2f\xfd and so on");
        cut.truncate(0x402);
        assert!(payload(&cut).unwrap_err().contains("beyond"));
    }
}
