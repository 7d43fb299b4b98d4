//! The functions that read hostile bytes, as targets for `fuzz/`. Each must neither panic, hang nor grow without bound;
//! what it returns is of no interest.

use std::io::Read;
use std::path::Path;

use tare_model::{ImageDocument, Reference};
use tare_sys::dir::Dir;

use crate::tape::Tape;
use crate::{Store, StoreConfig};

/// Reads a whole archive of images into a store of its own below `scratch`.
pub fn load(scratch: &Path, bytes: &[u8]) {
    let config =
        StoreConfig { root: scratch.join("root"), run_dir: scratch.join("run"), ids: scratch.join("ids") };
    if let Ok(store) = Store::open(&config) {
        let _ = store.load(&mut &bytes[..]);
    }
}

/// Walks the entries of an archive.
pub fn tape(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    while let Ok(Some(_)) = tape.next_entry() {
        let mut chunk = [0; 64];
        let _ = tape.read(&mut chunk);
    }
}

/// Unpacks a layer below `scratch`.
pub fn unpack(scratch: &Path, bytes: &[u8]) {
    let dirs = ["layer", "aside"].map(|name| {
        let dir = scratch.join(name);
        std::fs::create_dir(&dir).ok().and_then(|()| Dir::open_trusted_path(&dir).ok())
    });
    if let [Some(layer), Some(aside)] = dirs {
        let _ = crate::unpack::unpack(&mut Tape::new(bytes), &layer, &aside);
    }
}

/// Reads an image's configuration.
pub fn document(bytes: &[u8]) {
    if let Ok(document) = ImageDocument::parse(bytes) {
        let _ = document.config.environment().count();
    }
}

/// Reads an image's name; what is accepted must read back as itself.
///
/// # Panics
/// If it does not.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        assert!(reference.to_string().parse().is_ok_and(|again: Reference| again == reference));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tape::tests::Tar;
    use crate::testing::{TestImage, gzip, layer};

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir_in("/var/tmp").expect("scratch")
    }

    fn every_target(bytes: &[u8]) {
        load(scratch().path(), bytes);
        unpack(scratch().path(), bytes);
        tape(bytes);
        document(bytes);
        reference(bytes);
    }

    /// Archives of every kind; the fuzzers start from such ones too.
    fn seeds() -> Vec<Vec<u8>> {
        let image = TestImage::new(
            "a:1",
            &[layer("f", "x"), Tar::default().symlink("l", "f").file(".wh.g", "").end()],
        );
        let pax = Tar::default().pax(&[("path", b"long"), ("size", b"3")]).file("f", "abc").end();
        let oci = image.oci("+gzip", gzip, true);
        vec![
            image.legacy(),
            gzip(&image.legacy()),
            oci,
            pax,
            image.document(),
            b"docker.io/library/nginx:1".to_vec(),
            vec![],
        ]
    }

    #[test]
    fn every_target_takes_every_seed() {
        seeds().iter().for_each(|seed| every_target(seed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_target_takes_damaged_seeds(seed in 0usize..7, at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<proptest::sample::Index>()) {
            let mut bytes = seeds().swap_remove(seed);
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                if byte % 4 == 0 {
                    bytes.truncate(cut.index(bytes.len()));
                }
            }
            every_target(&bytes);
        }

        #[test]
        fn every_target_takes_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            every_target(&bytes);
        }
    }
}
