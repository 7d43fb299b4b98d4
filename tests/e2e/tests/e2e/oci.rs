//! `tare-oci` by itself: its command line, as the callers of an OCI runtime use it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tare_kit::engine::program;
use tare_kit::image::unpack_busybox;
use tare_kit::{Cmd, debs, wait};

use crate::ours;

/// A bundle with a busybox in it, and a root for states of its own.
pub(crate) struct Bundle {
    dir: tempfile::TempDir,
    pub(crate) config: Value,
}

// === impl Bundle ===

impl Bundle {
    pub(crate) fn new(args: &[&str]) -> Bundle {
        let dir = tempfile::Builder::new().prefix("tare-kit-").tempdir().unwrap();
        fs::create_dir(dir.path().join("rootfs")).unwrap();
        unpack_busybox(&dir.path().join("rootfs"));
        let mut bundle = Bundle { dir, config: Value::Null };
        bundle.oci(&["spec", "--bundle", &bundle.text("")]).ok();
        let mut config: Value =
            serde_json::from_slice(&fs::read(bundle.path("config.json")).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(args);
        config["root"]["readonly"] = json!(false);
        bundle.config = config;
        bundle
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default().trim_end().to_owned()
    }

    pub(crate) fn oci(&self, words: &[&str]) -> Cmd {
        Cmd::new(program("tare-oci")).args(["--root", &self.text("state")]).args(words)
    }

    /// `create` or `run`, with the configuration as it is now.
    pub(crate) fn make(&self, words: &[&str]) -> Cmd {
        fs::write(self.path("config.json"), self.config.to_string()).unwrap();
        let id = self.id();
        self.oci(&[&words[..1], &["--bundle", &self.text("")], &words[1..], &[&id]].concat())
    }

    /// An id that no other test uses: it is the name of the cgroup as well.
    pub(crate) fn id(&self) -> String {
        self.dir.path().file_name().unwrap().to_string_lossy().replace('.', "-")
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.oci(&["state", &self.id()]).ok()).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    fn wait_for(&self, status: &str) {
        let seen =
            wait::until(std::time::Duration::from_secs(20), || (self.status() == status).then_some(()));
        assert!(seen.is_some(), "it is {}, not {status}", self.status());
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.oci(&["delete", "--force", &self.id()]).run();
    }
}

/// A hook of the host that notes its name, what it was told, and in which mount namespace it is.
fn noting(name: &str, file: &Path) -> Value {
    let file = file.display();
    let script = format!("{{ echo {name} $(cat) $(readlink /proc/self/ns/mnt); }} >>{file}");
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
}

#[test]
fn a_container_goes_through_its_states_with_the_errors_that_callers_read() {
    if !ours() {
        return;
    }
    let bundle = Bundle::new(&["sleep", "1000"]);
    let id = bundle.id();
    assert!(bundle.oci(&["state", &id]).fails(1).contains("container does not exist"));
    assert!(bundle.oci(&["delete", &id]).fails(1).contains("container does not exist"));
    bundle.oci(&["delete", "--force", &id]).ok();
    bundle.make(&["create", "--pid-file", &bundle.text("pid")]).ok();
    assert_eq!(bundle.status(), "created");
    assert!(bundle.make(&["create"]).fails(1).contains("container with given ID already exists"));
    bundle.oci(&["pause", &id]).ok();
    assert!(bundle.oci(&["start", &id]).fails(1).contains("paused"), "or it would wait for a frozen process");
    bundle.oci(&["resume", &id]).ok();
    bundle.oci(&["start", &id]).ok();
    assert_eq!(bundle.status(), "running");
    assert!(bundle.oci(&["start", &id]).fails(1).contains("cannot start a container in the running state"));
    assert!(bundle.oci(&["delete", &id]).fails(1).contains("not stopped"));
    assert_eq!(bundle.oci(&["list", "-q"]).ok(), id);
    let listed: Value = serde_json::from_str(&bundle.oci(&["list", "-f", "json"]).ok()).unwrap();
    assert_eq!((&listed[0]["id"], &listed[0]["owner"]), (&json!(id), &json!("root")));
    let pids: Value = serde_json::from_str(&bundle.oci(&["ps", "-f", "json", &id]).ok()).unwrap();
    assert_eq!(pids, json!([bundle.read("pid").parse::<i64>().unwrap()]));
    assert_eq!(bundle.oci(&["exec", &id, "sh", "-c", "exit 9"]).run().code, 9);
    assert!(bundle.oci(&["exec", &id, "no-such"]).fails(255).contains("executable file not found in $PATH"));
    bundle.oci(&["pause", &id]).ok();
    assert!(bundle.oci(&["exec", &id, "true"]).fails(255).contains("--ignore-paused"));
    bundle.oci(&["resume", &id]).ok();
    bundle.oci(&["kill", &id, "KILL"]).ok();
    bundle.wait_for("stopped");
    assert!(bundle.oci(&["kill", &id, "9"]).fails(1).contains("container not running"));
    bundle.oci(&["kill", "--all", &id, "9"]).ok();
    bundle.oci(&["delete", &id]).ok();
    assert_eq!(bundle.oci(&["list", "-q"]).ok(), "");
}

#[test]
fn a_container_without_a_program_is_made_and_cannot_be_started() {
    if !ours() {
        return;
    }
    let mut bundle = Bundle::new(&["unused"]);
    bundle.config.as_object_mut().unwrap().remove("process");
    bundle.make(&["create"]).ok();
    assert!(bundle.oci(&["start", &bundle.id()]).fails(1).contains("process: missing"));
    assert_eq!(bundle.status(), "created");
    bundle.oci(&["delete", &bundle.id()]).ok();
    assert!(bundle.make(&["run"]).fails(1).contains("process: missing"));
}

#[test]
fn all_six_kinds_of_hook_run_in_order_and_in_the_right_namespace() {
    if !ours() {
        return;
    }
    let mut bundle = Bundle::new(&["sh", "-c", "cat /tmp/told; id -u"]);
    let notes = bundle.path("notes");
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        bundle.config["hooks"][kind] = noting(kind, &notes);
    }
    let script = "{ id -u; cat; echo; } >/tmp/told; chmod 666 /tmp/told";
    bundle.config["hooks"]["startContainer"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]);
    bundle.config["process"]["user"] = json!({"uid": 7, "gid": 7});
    bundle.config["annotations"] = json!({"who": "me"});
    fs::create_dir_all(bundle.path("rootfs/tmp")).unwrap();
    Cmd::new("chmod").args(["1777", &bundle.text("rootfs/tmp")]).ok();
    let said = bundle.make(&["run"]).ok();

    let said: Vec<&str> = said.lines().collect();
    assert_eq!((said[0], said[2]), ("7", "7"), "a program of the container has no more rights than its own");
    assert!(
        said[1].contains("\"status\":\"created\"") && said[1].contains("\"annotations\":{\"who\":\"me\"}"),
        "{said:?}"
    );
    let notes = fs::read_to_string(&notes).unwrap();
    let lines: Vec<Vec<&str>> = notes.lines().map(|line| line.split(' ').collect()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line[0]).collect();
    assert_eq!(names, ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let apart: Vec<bool> = lines.iter().map(|line| Path::new(line[2]) != own).collect();
    assert_eq!(apart, [false, false, true, false, false]);
    for (line, status) in lines.iter().zip(["creating", "creating", "creating", "running", "stopped"]) {
        let state: Value = serde_json::from_str(line[1]).unwrap();
        assert_eq!((&state["status"], &state["id"]), (&json!(status), &json!(bundle.id())), "{line:?}");
    }
}

#[test]
fn a_hook_that_fails_or_hangs_stops_the_container_and_later_ones_are_not_run() {
    if !ours() {
        return;
    }
    for (kind, program, words) in [
        (
            "createRuntime",
            json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 3"]}),
            "exit status 3, output: no",
        ),
        (
            "createContainer",
            json!({"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}),
            "timeout of 1 s",
        ),
        ("prestart", json!({"path": "/no/such/hook"}), "no such file"),
        ("startContainer", json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 4"]}), "exit status 4"),
        ("poststart", json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 5"]}), "exit status 5"),
    ] {
        let mut bundle = Bundle::new(&["sleep", "1000"]);
        let notes = bundle.path("notes");
        bundle.config["hooks"] = json!({"poststop": noting("poststop", &notes)});
        let marker = json!({"path": "/bin/touch", "args": ["touch", bundle.text("later")]});
        bundle.config["hooks"][kind] = json!([program, marker]);
        let id = bundle.id();
        let why = if matches!(kind, "startContainer" | "poststart") {
            bundle.make(&["create"]).ok();
            bundle.oci(&["start", &id]).fails(1)
        } else {
            bundle.make(&["create"]).fails(1)
        };
        assert!(why.contains(words) && why.contains(kind), "{kind}: {why}");
        assert!(!bundle.path("later").exists(), "{kind}: the hook after it ran");
        if kind == "startContainer" {
            bundle.wait_for("stopped");
            bundle.oci(&["delete", &id]).ok();
        }
        assert!(bundle.oci(&["state", &id]).fails(1).contains("does not exist"), "{kind}");
        assert!(bundle.read("notes").starts_with("poststop"), "{kind}: nobody was told of the end");
    }
}

#[test]
fn attributes_of_the_process_reach_the_kernel() {
    if !ours() {
        return;
    }
    let script = "read line </proc/$$/stat; set -- $line; echo ${41}; cat /proc/self/timens_offsets; uname -m; cat /proc/self/oom_score_adj";
    let mut bundle = Bundle::new(&["sh", "-c", script]);
    let process = &mut bundle.config["process"];
    process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    process["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 4});
    process["oomScoreAdj"] = json!(77);
    let linux = &mut bundle.config["linux"];
    linux["personality"] = json!({"domain": "LINUX32"});
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    linux["timeOffsets"] = json!({"monotonic": {"secs": 1000, "nanosecs": 5}});
    let said = bundle.make(&["run"]).ok();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words[0], "3", "SCHED_BATCH: {said}");
    assert_eq!(&words[1..7], ["monotonic", "1000", "5", "boottime", "0", "0"], "{said}");
    assert_eq!(words.last(), Some(&"77"));
    assert_eq!(words[7], if cfg!(target_arch = "x86_64") { "i686" } else { words[7] });
}

#[test]
fn a_network_device_moves_in_with_its_addresses_and_is_up() {
    if !ours() {
        return;
    }
    let mut bundle = Bundle::new(&["sh", "-c", "ip -o addr show dev eth7; ip -o link show dev eth7"]);
    bundle.config["linux"]["netDevices"] = json!({"kit0": {"name": "eth7"}});
    fs::write(bundle.path("config.json"), bundle.config.to_string()).unwrap();
    let busybox = debs::busybox().display().to_string();
    let script = format!(
        "{busybox} ip link add kit0 type veth && {busybox} ip addr add 10.77.0.9/24 dev kit0 && \
         exec {} --root {} run --bundle {} {}",
        program("tare-oci").display(),
        bundle.text("state"),
        bundle.text(""),
        bundle.id()
    );
    let said = Cmd::new("unshare").args(["--net", "sh", "-c", &script]).ok();
    assert!(said.contains("10.77.0.9/24") && said.contains("UP"), "{said}");
}

#[test]
fn limits_are_updated_and_figures_are_told() {
    if !ours() {
        return;
    }
    let bundle = Bundle::new(&["sleep", "1000"]);
    let id = bundle.id();
    bundle.make(&["run", "--detach"]).ok();
    bundle.oci(&["update", "--pids-limit", "33", &id]).ok();
    let figures =
        || -> Value { serde_json::from_str(&bundle.oci(&["events", "--stats", &id]).ok()).unwrap() };
    assert_eq!(figures()["data"]["pids"], json!({"current": 1, "limit": 33}));
    bundle.oci(&["update", "-r", "-", &id]).input(r#"{"pids":{"limit":44}}"#).ok();
    let told = figures();
    assert_eq!(
        (&told["type"], &told["id"], &told["data"]["pids"]["limit"]),
        (&json!("stats"), &json!(id), &json!(44))
    );
    let data = &told["data"];
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data}");
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{data}");
    assert!(data["memory"]["raw"].as_object().unwrap().len() > 5, "{data}");
    // Without effect, and said so; what stands beside it has one.
    let update = r#"{"memory":{"kernel":67108864},"pids":{"limit":55}}"#;
    let updated = bundle.oci(&["update", "-r", "-", &id]).input(update).run();
    assert_eq!(updated.code, 0, "{updated}");
    assert!(updated.err().contains("kernel"), "{updated}");
    assert_eq!(figures()["data"]["pids"]["limit"], json!(55));
    let features: Value = serde_json::from_str(&bundle.oci(&["features"]).ok()).unwrap();
    assert_eq!(features["ociVersionMin"], json!("1.0.0"));
}

/// Every group anywhere whose name ends with the id.
fn groups(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().ends_with(id) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn no_group_is_left_of_a_container_however_it_ends() {
    if !ours() {
        return;
    }
    let mut bundle = Bundle::new(&["sh", "-c", "sleep 1000 & echo up"]);
    let id = bundle.id();
    bundle.make(&["run"]).ok();
    assert_eq!(groups(&id), [] as [PathBuf; 0], "after run");

    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.make(&["create"]).ok();
    let made = groups(&id);
    assert!(
        !made.is_empty() && made.iter().all(|group| group.ends_with(format!("tare-oci-{id}"))),
        "{made:?}"
    );
    bundle.oci(&["delete", &id]).ok();
    assert_eq!(groups(&id), [] as [PathBuf; 0], "after create and delete");

    bundle.config["process"]["args"] = json!(["no-such-program"]);
    bundle.make(&["run"]).fails(1);
    assert_eq!(groups(&id), [] as [PathBuf; 0], "after a run that failed");

    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.make(&["run", "--detach"]).ok();
    bundle.oci(&["kill", &id, "KILL"]).ok();
    bundle.wait_for("stopped");
    bundle.oci(&["delete", &id]).ok();
    assert_eq!(groups(&id), [] as [PathBuf; 0], "after kill and delete");
}

#[test]
fn whoever_makes_a_container_may_be_killed_at_any_time() {
    if !ours() {
        return;
    }
    // While it is made: nothing is known of it yet but where its groups are.
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    let id = bundle.id();
    bundle.config["hooks"]["createRuntime"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"], "env": ["PATH=/usr/bin:/bin"]}]);
    let killed = bundle.make(&["create"]).run();
    assert_ne!(killed.code, 0, "{killed}");
    assert!(!groups(&id).is_empty(), "or this test sees nothing");
    assert!(bundle.oci(&["delete", &id]).fails(1).contains("--force"));
    bundle.oci(&["delete", "--force", &id]).ok();
    assert_eq!(groups(&id), [] as [PathBuf; 0], "killed while it was made");

    // While it runs in the foreground: the container goes on, and can be removed.
    bundle.config["hooks"] = json!({});
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    fs::write(bundle.path("config.json"), bundle.config.to_string()).unwrap();
    let mut run = std::process::Command::new(program("tare-oci"))
        .args(["--root", &bundle.text("state"), "run", "--bundle", &bundle.text(""), &id])
        .spawn()
        .unwrap();
    let there =
        || (bundle.oci(&["state", &id]).run().code == 0 && bundle.status() == "running").then_some(());
    wait::until(std::time::Duration::from_secs(20), there).expect("it runs");
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(bundle.status(), "running");
    bundle.oci(&["delete", "--force", &id]).ok();
    assert_eq!(groups(&id), [] as [PathBuf; 0], "killed while it ran");
}

#[test]
fn a_group_that_somebody_lives_in_is_not_touched_by_a_half_made_container() {
    if !ours() {
        return;
    }
    let (one, mut other) = (Bundle::new(&["sleep", "1000"]), Bundle::new(&["sleep", "1000"]));
    one.make(&["run", "--detach"]).ok();
    other.config["linux"]["cgroupsPath"] = json!(format!("/tare-oci-{}", one.id()));
    assert!(other.make(&["create"]).fails(1).contains("exists and holds process"));
    // As if it had been killed before it could look.
    fs::create_dir_all(other.path("state").join(other.id())).unwrap();
    other.oci(&["delete", "--force", &other.id()]).ok();
    assert_eq!(one.status(), "running");
}

#[test]
fn a_further_process_runs_in_a_group_below() {
    if !ours() {
        return;
    }
    let bundle = Bundle::new(&["sleep", "1000"]);
    let id = bundle.id();
    bundle.make(&["run", "--detach"]).ok();
    let ours = groups(&id);
    for group in &ours {
        fs::create_dir(group.join("sub")).unwrap();
    }
    let show = |words: &[&str]| -> Vec<String> {
        // Told by the container's own file, in which its cgroup namespace is the root.
        let said = bundle.oci(&[&["exec"], words, &[&id, "cat", "/proc/self/cgroup"]].concat()).ok();
        said.lines().map(str::to_owned).collect()
    };
    let below = |lines: &[String]| lines.iter().filter(|line| line.ends_with("/sub")).count();
    assert_eq!(below(&show(&[])), 0);
    assert!(below(&show(&["--cgroup", "sub"])) >= ours.len(), "{ours:?}");
    let why = bundle.oci(&["exec", "--cgroup", "none", &id, "true"]).fails(255);
    assert!(why.contains("/none"), "{why}");
    let why = bundle.oci(&["exec", "--cgroup", "nothing:sub", &id, "true"]).fails(255);
    assert!(why.contains("group of nothing"), "{why}");
    if Path::new("/sys/fs/cgroup/pids").exists() {
        let lines = show(&["--cgroup", "pids:sub"]);
        let pids = lines.iter().find(|line| line.contains(":pids:")).unwrap();
        assert!(pids.ends_with("/sub") && below(&lines) == 1, "{lines:?}");
    }
}

#[test]
fn readiness_is_passed_on_with_the_process_to_watch() {
    if !ours() {
        return;
    }
    // busybox cannot send a datagram: a script of the host's interpreter cannot run in there, so the test sends it, in
    // the container's place and through its mount.
    let bundle = Bundle::new(&["sh", "-c", "echo $NOTIFY_SOCKET; test -S $NOTIFY_SOCKET && sleep 1000"]);
    let id = bundle.id();
    let host = bundle.path("host.sock");
    let manager = std::os::unix::net::UnixDatagram::bind(&host).unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    fs::write(bundle.path("config.json"), bundle.config.to_string()).unwrap();
    let mut run = std::process::Command::new(program("tare-oci"))
        .args(["--root", &bundle.text("state"), "run", "--detach", "--bundle", &bundle.text(""), &id])
        .env("NOTIFY_SOCKET", &host)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(run.stdout.take().unwrap()), &mut said).unwrap();
    assert_eq!(said.trim(), "/run/notify/notify.sock");
    let state = || -> Value { serde_json::from_str(&bundle.oci(&["state", &id]).ok()).unwrap() };
    let pid = state()["pid"].as_i64().unwrap();
    assert!(run.try_wait().unwrap().is_none(), "it waits until the program is ready");
    let program = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let inside = format!("/proc/{pid}/root{}", said.trim());
    program.send_to(b"STOPPING=1\nMAINPID=1", &inside).unwrap();
    program.send_to(b"READY=1\nSTATUS=up", &inside).unwrap();
    let mut bytes = [0; 200];
    let mut next = || {
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert_eq!(next(), format!("MAINPID={pid}\nREADY=1\n"), "and nothing else that it says");
    assert_eq!(next(), "BARRIER=1");
    assert!(run.wait().unwrap().success());
    assert_eq!(bundle.status(), "running");
}

#[test]
fn systemd_is_asked_if_the_command_line_says_so() {
    if !ours() {
        return;
    }
    // With systemd there is `systemd_makes_the_scope_of_a_container`.
    if Path::new("/run/systemd/system").exists() {
        return;
    }
    let mut bundle = Bundle::new(&["true"]);
    let id = bundle.id();
    let root = bundle.text("state");
    let run = |bundle: &Bundle| {
        fs::write(bundle.path("config.json"), bundle.config.to_string()).unwrap();
        let words = ["--root", &root, "--systemd-cgroup", "run", "--bundle", &bundle.text(""), &id];
        Cmd::new(program("tare-oci")).args(words).fails(1)
    };
    let why = run(&bundle);
    assert!(why.contains("systemd:") && why.contains("/run/systemd/private"), "{why}");
    bundle.config["linux"]["cgroupsPath"] = json!("/not/for/systemd");
    assert!(run(&bundle).contains("slice:prefix:name"));
    assert_eq!(groups(&id), [] as [PathBuf; 0]);
    assert!(bundle.oci(&["state", &id]).fails(1).contains("does not exist"));
}

#[test]
fn systemd_makes_the_scope_of_a_container() {
    if !ours() || !Path::new("/run/systemd/system").exists() {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    let id = bundle.id();
    bundle.config["linux"]["resources"] =
        json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 17}, "cpu": {"shares": 2048}});
    fs::write(bundle.path("config.json"), bundle.config.to_string()).unwrap();
    let oci = |words: &[&str]| {
        let root = bundle.text("state");
        Cmd::new(program("tare-oci")).args([&["--root", &root, "--systemd-cgroup"], words].concat())
    };
    oci(&["run", "--detach", "--bundle", &bundle.text(""), &id]).ok();
    let scope = format!("tare-{id}.scope");
    let shown = |what: &str| Cmd::new("systemctl").args(["show", "--value", "-p", what, &scope]).run().out();
    assert_eq!(shown("ActiveState").trim(), "active");
    assert_eq!(shown("Slice").trim(), "system.slice");
    assert_eq!((shown("MemoryMax").trim(), shown("TasksMax").trim()), ("67108864", "17"));
    let state: Value = serde_json::from_str(&oci(&["state", &id]).ok()).unwrap();
    let group = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
    assert!(group.trim().ends_with(&format!("/system.slice/{scope}")), "{group}");
    oci(&["update", "--pids-limit", "23", &id]).ok();
    assert_eq!(shown("TasksMax").trim(), "23", "systemd knows, and will not write its own idea again");
    oci(&["kill", &id, "KILL"]).ok();
    oci(&["delete", "--force", &id]).ok();
    assert_eq!(shown("LoadState").trim(), "not-found");
    assert_eq!(groups(&id), [] as [PathBuf; 0]);
}

/// Row 96: annotations that other runtimes turn into properties of the unit are kept, and nothing more.
#[test]
fn systemd_is_told_no_property_by_an_annotation() {
    if !ours() || !Path::new("/run/systemd/system").exists() {
        return;
    }
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    let id = bundle.id();
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 17}});
    bundle.config["annotations"] = json!({
        "org.systemd.property.TasksMax": "uint64 5",
        "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
        "org.systemd.property.Description": "'evil'",
    });
    fs::write(bundle.path("config.json"), bundle.config.to_string()).unwrap();
    let oci = |words: &[&str]| {
        let root = bundle.text("state");
        Cmd::new(program("tare-oci")).args([&["--root", &root, "--systemd-cgroup"], words].concat())
    };
    oci(&["run", "--detach", "--bundle", &bundle.text(""), &id]).ok();
    let state: Value = serde_json::from_str(&oci(&["state", &id]).ok()).unwrap();
    assert_eq!(state["annotations"]["org.systemd.property.Description"], "'evil'", "it is there to be read");
    let scope = format!("tare-{id}.scope");
    let shown = |what: &str| Cmd::new("systemctl").args(["show", "--value", "-p", what, &scope]).ok();
    assert_eq!(shown("TasksMax"), "17");
    assert_ne!(shown("Description"), "evil");
    let set = ["TimeoutStopUSec", "Transient"].map(shown);
    assert!(set[0] != "7s" && set[1] == "yes", "{set:?}");
    oci(&["delete", "--force", &id]).ok();
}

#[test]
fn descriptors_are_passed_on_only_if_they_are_there() {
    if !ours() {
        return;
    }
    let bundle = Bundle::new(&["sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat <&3; ls /proc/self/fd"]);
    let why = bundle.make(&["run", "--preserve-fds", "1"]).fails(1);
    assert!(why.contains("preserved-fd 0"), "{why}");
    fs::write(bundle.path("given"), "from outside\n").unwrap();
    let script = format!(
        "exec 3<{}; LISTEN_FDS=1 LISTEN_PID=$$ exec {} --root {} --log {} run --bundle {} {}",
        bundle.text("given"),
        program("tare-oci").display(),
        bundle.text("state"),
        bundle.text("log"),
        bundle.text(""),
        bundle.id()
    );
    let said = Cmd::new("sh").args(["-c", &script]).ok();
    assert!(said.starts_with("1 1\nfrom outside\n"), "{said}");
    // What `ls` itself opens is 4: nothing of the runtime's came along.
    assert_eq!(said.lines().skip(2).collect::<Vec<_>>(), ["0", "1", "2", "3", "4"], "{said}");
}

#[test]
fn an_ordinary_user_is_told_to_be_root_of_a_user_namespace() {
    if !ours() {
        return;
    }
    let user = tare_kit::User::new();
    let program = user.dir().join("bin/tare-oci");
    for flags in [&["run", "x"][..], &["--systemd-cgroup", "run", "x"]] {
        let words = [&[program.to_str().unwrap()], flags].concat();
        let said = user.run(words).fails(1);
        assert!(said.contains("unshare --user --map-auto --map-root-user"), "{said}");
    }
}
