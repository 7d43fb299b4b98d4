//! The stock `docker` client, where there is one on the PATH, against the face alone. The end-to-end tests of the
//! project run it against real containers; these show that it understands every answer.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::client::{Served, served};

/// Runs `docker ARGS` with this input. `None` where there is no such program.
async fn docker(
    s: &Served,
    input: &'static str,
    args: &'static [&'static str],
) -> Option<(Option<i32>, String, String)> {
    let host = format!("unix://{}", s.socket.display());
    let run = move || -> Option<Output> {
        let mut command = Command::new("timeout");
        command.env("DOCKER_HOST", host).env("DOCKER_CONFIG", "/nonexistent");
        command.args(["30", "docker"]).args(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
        let _ = child.stdin.take()?.write_all(input.as_bytes());
        child.wait_with_output().ok()
    };
    let out = tokio::task::spawn_blocking(run).await.expect("no panic")?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let err = text(out.stderr);
    (!err.contains("timeout: failed to run command")).then(|| (out.status.code(), text(out.stdout), err))
}

/// Each command must exit with this code and print this on standard output or error.
async fn expect(s: &Served, cases: &[(&'static str, &'static [&'static str], i32, &str)]) {
    for (input, args, code, part) in cases {
        let Some((status, out, err)) = docker(s, input, args).await else {
            println!("no docker client on the PATH: {args:?} not tried");
            return;
        };
        assert_eq!(status, Some(*code), "{args:?}: {out}{err}");
        assert!((out.clone() + &err).contains(part), "{args:?}: {out}{err}");
    }
}

#[tokio::test]
async fn the_stock_client_reads_what_there_is() {
    let s = served();
    expect(
        &s,
        &[
            ("", &["version", "--format", "{{.Server.Version}} {{.Server.APIVersion}}"], 0, "0.1.0 1.55"),
            (
                "",
                &["info", "--format", "{{.ContainersRunning}} {{.CgroupVersion}} {{.Driver}}"],
                0,
                "1 1 overlay2",
            ),
            ("", &["info"], 0, "Server Version: 0.1.0"),
            ("", &["ps"], 0, "sleep 9"),
            ("", &["ps", "-a", "--filter", "status=exited", "-q"], 0, ""),
            ("", &["ps", "--format", "{{.Names}} {{.Status}} {{.Image}} {{.State}}"], 0, "nginx running"),
            ("", &["ps", "--filter", "colour=red"], 1, "invalid filter 'colour'"),
            (
                "",
                &["inspect", "web", "--format", "{{.Name}} {{.State.Pid}} {{.HostConfig.NetworkMode}}"],
                0,
                "/web 42 default",
            ),
            ("", &["inspect", "-f", "{{.NetworkSettings.IPAddress}}{{json .Mounts}}", "web"], 0, "/data"),
            ("", &["inspect", "missing"], 1, "No such"),
            ("", &["images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}"], 0, "nginx:1.27 1kB"),
            ("", &["image", "inspect", "nginx", "--format", "{{.Os}}/{{.Architecture}}"], 0, "linux/amd64"),
            ("", &["history", "nginx"], 0, "1kB"),
            ("", &["top", "web"], 0, "sleep 9"),
            ("", &["logs", "web"], 0, "out"),
            ("", &["logs", "-t", "--tail", "5", "web"], 0, "2023-11-14T22:13:20.000000000Z out"),
            ("", &["stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}}", "web"], 0, "web 0.00%"),
            ("", &["network", "ls", "--format", "{{.Name}}"], 0, "none"),
            ("", &["network", "ls"], 0, "front"),
            ("", &["network", "inspect", "host", "--format", "{{.Driver}}"], 0, "host"),
            (
                "",
                &[
                    "network",
                    "inspect",
                    "front",
                    "--format",
                    "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}",
                ],
                0,
                "web 172.20.0.2/16",
            ),
            ("", &["volume", "ls", "-q"], 0, "0202"),
            ("", &["system", "df", "--format", "{{.Type}} {{.TotalCount}}"], 0, "Images 1"),
            ("", &["events", "--since", "1700000000", "--until", "1700000003"], 0, "container start"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_stock_client_drives_containers() {
    let s = served();
    expect(
        &s,
        &[
            ("", &["create", "--name", "web", "nginx"], 0, "abab"),
            ("", &["run", "-d", "nginx"], 0, "abab"),
            ("ping", &["run", "-i", "--rm", "--network", "none", "nginx", "cat"], 7, "ping"),
            ("ping", &["run", "-i", "nginx", "cat"], 7, "bye"),
            ("", &["run", "-d", "-p", "8080:80", "--expose", "9", "nginx"], 0, "abab"),
            (
                "",
                &["run", "-d", "-p", "8080:80", "--network", "host", "nginx"],
                0,
                "discarded when using host",
            ),
            (
                "",
                &["run", "-d", "--network", "container:db", "-p", "80:80", "nginx"],
                125,
                "conflicting options",
            ),
            (
                "",
                &["run", "-d", "--network", "front", "--ip", "172.20.0.9", "--network-alias", "www", "nginx"],
                0,
                "abab",
            ),
            ("", &["run", "-v", "data:/data", "nginx"], 125, "HostConfig.Binds"),
            ("", &["run", "--restart", "always", "nginx"], 125, "RestartPolicy"),
            ("", &["run", "--name", "nope", "--platform", "linux/s390x", "nginx"], 125, "s390x"),
            ("", &["start", "web"], 0, "web"),
            ("", &["start", "missing"], 1, "No such container"),
            ("", &["stop", "-t", "1", "web"], 0, "web"),
            ("", &["restart", "web"], 0, "web"),
            ("", &["kill", "-s", "HUP", "web"], 0, "web"),
            ("", &["pause", "web"], 0, "web"),
            ("", &["unpause", "web"], 0, "web"),
            ("", &["rename", "web", "web2"], 0, ""),
            ("", &["rm", "-f", "web"], 0, "web"),
            ("ping", &["exec", "-i", "web", "cat"], 0, "ping"),
            ("", &["exec", "-d", "web", "true"], 0, ""),
            ("", &["exec", "web", "nope"], 127, "executable file not found"),
            ("", &["attach", "--no-stdin", "missing"], 1, "No such container"),
            ("", &["cp", "web:/etc/passwd", "-"], 1, "archive"),
            ("", &["container", "prune", "-f"], 0, "Total reclaimed space"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_stock_client_brings_and_names_images() {
    let s = served();
    expect(
        &s,
        &[
            ("archive", &["load"], 0, "Loaded image: nginx:1.27"),
            ("evil", &["load", "-q"], 1, "hostile entry"),
            ("rootfs", &["import", "-c", "CMD [\"sh\"]", "-", "app:1"], 0, "sha256:0303"),
            ("", &["tag", "nginx", "web:2"], 0, ""),
            ("", &["rmi", "nginx"], 0, "Untagged: nginx:1.27"),
            ("", &["pull", "redis"], 1, "cannot pull"),
            ("", &["save", "nginx"], 1, "saving"),
        ],
    )
    .await;
}
