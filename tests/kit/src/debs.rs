//! Debian packages that tests use, unpacked under `target/debs`. Nothing of the machine changes: apt works on state of
//! its own, packages are unpacked and not installed, so no service starts and no file outside `target/` is written.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::cmd::{Cmd, Output};

/// How long the network may take.
const DOWNLOAD: Duration = Duration::from_secs(600);

/// Where everything lies: `target/debs` of the checkout, or `TARE_TEST_DEBS` on a machine that has no checkout.
fn base() -> PathBuf {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debs");
    std::env::var_os("TARE_TEST_DEBS").map_or_else(here, PathBuf::from)
}

/// Debian's statically linked busybox.
pub fn busybox() -> PathBuf {
    let root = unpacked("busybox", &["busybox-static"]);
    find(&root, "busybox").unwrap_or_else(|| panic!("no busybox under {}", root.display()))
}

/// The stock `docker` client: the one on PATH, else Debian's.
pub fn docker_client() -> PathBuf {
    static CLIENT: OnceLock<PathBuf> = OnceLock::new();
    CLIENT.get_or_init(|| on_path("docker").unwrap_or_else(|| docker("docker"))).clone()
}

/// A program of Debian's `docker.io`, `containerd` or `runc`.
pub fn docker(program: &str) -> PathBuf {
    let root = docker_root();
    find(&root, program)
        .or_else(|| on_path(program))
        .unwrap_or_else(|| panic!("no {program} under {}", root.display()))
}

/// Debian's `nft`, run by `run`, which is given its path.
pub fn nft(run: impl FnOnce(PathBuf) -> Cmd) -> Cmd {
    let root = unpacked("nftables", &["nftables"]);
    let nft = find(&root, "nft")
        .or_else(|| on_path("nft"))
        .unwrap_or_else(|| panic!("no nft under {}", root.display()));
    let libraries = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    run(nft).env("LD_LIBRARY_PATH", libraries)
}

/// The root under which `docker.io` and what it needs were unpacked.
pub fn docker_root() -> PathBuf {
    // Debian 13 has the client in a package of its own.
    let split = apt("show", &["docker-cli"]).code == 0;
    let packages: &[&str] = if split { &["docker.io", "docker-cli"] } else { &["docker.io"] };
    unpacked("docker", packages)
}

/// A program in the usual directories under `root`.
pub fn find(root: &Path, program: &str) -> Option<PathBuf> {
    let dirs = ["usr/bin", "usr/sbin", "bin", "sbin"];
    dirs.iter().map(|d| root.join(d).join(program)).find(|p| p.is_file())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|d| d.join(program)).find(|p| p.is_file())
}

/// Downloads `packages` and what they need beyond this machine's own packages, and unpacks them once.
pub fn unpacked(name: &str, packages: &[&str]) -> PathBuf {
    once(name, |dir| {
        let archives = dir.join("archives");
        fs::create_dir_all(archives.join("partial"))?;
        let cache = format!("Dir::Cache::archives={}", archives.display());
        let mut args = vec!["-o", &cache, "--yes", "--download-only", "install"];
        args.extend(packages);
        let mut got = apt("get", &args);
        if got.code != 0 {
            // Lists grow old, and old lists name packages that are gone.
            update();
            got = apt("get", &args);
        }
        assert_eq!(got.code, 0, "{got}");
        let root = dir.join("root");
        fs::create_dir_all(&root)?;
        for archive in fs::read_dir(&archives)?.flatten() {
            if archive.path().extension().is_some_and(|e| e == "deb") {
                Cmd::new("dpkg-deb").args(["-x".as_ref(), archive.path().as_os_str(), root.as_os_str()]).ok();
            }
        }
        fs::remove_dir_all(&archives)
    })
    .join("root")
}

/// A Debian root file system with `packages` installed, made by mmdebstrap in a mount namespace of its own: a plain
/// tar archive.
pub fn debian(name: &str, packages: &[&str]) -> PathBuf {
    let tool = unpacked("mmdebstrap", &["mmdebstrap"]);
    once(name, |dir| {
        let path = std::env::var("PATH").unwrap_or_default();
        let libexec = tool.join("usr/bin");
        let mut args = vec!["--mount".to_string(), "--propagation=private".into(), "perl".into()];
        args.push(libexec.join("mmdebstrap").display().to_string());
        args.extend(["--quiet".into(), "--mode=root".into(), "--variant=minbase".into()]);
        args.push(format!("--include={}", packages.join(",")));
        args.push("--aptopt=APT::Install-Recommends \"false\"".into());
        args.push("--aptopt=Acquire::Check-Valid-Until \"false\"".into());
        for unread in ["man", "doc", "locale", "info"] {
            args.push(format!("--dpkgopt=path-exclude=/usr/share/{unread}/*"));
        }
        args.extend([codename(), dir.join("root.tar").display().to_string()]);
        args.extend(sources());
        let made = Cmd::new("unshare")
            .args(args)
            .env("PATH", format!("{}:{path}", libexec.display()))
            .env("TMPDIR", dir)
            .limit(DOWNLOAD)
            .run();
        assert_eq!(made.code, 0, "{made}");
        Ok(())
    })
    .join("root.tar")
}

/// The release that this machine runs.
fn codename() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME="));
    name.map_or_else(|| "stable".into(), |n| n.trim_matches('"').into())
}

/// The machine's own source lists that name its release; mmdebstrap has a default where there are none.
fn sources() -> Vec<String> {
    let mut lists = vec![PathBuf::from("/etc/apt/sources.list")];
    lists.extend(fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|e| e.path()));
    let name = codename();
    let words = |text: &str| text.split_whitespace().any(|word| word == name);
    let ours =
        lists.iter().filter(|p| fs::read_to_string(p).is_ok_and(|t| words(&t) && t.contains("debian")));
    ours.map(|p| p.display().to_string()).collect()
}

/// Makes `target/debs/NAME` once, whoever asks first; others wait. A half-made one is made anew.
fn once(name: &str, make: impl FnOnce(&Path) -> std::io::Result<()>) -> PathBuf {
    let dir = base().join(name);
    let made = || -> std::io::Result<()> {
        fs::create_dir_all(base())?;
        let lock = File::create(base().join(format!("{name}.lock")))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        if dir.join("made").exists() {
            return Ok(());
        }
        eprintln!("kit: preparing Debian packages: {name}");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        make(&dir)?;
        File::create(dir.join("made")).map(drop)
    };
    made().unwrap_or_else(|e| panic!("cannot make {}: {e}", dir.display()));
    fs::canonicalize(&dir).unwrap_or(dir)
}

/// Runs `apt-get` or `apt-cache` on our own lists and cache. The machine's sources, keys, settings and list of
/// installed packages are read.
fn apt(verb: &str, args: &[&str]) -> Output {
    let (program, verb) = if verb == "get" { ("apt-get", None) } else { ("apt-cache", Some(verb)) };
    let settings = apt_settings();
    let _turn = turn().unwrap_or_else(|e| panic!("cannot lock {}: {e}", base().display()));
    Cmd::new(program).args(verb).args(args).env("APT_CONFIG", settings).limit(DOWNLOAD).run()
}

/// One apt at a time works on our lists: its own locks, which would be the machine's, are off.
fn turn() -> std::io::Result<File> {
    let lock = File::create(base().join("turn.lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

/// What `APT_CONFIG` is to name for apt to work on our own lists and cache, which are there when this returns.
pub fn apt_settings() -> PathBuf {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        once("apt", |dir| {
            settings(dir)?;
            update_in(dir);
            Ok(())
        })
    };
    READY.get_or_init(|| make().join("apt.conf")).clone()
}

fn update() {
    let _turn = turn().unwrap_or_else(|e| panic!("cannot lock {}: {e}", base().display()));
    update_in(&base().join("apt"));
}

fn update_in(dir: &Path) {
    // A source of the machine that cannot be reached is no fault here; what is missing shows at the download.
    Cmd::new("apt-get").args(["update"]).env("APT_CONFIG", dir.join("apt.conf")).limit(DOWNLOAD).run();
}

fn settings(dir: &Path) -> std::io::Result<()> {
    let dir = fs::canonicalize(dir)?;
    for made in ["parts", "state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(dir.join(made))?;
    }
    for part in fs::read_dir("/etc/apt/apt.conf.d").into_iter().flatten().flatten() {
        if part.path().is_file() {
            let copy = dir.join("parts").join(part.file_name());
            fs::copy(part.path(), &copy)?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o644))?;
        }
    }
    // Hooks of the machine would act on the machine's own cache.
    let hooks = "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n\
                 #clear APT::Update::Post-Invoke-Success;\n#clear DPkg::Post-Invoke;\n#clear DPkg::Pre-Install-Pkgs;\n";
    fs::write(dir.join("parts/zz-kit"), hooks)?;
    let at = dir.display();
    let conf = format!(
        "Dir::State \"{at}/state\";\nDir::State::status \"/var/lib/dpkg/status\";\nDir::Cache \"{at}/cache\";\n\
         Dir::Etc::Parts \"{at}/parts\";\nAPT::Sandbox::User \"root\";\nAPT::Install-Recommends \"false\";\n\
         Debug::NoLocking \"true\";\n\
         Acquire::Retries \"2\";\nAcquire::http::Timeout \"30\";\n"
    );
    fs::write(dir.join("apt.conf"), conf)
}
