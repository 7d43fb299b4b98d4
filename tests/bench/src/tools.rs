//! Programs that make traffic and measure it: Debian's iperf3, wrk, dnsperf and nginx, unpacked under `target/`. Those who
//! serve run in containers, from an image that has them and the libraries that they need.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tare_kit::{Cmd, Image, Layer, debs};

use crate::Done;

/// The image that serves.
pub(crate) const SERVER: &str = "bench-server:1";
/// What a published port leads to in a container of that image, beside port 80.
pub(crate) const LAST_PORT: u16 = 20_999;

/// The unpacked programs.
pub(crate) struct Tools {
    root: PathBuf,
}

impl Tools {
    /// Downloads them at the first use.
    pub(crate) fn unpacked() -> Tools {
        Tools { root: debs::unpacked("traffic", &["iperf3", "wrk", "dnsperf", "nginx-light"]) }
    }

    /// A command line that runs one of them on a core of the host.
    pub(crate) fn words(&self, core: u8, line: &str) -> Done<Vec<String>> {
        let mut words = line.split(' ');
        let program = self.find(words.next().unwrap_or_default())?;
        let libraries = format!("LD_LIBRARY_PATH={}", self.libraries().display());
        let mut all = vec!["taskset".into(), "-c".into(), core.to_string(), "env".into(), libraries];
        all.push(program.display().to_string());
        all.extend(words.map(String::from));
        Ok(all)
    }

    /// An image with those who serve.
    pub(crate) fn image(&self) -> Done<Image> {
        let mut layer = Layer::new().file("etc/nginx.conf", nginx_settings("/tmp"));
        let mut libraries = BTreeSet::new();
        for name in ["iperf3", "nginx"] {
            let program = self.find(name)?;
            layer = layer.program(&format!("usr/bin/{name}"), read(&program)?);
            libraries.extend(self.needs(&program));
        }
        for library in libraries {
            let place = match library.file_name().map(|name| name.to_string_lossy()) {
                Some(name) if name.starts_with("ld-linux") => library.display().to_string(),
                Some(name) => format!("usr/lib/{name}"),
                None => continue,
            };
            layer = layer.program(place.trim_start_matches('/'), read(&library)?);
        }
        Ok(Image::busybox(SERVER).layer(layer))
    }

    fn find(&self, program: &str) -> Done<PathBuf> {
        let found = debs::find(&self.root, program);
        found.ok_or_else(|| format!("no {program} under {}", self.root.display()))
    }

    fn libraries(&self) -> PathBuf {
        self.root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH))
    }

    /// The libraries of a program, and what loads them.
    fn needs(&self, program: &Path) -> Vec<PathBuf> {
        let told = Cmd::new("ldd").args([program]).env("LD_LIBRARY_PATH", self.libraries().as_os_str()).ok();
        let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
        told.lines().filter_map(path).collect()
    }
}

/// One worker that answers everything with two bytes, and keeps what it must write in `dir`.
pub(crate) fn nginx_settings(dir: &str) -> String {
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
        .collect();
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\naccess_log off;\n{places}\
         server {{ listen 80 backlog=4096; listen {LAST_PORT} backlog=4096; location / {{ return 200 \"ok\"; }} }}\n}}\n"
    )
}

fn read(path: &Path) -> Done<Vec<u8>> {
    std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// What a program says that must succeed.
pub(crate) fn said(command: Cmd) -> Done<String> {
    let output = command.run();
    if output.code == 0 { Ok(output.out()) } else { Err(output.to_string()) }
}
