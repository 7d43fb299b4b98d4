//! What is kept about a container, and what the kernel says about it now.
//!
//! `ROOT/ID/state.json` is written once, by whoever creates the container, under a temporary name that is then renamed.
//! The directory's creation is the lock on the id. `ROOT/ID/claim.json` comes before the container's groups;
//! `ROOT/ID/exec.fifo` is there until `start` was said; `ROOT/ID/notify` is bound into a container that tells when it is
//! ready.

use std::fs;
use std::io::ErrorKind as IoKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tare_model::sandbox::SandboxSpec;
use tare_model::{Error, Result, ResultExt};
use tare_runtime::Container;
use tare_runtime::hooks::Subject;

use crate::manager::Manager;

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) id: String,
    pub(crate) pid: i32,
    /// When the process started, in the kernel's ticks: with the pid it names the process for good.
    pub(crate) start_time: u64,
    pub(crate) bundle: PathBuf,
    pub(crate) created: String,
    pub(crate) spec: SandboxSpec,
    /// Who made its groups.
    #[serde(default)]
    pub(crate) manager: Manager,
}

/// What is kept of a container that is being made: where its groups will be, so that they can be removed if whoever
/// makes it is killed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) manager: Manager,
    pub(crate) cgroups_path: PathBuf,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

/// The directory of one container.
pub(crate) struct Directory(PathBuf);

// === impl Status ===

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

// === impl Directory ===

impl Directory {
    /// The place of this container, there or not.
    pub(crate) fn of(root: &Path, id: &str) -> Result<Self> {
        let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if id.is_empty() || id == "." || id == ".." || id.len() > 255 || !id.bytes().all(ok) {
            return Err(Error::invalid(format!(
                "invalid container id {id:?}: want letters, digits and _+-."
            )));
        }
        Ok(Self(root.join(id)))
    }

    /// Makes it; whoever succeeds owns the id.
    pub(crate) fn make(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        if let Some(root) = self.0.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(root)
                .map_err(|e| failed("mkdir", root, &e))?;
        }
        fs::DirBuilder::new().mode(0o700).create(&self.0).map_err(|error| match error.kind() {
            IoKind::AlreadyExists => Error::conflict("container with given ID already exists"),
            _ => failed("mkdir", &self.0, &error),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn fifo(&self) -> PathBuf {
        self.0.join("exec.fifo")
    }

    /// The directory that is bound into a container that tells when it is ready.
    pub(crate) fn notify(&self) -> PathBuf {
        self.0.join("notify")
    }

    pub(crate) fn write(&self, state: &State) -> Result<()> {
        let text = serde_json::to_vec(state).map_err(|error| Error::system(format!("state: {error}")))?;
        write_file(&self.0.join("state.json"), &text)
    }

    pub(crate) fn read(&self) -> Result<State> {
        let path = self.0.join("state.json");
        let text = fs::read(&path).map_err(|error| match error.kind() {
            IoKind::NotFound => Error::not_found("container does not exist"),
            _ => failed("read", &path, &error),
        })?;
        serde_json::from_slice(&text).map_err(|error| {
            Error::new(tare_model::ErrorKind::Corrupt, format!("{}: {error}", path.display()))
        })
    }

    /// Writes down where groups will be that nobody else has.
    pub(crate) fn claim(&self, claim: &Claim) -> Result<()> {
        let (path, text) = (self.0.join("claim.json"), serde_json::to_vec(claim).unwrap_or_default());
        fs::write(&path, text).map_err(|error| failed("write", &path, &error))
    }

    /// What was claimed, if anything was, by one that was not made to the end.
    pub(crate) fn claimed(&self) -> Option<Claim> {
        serde_json::from_slice(&fs::read(self.0.join("claim.json")).ok()?).ok()
    }

    /// Forgets the container; what is gone already is gone.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != IoKind::NotFound => Err(failed("rmdir", &self.0, &error)),
            _ => Ok(()),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.0.is_dir()
    }
}

// === impl State ===

impl State {
    /// The process, if it still lives.
    pub(crate) fn process(&self) -> Option<OwnedFd> {
        let pidfd = tare_runtime::foreground::process(self.pid).ok()?;
        // In this order: the descriptor means whoever has the number now, and this tells whether that is ours.
        (start_time(self.pid) == Some(self.start_time)).then_some(pidfd)
    }

    /// A handle on it; an error if it does not run.
    pub(crate) fn open(&self) -> Result<Container> {
        let pidfd = self.process().ok_or_else(|| Error::conflict("container not running"))?;
        self.manager.runtime()?.open(self.spec.clone(), self.pid, pidfd)
    }

    /// A handle on what may be left of it.
    pub(crate) fn revisit(&self) -> Result<Container> {
        self.manager.runtime()?.revisit(self.spec.clone())
    }

    /// What it is doing.
    pub(crate) fn status(&self, directory: &Directory) -> Result<Status> {
        let Some(pidfd) = self.process() else { return Ok(Status::Stopped) };
        // A container that waits to be started can be frozen as well, and must be thawed first.
        if self.manager.runtime()?.open(self.spec.clone(), self.pid, pidfd)?.is_paused()? {
            return Ok(Status::Paused);
        }
        Ok(if directory.fifo().exists() { Status::Created } else { Status::Running })
    }
}

/// What a container's hooks are told of it.
pub(crate) fn subject<'a>(spec: &'a SandboxSpec, id: &'a str, bundle: &'a Path) -> Subject<'a> {
    let annotations = spec.oci.annotations().as_ref();
    Subject { version: spec.oci.version(), id, bundle, annotations }
}

/// When a process started; `None` if there is none, or only its remains.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    parse_start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The 22nd field of `/proc/PID/stat`. The second is the name, in parentheses, and may contain anything.
fn parse_start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

/// Writes a file so that nobody sees half of it.
pub(crate) fn write_file(path: &Path, text: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| failed("write", path, &error))
        .context(|| "state")
}

pub(crate) fn failed(call: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::system(format!("{call} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_leave_the_root() {
        let root = Path::new("/r");
        for id in ["", ".", "..", "a/b", "../x", "a b", "a\0", "ä"] {
            assert!(Directory::of(root, id).is_err(), "{id:?}");
        }
        for id in ["a", "my_box-1.2+3", ".hidden"] {
            assert!(Directory::of(root, id).is_ok(), "{id:?}");
        }
    }

    #[test]
    fn a_start_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 424242 20 21";
        assert_eq!(parse_start_time(stat), Some(424_242));
        assert_eq!(parse_start_time(&stat.replace(") S ", ") Z ")), None, "remains are not a process");
        assert!(start_time(i32::try_from(std::process::id()).unwrap()).is_some());
    }

    #[test]
    fn an_id_is_taken_once() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::of(root.path(), "x").unwrap();
        directory.make().unwrap();
        assert_eq!(directory.make().unwrap_err().kind(), tare_model::ErrorKind::Conflict);
        directory.remove().unwrap();
        directory.remove().unwrap();
        directory.make().unwrap();
    }
}
