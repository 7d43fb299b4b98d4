//! Images made on the spot. A [`Layer`] takes any entry, honest or hostile: names go into the header as they are.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::cmd::Cmd;
use crate::debs;

/// An image: its name, its configuration and its layers.
#[derive(Clone)]
pub struct Image {
    /// What it is called when loaded, with its tag.
    pub name: String,
    /// The `config` object of the image: `Cmd`, `Env`, `User`, …
    pub config: serde_json::Map<String, Value>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// A layer: a tar archive in the making.
#[derive(Clone, Default)]
pub struct Layer {
    tar: Vec<u8>,
}

/// One entry, for what the short forms of [`Layer`] do not say.
pub struct Entry<'a> {
    /// Its name, written as it is.
    pub name: &'a str,
    /// Its tar type: `0` file, `1` hard link, `2` symlink, `3` character device, `5` directory.
    pub kind: u8,
    /// Where a link points, written as it is.
    pub link: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u64, u64),
    /// Major and minor of a device.
    pub device: (u32, u32),
    /// Content.
    pub data: &'a [u8],
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Entry { name: "", kind: b'0', link: "", mode: 0o644, owner: (0, 0), device: (0, 0), data: b"" }
    }
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Layer {
        Layer::default()
    }

    /// Adds a regular file.
    #[must_use]
    pub fn file(self, name: &str, data: impl AsRef<[u8]>) -> Layer {
        self.entry(&Entry { name, data: data.as_ref(), ..Entry::default() })
    }

    /// Adds a program.
    #[must_use]
    pub fn program(self, name: &str, data: impl AsRef<[u8]>) -> Layer {
        self.entry(&Entry { name, data: data.as_ref(), mode: 0o755, ..Entry::default() })
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(self, name: &str, mode: u32) -> Layer {
        self.entry(&Entry { name, kind: b'5', mode, ..Entry::default() })
    }

    /// Adds a symlink.
    #[must_use]
    pub fn symlink(self, name: &str, link: &str) -> Layer {
        self.entry(&Entry { name, link, kind: b'2', mode: 0o777, ..Entry::default() })
    }

    /// Adds a hard link. Unpackers give its mode to the file that it names.
    #[must_use]
    pub fn hardlink(self, name: &str, link: &str) -> Layer {
        self.entry(&Entry { name, link, kind: b'1', mode: 0o755, ..Entry::default() })
    }

    /// Adds an entry as it is told. Names of more than 100 bytes do not fit and are refused here.
    #[must_use]
    pub fn entry(mut self, entry: &Entry<'_>) -> Layer {
        let header = header(entry, entry.data.len() as u64);
        self.push(&header, entry.data);
        self
    }

    /// Adds PAX records for the entry that follows.
    #[must_use]
    pub fn pax(mut self, records: &[(&str, &str)]) -> Layer {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
        let header = header(&Entry { name: "pax", kind: b'x', ..Entry::default() }, data.len() as u64);
        self.push(&header, &data);
        self
    }

    /// Adds a header that claims `size` bytes whatever follows.
    #[must_use]
    pub fn lying(mut self, entry: &Entry<'_>, size: u64) -> Layer {
        let header = header(entry, size);
        self.push(&header, entry.data);
        self
    }

    /// The finished archive.
    pub fn finish(&self) -> Vec<u8> {
        let mut tar = self.tar.clone();
        tar.extend_from_slice(&[0; 1024]);
        tar
    }

    fn push(&mut self, header: &[u8; 512], data: &[u8]) {
        self.tar.extend_from_slice(header);
        self.tar.extend_from_slice(data);
        let over = data.len() % 512;
        if over > 0 {
            self.tar.resize(self.tar.len() + 512 - over, 0);
        }
    }
}

fn header(entry: &Entry<'_>, size: u64) -> [u8; 512] {
    assert!(entry.name.len() <= 100 && entry.link.len() <= 100, "{:?} does not fit a header", entry.name);
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
    header.as_old_mut().linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
    header.set_entry_type(tar::EntryType::new(entry.kind));
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.0);
    header.set_gid(entry.owner.1);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    if matches!(entry.kind, b'3' | b'4') {
        header.set_device_major(entry.device.0).expect("a ustar header");
        header.set_device_minor(entry.device.1).expect("a ustar header");
    }
    header.set_cksum();
    *header.as_bytes()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length.to_string().len() + body != length {
        length = length.to_string().len() + body;
    }
    format!("{length} {key}={value}\n").into_bytes()
}

impl Image {
    /// An image without layers.
    pub fn new(name: &str) -> Image {
        Image { name: name.into(), config: serde_json::Map::new(), layers: Vec::new() }
    }

    /// An image with a shell and the usual small programs, users `root`, `daemon` (1) and `ann` (1000, also in group
    /// `crew`, 2000), and `sh` as its command.
    pub fn busybox(name: &str) -> Image {
        Image::new(name)
            .layer(busybox_layer().clone())
            .config("Cmd", json!(["sh"]))
            .config("Env", json!([PATH]))
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Image {
        self.layers.push(layer);
        self
    }

    /// Sets a field of the configuration.
    #[must_use]
    pub fn config(mut self, key: &str, value: Value) -> Image {
        self.config.insert(key.into(), value);
        self
    }
}

/// The search path that images of the kit declare.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Users and groups of the busybox image.
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nann:x:1000:1000::/home/ann:/bin/sh\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nann:x:1000:\ncrew:x:2000:ann\n";

/// The lowest layer of most test images; the program is Debian's busybox-static.
pub fn busybox_layer() -> &'static Layer {
    static LAYER: OnceLock<Layer> = OnceLock::new();
    LAYER.get_or_init(|| {
        let path = debs::busybox();
        let program = std::fs::read(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
        let mut layer = Layer::new().program("bin/busybox", program);
        let applets = Cmd::new(&path).args(["--list"]).ok();
        for applet in applets.lines().filter(|a| *a != "busybox") {
            layer = layer.hardlink(&format!("bin/{applet}"), "bin/busybox");
        }
        for (dir, mode) in
            [("tmp", 0o1777), ("root", 0o700), ("home", 0o755), ("home/ann", 0o755), ("var", 0o755)]
        {
            layer = layer.dir(dir, mode);
        }
        layer.dir("etc", 0o755).file("etc/passwd", PASSWD).file("etc/group", GROUP)
    })
}

/// A plain directory with the busybox image's files, for `--rootfs` and OCI bundles.
pub fn unpack_busybox(dir: &std::path::Path) {
    let mut archive = tar::Archive::new(std::io::Cursor::new(busybox_layer().finish()));
    archive.set_preserve_permissions(true);
    archive.unpack(dir).unwrap_or_else(|e| panic!("cannot unpack busybox into {}: {e}", dir.display()));
    for mount in ["proc", "dev", "sys"] {
        std::fs::create_dir_all(dir.join(mount)).unwrap_or_else(|e| panic!("cannot make {mount}: {e}"));
    }
}

/// A map of strings as JSON, for labels and the like.
pub fn object(pairs: &[(&str, &str)]) -> Value {
    let map: BTreeMap<_, _> = pairs.iter().copied().collect();
    json!(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pax_record_counts_its_own_length() {
        assert_eq!(pax_record("size", "7"), b"9 size=7\n");
        assert_eq!(pax_record("k", "123"), b"8 k=123\n");
        assert_eq!(pax_record("path", "1234567"), b"16 path=1234567\n");
    }

    #[test]
    fn a_layer_reads_back_as_a_tar_archive() {
        let bytes = Layer::new().dir("d", 0o750).file("d/f", "hello").symlink("l", "/abs").finish();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["d", "d/f", "l"]);
    }
}
