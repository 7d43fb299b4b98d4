//! A battery of attacks from inside, and what they must leave alone.
//!
//! Each attack is a piece of perl that is true if it has reached something of the host's. They do as little harm as they
//! can where they succeed: a file of the kernel's is opened for writing and not written, a clock is set to its own time.
//! The last test runs them where nothing defends the host, so that an attack that cannot succeed does not pass for a
//! defence.

use std::collections::BTreeSet;
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use tare_kit::{Cmd, Engine, Host, Image, Output, perl};

use crate::ours;

/// What attacks share: `may_write`, and `forked` for what may end the process that does it.
const HELPERS: &str = r##"
sub may_write { for my $path (@_) { next unless -e $path; if (open(my $f, '+<', $path) || open($f, '>>', $path)) { print "# $path\n"; return 1 } } 0 }
sub attach { my ($kind, $source, $data) = @_; mkdir "/tmp/at"; call("mount", nul($source), nul("/tmp/at"), nul($kind), 0, nul($data // "")) == 0 }
sub node { my ($kind, $major, $minor) = @_; unlink "/tmp/node"; system("mknod", "/tmp/node", $kind, $major, $minor) == 0 && (open(my $f, '<', "/tmp/node") || !print("# node $kind: $!\n")) }
sub tree { my ($top, $skip) = @_; my @open = ($top); my @found; while (my $dir = pop @open) { opendir(my $d, $dir) or next; for (readdir $d) { next if /^\.\.?$/; my $p = "$dir/$_"; next if -l $p || $p =~ $skip; -d _ ? push(@open, $p) : -f _ && push(@found, $p) } } @found }
sub below { my ($dir, $name) = @_; opendir(my $d, $dir) or return; map { "$dir/$_" } grep { /$name/ && !/^\.\.?$/ } readdir $d }
sub groups { map { my $f = $_; "/sys/fs/cgroup/$f", map { "$_/$f" } below("/sys/fs/cgroup", qr/./) } @_ }
sub names { my %seen; for my $kind (qw(mnt pid net ipc uts user cgroup)) { for my $p (map { "$_/ns/$kind" } below("/proc", qr/^\d+$/)) { my $l = readlink $p; $seen{$l} = $p if $l } } %seen }
sub shut { my @marks = map { (split)[4] } do { open(my $f, '<', "/proc/self/mountinfo"); <$f> }; for (grep { m{^/(proc|sys)/.} } reverse @marks) { call("umount2", nul($_), 2); call("mount", nul("none"), nul($_), nul("none"), 4128, nul("")) } call("mount", nul("none"), nul($_), nul("none"), 4128, nul("")) for qw(/proc /sys) }
my $own = qr{^/proc/(\d+|self|thread-self|pressure|sys/(net|user|kernel/(hostname|domainname|ns_last_pid|pid_max|msg\w*|sem|sem_next_id|shm\w*|auto_msgmni)|fs/mqueue))(/|$)|^/sys/(fs/cgroup|kernel/security)};
"##;

/// Attacks, and whether they succeed where all capabilities are the host's (`*` before the name: not, or not everywhere).
const ATTACKS: &[(&str, &str)] = &[
    // === rows 1, 12, 24: files ===
    (
        "open_by_handle_at of the canary",
        r#"open(my $d, '<', "/shared") or die; my $h = pack("H*", $ENV{HANDLE}); my $fd = call("open_by_handle_at", fileno $d, $h, 0); $fd >= 0"#,
    ),
    (
        "*the canary by its path",
        r#"grep { -e "$_$ENV{CANARY}/secret" } "", "/proc/1/root", "/proc/1/cwd", "/proc/self/cwd/../../../../../.."  "#,
    ),
    (
        "*chroot and climb",
        r#"mkdir "/tmp/jail"; chroot "/tmp/jail" or die; chdir ".." for 1..40; chroot "."; -e "$ENV{CANARY}/secret""#,
    ),
    (
        "a read-only bind is written",
        r#"call("mount", nul("none"), nul("/shared"), nul("none"), 4128, nul("")); may_write("/shared/file") || open(my $f, '>', "/shared/new")"#,
    ),
    (
        "a read-only bind is bound anew",
        r#"mkdir "/tmp/b"; call("mount", nul("/shared"), nul("/tmp/b"), nul("none"), 4096, nul("")) == 0 or die; call("mount", nul("none"), nul("/tmp/b"), nul("none"), 4128, nul("")); may_write("/tmp/b/file")"#,
    ),
    // === rows 11, 26: devices ===
    ("*node of the host's disk", r#"node("b", $ENV{MAJOR}, $ENV{MINOR})"#),
    ("node of the kernel's log", r#"node("c", 1, 11)"#),
    ("*node of memory", r#"node("c", 1, 1)"#),
    ("node of loop-control", r#"node("c", 10, 237)"#),
    (
        "*devices that are there",
        r#"grep { -e $_ && open(my $f, '<', $_) } qw(/dev/mem /dev/kmsg /dev/kvm /dev/fuse /dev/loop-control /dev/vda /dev/sda /dev/port)"#,
    ),
    // === rows 18, 20, 22, 93: kernel files ===
    ("core_pattern", r#"may_write("/proc/sys/kernel/core_pattern")"#),
    ("*sysrq-trigger", r#"may_write("/proc/sysrq-trigger")"#),
    (
        "core_pattern with the covers off",
        r#"shut(); may_write(qw(/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger))"#,
    ),
    ("any kernel setting", r#"shut(); may_write(tree("/proc", $own))"#),
    ("any file of sysfs", r#"shut(); may_write(tree("/sys", $own))"#),
    (
        "a fresh proc uncovers",
        r#"attach("proc", "proc") && may_write("/tmp/at/sys/kernel/core_pattern", "/tmp/at/sysrq-trigger")"#,
    ),
    (
        "a fresh sysfs uncovers",
        r#"attach("sysfs", "sysfs") && may_write(tree("/tmp/at/kernel", qr/security|debug|tracing/))"#,
    ),
    (
        "what covers is taken off",
        r#"my $t; my @c = map { (split)[4] } grep { m{ /(null|empty) /(proc|sys)/} } do { open(my $f, '<', "/proc/self/mountinfo"); <$f> }; @c ? grep { call("umount2", nul($_), 2) == 0 } @c : (open($t, '<', "/proc/timer_list") && length(scalar <$t>) > 5)"#,
    ),
    // === file systems that are the host's ===
    ("mount of debugfs", r#"attach("debugfs", "none")"#),
    ("mount of tracefs", r#"attach("tracefs", "none")"#),
    ("mount of devtmpfs", r#"attach("devtmpfs", "none")"#),
    ("*mount of securityfs", r#"attach("securityfs", "none")"#),
    (
        "mount of the host's disk",
        r#"system("mknod", "/tmp/disk", "b", $ENV{MAJOR}, $ENV{MINOR}) == 0 && do { mkdir "/tmp/at"; call("mount", nul("/tmp/disk"), nul("/tmp/at"), nul("ext4"), 0, nul("")) == 0 }"#,
    ),
    // === rows 15, 137: cgroups ===
    (
        "*mount of a cgroup v1 hierarchy, written",
        r#"grep { attach("cgroup", "none", $_) && may_write(map { "/tmp/at/$_" } qw(release_agent memory.limit_in_bytes devices.allow pids.max tasks cgroup.procs)) } qw(memory devices pids cpu)"#,
    ),
    (
        "*release_agent after unshare -UrC",
        r#"call("unshare", 0x10000000|0x02000000|0x00020000) == 0 or die; grep { attach("cgroup", "none", $_) && may_write("/tmp/at/release_agent") } qw(memory devices pids)"#,
    ),
    (
        "*release_agent",
        r#"call("mount", nul("none"), nul($_), nul("none"), 4128, nul("")) for below("/sys/fs/cgroup", qr/./); may_write(groups("release_agent"))"#,
    ),
    (
        "own limits",
        r#"call("mount", nul("none"), nul($_), nul("none"), 4128, nul("")) for below("/sys/fs/cgroup", qr/./); may_write(groups(qw(memory.limit_in_bytes devices.allow pids.max memory.max)))"#,
    ),
    // === rows 6, 137: processes and namespaces ===
    (
        "*signal to the host's process",
        r#"kill(0, $ENV{VICTIM}) || call("pidfd_open", $ENV{VICTIM}+0, 0) >= 0"#,
    ),
    ("*ptrace of the host's process", r#"call("ptrace", 0x4206, $ENV{VICTIM}+0, 0, 0) == 0"#),
    (
        "*a namespace of the host's is in sight",
        r#"my %n = names(); grep { $n{$_} } split /,/, $ENV{NAMESPACES}"#,
    ),
    (
        "*setns to the parent user namespace",
        r#"open(my $f, '<', "/proc/self/ns/user"); my $fd = ioctl($f, 0xb702, 0) || ioctl($f, 0xb701, 0); $fd && call("setns", $fd+0, 0) == 0"#,
    ),
    (
        "abstract socket of the host",
        r#"my $s; socket($s, 1, 1, 0) or die; connect($s, pack("S a*", 1, "\0$ENV{ABSTRACT}"))"#,
    ),
    (
        "loopback of the host",
        r#"my $s; socket($s, 2, 1, 0) or die; connect($s, pack("S n C4 x8", 2, $ENV{PORT}, 127, 0, 0, 1))"#,
    ),
    // === the kernel itself ===
    (
        "*bpf program for the whole machine",
        r#"my $i = pack("CCsl CCsl", 0xb7,0,0,0, 0x95,0,0,0); my $l = nul("GPL"); my $a = pack("LLQQ", 5, 2, unpack("Q", pack("p", $i)), unpack("Q", pack("p", $l))) . ("\0" x 100); call("bpf", 5, $a, length $a) >= 0"#,
    ),
    ("*init_module", r#"my $m = "\0" x 64; call("init_module", $m, 64, nul("")); $!+0 != 1 && $!+0 != 38"#),
    ("*kexec_load", r#"call("kexec_load", 0, 0, 0, 0) == 0"#),
    ("clock set to its own time", r#"my $t = pack("qq", time, 0); call("clock_settime", 0, $t) == 0"#),
    (
        "*adjtimex",
        r#"my $t = pack("L x4 q", 0x4000, 10000) . ("\0" x 300); call("adjtimex", $t) >= 0 || $!+0 == 22"#,
    ),
    ("swapon", r#"call("swapon", nul("/etc/passwd"), 0); $!+0 == 22 || $!+0 == 0"#),
    (
        "*quotactl",
        r#"call("quotactl", 0x80000100, 0, 0, 0); my $r = call("quotactl", 0x80000200, nul("/tmp/none"), 0, 0); $!+0 != 1 && $!+0 != 2 && $!+0 != 38 && $r == 0"#,
    ),
    ("acct", r#"call("acct", 0) == 0"#),
    ("log of the kernel", r#"my $b = " " x 4096; call("syslog", 3, $b, 4096) >= 0"#),
    (
        "perf_event of every processor",
        r#"my $a = pack("LLQ", 1, 112, 0) . ("\0" x 96); call("perf_event_open", $a, -1, 0, -1, 0) >= 0"#,
    ),
    ("*reboot", r#"call("reboot", 0xfee1dead, 672274793, 0, 0) == 0"#),
    // === what one process takes from all ===
    (
        "*oom_score_adj below its own",
        r#"open(my $f, '>', "/proc/self/oom_score_adj") or die; my $n = syswrite($f, "-1000"); defined $n"#,
    ),
    (
        "*rlimit above its own",
        r#"my $l = pack("QQ", 0, 0); call("prlimit64", 0, 7, 0, $l) == 0 or die; my (undef, $hard) = unpack("QQ", $l); my $n = pack("QQ", $hard + 1, $hard + 1); call("prlimit64", 0, 7, $n, 0) == 0"#,
    ),
    ("nice", r#"call("setpriority", 0, 0, -20) == 0"#),
    ("*real-time scheduling", r#"my $p = pack("l", 1); call("sched_setscheduler", 0, 1, $p) == 0"#),
    ("real-time I/O", r#"call("ioprio_set", 1, 0, (1 << 13)) == 0"#),
    ("key of the host's root", r#"call("keyctl", 10, -4, nul("user"), nul($ENV{KEY}), 0) >= 0"#),
];

/// What the attacks have to know of the host; the listeners are open as long as it lives.
struct Target {
    host: Host,
    shared: String,
    variables: Vec<(&'static str, String)>,
    key: String,
    _listeners: (UnixListener, std::net::TcpListener),
}

impl Target {
    fn new(engine: &Engine) -> Target {
        use std::os::linux::net::SocketAddrExt;
        let host = Host::new(engine);
        let shared = engine.path("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(format!("{shared}/file"), "the host's\n").unwrap();
        let name = format!("tare-kit-{}", host.victim());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listeners =
            (UnixListener::bind_addr(&address).unwrap(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let device = fs::metadata(engine.dir()).unwrap().st_dev();
        let key =
            host_perl(&format!(r#"print call("add_key", nul("user"), nul("{name}"), nul("secret"), 6, -4)"#));
        let handle = host_perl(&format!(
            r#"my $h = pack("Ll", 128, 0) . ("\0" x 128); my $m = pack("l", 0); call("name_to_handle_at", -100, nul("{}"), $h, $m, 0) == 0 or die $!; print unpack("H*", substr($h, 0, 8 + unpack("L", $h)))"#,
            host.canary().str()
        ));
        let variables = vec![
            ("CANARY", host.canary().str().to_owned()),
            ("HANDLE", handle),
            ("MAJOR", rustix::fs::major(device).to_string()),
            ("MINOR", rustix::fs::minor(device).to_string()),
            ("VICTIM", host.victim().to_string()),
            ("NAMESPACES", own_namespaces().join(",")),
            ("ABSTRACT", name.clone()),
            ("PORT", listeners.1.local_addr().unwrap().port().to_string()),
            ("KEY", name),
        ];
        Target { host, shared, variables, key, _listeners: listeners }
    }

    /// Runs every attack in one container and gives the names of those that succeeded.
    fn attack(&self, engine: &Engine, flags: &[&str]) -> BTreeSet<String> {
        let bind = format!("{}:/shared:ro", self.shared);
        let mut args: Vec<String> = ["run", "--rm", "-v", &bind].map(str::to_owned).into();
        if !flags.contains(&"--network=host") {
            args.push("--network=none".into());
        }
        args.extend(self.variables.iter().flat_map(|(name, value)| ["-e".into(), format!("{name}={value}")]));
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        args.extend(["attacks:1", "perl", "-"].map(str::to_owned));
        args.insert(1, "-i".into());
        let said = engine.tare(args).input(script()).limit(Duration::from_secs(120)).run();
        results(&said)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let key = &self.key;
        host_perl(&format!(r#"call("keyctl", 9, {key}, -4)"#));
    }
}

/// Each attack in a process and, where it may, in a mount namespace of its own, so that none spoils the next.
fn script() -> String {
    let mut text = perl::prelude() + HELPERS + "my @attacks = (\n";
    for (name, code) in ATTACKS {
        text.push_str(&format!("[q({}), sub {{ {code} }}],\n", name.trim_start_matches('*')));
    }
    text + r#");
for (@attacks) { my ($name, $attack) = @$_; my $pid = fork // die;
  if (!$pid) { alarm 20; call("unshare", 0x20000); open(STDERR, '>', '/dev/null'); my @r = eval { $attack->() }; print((@r && $r[-1] ? "REACHED" : "shut"), ": $name\n"); exit 0 }
  waitpid $pid, 0; print "ended: $name\n" if $? }
print "all\n";
"#
}

fn results(said: &Output) -> BTreeSet<String> {
    let out = said.out();
    assert!(out.ends_with("all"), "the battery did not come to its end: {said}");
    let told = |word: &str| out.lines().filter_map(|l| l.strip_prefix(word)).map(str::to_owned).collect();
    let (reached, shut): (BTreeSet<String>, BTreeSet<String>) = (told("REACHED: "), told("shut: "));
    assert_eq!(reached.len() + shut.len(), ATTACKS.len(), "{said}");
    // Shown if the test fails: which files could be written.
    eprintln!("{}", out.lines().filter(|l| l.starts_with('#')).collect::<Vec<_>>().join("\n"));
    reached
}

fn host_perl(script: &str) -> String {
    Cmd::new(perl::program()).args(["-e", &(perl::prelude() + script)]).ok()
}

fn own_namespaces() -> Vec<String> {
    let kinds = ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"];
    kinds.map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()).into()
}

fn engine() -> Engine {
    let engine = Engine::start();
    engine.load(&Image::busybox("attacks:1").layer(perl::layer()));
    engine
}

/// A default container, and one with all capabilities and no filter under the default user namespace.
fn nothing_is_reached(flags: &[&str]) {
    if !ours() {
        return;
    }
    let engine = engine();
    let target = Target::new(&engine);
    let reached = target.attack(&engine, flags);
    assert!(reached.is_empty(), "attacks that reached the host: {reached:#?}");
    target.host.assert_unchanged();
    assert_eq!(fs::read_dir(&target.shared).unwrap().count(), 1, "a read-only bind was written");
}

#[test]
fn a_default_container_changes_nothing_on_the_host() {
    nothing_is_reached(&[]);
}

#[test]
fn all_capabilities_without_a_filter_change_nothing_on_the_host() {
    nothing_is_reached(&["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"]);
}

#[test]
fn all_capabilities_with_open_system_paths_change_nothing_on_the_host() {
    let open = "systempaths=unconfined";
    if !ours() {
        return;
    }
    let engine = engine();
    let target = Target::new(&engine);
    let flags = ["--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt", open];
    let mut reached = target.attack(&engine, &flags);
    // The covers were asked to be left off; what lies under them can still not be written.
    reached.remove("what covers is taken off");
    assert!(reached.is_empty(), "attacks that reached the host: {reached:#?}");
    target.host.assert_unchanged();
}

/// The attacks are real: where the host's own capabilities are given they succeed.
#[test]
fn attacks_succeed_where_nothing_defends() {
    if !ours() {
        return;
    }
    let engine = engine();
    let target = Target::new(&engine);
    let reached = target.attack(&engine, &["--privileged", "--network=host", "--ipc=host"]);
    let expected = ATTACKS.iter().map(|(name, _)| *name).filter(|name| !name.starts_with('*'));
    let missing: Vec<_> = expected.filter(|name| !reached.contains(*name)).collect();
    assert!(missing.is_empty(), "these attacks cannot succeed: {missing:#?}; these did: {reached:#?}");
}
