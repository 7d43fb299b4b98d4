//! Where an engine of an ordinary user keeps its state and listens, by the rules of the XDG base directories.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// Where the engine of one user lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserPlace {
    /// Durable state.
    pub root: PathBuf,
    /// What is gone after a reboot, and the socket.
    pub run_dir: PathBuf,
    /// The run directory lies where everybody may make directories: whether it is the user's has to be looked at before
    /// anything in it is believed.
    pub is_shared: bool,
}

/// What of the environment says where.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserEnvironment<'a> {
    /// `XDG_DATA_HOME`.
    pub data_home: Option<&'a Path>,
    /// `HOME`.
    pub home: Option<&'a Path>,
    /// `XDG_RUNTIME_DIR`, if it is a directory of the user.
    pub runtime_dir: Option<&'a Path>,
}

// === impl UserPlace ===

impl UserPlace {
    /// The place of user `uid`.
    ///
    /// # Errors
    /// `InvalidInput` if neither `XDG_DATA_HOME` nor `HOME` is an absolute path.
    pub fn of(uid: u32, environment: UserEnvironment<'_>) -> Result<Self, Error> {
        let absolute = |path: Option<&Path>| path.filter(|path| path.is_absolute()).map(Path::to_owned);
        let data = absolute(environment.data_home)
            .or_else(|| absolute(environment.home).map(|home| home.join(".local/share")))
            .ok_or_else(|| Error::invalid("HOME is not set: there is no place for images and containers"))?;
        let runtime = absolute(environment.runtime_dir);
        let is_shared = runtime.is_none();
        let run_dir =
            runtime.map_or_else(|| PathBuf::from(format!("/tmp/tare-{uid}")), |runtime| runtime.join("tare"));
        Ok(Self { root: data.join("tare"), run_dir, is_shared })
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("tared.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(data_home: &str, home: &str, runtime_dir: &str) -> Result<(String, String, bool), Error> {
        let path = |text| Some(Path::new(text)).filter(|path| !path.as_os_str().is_empty());
        let environment =
            UserEnvironment { data_home: path(data_home), home: path(home), runtime_dir: path(runtime_dir) };
        let place = UserPlace::of(1000, environment)?;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        Ok((text(place.root.clone()), text(place.socket()), place.is_shared))
    }

    #[test]
    fn the_environment_says_where() {
        let own = |root: &str, socket: &str, shared| Ok((root.to_owned(), socket.to_owned(), shared));
        assert_eq!(
            place("", "/home/me", "/run/user/1000"),
            own("/home/me/.local/share/tare", "/run/user/1000/tare/tared.sock", false)
        );
        assert_eq!(place("/data", "/home/me", ""), own("/data/tare", "/tmp/tare-1000/tared.sock", true));
        assert_eq!(
            place("relative", "/home/me", "relative"),
            own("/home/me/.local/share/tare", "/tmp/tare-1000/tared.sock", true)
        );
        assert!(place("", "", "/run/user/1000").is_err());
    }
}
