//! What runs inside the containers: this same executable under another name, told what to look at by its arguments.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

/// Path of the program in every container.
pub(crate) const PATH: &str = "/probe";

/// Does what `args` say if this process is a probe or an init, and gives its exit code.
pub(crate) fn main(args: &[String]) -> Option<i32> {
    match args.first().map(|name| name.rsplit('/').next().unwrap_or(name)) {
        Some("docker-init") => Some(tare_runtime::init::main(std::env::args_os().skip(1))),
        Some("probe") => Some(act(&args[1..])),
        _ => None,
    }
}

fn act(args: &[String]) -> i32 {
    let (verb, rest) = match args.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None => return 0,
    };
    let first = rest.first().map_or("", String::as_str);
    match verb {
        "exit" => return first.parse().unwrap_or(99),
        "echo" => println!("{}", rest.join(" ")),
        "cat" => show(fs::read_to_string(first)),
        "env" => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        "ls" => show(list(first)),
        "stat" => show(stat(first)),
        "write" => show(fs::write(first, rest[1..].join(" ")).map(|()| "written".to_owned())),
        "append" => show(append(first, &rest[1..].join(" "))),
        "mkdir" => show(fs::create_dir(first).map(|()| "made".to_owned())),
        "rmdir" => show(fs::remove_dir(first).map(|()| "removed".to_owned())),
        "rm" => show(fs::remove_file(first).map(|()| "removed".to_owned())),
        "icmp" => show(icmp()),
        "chown" => show(chown(first, &rest[1..])),
        "setcap" => show(set_capability(first)),
        "id" => println!("{}", ids()),
        "pwd" => show(std::env::current_dir().map(|dir| dir.display().to_string())),
        "host" => show(fs::read_to_string("/proc/sys/kernel/hostname")),
        "fds" => println!("{}", fds()),
        "stdin" => {
            let mut text = String::new();
            show(std::io::stdin().read_to_string(&mut text).map(|_| text));
        }
        "sleep" => wait_for_ever(),
        "tty" => println!("{}", terminal()),
        "kill-self" => {
            let _ = tare_sys::signal::kill(
                i32::try_from(std::process::id()).unwrap_or(0),
                first.parse().unwrap_or(9),
            );
            wait_for_ever();
        }
        "mknod" => show(mknod(first)),
        "sockets" => sockets(),
        "routes" => routes(),
        "walls" => walls(),
        "call" => calls(rest),
        "remount" => show(remount(first)),
        "umount" => show(umount(first)),
        "procfs" => show(procfs(first)),
        "eat" => eat(first.parse().unwrap_or(0)),
        "orphans" => return orphans(),
        "then" => return many(rest),
        _ => {
            eprintln!("probe: {verb}?");
            return 98;
        }
    }
    let _ = std::io::stdout().flush();
    0
}

/// What every socket family answers, plain and with bits that the kernel ignores: families whose answers differ from
/// `EPERM`.
fn sockets() {
    for high in [0u64, 1 << 32, 0xffff_ffff << 32] {
        let open = |family: &u64| tare_sys::probe::socket_wide(family | high) != Err(rustix::io::Errno::PERM);
        let families: Vec<String> = (0..=46).filter(open).map(|family| family.to_string()).collect();
        println!("{}", families.join(" "));
    }
}

/// What AF_ALG answers by every way there is to a socket.
fn routes() {
    const ALG: u64 = 38;
    const SEQPACKET: u64 = 5;
    tell("socket", tare_sys::probe::socket_by_number(NR_SOCKET, ALG, SEQPACKET));
    #[cfg(target_arch = "x86_64")]
    {
        tell("x32", tare_sys::probe::socket_by_number(0x4000_0000 | NR_SOCKET, ALG, SEQPACKET));
        tell("int80", tare_sys::probe::socket_i386(38, 5));
        tell("socketcall", tare_sys::probe::socketcall(38, 5));
        tell("x32-getpid", tare_sys::probe::nothing(0x4000_0000 | 39).map(drop));
        tell("int80-getpid", tare_sys::probe::int80(20, [0; 3]).map(drop));
    }
}

#[cfg(target_arch = "x86_64")]
const NR_SOCKET: i64 = 41;
#[cfg(not(target_arch = "x86_64"))]
const NR_SOCKET: i64 = 198;

/// What the doors to new namespaces and mounts answer.
fn walls() {
    tell("unshare", tare_sys::probe::unshare_wide(0x1000_0000));
    tell("clone", tare_sys::probe::clone_with(0x1000_0000));
    tell("clone3", tare_sys::probe::clone3_empty());
    tell("fsopen", tare_sys::probe::fsopen());
}

/// What calls without arguments answer, by number.
fn calls(numbers: &[String]) {
    for number in numbers.iter().filter_map(|number| number.parse().ok()) {
        tell(&format!("call {number}"), tare_sys::probe::nothing(number).map(drop));
    }
}

fn tell(what: &str, answer: rustix::io::Result<()>) {
    println!("{what} {}", answer.map_or_else(|errno| errno.raw_os_error(), |()| 0));
}

/// Several verbs, separated by `,`.
fn many(args: &[String]) -> i32 {
    args.split(|arg| arg == ",").map(act).max().unwrap_or(0)
}

fn show(outcome: std::io::Result<String>) {
    match outcome {
        Ok(text) => println!("{}", text.trim_end()),
        Err(error) => println!("error: {}", error.raw_os_error().map_or(0, |number| number)),
    }
}

fn list(path: &str) -> std::io::Result<String> {
    let mut names: Vec<String> = fs::read_dir(path)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names.join(" "))
}

fn stat(path: &str) -> std::io::Result<String> {
    let data = fs::symlink_metadata(path)?;
    let (major, minor) = (rustix::fs::major(data.rdev()), rustix::fs::minor(data.rdev()));
    Ok(format!("{:o} {}:{} dev {major}:{minor}", data.mode(), data.uid(), data.gid()))
}

fn append(path: &str, text: &str) -> std::io::Result<String> {
    fs::OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())?;
    Ok("written".to_owned())
}

/// What an unprivileged ping needs.
fn icmp() -> std::io::Result<String> {
    use rustix::net::{AddressFamily, SocketType, ipproto, socket};
    socket(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP))?;
    Ok("may ping".to_owned())
}

fn chown(path: &str, ids: &[String]) -> std::io::Result<String> {
    let number = |at: usize| ids.get(at).and_then(|id| id.parse().ok());
    std::os::unix::fs::chown(path, number(0), number(1)).map(|()| "given".to_owned())
}

/// Gives a file the capability to bind low ports, as setcap(8) does, and shows what is stored.
fn set_capability(path: &str) -> std::io::Result<String> {
    let revision_2_effective = 0x0200_0001_u32;
    let words = [revision_2_effective, 1 << 10, 0, 0, 0];
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    rustix::fs::setxattr(path, "security.capability", &value, rustix::fs::XattrFlags::empty())?;
    Ok("capable".to_owned())
}

fn ids() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let wanted =
        ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"];
    let lines = status.lines().filter(|line| wanted.iter().any(|name| line.split(':').next() == Some(name)));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
}

fn fds() -> String {
    let mut found: Vec<String> = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        // The descriptor that reads this very directory is no finding.
        if !target.to_string_lossy().ends_with("/fd") {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found.join(" ")
}

fn terminal() -> String {
    let stdin = std::io::stdin();
    let size = rustix::termios::tcgetwinsize(&stdin);
    let name = fs::read_link("/proc/self/fd/0").unwrap_or_default();
    let controlling = fs::File::open("/dev/tty").is_ok();
    let size = size.map_or_else(|e| e.to_string(), |size| format!("{}x{}", size.ws_row, size.ws_col));
    format!("{} {size} controlling={controlling}", name.display())
}

fn mknod(path: &str) -> std::io::Result<String> {
    let sda = rustix::fs::makedev(8, 0);
    let kind = rustix::fs::FileType::BlockDevice;
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::RWXU, sda)?;
    fs::File::open(path).map(|_| "opened".to_owned())
}

fn remount(path: &str) -> std::io::Result<String> {
    rustix::mount::mount_remount(path, rustix::mount::MountFlags::BIND, "")?;
    Ok("remounted".to_owned())
}

fn umount(path: &str) -> std::io::Result<String> {
    rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH)?;
    Ok("taken off".to_owned())
}

fn procfs(path: &str) -> std::io::Result<String> {
    rustix::mount::mount("none", path, "proc", rustix::mount::MountFlags::empty(), None)?;
    Ok("mounted".to_owned())
}

fn eat(bytes: usize) {
    let mut all = Vec::with_capacity(bytes);
    all.resize(bytes, 1_u8);
    println!("ate {}", all.iter().map(|b| usize::from(*b)).sum::<usize>());
}

/// Leaves a grandchild behind whose parent ends, and reports who adopted it.
fn orphans() -> i32 {
    let program = PATH;
    match std::process::Command::new(program).args(["exit", "0"]).spawn() {
        Ok(mut child) => child.wait().ok().and_then(|status| status.code()).unwrap_or(97),
        Err(_) => 96,
    }
}

fn wait_for_ever() {
    println!("waiting");
    let _ = std::io::stdout().flush();
    loop {
        let _ = rustix::event::poll(&mut [], None);
    }
}
