//! The nursery as a process of its own, asked through the daemon's client.
//!
//! This program is also the nursery it tests (`… nursery NAME`), with a sandbox that isolates nothing; so it has a `main`
//! with one thread and runs its tests one after the other.

mod kit;

use std::fs;
use std::future::Future;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use kit::{ALL, Fake, OUTPUT, Peer, exec_request, spec};
use tare_model::{ErrorKind, Exit, Signal};
use tare_shim::client::{Control, Events, Nursery};
use tare_shim::protocol::{Event, LogSettings, StartRequest, StdioSettings};
use tare_shim::record::{Record, State};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "nursery") {
        if let Err(e) = tare_shim::nursery::main(&args[1..], |_| Ok(Fake::default())) {
            eprintln!("nursery: {e}");
            std::process::exit(1);
        }
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("the nursery needs root: its tests are left out");
        return;
    }
    run_all(&args);
}

/// A test and its name.
macro_rules! tests {
    ($($name:ident)*) => { &[$((stringify!($name), || block_on($name()))),*] };
}

fn run_all(args: &[String]) {
    let all: &[(&str, fn())] = tests![
        containers_start_exec_and_end_through_the_nursery
        a_shim_is_on_its_own
        the_memory_of_the_daemon_is_not_copied
        nobody_can_write_to_the_program_through_a_shim
        a_shim_outlives_nursery_and_daemon
        a_killed_nursery_is_replaced_and_its_containers_go_on
        a_killed_shim_is_noticed_and_cleaned_up_after
        a_clean_up_removes_directories_and_reports_what_it_cannot
        a_failed_launch_is_answered_with_its_kind
        a_shim_that_was_made_ready_serves_one_start_and_ends_without_one
        a_shim_that_dies_before_its_start_is_replaced
        connecting_where_no_shim_is_fails_clearly
        many_starts_at_once_all_succeed
        an_idle_shim_is_small
        the_cgroup_is_gone_with_the_last_of_its_processes
        nobody_waits_for_the_end_of_monitors_that_live_on
        the_cgroup_is_gone_soon_after_a_monitor_that_takes_its_time_to_end
    ];
    let wanted = |name: &str| args.iter().all(|arg| arg.starts_with('-') || name.contains(arg.as_str()));
    if args.iter().any(|arg| arg == "--list") {
        all.iter().for_each(|(name, _)| eprintln!("{name}: test"));
        return;
    }
    eprintln!("\nrunning {} tests", all.len());
    let mut passed = 0;
    for (name, test) in all.iter().filter(|(name, _)| wanted(name)) {
        test();
        passed += 1;
        eprintln!("test {name} ... ok");
    }
    eprintln!("\ntest result: ok. {passed} passed; 0 failed");
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(kit::LIMIT, test).await.expect("in time") });
}

/// One instance's nursery and directories.
struct House {
    nursery: Nursery,
    dir: tempfile::TempDir,
    name: String,
}

/// A container that was started.
struct Tenant {
    control: Control,
    events: Events,
    pid: i32,
    shim_pid: i32,
    run_dir: PathBuf,
}

impl House {
    fn new() -> Self {
        Self::with_program(&std::env::current_exe().expect("a program"))
    }

    fn with_program(program: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tare-shims-test-{}-{number}", std::process::id());
        let nursery = Nursery::spawn(program, &name).expect("spawns");
        Self { nursery, dir: tempfile::tempdir().expect("temporary directory"), name }
    }

    fn request(&self, number: u32, script: &str) -> StartRequest {
        // Longer than a socket's address may be.
        let run_dir = self.dir.path().join("long".repeat(40)).join(number.to_string());
        let directory = self.dir.path().join(format!("log{number}"));
        fs::create_dir_all(&run_dir).expect("makes");
        fs::create_dir_all(&directory).expect("makes");
        StartRequest {
            spec: spec(&["sh", "-c", script]),
            run_dir,
            stdio: StdioSettings { open_stdin: true, stdin_once: true, terminal: None },
            log: LogSettings { directory, ..LogSettings::default() },
            attach: vec![ALL],
        }
    }

    async fn start(&self, number: u32, script: &str) -> (Tenant, Peer) {
        let (peer, theirs) = Peer::pair();
        let request = self.request(number, script);
        let run_dir = request.run_dir.clone();
        let (control, events, started) =
            self.nursery.start(None, request, vec![theirs], None).await.expect("starts");
        (Tenant { control, events, pid: started.pid, shim_pid: started.shim_pid, run_dir }, peer)
    }
}

impl Tenant {
    async fn exited(&mut self) -> Exit {
        loop {
            match self.events.next().await.expect("closed before the end was told") {
                Event::Exited(exit) => return exit.exit,
                _ => continue,
            }
        }
    }

    async fn kill(&mut self) {
        self.control.signal(Signal::KILL, None).await.expect("kills");
        assert_eq!(self.exited().await, Exit::Signal(9));
        assert_eq!(self.events.next().await, None);
    }
}

async fn containers_start_exec_and_end_through_the_nursery() {
    let house = House::new();
    let (mut tenant, mut peer) = house.start(1, "read x; echo got $x; exit 5").await;
    let (mut other, theirs) = Peer::pair();
    let request = exec_request("echo exec; exit 3");
    let id = request.exec.clone();
    assert!(tenant.control.exec(request, Some(theirs)).await.expect("executes") > 0);
    assert_eq!(other.frames().0, "exec\n");
    match tenant.events.next().await {
        Some(Event::ExecExited(exit)) => assert_eq!((exit.exec, exit.exit), (id, Exit::Code(3))),
        other => panic!("{other:?}"),
    }
    assert!(tenant.control.stats().await.expect("a long answer").memory.expect("there").detail.len() > 4_000);
    assert_eq!(tenant.control.processes().await, Ok(vec![tenant.pid]));
    tenant.control.watch_log().await.expect("watches");
    peer.say("it\n");
    assert_eq!(peer.frames().0, "got it\n");
    assert_eq!(tenant.events.next().await, Some(Event::LogGrew));
    assert_eq!(tenant.exited().await, Exit::Code(5));
    assert_eq!(tenant.events.next().await, None);
    assert_eq!(tenant.control.stats().await.expect_err("gone").kind(), ErrorKind::Unavailable);
}

async fn a_shim_is_on_its_own() {
    let house = House::new();
    let (mut tenant, _peer) = house.start(1, "exec sleep 1000").await;
    let nursery = house.nursery.pid().await.expect("runs").cast_signed();
    let proc = |pid: i32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("reads");
    assert_eq!(proc(nursery, "comm"), "tare-nursery\n");
    assert_eq!(proc(tenant.shim_pid, "comm"), "tare-shim\n");
    let session = |pid: i32| {
        let stat = proc(pid, "stat");
        let mut fields = stat.rsplit(')').next().expect("fields").split_whitespace();
        fields.nth(3).expect("a session").parse::<i32>().expect("a number")
    };
    assert_eq!((session(nursery), session(tenant.shim_pid)), (nursery, tenant.shim_pid));
    assert!(proc(tenant.shim_pid, "cgroup").contains(&house.name));
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", tenant.shim_pid)).expect("reads"), Path::new("/"));
    assert_eq!(fs::read(format!("/proc/{}/environ", tenant.shim_pid)).expect("reads"), b"");
    // Nothing of the nursery or of this process is open in it.
    let mut descriptors: Vec<String> = fs::read_dir(format!("/proc/{}/fd", tenant.shim_pid))
        .expect("reads")
        .filter_map(|entry| fs::read_link(entry.expect("entry").path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    descriptors.sort();
    let nulls = descriptors.iter().filter(|target| *target == "/dev/null").count();
    let sockets = descriptors.iter().filter(|target| target.starts_with("socket:")).count();
    // Control, peer, listener.
    assert!(nulls >= 3 && sockets == 3, "{descriptors:?}");
    tenant.kill().await;
}

async fn the_memory_of_the_daemon_is_not_copied() {
    let faults = || -> u64 {
        let stat = fs::read_to_string("/proc/self/stat").expect("reads");
        let after_name = stat.rsplit(')').next().expect("a name");
        after_name.split_whitespace().nth(7).expect("a field").parse().expect("a number")
    };
    let mut memory = vec![1u8; 64 << 20];
    let _house = House::new();
    let before = faults();
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 2);
    // Each page of a copied address space has its fault when it is written next; huge ones would be 32.
    assert!(faults() - before < 16, "{} faults: the daemon was forked", faults() - before);
}

async fn nobody_can_write_to_the_program_through_a_shim() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let program = dir.path().join("tare-shim");
    fs::copy(std::env::current_exe().expect("a program"), &program).expect("copies");
    let house = House::with_program(&program);
    let (mut tenant, _peer) = house.start(1, "exec sleep 1000").await;
    let through = fs::File::open(format!("/proc/{}/exe", tenant.shim_pid)).expect("opens for reading");
    tenant.kill().await;
    drop(house);
    // As long as it runs the kernel refuses anyway (ETXTBSY); an attacker waits until it does not.
    let again = format!("/proc/self/fd/{}", through.as_raw_fd());
    let error = fs::OpenOptions::new().write(true).open(again).expect_err("refused");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()), "{error}");
    // While the file itself is an ordinary one.
    fs::OpenOptions::new().write(true).open(&program).expect("opens for writing");
}

async fn a_shim_outlives_nursery_and_daemon() {
    let house = House::new();
    let (tenant, mut peer) = house.start(1, "read x; echo still here; exit 8").await;
    let socket = tenant.run_dir.join("shim.sock");
    drop((tenant.control, tenant.events));
    let dir = house.dir;
    drop(house.nursery);
    let (control, mut events) = Control::connect(&socket).await.expect("connects");
    let snapshot = control.snapshot().await.expect("answers");
    assert_eq!((snapshot.started.pid, snapshot.exited), (tenant.pid, None));
    assert_eq!(control.shim_pid(), Some(tenant.shim_pid));
    peer.say("\n");
    assert_eq!(peer.frames().0, "still here\n");
    assert!(matches!(events.next().await, Some(Event::Exited(exit)) if exit.exit == Exit::Code(8)));
    drop(dir);
}

async fn a_killed_nursery_is_replaced_and_its_containers_go_on() {
    let house = House::new();
    let (mut first, _a) = house.start(1, "exec sleep 1000").await;
    for round in 0..10 {
        let nursery = house.nursery.pid().await.expect("runs").cast_signed();
        kill(nursery);
        let (mut next, _b) = house.start(2 + round, "exec sleep 1000").await;
        next.kill().await;
    }
    first.kill().await;
}

async fn a_killed_shim_is_noticed_and_cleaned_up_after() {
    let house = House::new();
    let (mut tenant, _peer) = house.start(1, "exec sleep 1000").await;
    kill(tenant.shim_pid);
    assert_eq!(tenant.events.next().await, None);
    let record = Record::read(&tenant.run_dir.join("record")).expect("reads").expect("there");
    assert!(matches!(record.state, State::Running { pid, .. } if pid == tenant.pid));
    let id = spec(&[]).id;
    house.nursery.cleanup(&id, "/tare/x", vec![tenant.run_dir.clone()]).await.expect("cleans up");
    assert!(!tenant.run_dir.exists());
    // What the sandbox would have done.
    kill(tenant.pid);
}

async fn a_clean_up_removes_directories_and_reports_what_it_cannot() {
    let house = House::new();
    let deep = house.dir.path().join("left").join("deep");
    fs::create_dir_all(&deep).expect("makes");
    let id = spec(&[]).id;
    let gone = house.dir.path().join("never was");
    house.nursery.cleanup(&id, "/x", vec![house.dir.path().join("left"), gone]).await.expect("cleans up");
    assert!(!deep.exists());
    let file = house.dir.path().join("file");
    fs::write(&file, "").expect("writes");
    let error = house.nursery.cleanup(&id, "relative", vec![file.join("below")]).await.expect_err("fails");
    assert!(error.message().contains("cgroups path") && error.message().contains("below"), "{error}");
}

async fn a_failed_launch_is_answered_with_its_kind() {
    let house = House::new();
    let mut request = house.request(1, "");
    request.spec = spec(&["/no/such/program"]);
    let (mut peer, theirs) = Peer::pair();
    request.attach = vec![OUTPUT];
    let error = house.nursery.start(None, request.clone(), vec![theirs], None).await.expect_err("fails");
    assert_eq!(error.kind(), ErrorKind::CommandNotFound);
    assert_eq!(peer.rest(), b"");
    let error = house.nursery.start(None, request, vec![], None).await.expect_err("a socket is missing");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

async fn a_shim_that_was_made_ready_serves_one_start_and_ends_without_one() {
    let house = House::new();
    let ready = house.nursery.ready().await.expect("forks");
    let (mut peer, theirs) = Peer::pair();
    let request = house.request(1, "echo served");
    let (_control, _events, started) =
        house.nursery.start(Some(ready), request, vec![theirs], None).await.expect("starts");
    assert_eq!(peer.frames().0, "served\n");
    let nursery = house.nursery.pid().await.expect("runs");
    let children = || fs::read_to_string(format!("/proc/{nursery}/task/{nursery}/children")).expect("reads");
    let others = || children().split_whitespace().filter(|pid| *pid != started.shim_pid.to_string()).count();
    let ready = house.nursery.ready().await.expect("forks");
    let others_are = async |wanted| {
        while others() != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    others_are(1).await;
    drop(ready);
    others_are(0).await;
}

async fn a_shim_that_dies_before_its_start_is_replaced() {
    let house = House::new();
    let nursery = house.nursery.pid().await.expect("runs");
    let children = || fs::read_to_string(format!("/proc/{nursery}/task/{nursery}/children")).expect("reads");
    for is_noticed in [true, false] {
        let ready = house.nursery.ready().await.expect("forks");
        while children().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        // It has said hello.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        kill(children().trim().parse().expect("one child"));
        while !children().is_empty() {
            // The other tasks are not to run meanwhile.
            std::thread::yield_now();
        }
        if is_noticed {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let (mut peer, theirs) = Peer::pair();
        let request = house.request(1, "echo served");
        let (_control, mut events, _) = house
            .nursery
            .start(Some(ready), request, vec![theirs], None)
            .await
            .expect("starts under another");
        assert_eq!(peer.frames().0, "served\n");
        while events.next().await.is_some() {}
        while !children().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

async fn connecting_where_no_shim_is_fails_clearly() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("shim.sock");
    let error = Control::connect(&path).await.expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("shim.sock"), "{error}");
}

async fn many_starts_at_once_all_succeed() {
    let house = std::sync::Arc::new(House::new());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..30u32 {
        let house = std::sync::Arc::clone(&house);
        tasks.spawn(async move {
            let (mut tenant, _peer) = house.start(number, &format!("exit {number}")).await;
            assert_eq!(tenant.exited().await, Exit::Code(number as u8));
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.expect("no panic");
    }
}

async fn an_idle_shim_is_small() {
    let house = House::new();
    let (mut tenant, mut peer) = house.start(1, "seq 1 1000; echo; read x").await;
    peer.until("1000");
    // It gives back what the start needed as soon as nothing has happened for a moment.
    let figures = || {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", tenant.shim_pid)).expect("reads");
        ["Private_Dirty:", "Pss:"].map(|name| {
            let line = rollup.lines().find(|line| line.starts_with(name)).expect("a figure");
            line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number")
        })
    };
    let mut seen = figures();
    while seen[0] > 250 || seen[1] > 1_000 {
        // The limit of every test ends this.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        seen = figures();
    }
    eprintln!("  shim: private {} kB, Pss {} kB", seen[0], seen[1]);
    tenant.kill().await;
}

async fn the_cgroup_is_gone_with_the_last_of_its_processes() {
    let house = House::new();
    let (tenant, _peer) = house.start(1, "exec sleep 1000").await;
    assert!(!groups(&house.name).is_empty());
    let Tenant { control, events, pid, run_dir, .. } = tenant;
    drop((control, events));
    let name = house.name.clone();
    let dir = house.dir;
    drop(house.nursery);
    // Without daemon and nursery the last shim removes it.
    let shim = Record::read(&run_dir.join("record")).expect("reads").expect("there").shim_pid;
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(shim).expect("positive"),
        rustix::process::PidfdFlags::empty(),
    )
    .expect("opens");
    kill(pid);
    kit::wait_readable(std::os::fd::AsFd::as_fd(&pidfd), "the shim's end");
    assert_eq!(groups(&name), Vec::<PathBuf>::new());
    drop(dir);
}

async fn nobody_waits_for_the_end_of_monitors_that_live_on() {
    let house = House::new();
    let (mut tenant, _peer) = house.start(1, "exec sleep 1000").await;
    let House { nursery, name, dir } = house;
    let session = nursery.pid().await.expect("runs").to_string();
    let is_left = || {
        let all = fs::read_dir("/proc").expect("reads").flatten();
        let mut stats = all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        let of = |stat: &str| stat.rsplit(')').next()?.split_whitespace().nth(3).map(str::to_owned);
        stats.any(|stat| of(&stat).as_deref() == Some(&session))
    };
    // This sandbox leaves it where the shim is.
    groups(&name).iter().for_each(|group| {
        let above = group.parent().expect("a hierarchy").join("cgroup.procs");
        fs::write(above, tenant.pid.to_string()).expect("moves");
    });
    let before = std::time::Instant::now();
    drop(nursery);
    while is_left() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(before.elapsed() < std::time::Duration::from_secs(2), "{:?}", before.elapsed());
    assert!(!groups(&name).is_empty());
    tenant.kill().await;
    while !groups(&name).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(dir);
}

/// A monitor that sees its nursery alive leaves the group to it, and may be long in ending under load.
async fn the_cgroup_is_gone_soon_after_a_monitor_that_takes_its_time_to_end() {
    let house = House::new();
    let (mut tenant, _peer) = house.start(1, "exec sleep 1000").await;
    tenant.kill().await;
    let House { nursery, name, .. } = house;
    let mut slow = std::process::Command::new("sleep").arg("0.2").spawn().expect("spawns");
    let all = groups(&name);
    assert!(!all.is_empty());
    all.iter().for_each(|group| {
        fs::write(group.join("cgroup.procs"), slow.id().to_string()).expect("moves");
    });
    drop(nursery);
    assert_eq!(groups(&name), all, "somebody is in them");
    slow.wait().expect("ends");
    while !groups(&name).is_empty() {
        // The limit of every test ends this.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The groups of that name, of all hierarchies.
fn groups(name: &str) -> Vec<PathBuf> {
    let hierarchies =
        fs::read_dir("/sys/fs/cgroup").expect("reads").map(|entry| entry.expect("entry").path());
    let all = std::iter::once(PathBuf::from("/sys/fs/cgroup")).chain(hierarchies);
    all.map(|path| path.join(name)).filter(|path| path.exists()).collect()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("positive");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kills");
}
