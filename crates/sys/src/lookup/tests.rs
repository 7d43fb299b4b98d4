//! The walk against openat2(2): the same answers on random trees, and no way out while everything moves.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use rustix::fs::{RenameFlags, renameat_with};

use super::*;

fn directory(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// What was found, or why not.
fn shown(answer: Result<OwnedFd>) -> std::result::Result<(u64, u64, u32), Errno> {
    answer.map(|file| fstat(&file).unwrap()).map(|stat| (stat.st_dev, stat.st_ino, stat.st_mode))
}

/// Asks both ways.
fn compare(top: &OwnedFd, path: &str, flags: OFlags, within: Within) {
    let flags = flags | OFlags::CLOEXEC;
    let path = Path::new(path);
    // A rename anywhere on the machine makes the kernel unsure.
    let kernel = loop {
        match openat2(top, path, flags, Mode::empty(), within.flags()) {
            Err(Errno::AGAIN) => {}
            answer => break shown(answer),
        }
    };
    let ours = shown(walk(top.as_fd(), path, flags, within));
    assert_eq!(ours, kernel, "{path:?} {flags:?} {within:?}");
}

const FLAGS: [OFlags; 5] = [
    OFlags::PATH,
    OFlags::PATH.union(OFlags::NOFOLLOW),
    OFlags::PATH.union(OFlags::DIRECTORY),
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW),
    OFlags::RDONLY,
];

fn everywhere() -> Vec<Within> {
    let mut all = Vec::new();
    for edge in [Edge::Root, Edge::Wall, Edge::Open] {
        for (links, mounts) in [(true, true), (true, false), (false, true), (false, false)] {
            // The kernel refuses the first absolute link of these, whatever mount it leads to. Nobody asks for it.
            if (edge, links, mounts) != (Edge::Open, true, false) {
                all.push(Within { edge, links, mounts });
            }
        }
    }
    all
}

/// One entry of a random tree.
#[derive(Clone, Debug)]
enum Entry {
    Directory(String),
    File(String),
    Link(String, String),
}

fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c"]),
        1 => Just("."),
        2 => Just(".."),
        1 => Just(""),
    ];
    (any::<bool>(), prop::collection::vec(part, 1..6), any::<bool>()).prop_map(|(absolute, parts, slash)| {
        let path = parts.join("/");
        format!("{}{path}{}", if absolute { "/" } else { "" }, if slash { "/" } else { "" })
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        3 => path().prop_map(Entry::Directory),
        1 => path().prop_map(Entry::File),
        3 => (path(), path()).prop_map(|(at, target)| Entry::Link(at, target)),
    ]
}

/// Makes what can be made; paths are taken without their way out.
fn grow(top: &Path, entries: &[Entry]) {
    let place = |path: &str| {
        let inside = path.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
        inside.fold(top.to_owned(), |place, part| place.join(part))
    };
    for entry in entries {
        // What cannot be made (a name that is taken, a parent that is a file) is no part of this tree.
        let _ = match entry {
            Entry::Directory(at) => std::fs::create_dir(place(at)),
            Entry::File(at) => std::fs::File::create_new(place(at)).map(drop),
            Entry::Link(at, target) if !target.is_empty() => symlink(target, place(at)),
            Entry::Link(..) => Ok(()),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn on_any_tree_every_answer_is_the_kernels(
        entries in prop::collection::vec(entry(), 1..24),
        paths in prop::collection::vec(path(), 1..8),
    ) {
        let scratch = tempfile::tempdir().unwrap();
        // One level down, so that a way out of the directory leads to something.
        let top = scratch.path().join("top");
        std::fs::create_dir(&top).unwrap();
        grow(&top, &entries);
        let top = directory(&top);
        for path in &paths {
            for within in everywhere() {
                FLAGS.iter().for_each(|flags| compare(&top, path, *flags, within));
            }
        }
    }
}

#[test]
fn limits_and_odd_paths_are_the_kernels() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::create_dir(scratch.path().join("d")).unwrap();
    std::fs::write(scratch.path().join("f"), "").unwrap();
    // Chains of 40 and of 41 links.
    symlink("d", scratch.path().join("l0")).unwrap();
    for number in 1..=40 {
        symlink(format!("l{}", number - 1), scratch.path().join(format!("l{number}"))).unwrap();
    }
    symlink("loop", scratch.path().join("loop")).unwrap();
    let top = directory(scratch.path());
    let long = "d/../".repeat(820);
    let name = "x".repeat(256);
    for path in ["", "/", ".", "..", "f/", "f/.", "f/..", "l39", "l39/", "l40", "loop", &long, &name, "a\0b"]
    {
        for within in everywhere() {
            FLAGS.iter().for_each(|flags| compare(&top, path, *flags, within));
        }
    }
}

#[test]
fn links_of_proc_are_followed_if_they_are_text_and_refused_if_they_are_magic() {
    let (proc, root) = (directory(Path::new("/proc")), directory(Path::new("/")));
    for path in ["self", "self/status", "self/exe", "self/cwd", "self/root/etc", "self/ns/net", "self/fd/0"] {
        for within in [Within::ROOT, Within::ROOT.without_links(), Within::BENEATH] {
            for flags in [OFlags::PATH, OFlags::PATH | OFlags::NOFOLLOW] {
                compare(&proc, path, flags, within);
            }
        }
    }
    for path in ["proc/mounts", "proc/net", "proc/self/task/..", "proc/thread-self"] {
        let found = walk(root.as_fd(), Path::new(path), OFlags::PATH | OFlags::CLOEXEC, Within::ROOT);
        assert!(found.is_ok(), "{path}: {found:?}");
    }
}

#[test]
fn another_mount_is_not_entered_if_it_must_not_be() {
    let root = directory(Path::new("/"));
    for path in ["proc", "proc/self/status", "proc/..", "etc"] {
        for edge in [Edge::Root, Edge::Wall] {
            compare(&root, path, OFlags::PATH, Within { edge, links: true, mounts: false });
        }
    }
}

/// Ends the other thread, also when this one fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_lookup_leads_out_while_directories_change_places() {
    let scratch = tempfile::tempdir().unwrap();
    let place = |path: &str| scratch.path().join(path);
    for path in ["outside/deep/etc", "top/a/deep/etc", "top/etc"] {
        std::fs::create_dir_all(place(path)).unwrap();
    }
    std::fs::write(place("etc"), "outside").unwrap();
    std::fs::write(place("outside/secret"), "outside").unwrap();
    std::fs::write(place("top/secret"), "inside").unwrap();
    symlink("/a/deep/../../secret", place("top/link")).unwrap();
    let top = directory(&place("top"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (inside, outside) = (directory(&place("top/a")), directory(&place("outside")));
            let mut swaps = 0_u64;
            // A directory below the top and one that is not change places, as does a link for a directory.
            while !stop.load(Ordering::Relaxed) || swaps % 2 == 1 {
                renameat_with(&inside, "deep", &outside, "deep", RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
        });
        let _stop = Stop(&stop);
        let mut found = 0;
        for round in 0..20_000 {
            let path = ["a/deep/../../secret", "a/deep/etc/../../../../secret", "link"][round % 3];
            match walk(top.as_fd(), Path::new(path), OFlags::RDONLY | OFlags::CLOEXEC, Within::ROOT) {
                Ok(file) => {
                    let mut text = [0; 16];
                    let length = rustix::io::read(&file, &mut text).unwrap();
                    assert_eq!(&text[..length], b"inside", "{path} led out");
                    found += 1;
                }
                Err(errno) => assert!(matches!(errno, Errno::NOENT | Errno::AGAIN), "{path}: {errno}"),
            }
        }
        assert!(found > 0, "nothing was ever found");
    });
}
