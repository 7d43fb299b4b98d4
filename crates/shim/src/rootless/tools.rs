//! The two programs that may give a user namespace more ids than the user's own, and what they are told.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tare_model::{Error, Result};

use super::Kind;
use super::ids::{self, Extent};

/// Where such programs are when `PATH` does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Both maps, and who writes them.
#[derive(Debug)]
pub(super) struct Maps {
    users: Map,
    groups: Map,
}

#[derive(Debug)]
struct Map {
    tool: PathBuf,
    extents: Vec<Extent>,
}

// === impl Maps ===

impl Maps {
    /// What user `uid` with group `gid` has on this machine.
    ///
    /// # Errors
    /// Everything that is missing, and where to get it.
    pub(super) fn find(uid: u32, gid: u32) -> Result<Self> {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        // A user of a directory service is not in the file; the tools check the name themselves.
        let from_environment = std::env::var("USER").ok().filter(|name| !name.is_empty());
        let name = ids::name_of(&passwd, uid).map(str::to_owned).or(from_environment);
        let mut missing = Vec::new();
        let mut find = |kind, own| {
            let map = Map::find(kind, name.as_deref(), uid, own);
            map.map_err(|lacks| missing.extend(lacks)).ok()
        };
        match (find(Kind::Users, uid), find(Kind::Groups, gid)) {
            (Some(users), Some(groups)) => Ok(Self { users, groups }),
            _ => Err(Error::unsupported(format!(
                "an ordinary user's engine needs a range of ids and the tools to use it: {}",
                missing.join("; ")
            ))),
        }
    }

    /// Gives the user namespace of process `pid` its ids.
    pub(super) fn write(&self, pid: u32) -> Result<()> {
        self.users.write(pid)?;
        self.groups.write(pid)
    }
}

// === impl Map ===

impl Map {
    fn find(kind: Kind, name: Option<&str>, uid: u32, own: u32) -> Result<Self, Vec<String>> {
        let mut missing = Vec::new();
        let tool = find_tool(kind.tool());
        if tool.is_none() {
            let tool = kind.tool();
            missing.push(format!(
                "{tool} is not installed (Debian and Ubuntu: apt install uidmap; Fedora: shadow-utils)"
            ));
        }
        let text = std::fs::read_to_string(kind.file()).unwrap_or_default();
        let extents = ids::map(&text, name, uid, own);
        if extents.is_none() {
            let number = uid.to_string();
            let user = name.unwrap_or(&number);
            let advice = ids::advice(kind, &text, user);
            missing.push(format!("{} has no range for {user}: {advice}", kind.file()));
        }
        match (tool, extents) {
            (Some(tool), Some(extents)) => Ok(Self { tool, extents }),
            _ => Err(missing),
        }
    }

    fn write(&self, pid: u32) -> Result<()> {
        let words = ids::words(&self.extents);
        let tool = self.tool.display();
        let shown = || format!("{tool} {pid} {}", words.join(" "));
        let done = Command::new(&self.tool)
            .arg(pid.to_string())
            .args(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .map_err(|e| Error::system(format!("{}: {e}", shown())))?;
        if done.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', ", ");
        Err(Error::system(format!(
            "{}: {said} ({}); {tool} must belong to root and be set-user-id (or have the capability), on a file system \
             that is not mounted nosuid",
            shown(),
            done.status
        )))
    }
}

fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| PATH.to_owned());
    let here =
        |dir: &str| Some(Path::new(dir).join(name)).filter(|file| dir.starts_with('/') && file.is_file());
    path.split(':').find_map(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        // Nobody has this id, nor a range for it.
        let lacks = Map::find(Kind::Users, None, 4_000_000_001, 4_000_000_001).expect_err("no such user");
        let last = lacks.last().expect("something is missing");
        assert!(last.contains("/etc/subuid") && last.contains("4000000001:"), "{lacks:?}");
        let error = Maps::find(4_000_000_001, 4_000_000_001).expect_err("neither users nor groups");
        for word in ["/etc/subuid", "/etc/subgid"] {
            assert!(error.message().contains(word), "{error}");
        }
    }
}
