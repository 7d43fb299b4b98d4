//! What the daemon is asked for, flag by flag.

use super::*;
use crate::commands::COMMANDS;
use crate::flags::{Usage, parse};
use serde_json::{Value, json};

fn request(line: &str) -> Parsed<Value> {
    let run = COMMANDS.iter().find(|c| c.names[0] == "run").expect("run");
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let given = match parse(&run.syntax, &words) {
        Ok(Usage::Run(given)) => given,
        Ok(Usage::Help) => return Err("help".to_owned()),
        Err(failure) => return Err(failure.message),
    };
    let variable = |name: &str| (name == "HOME").then(|| "/root".to_owned());
    let around = Surroundings { cwd: PathBuf::from("/usr"), variable: &variable, window: Some((24, 80)) };
    let request = create_request(&given, &around)?;
    Ok(serde_json::to_value(&request).expect("JSON"))
}

fn body(line: &str) -> Value {
    request(line).expect(line)
}

#[test]
fn a_plain_run_attaches_output_only() {
    let b = body("img cmd arg");
    assert_eq!((&b["Image"], &b["Cmd"]), (&json!("img"), &json!(["cmd", "arg"])));
    assert_eq!(
        (&b["AttachStdin"], &b["AttachStdout"], &b["OpenStdin"], &b["StdinOnce"], &b["Tty"]),
        (&json!(false), &json!(true), &json!(false), &json!(false), &json!(false))
    );
    assert_eq!(b["HostConfig"]["NetworkMode"], json!("default"));
    assert!(b.get("Tare").is_none() && b.get("Entrypoint").is_none());
}

#[test]
fn interactive_and_detached_runs_differ_in_what_they_attach() {
    let b = body("-it img");
    assert_eq!((&b["AttachStdin"], &b["StdinOnce"], &b["Tty"]), (&json!(true), &json!(true), &json!(true)));
    assert_eq!(b["HostConfig"]["ConsoleSize"], json!([24, 80]));
    let b = body("-id img");
    assert_eq!(
        (&b["AttachStdin"], &b["AttachStdout"], &b["OpenStdin"]),
        (&json!(false), &json!(false), &json!(true))
    );
    let b = body("-a stderr img");
    assert_eq!((&b["AttachStdout"], &b["AttachStderr"]), (&json!(false), &json!(true)));
}

#[test]
fn limits_reach_their_fields() {
    let h = body("-m 512m --memory-swap -1 --cpus 1.5 -c 512 --cpuset-cpus 0,1 --pids-limit -1 --ulimit nofile=5:6 --shm-size 1m --oom-score-adj -5 img")["HostConfig"].clone();
    assert_eq!(
        json!([
            h["Memory"],
            h["MemorySwap"],
            h["NanoCpus"],
            h["CpuShares"],
            h["CpusetCpus"],
            h["PidsLimit"],
            h["ShmSize"],
            h["OomScoreAdj"]
        ]),
        json!([536_870_912, -1, 1_500_000_000, 512, "0,1", -1, 1_048_576, -5])
    );
    assert_eq!(h["Ulimits"], json!([{"Name": "nofile", "Soft": 5, "Hard": 6}]));
}

#[test]
fn mounts_of_every_kind_reach_their_fields() {
    let b = body(
        "-v /a:/b:ro -v ./x:/c -v /anon --tmpfs /t:size=1m --mount type=tmpfs,dst=/m --device /dev/fuse img",
    );
    let h = &b["HostConfig"];
    assert_eq!(h["Binds"], json!(["/a:/b:ro", "/usr/x:/c"]));
    assert_eq!(b["Volumes"], json!({"/anon": {}}));
    assert_eq!(h["Tmpfs"], json!({"/t": "size=1m"}));
    assert_eq!((&h["Mounts"][0]["Type"], &h["Mounts"][0]["Target"]), (&json!("tmpfs"), &json!("/m")));
    assert_eq!(h["Devices"][0]["CgroupPermissions"], json!("rwm"));
}

#[test]
fn confinement_reaches_its_fields() {
    let h = body("--cap-add NET_ADMIN --cap-drop ALL --security-opt no-new-privileges --pid host --uts host --ipc none --cgroupns host --read-only --privileged --init --group-add 5 --userns host img")["HostConfig"].clone();
    assert_eq!(
        json!([
            h["CapAdd"],
            h["CapDrop"],
            h["SecurityOpt"],
            h["PidMode"],
            h["UTSMode"],
            h["IpcMode"],
            h["CgroupnsMode"],
            h["UsernsMode"]
        ]),
        json!([["NET_ADMIN"], ["ALL"], ["no-new-privileges=true"], "host", "host", "none", "host", "host"])
    );
    assert_eq!(
        json!([h["ReadonlyRootfs"], h["Privileged"], h["Init"], h["GroupAdd"]]),
        json!([true, true, true, ["5"]])
    );
}

#[test]
fn the_process_reaches_its_fields() {
    let b = body(
        "--name n -h box -e A=1 -e HOME -e NONE -w /w -u 1:2 --entrypoint sh -l a=b -l c --stop-signal INT --stop-timeout 3 --log-driver json-file --log-opt max-size=1m img",
    );
    assert_eq!(b["Env"], json!(["A=1", "HOME=/root", "NONE"]));
    assert_eq!(
        json!([b["Hostname"], b["WorkingDir"], b["User"], b["Entrypoint"]]),
        json!(["box", "/w", "1:2", ["sh"]])
    );
    assert_eq!(
        json!([b["Labels"], b["StopSignal"], b["StopTimeout"]]),
        json!([{"a": "b", "c": ""}, "INT", 3])
    );
    assert_eq!(b["HostConfig"]["LogConfig"], json!({"Type": "json-file", "Config": {"max-size": "1m"}}));
}

#[test]
fn what_turns_off_what_there_is_not_is_accepted() {
    let b = body("--no-healthcheck --disable-content-trust --isolation default img");
    assert_eq!(b["Healthcheck"], json!({"Test": ["NONE"]}));
    assert_eq!(body("--no-healthcheck=false img").get("Healthcheck"), None);
    assert!(request("--disable-content-trust=false img").is_err_and(|e| e.contains("content trust")));
    assert!(request("--isolation hyperv img").is_err_and(|e| e.contains("Windows")));
}

#[test]
fn a_directory_takes_the_place_of_the_image() {
    let b = body("--rootfs bin/..:rw cmd arg");
    assert_eq!((&b["Image"], &b["Cmd"]), (&json!(""), &json!(["cmd", "arg"])));
    let path = b["Tare"]["Rootfs"]["Path"].as_str().expect("a path").to_owned();
    assert!(path == "/usr" || path == "/", "{path}");
    assert_eq!(b["Tare"]["Rootfs"]["Writable"], json!(true));
    assert_eq!(request("--rootfs nope img"), Err("--rootfs nope: no such file or directory".into()));
}

#[test]
fn mistakes_name_their_flag() {
    for (line, word) in [
        ("-v a:b:c:d img", "--volume"),
        ("--pid foo img", "--pid"),
        ("--uts foo img", "--uts"),
        ("--ipc foo img", "--ipc"),
        ("--cgroupns foo img", "--cgroupns"),
        ("--security-opt foo img", "--security-opt"),
        ("--network= img", "network"),
        ("--env-file /nope img", "open /nope: no such file or directory"),
        ("--mount type=foo,dst=/x img", "--mount"),
        ("--device foo img", "--device"),
        ("-m 1x img", "-m, --memory"),
    ] {
        let error = request(line).expect_err(line);
        assert!(error.contains(word), "{line}: {error}");
    }
}

#[test]
fn what_cannot_be_is_refused_before_the_daemon_is_asked() {
    for (line, part) in [
        ("--rm --restart always img", "cannot specify both --restart and --rm"),
        ("Bad/Name cmd", "invalid reference format"),
        ("img:tag:tag cmd", "invalid reference format"),
    ] {
        assert!(request(line).is_err_and(|e| e.contains(part)), "{line}");
    }
    body("--rm --restart no img");
    for image in ["img", "host", "host:full", "r.example:5000/a/b:c", "0123456789ab"] {
        body(image);
    }
    body(&"ab".repeat(32));
    body(&format!("sha256:{}", "ab".repeat(32)));
    body(&format!("img@sha256:{}", "ab".repeat(32)));
}
