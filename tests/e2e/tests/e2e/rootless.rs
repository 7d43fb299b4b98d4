//! An ordinary user's engine: root of a user namespace, without any right over the machine.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use serde_json::Value;
use tare_kit::engine::{BUSYBOX, program};
use tare_kit::image::Entry;
use tare_kit::user::{SUBIDS, UID};
use tare_kit::{Image, Layer, User, wait};

use crate::ours;

/// A user whose engine has the busybox image, with a layer over it that takes things away.
fn user() -> User {
    let user = User::new();
    let below = Layer::new()
        .file("gone", "x")
        .dir("old", 0o755)
        .file("old/one", "1")
        .entry(&Entry { name: "theirs", owner: (1000, 2000), mode: 0o640, data: b"ann", ..Entry::default() })
        .entry(&Entry { name: "null", kind: b'3', device: (1, 3), ..Entry::default() });
    let above =
        Layer::new().file(".wh.gone", "").dir("old", 0o755).file("old/.wh..wh..opq", "").file("old/two", "2");
    load(&user, &Image::busybox(BUSYBOX).layer(below).layer(above));
    user
}

fn load(user: &User, image: &Image) {
    user.tare(["load", "--quiet"]).input(image.docker_archive()).ok();
}

fn sh(user: &User, flags: &[&str], script: &str) -> String {
    user.tare([&["run", "--rm", "--network", "none"], flags, &[BUSYBOX, "sh", "-c", script]].concat()).ok()
}

fn background(user: &User, flags: &[&str], script: &str) -> String {
    user.tare([&["run", "-d", "--network", "none"], flags, &[BUSYBOX, "sh", "-c", script]].concat()).ok()
}

fn inspect(user: &User, container: &str) -> Value {
    serde_json::from_str::<Value>(&user.tare(["inspect", container]).ok()).unwrap()[0].take()
}

#[test]
fn the_running_system_is_there_for_an_ordinary_user_too() {
    if !ours() {
        return;
    }
    let user = User::new();
    let said = user.tare(["run", "--rm", "--network", "none", "host", "--", "id", "-u"]).ok();
    assert_eq!(said, "0");
    let script = "echo mine > /usr/new && cat /usr/new && ls /root /home | wc -l && head -c1 /etc/shadow";
    let said = user.tare(["run", "--rm", "--network", "none", "host", "sh", "-c", script]).run();
    assert!(said.out().starts_with("mine\n"), "{said}");
    assert!(!fs::exists("/usr/new").unwrap());
    let owner = fs::metadata(user.root()).unwrap();
    assert_eq!((owner.uid(), owner.mode() & 0o7777), (UID, 0o700));
    let info = user.tare(["info", "--format", "{{json .SecurityOptions}}"]).ok();
    assert!(info.contains("name=rootless"), "{info}");
}

#[test]
fn an_image_keeps_its_owners_and_loses_what_its_layers_take_away() {
    if !ours() {
        return;
    }
    let user = user();
    let script = "ls -n /theirs | awk '{print $3, $4}'; ls /old; test -e /gone || echo away; test -e /null || echo none";
    assert_eq!(sh(&user, &[], script), "1000 2000\ntwo\naway\nnone");
    // On disk the owners are the ids that the user was given: 1 inside is the first of them.
    let layers = fs::read_dir(user.root().join("layers")).unwrap().flatten();
    let theirs = layers.map(|layer| layer.path().join("diff/theirs")).find(|path| path.exists()).unwrap();
    let owner = fs::metadata(theirs).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (SUBIDS.0 + 999, SUBIDS.0 + 1999));
    // An upper layer marks as well: what is removed stays so, what is made again is new.
    let script = "rm /theirs; rm -r /old; mkdir /old; touch /old/three; ls /old; ls /theirs 2>&1 | wc -l";
    assert_eq!(sh(&user, &[], script), "three\n1");
    let beyond = Layer::new().entry(&Entry { name: "far", owner: (70_000, 0), ..Entry::default() });
    let archive = Image::new("far:1").layer(beyond).docker_archive();
    let said = user.tare(["load"]).input(archive).run();
    assert!(said.code != 0 && said.to_string().contains("/etc/subuid"), "{said}");
}

#[test]
fn a_container_lives_through_a_crash_of_the_users_daemon() {
    if !ours() {
        return;
    }
    let user = user();
    let id = background(&user, &["--name", "box-u", "-u", "ann"], "echo started; exec sleep 1000");
    let pid = inspect(&user, "box-u")["State"]["Pid"].as_u64().unwrap();
    let owner = fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    assert_eq!(owner, SUBIDS.0 + 999, "ann is nobody on the host");
    let world = fs::read_link(format!("/proc/{}/ns/user", user.daemon().unwrap().as_raw_nonzero())).unwrap();
    user.kill_daemon();
    assert_eq!(user.tare(["exec", "box-u", "id", "-u"]).ok(), "1000");
    assert_eq!(inspect(&user, "box-u")["State"]["Pid"].as_u64(), Some(pid), "the same process");
    assert_eq!(user.tare(["logs", "box-u"]).ok(), "started");
    let again = fs::read_link(format!("/proc/{}/ns/user", user.daemon().unwrap().as_raw_nonzero())).unwrap();
    assert_eq!(world, again, "the new daemon has entered the namespace of the running containers");
    assert!(user.tare(["top", "box-u"]).ok().contains("sleep 1000"));
    user.tare(["stop", "-t", "0", "box-u"]).ok();
    assert_eq!(user.tare(["wait", "box-u"]).ok(), "137");
    user.tare(["start", "box-u"]).ok();
    user.tare(["rm", "-f", "box-u"]).ok();
    assert!(!user.root().join("containers").join(id).exists());
}

#[test]
fn nothing_of_the_machine_is_within_reach() {
    if !ours() {
        return;
    }
    let user = user();
    let roots = user.dir().join("roots");
    fs::create_dir(&roots).unwrap();
    for (name, mode) in [("secret", 0o600), ("public", 0o644)] {
        fs::write(roots.join(name), "root's").unwrap();
        fs::set_permissions(roots.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mine = user.home().join("mine");
    user.run(["mkdir"]).args([&mine]).ok();
    let (roots_flag, mine_flag) =
        (format!("{}:/roots", roots.display()), format!("{}:/mine", mine.display()));
    let mounts = ["-v", &roots_flag, "-v", &mine_flag];
    let everything = ["--privileged", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined"];
    for flags in [mounts.to_vec(), [&mounts[..], &everything].concat()] {
        let script =
            "cat /roots/secret; echo x >> /roots/public; chown 0 /roots/public; chmod 666 /roots/secret
            rm -f /roots/public; touch /roots/new; mknod /sda b 8 0; mount -o remount,rw /roots
            echo 1 > /proc/sys/kernel/panic; echo h > /proc/sysrq-trigger; chown 99999999 /mine
            cat /roots/public";
        let said = sh(&user, &flags, script);
        assert_eq!(said, "root's", "{flags:?}");
        assert_eq!(fs::read_dir(&roots).unwrap().count(), 2, "{flags:?}");
        let secret = fs::metadata(roots.join("secret")).unwrap();
        assert_eq!((secret.uid(), secret.mode() & 0o777), (0, 0o600), "{flags:?}");
    }
    // What is the user's own is root's inside, and what others of the container make is theirs.
    sh(&user, &["-v", &mine_flag], "touch /mine/root; mkdir /mine/ann; chown 1000 /mine/ann");
    sh(&user, &["-v", &mine_flag, "-u", "1000"], "touch /mine/ann/file");
    let owner = |name: &str| fs::metadata(mine.join(name)).unwrap().uid();
    assert_eq!((owner("root"), owner("ann/file")), (UID, SUBIDS.0 + 999));
    // The container has ids of its own for that; the test has not.
    sh(&user, &["-v", &mine_flag], "rm -r /mine/ann");
}

#[test]
fn no_network_and_the_hosts_are_what_they_are_called() {
    if !ours() {
        return;
    }
    let user = user();
    assert_eq!(sh(&user, &[], "ls /sys/class/net"), "lo");
    let host = user.tare(["run", "--rm", "--network", "host", BUSYBOX, "readlink", "/proc/self/ns/net"]).ok();
    assert_eq!(host, fs::read_link("/proc/self/ns/net").unwrap().display().to_string());
    let script = "ls /sys/class/net | wc -l; touch /sys/x 2>/dev/null || echo ro; ls /sys/firmware | wc -l";
    let shown = user.tare(["run", "--rm", "--network", "host", BUSYBOX, "sh", "-c", script]).ok();
    assert!(shown.ends_with("ro\n0"), "{shown}");
    let owner = background(&user, &["--ipc", "shareable"], "echo here > /dev/shm/f; exec sleep 1000");
    let shared = format!("container:{owner}");
    let there = wait::until(wait::PATIENCE, || {
        let said = user.tare(["exec", &owner, "cat", "/dev/shm/f"]).run();
        (said.code == 0).then(|| said.out())
    });
    assert_eq!(there.as_deref(), Some("here"));
    assert_eq!(sh(&user, &["--ipc", &shared], "cat /dev/shm/f"), "here");
}

/// A web server that says who it is.
const SERVE: &str = "mkdir /www; hostname >/www/index.html; echo up; exec httpd -f -p 80 -h /www";

fn web(user: &User, name: &str, flags: &[&str]) {
    let start = ["run", "-d", "--name", name, "--hostname", name];
    user.tare([&start, flags, &[BUSYBOX, "sh", "-c", SERVE]].concat()).ok();
    let is_up = || user.tare(["logs", name]).ok().contains("up").then_some(());
    wait::until(wait::PATIENCE, is_up).expect("it starts");
}

/// What the port of the machine answers; nothing if nobody does.
fn get(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(wait::PATIENCE)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    said.lines().last().map(str::to_owned)
}

fn reached(address: &str) -> String {
    wait::until(wait::PATIENCE, || get(address)).expect("it answers")
}

#[test]
fn ports_are_published_on_the_machine_and_outlive_the_users_daemon() {
    if !ours() {
        return;
    }
    let user = user();
    web(&user, "one", &["-p", "18471:80", "-p", "127.0.0.1:18472:80", "-p", "[::1]:18475:80"]);
    assert_eq!(reached("127.0.0.1:18471"), "one");
    assert_eq!(reached("[::1]:18471"), "one");
    assert_eq!(reached("127.0.0.1:18472"), "one");
    assert_eq!(get("[::1]:18472"), None);
    assert_eq!((reached("[::1]:18475").as_str(), get("127.0.0.1:18475")), ("one", None));
    let said = user.tare(["run", "--rm", "-p", "18471:80", BUSYBOX, "true"]).fails(125);
    assert!(said.contains("18471 failed: port is already allocated by container one"), "{said}");
    let mine = TcpListener::bind("0.0.0.0:18473").unwrap();
    let said = user.tare(["run", "--rm", "-p", "18473:80", BUSYBOX, "true"]).fails(125);
    assert!(said.contains("18473 failed: port is already allocated by"), "{said}");
    drop(mine);
    let said = user.tare(["run", "--rm", "-p", "80:80", BUSYBOX, "true"]).fails(125);
    assert!(said.contains("ip_unprivileged_port_start"), "{said}");
    user.tare(["port", "add", "one", "18473:80"]).ok();
    assert_eq!(reached("127.0.0.1:18473"), "one");
    user.tare(["port", "rm", "one", "18473:80"]).ok();
    assert_eq!(get("127.0.0.1:18473"), None);
    user.kill_daemon();
    assert_eq!(reached("127.0.0.1:18471"), "one", "without a daemon");
    assert!(user.tare(["port", "one"]).ok().contains("127.0.0.1:18472"));
    assert_eq!(reached("127.0.0.1:18471"), "one", "with another one");
    user.tare(["restart", "-t", "0", "one"]).ok();
    assert_eq!(reached("127.0.0.1:18471"), "one");
    user.tare(["rm", "-f", "one"]).ok();
    TcpListener::bind("0.0.0.0:18471").expect("the port is free again");
}

#[test]
fn packets_of_udp_come_and_are_answered() {
    if !ours() {
        return;
    }
    let user = User::new();
    let echo = "$s = IO::Socket::INET->new(LocalPort => 53, Proto => 'udp');
                while (defined $s->recv($m, 99)) { $s->send(\"$m back\") }";
    let program = ["host", "--", "perl", "-MIO::Socket::INET", "-e", echo];
    user.tare(["run", "-d", "--name", "echo", "-p", "127.0.0.1:18474:53/udp"]).args(program).ok();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut packet = [0; 100];
    let answered = wait::until(wait::PATIENCE, || {
        socket.send_to(b"there", "127.0.0.1:18474").unwrap();
        let (length, from) = socket.recv_from(&mut packet).ok()?;
        Some((String::from_utf8_lossy(&packet[..length]).into_owned(), from.port()))
    });
    assert_eq!(answered, Some(("there back".to_owned(), 18474)));
}

#[test]
fn containers_of_a_user_find_each_other_by_name_and_others_are_kept_apart() {
    if !ours() {
        return;
    }
    let user = user();
    user.tare(["network", "create", "front"]).ok();
    web(&user, "one", &["--network", "front"]);
    let wget = |network: &str, url: &str| {
        // The first process of a container is not ended by a signal that it does not heed.
        let wget = format!("timeout 3 wget -q -O - {url}; exit $?");
        let words = ["run", "--rm", "--network", network, BUSYBOX, "sh", "-c", &wget];
        let said = user.tare(words).run();
        (said.code == 0).then(|| said.out())
    };
    assert_eq!(wget("front", "http://one/").as_deref(), Some("one"));
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = user.tare(["inspect", "--format", format, "one"]).ok();
    assert_eq!(wget("front", &format!("http://{address}/")).as_deref(), Some("one"));
    assert_eq!(wget("bridge", &format!("http://{address}/")), None, "from another network");
    user.kill_daemon();
    assert_eq!(wget("front", "http://one/").as_deref(), Some("one"), "after a crash");
    user.tare(["rm", "-f", "one"]).ok();
    user.tare(["network", "rm", "front"]).ok();
    let said = user.tare(["network", "create", "-d", "macvlan", "-o", "parent=eth0", "mac"]).fails(1);
    assert!(said.contains("ordinary user's"), "{said}");
}

#[test]
fn without_pasta_the_networks_are_none_and_host_and_the_package_is_named() {
    if !ours() {
        return;
    }
    let user = User::new().without_pasta();
    load(&user, &Image::busybox(BUSYBOX));
    let said = user.tare(["run", "--rm", BUSYBOX, "ls", "/sys/class/net"]).run();
    assert!(said.code == 0 && said.out() == "lo" && said.err().contains("passt"), "{said}");
    let said = user.tare(["network", "create", "front"]).fails(1);
    assert!(said.contains("package passt"), "{said}");
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    if !ours() {
        return;
    }
    let user = user();
    let refused = |flags: &[&str]| {
        user.tare([&["run", "--rm", "--network", "none"], flags, &[BUSYBOX, "true"]].concat()).fails(125)
    };
    for flags in [
        &["--userns", "host"][..],
        &["--device", "/dev/null"],
        &["-u", "70000"],
        &["--group-add", "70000"],
        &["--ulimit", "nofile=999999999"],
    ] {
        let said = refused(flags);
        let word = flags[1].split('=').next().unwrap();
        assert!(said.contains(word), "{flags:?}: {said}");
    }
    for flags in [&["-m", "64m"][..], &["--cpus", "1"], &["--pids-limit", "9"], &["--pid", "host"]] {
        let said = refused(flags);
        assert!(said.contains("Delegate=yes"), "{flags:?}: {said}");
    }
    let id = background(&user, &[], "exec sleep 1000");
    for verb in [&["pause"][..], &["stats", "--no-stream"], &["update", "-m", "64m"]] {
        let said = user.tare(verb).args([&id]).fails(1);
        assert!(said.contains("cgroup v2"), "{verb:?}: {said}");
    }
    // What needs no cgroup is not refused for the lack of one.
    user.tare(["update", "--restart", "no", &id]).ok();
}

/// On a machine with version 2 alone, as the test guest is.
#[test]
fn limits_are_kept_in_a_group_that_was_delegated() {
    let Some(user) = ours().then(User::with_group).flatten() else { return };
    load(&user, &Image::busybox(BUSYBOX));
    let script = "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max";
    let limits = ["-m", "64m", "--cpus", "0.5", "--pids-limit", "9"];
    assert_eq!(sh(&user, &limits, script), "67108864\n50000 100000\n9");
    assert_eq!(sh(&user, &[], "cat /sys/fs/cgroup/pids.max"), "4096");
    let hog = [
        "run",
        "--rm",
        "--network",
        "none",
        "-m",
        "20m",
        BUSYBOX,
        "sh",
        "-c",
        "head -c 100m /dev/zero | tail",
    ];
    user.tare(hog).fails(137);
    let id = background(&user, &[], "exec sleep 1000");
    user.tare(["pause", &id]).ok();
    assert_eq!(inspect(&user, &id)["State"]["Status"], "paused");
    user.tare(["unpause", &id]).ok();
    user.tare(["update", "-m", "32m", &id]).ok();
    assert_eq!(user.tare(["exec", &id, "cat", "/sys/fs/cgroup/memory.max"]).ok(), "33554432");
    assert!(user.tare(["stats", "--no-stream", &id]).ok().contains("32MiB"));
    assert!(user.tare(["top", &id]).ok().contains("sleep 1000"));
    let shared = format!("container:{id}");
    assert!(sh(&user, &["--pid", &shared], "ps").contains("sleep 1000"));
}

#[test]
fn what_the_machine_lacks_is_said_at_once() {
    if !ours() {
        return;
    }
    let run = |user: &User| user.tare(["run", "--rm", "host", "true"]).fails(125);
    let said = run(&User::with("tess:700000000:65536\n", false));
    assert!(
        said.contains("newuidmap") && said.contains("newgidmap") && said.contains("apt install uidmap"),
        "{said}"
    );
    let said = run(&User::with("other:100000:65536\n", true));
    assert!(said.contains("add the line tess:165536:65536 to /etc/subuid"), "{said}");
    assert!(said.contains("/etc/subgid") && !said.contains("newuidmap"), "{said}");
}

#[test]
fn a_user_never_meets_somebody_elses_daemon() {
    if !ours() {
        return;
    }
    let user = User::new();
    let shared = format!("/tmp/tare-{UID}");
    // Somebody else was there first, and waits.
    fs::create_dir(&shared).unwrap();
    let without = |words: &[&str]| user.run(["env", "-u", "XDG_RUNTIME_DIR"]).args(words).run();
    let (client, daemon) = (without(&["tare", "ps"]), without(&["tared"]));
    fs::remove_dir(&shared).unwrap();
    for said in [client, daemon] {
        assert!(said.code != 0 && said.err().contains("belongs to user 0"), "{said}");
    }
    let said = user.tare(["--host", "unix:///run/tare/none/tared.sock", "ps"]).run();
    assert!(said.code != 0, "{said}");
}

#[test]
fn what_is_told_to_a_daemon_started_by_hand_reaches_the_users_own() {
    if !ours() {
        return;
    }
    let user = User::new();
    let said = user.run(["tared", "--host-dns", "127.0.0.55"]).run();
    assert!(
        said.code != 0 && said.err().contains("--host-dns 127.0.0.55:53: an ordinary user's containers"),
        "{said}"
    );
    let daemon = user.run(["tared", "--bridge", "none"]).spawn();
    let listens = || user.tare(["--no-autostart", "ps", "-q"]).run().code == 0;
    assert!(wait::until(wait::PATIENCE, || listens().then_some(())).is_some());
    let networks = user.tare(["network", "ls", "--format", "{{.Name}}"]).ok();
    assert_eq!(crate::lines(&networks), ["host", "none"]);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait().code, 0);
}

#[test]
fn a_daemon_started_by_hand_finds_its_own_way() {
    if !ours() {
        return;
    }
    let user = User::new();
    let mut daemon = user.run(["tared"]).spawn();
    let listens = || user.tare(["--no-autostart", "ps", "-q"]).run().code == 0;
    assert!(wait::until(wait::PATIENCE, || listens().then_some(())).is_some());
    assert!(daemon.is_running());
    // `unshare` and `setpriv` execute each other, and so does all that follows: one process all the way.
    assert_eq!(user.daemon().unwrap().as_raw_nonzero().get().cast_unsigned(), daemon.pid());
    let socket = fs::metadata(user.run_dir().join("tared.sock")).unwrap();
    assert_eq!((socket.uid(), socket.mode() & 0o777), (UID, 0o600));
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait().code, 0);
    assert!(program("tare-shim").is_file());
}
