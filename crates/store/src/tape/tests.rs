//! Entry lists are those of GNU tar and Go, or there is none.

use proptest::prelude::*;

use super::*;

/// Writes archives block by block, so that tests can also write wrong ones.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

/// One header, as its writer wants it.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) flag: u8,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) size: u64,
    pub(crate) mtime: u64,
    pub(crate) device: (u32, u32),
}

impl Head {
    pub(crate) fn new(flag: u8, path: &str) -> Self {
        let mode = if flag == b'5' { 0o755 } else { 0o644 };
        let path = path.as_bytes().to_vec();
        Self { flag, path, link: Vec::new(), mode, owner: (0, 0), size: 0, mtime: 1_000_000, device: (0, 0) }
    }

    /// The header's block, with a right checksum.
    pub(crate) fn block(&self) -> [u8; BLOCK] {
        let mut block = [0u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.path[..self.path.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, format!("{:07o}", self.owner.0).as_bytes());
        put(116, format!("{:07o}", self.owner.1).as_bytes());
        put(124, format!("{:011o}", self.size).as_bytes());
        put(136, format!("{:011o}", self.mtime).as_bytes());
        put(156, &[self.flag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}", self.device.0).as_bytes());
        put(337, format!("{:07o}", self.device.1).as_bytes());
        seal(&mut block);
        block
    }
}

/// Computes the checksum.
pub(crate) fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    pub(crate) fn head(mut self, head: &Head, content: &[u8]) -> Self {
        self.0.extend(head.block());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        self.head(&Head { size: content.len() as u64, ..Head::new(b'0', path) }, content)
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.head(&Head::new(b'5', path), b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.head(&Head { link: target.into(), ..Head::new(b'2', path) }, b"")
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.head(&Head { link: target.into(), ..Head::new(b'1', path) }, b"")
    }

    pub(crate) fn node(self, flag: u8, path: &str, device: (u32, u32)) -> Self {
        self.head(&Head { device, ..Head::new(flag, path) }, b"")
    }

    pub(crate) fn extension(self, flag: u8, content: &[u8]) -> Self {
        self.head(&Head { size: content.len() as u64, ..Head::new(flag, "extension") }, content)
    }

    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let records: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.extension(b'x', &records)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length =
        (1..20).map(|digits| rest + digits).find(|n| rest + n.to_string().len() == *n).expect("a length");
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn list(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut tape = Tape::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = tape.next_entry()? {
        let mut content = Vec::new();
        tape.read_to_end(&mut content).map_err(|e| from_read(e, "read"))?;
        entries.push((String::from_utf8_lossy(&entry.path).into_owned(), content));
    }
    tape.drain()?;
    Ok(entries)
}

fn names(bytes: &[u8]) -> Result<Vec<String>> {
    Ok(list(bytes)?.into_iter().map(|(name, _)| name).collect())
}

fn only(bytes: &[u8]) -> Entry {
    Tape::new(bytes).next_entry().expect("good").expect("an entry")
}

#[test]
fn entries_come_with_their_content_whether_it_is_read_or_not() {
    let archive = Tar::default().dir("a/").file("a/b", "hello").file("c", vec![7; 1000]).end();
    let expected = [("a/".into(), vec![]), ("a/b".into(), b"hello".to_vec()), ("c".into(), vec![7; 1000])];
    assert_eq!(list(&archive).expect("good"), expected);
    let mut tape = Tape::new(&archive[..]);
    let mut seen = 0;
    while tape.next_entry().expect("good").is_some() {
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn a_pax_size_replaces_the_headers_both_ways() {
    // What a reader that believes the header would take for an entry of its own.
    let smuggled = Tar::default().file("smuggled", "x").0;
    let outer = Head { size: 0, ..Head::new(b'0', "outer") };
    let hidden =
        Tar::default().pax(&[("size", smuggled.len().to_string().as_bytes())]).head(&outer, &smuggled);
    assert_eq!(names(&hidden.file("after", "y").end()).expect("as GNU tar and Go"), ["outer", "after"]);
    let outer = Head { size: smuggled.len() as u64, ..Head::new(b'0', "outer") };
    let shown = Tar::default().pax(&[("size", b"0")]).head(&outer, &smuggled).file("after", "y").end();
    assert_eq!(names(&shown).expect("as GNU tar and Go"), ["outer", "smuggled", "after"]);
}

#[test]
fn the_last_of_two_sizes_counts() {
    let archive = Tar::default()
        .pax(&[("size", b"512"), ("size", b"0")])
        .head(&Head::new(b'0', "a"), b"")
        .file("b", "")
        .end();
    assert_eq!(names(&archive).expect("good"), ["a", "b"]);
}

#[test]
fn a_pax_size_is_not_that_of_the_long_name_between() {
    let archive = Tar::default()
        .pax(&[("size", b"3")])
        .extension(b'L', b"long-name\0")
        .head(&Head { size: 3, ..Head::new(b'0', "short") }, b"abc")
        .file("after", "")
        .end();
    assert_eq!(names(&archive).expect("good"), ["long-name", "after"]);
}

#[test]
fn a_directory_or_link_with_bytes_is_refused() {
    for flag in *b"123456" {
        let archive = Tar::default().head(&Head { size: 512, ..Head::new(flag, "x") }, &[0; 512]).end();
        assert!(names(&archive).is_err(), "type {}", flag as char);
        let archive = Tar::default().pax(&[("size", b"512")]).head(&Head::new(flag, "x"), &[0; 512]).end();
        assert!(names(&archive).is_err(), "type {} by PAX", flag as char);
    }
}

#[test]
fn names_come_from_pax_gnu_or_prefix() {
    let long = "d/".repeat(150) + "f";
    let pax = Tar::default().pax(&[("path", long.as_bytes())]).file("x", "").end();
    let gnu = Tar::default().extension(b'L', format!("{long}\0").as_bytes()).file("x", "").end();
    assert_eq!((names(&pax).expect("pax"), names(&gnu).expect("gnu")), (vec![long.clone()], vec![long]));
    let mut block = Head::new(b'0', "name").block();
    block[345..351].copy_from_slice(b"pre/fi");
    seal(&mut block);
    assert_eq!(names(&block).expect("prefix"), ["pre/fi/name"]);
    let disagree = Tar::default().pax(&[("path", b"a")]).extension(b'L', b"b\0").file("x", "").end();
    assert!(names(&disagree).is_err());
}

#[test]
fn what_readers_disagree_about_is_refused() {
    let mut zero_between = Tar::default().file("a", "").0;
    zero_between.extend([0; BLOCK]);
    zero_between.extend(Tar::default().file("b", "").end());
    let cases = [
        ("two PAX headers", Tar::default().pax(&[("uid", b"1")]).pax(&[("gid", b"1")]).file("x", "").end()),
        (
            "two long names",
            Tar::default().extension(b'L', b"a\0").extension(b'L', b"b\0").file("x", "").end(),
        ),
        ("global path", Tar::default().extension(b'g', &record("path", b"y")).file("x", "").end()),
        ("lone zero block", zero_between),
        ("file with a slash", Tar::default().file("a/", "x").end()),
        ("unknown type", Tar::default().head(&Head::new(b'V', "volume"), b"").end()),
        ("old sparse", Tar::default().head(&Head::new(b'S', "x"), b"").end()),
        ("PAX sparse", Tar::default().pax(&[("GNU.sparse.major", b"1")]).file("x", "").end()),
        ("announced entry missing", Tar::default().pax(&[("uid", b"1")]).end()),
        ("NUL in a name", Tar::default().pax(&[("path", b"a\0b")]).file("x", "").end()),
        ("negative size", Tar::default().pax(&[("size", b"-1")]).file("x", "").end()),
        ("endless size", Tar::default().pax(&[("size", b"18446744073709551615")]).file("x", "").end()),
        ("user -1", Tar::default().pax(&[("uid", b"4294967295")]).file("x", "").end()),
        ("user 2^32", Tar::default().pax(&[("uid", b"4294967296")]).file("x", "").end()),
    ];
    for (what, archive) in cases {
        assert!(names(&archive).is_err(), "{what}");
    }
}

#[test]
fn old_directories_are_files_with_a_slash() {
    let archive = Tar::default().head(&Head::new(0, "old/"), b"").end();
    assert_eq!(only(&archive).kind, Kind::Directory);
}

#[test]
fn a_damaged_header_is_noticed() {
    let mut archive = Tar::default().file("a", "x").end();
    archive[3] ^= 1;
    assert!(names(&archive).expect_err("checksum").message().contains("checksum"));
}

#[test]
fn an_archive_cut_anywhere_inside_an_entry_is_noticed() {
    let archive = Tar::default().file("a", vec![1; 700]).0;
    for cut in [1, 100, 511, 513, 1000, 1211, archive.len() - 1] {
        assert!(names(&archive[..cut]).is_err(), "cut at {cut}");
    }
    assert_eq!(names(&archive).expect("no trailer is no damage"), ["a"]);
}

#[test]
fn padding_after_the_end_of_any_length_costs_no_memory() {
    let archive = Tar::default().file("a", "x").end();
    let endless = (&archive[..]).chain(io::repeat(0).take(1 << 28));
    let mut tape = Tape::new(endless);
    assert!(tape.next_entry().expect("good").is_some());
    assert!(tape.next_entry().expect("good").is_none());
    tape.drain().expect("good");
}

#[test]
fn a_gigantic_extension_header_is_refused_unread() {
    let head = Head { size: 1 << 33, ..Head::new(b'x', "x") };
    let archive = Tar::default().head(&head, b"");
    assert!(Tape::new((&archive.0[..]).chain(io::repeat(b'1'))).next_entry().is_err());
    let head = Head { size: 0o77777777777, ..Head::new(b'L', "x") };
    assert!(
        Tape::new((&Tar::default().head(&head, b"").0[..]).chain(io::repeat(b'1'))).next_entry().is_err()
    );
}

#[test]
fn attributes_and_times_come_from_pax() {
    let records: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.user.x", b"a\nb\0c"),
        ("SCHILY.xattr.user.x", b"last\n"),
        ("mtime", b"12.5"),
        ("uid", b"70000"),
        ("comment", b"ignored"),
    ];
    let entry = only(&Tar::default().pax(records).file("x", "").end());
    assert_eq!(entry.xattrs, [(b"user.x".to_vec(), b"last\n".to_vec())]);
    assert_eq!((entry.mtime, entry.uid), ((12, 500_000_000), 70_000));
}

/// GNU tar writes, we read the same list; it is what most archives come from.
#[test]
fn what_gnu_tar_writes_is_read_as_it_reads_it() {
    let scratch = tempfile::tempdir().expect("scratch");
    let tree = scratch.path().join("tree");
    let long = "n".repeat(120);
    std::fs::create_dir_all(tree.join(&long)).expect("directory");
    std::fs::write(tree.join(&long).join("f"), vec![b'x'; 3000]).expect("file");
    std::os::unix::fs::symlink("f".repeat(150), tree.join("link")).expect("symlink");
    std::fs::hard_link(tree.join(&long).join("f"), tree.join("zhard")).expect("link");
    for format in ["gnu", "pax", "ustar", "v7", "oldgnu"] {
        let out = |args: &[&str]| {
            let run =
                std::process::Command::new("tar").args(args).current_dir(&tree).output().expect("tar runs");
            run.stdout
        };
        let archive = out(&["--format", format, "--sort=name", "-cf", "-", "."]);
        let file = scratch.path().join("archive");
        std::fs::write(&file, &archive).expect("written");
        let expected = String::from_utf8(out(&["-tf", file.to_str().expect("text")])).expect("names");
        let expected: Vec<_> = expected.lines().map(str::to_owned).collect();
        assert_eq!(names(&archive).expect(format), expected, "{format}");
    }
}

proptest! {
    #[test]
    fn any_blocks_are_judged_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 512..1600), flag in any::<u8>()) {
        // With a right checksum, so that more than the first check is reached.
        bytes[156] = flag;
        let mut block: [u8; BLOCK] = bytes[..BLOCK].try_into().unwrap();
        seal(&mut block);
        bytes[..BLOCK].copy_from_slice(&block);
        let _ = list(&bytes);
    }
}
