//! Intel RDT: a class of service with its share of caches and memory bandwidth, and a monitoring group.
//!
//! ```text
//!   resctrl/CLOS/schemata     what the class may use
//!   resctrl/CLOS/tasks        who is in it
//!   resctrl/CLOS/mon_groups/ID/tasks
//! ```
//!
//! The class is named by `closID`; without it the container gets one of its own, which goes with it.

use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIntelRdt, Spec};

use crate::error::{Error, Result};

/// What is asked for, for one container.
#[derive(Debug)]
struct Group<'a> {
    asked: &'a LinuxIntelRdt,
    id: &'a str,
    /// Where resctrl is mounted.
    mount: PathBuf,
}

/// Checks that what `linux.intelRdt` asks for can be had here.
pub(crate) fn require(spec: &Spec) -> Result<()> {
    group(spec, "").map(drop)
}

/// Puts a process into the container's class, which is made if it is missing.
pub(crate) fn enter(spec: &Spec, id: &str, pid: i32) -> Result<()> {
    match group(spec, id)? {
        Some(group) => group.enter(pid),
        None => Ok(()),
    }
}

/// Removes what [`enter`] made for this container; what is gone already is gone.
///
/// # Errors
/// The kernel's refusal.
pub fn remove(spec: &Spec, id: &str) -> tare_model::Result<()> {
    match group(spec, id) {
        Ok(Some(group)) => Ok(group.remove()?),
        // Unmounted meanwhile: nothing is left of it.
        _ => Ok(()),
    }
}

/// Writes new schemas for this container's class.
///
/// # Errors
/// The container has none, or the kernel refuses them.
pub fn update(spec: &Spec, id: &str, schemas: &[&str]) -> tare_model::Result<()> {
    let Some(group) = group(spec, id)? else {
        return Err(tare_model::Error::invalid("linux.intelRdt: the container was made without"));
    };
    for line in schemas {
        write(&group.class().join("schemata"), &format!("{line}\n"))?;
    }
    Ok(())
}

fn group<'a>(spec: &'a Spec, id: &'a str) -> Result<Option<Group<'a>>> {
    let Some(asked) = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) else {
        return Ok(None);
    };
    check(asked)?;
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(|error| {
        Error::new(tare_model::ErrorKind::System, format!("/proc/self/mountinfo: {error}"))
    })?;
    let mount = mounted(&table).ok_or_else(|| {
        Error::unsupported("linux.intelRdt: no resctrl file system is mounted on this machine")
    })?;
    Ok(Some(Group { asked, id, mount }))
}

fn check(asked: &LinuxIntelRdt) -> Result<()> {
    #[allow(deprecated)] // Fields of older specifications, whose meaning was never agreed on.
    for (there, field) in [(asked.enable_cmt(), "enableCMT"), (asked.enable_mbm(), "enableMBM")] {
        if *there == Some(true) {
            let text = format!("linux.intelRdt.{field} is not supported, use enableMonitoring");
            return Err(Error::unsupported(text));
        }
    }
    if let Some(class) = asked.clos_id().as_deref().filter(|class| *class != "/")
        && (class.is_empty() || class.contains('/') || matches!(class, "." | ".."))
    {
        return Err(Error::invalid(format!("linux.intelRdt.closID: {class:?} is no name of a directory")));
    }
    if lines(asked).iter().any(|line| line.contains('\n')) {
        return Err(Error::invalid("linux.intelRdt: a schema contains a line break"));
    }
    Ok(())
}

/// What goes to `schemata`, in the order that the specification wants.
fn lines(asked: &LinuxIntelRdt) -> Vec<&str> {
    let first = [asked.l3_cache_schema(), asked.mem_bw_schema()];
    let first = first.into_iter().flatten().map(String::as_str);
    first.chain(asked.schemata().iter().flatten().map(String::as_str)).collect()
}

fn mounted(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        (right.split(' ').next()? == "resctrl").then(|| PathBuf::from(point))
    })
}

// === impl Group ===

impl Group<'_> {
    fn class(&self) -> PathBuf {
        match self.asked.clos_id().as_deref() {
            Some("/") => self.mount.clone(),
            Some(class) => self.mount.join(class),
            None => self.mount.join(self.id),
        }
    }

    fn monitor(&self) -> Option<PathBuf> {
        let wanted = self.asked.enable_monitoring().unwrap_or(false);
        wanted.then(|| self.class().join("mon_groups").join(self.id))
    }

    fn enter(&self, pid: i32) -> Result<()> {
        let class = self.class();
        let lines = lines(self.asked);
        let is_new = self.make_class(&class, !lines.is_empty())?;
        if is_new || self.asked.clos_id().is_none() {
            for line in &lines {
                write(&class.join("schemata"), &format!("{line}\n"))?;
            }
        } else {
            self.compare(&class, &lines)?;
        }
        write(&class.join("tasks"), &pid.to_string())?;
        if let Some(monitor) = self.monitor() {
            make(&monitor)?;
            write(&monitor.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Whether it had to be made.
    fn make_class(&self, class: &Path, with_schema: bool) -> Result<bool> {
        let named = self.asked.clos_id().is_some();
        if class.is_dir() {
            return Ok(false);
        }
        if named && !with_schema {
            return Err(Error::invalid(format!(
                "linux.intelRdt.closID: {} is not there, and no schema is given to make it with",
                class.display()
            )));
        }
        make(class)?;
        Ok(true)
    }

    fn compare(&self, class: &Path, lines: &[&str]) -> Result<()> {
        let path = class.join("schemata");
        let there = fs::read_to_string(&path).map_err(|error| failed("read", &path, &error))?;
        let there: Vec<&str> = there.lines().map(str::trim).collect();
        match lines.iter().find(|line| !there.contains(&line.trim())) {
            None => Ok(()),
            Some(line) => Err(Error::invalid(format!(
                "linux.intelRdt: {line:?} contradicts {}, which is there already",
                path.display()
            ))),
        }
    }

    fn remove(&self) -> Result<()> {
        let own = self.asked.clos_id().is_none().then(|| self.class());
        for directory in self.monitor().into_iter().chain(own) {
            match fs::remove_dir(&directory) {
                Err(error) if error.kind() != IoKind::NotFound => {
                    return Err(failed("rmdir", &directory, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn make(directory: &Path) -> Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != IoKind::AlreadyExists => Err(failed("mkdir", directory, &error)),
        _ => Ok(()),
    }
}

/// One write for one line, as the kernel wants it.
fn write(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).open(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| failed("write", path, &error))
}

fn failed(call: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::new(tare_model::ErrorKind::System, format!("linux.intelRdt: {call} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &serde_json::Value) -> LinuxIntelRdt {
        serde_json::from_value(text.clone()).unwrap()
    }

    /// A directory that looks like resctrl, with one class of this name.
    fn tree(class: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(class).join("mon_groups/box")).unwrap();
        for file in ["schemata", "tasks", "mon_groups/box/tasks"] {
            fs::write(dir.path().join(class).join(file), "L3:0=f\nMB:0=20\n").unwrap();
        }
        dir
    }

    #[test]
    fn a_process_joins_a_class_that_is_there_as_described() {
        let dir = tree("gold");
        let asked = asked(
            &serde_json::json!({"closID": "gold", "l3CacheSchema": "L3:0=f", "enableMonitoring": true}),
        );
        let group = Group { asked: &asked, id: "box", mount: dir.path().to_owned() };
        group.enter(7).unwrap();
        assert!(fs::read_to_string(dir.path().join("gold/tasks")).unwrap().starts_with('7'));
        assert!(fs::read_to_string(dir.path().join("gold/mon_groups/box/tasks")).unwrap().starts_with('7'));
        assert!(fs::read_to_string(dir.path().join("gold/schemata")).unwrap().starts_with("L3"));
    }

    #[test]
    fn a_class_that_contradicts_or_is_missing_is_refused() {
        let dir = tree("gold");
        let enter = |text: serde_json::Value| {
            let asked = asked(&text);
            Group { asked: &asked, id: "box", mount: dir.path().to_owned() }.enter(7).unwrap_err().to_string()
        };
        assert!(
            enter(serde_json::json!({"closID": "gold", "memBwSchema": "MB:0=90"})).contains("contradicts")
        );
        assert!(enter(serde_json::json!({"closID": "lead"})).contains("is not there"));
    }

    #[test]
    fn an_own_class_goes_with_the_container_and_a_named_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        for class in ["box", "gold"] {
            fs::create_dir(dir.path().join(class)).unwrap();
        }
        let remove = |text: serde_json::Value| {
            let asked = asked(&text);
            Group { asked: &asked, id: "box", mount: dir.path().to_owned() }.remove().unwrap();
        };
        remove(serde_json::json!({"closID": "gold"}));
        assert!(dir.path().join("gold").is_dir());
        remove(serde_json::json!({}));
        assert!(!dir.path().join("box").exists());
        remove(serde_json::json!({}));
    }

    #[test]
    fn schemas_are_written_in_the_order_of_the_specification() {
        let asked = asked(
            &serde_json::json!({"memBwSchema": "MB:0=20", "schemata": ["L2:0=f"], "l3CacheSchema": "L3:0=f"}),
        );
        assert_eq!(lines(&asked), ["L3:0=f", "MB:0=20", "L2:0=f"]);
        let found = mounted("30 25 0:26 / /sys/fs/resctrl rw - resctrl resctrl rw\n");
        assert_eq!(found, Some(PathBuf::from("/sys/fs/resctrl")));
        assert_eq!(mounted("30 25 0:26 / /x rw - tmpfs tmpfs rw\n"), None);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for class in ["..", "a/b", ""] {
            assert!(check(&asked(&serde_json::json!({"closID": class}))).is_err(), "{class:?}");
        }
        assert!(check(&asked(&serde_json::json!({"closID": "/"}))).is_ok());
    }
}
