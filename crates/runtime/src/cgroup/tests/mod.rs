//! Plans as values ([`plan`], [`devices`]), trees of plain files ([`fake`]), and this machine's kernel ([`kernel`], [`lives`]).

mod bench;
mod devices;
mod fake;
mod kernel;
mod lives;
mod plan;

use std::ops::Deref;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use oci_spec::runtime::LinuxResources;

use super::{Cgroup, Layout, Version};

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

fn layout() -> Arc<Layout> {
    Arc::new(Layout::detect().unwrap())
}

/// This machine as if it had no v2 hierarchy.
fn legacy() -> Arc<Layout> {
    let mut layout = Layout::detect().unwrap();
    layout.hierarchies.retain(|hierarchy| hierarchy.version == Version::V1);
    Arc::new(layout)
}

/// For tests that change what is not theirs alone.
fn alone(of: &std::sync::Mutex<()>) -> std::sync::MutexGuard<'_, ()> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// This machine as it is and, if it has v1 hierarchies, as if it had nothing else.
fn layouts() -> Vec<Arc<Layout>> {
    let mut layouts = vec![layout()];
    layouts.extend((!legacy().hierarchies.is_empty()).then(legacy));
    layouts
}

/// A path that no other test has.
fn path() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("/tare-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A group that a failing test does not leave behind.
struct Temporary(Cgroup);

impl Temporary {
    fn new(layout: &Arc<Layout>, json: &str) -> Self {
        Self(Cgroup::create(layout, path(), &resources(json)).unwrap())
    }

    /// What a file of the group in this controller's hierarchy holds.
    fn read(&self, controller: super::Controller, file: &str) -> String {
        let hierarchy = self.with(controller).unwrap();
        hierarchy.read_at(&self.path.join(file)).unwrap().trim().to_owned()
    }
}

impl Deref for Temporary {
    type Target = Cgroup;
    fn deref(&self) -> &Cgroup {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let killed = self.0.kill_all();
        let destroyed = self.0.destroy();
        if !std::thread::panicking() {
            killed.unwrap();
            destroyed.unwrap();
        }
    }
}

/// A shell in the groups, killed at the end.
struct Inside(Child);

impl Inside {
    /// Starts `script`, which gets into the groups before it does anything.
    fn run(group: &Cgroup, script: &str) -> Self {
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut inside = Self(child);
        group.adopt(inside.pid()).unwrap();
        use std::io::Write;
        inside.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
        inside
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn succeeds(mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may be dead
        let _ = self.0.wait();
    }
}

/// Runs until the condition holds; gives up after a minute, as the machine may be busy.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = super::wait::Deadline::after(60);
    while !condition() {
        assert!(deadline.pause(), "{what} did not come true");
    }
}
