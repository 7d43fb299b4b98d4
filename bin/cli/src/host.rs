//! Which daemon: `-H`, then `TARE_HOST`, then `DOCKER_HOST`, then the default socket; unix sockets only.
//!
//! By default root has the machine's daemon and every other user one of their own, never silently the machine's.

use crate::failure::{Failure, OWN_ERROR};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tare_model::{UserEnvironment, UserPlace};

/// Where `tared` listens when nobody says otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/tare/tared.sock";
/// The name that marks a socket as one of ours, for which a daemon may be started.
const OUR_NAME: &str = "tared.sock";

/// A daemon's address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) socket: PathBuf,
    /// A daemon of ours may be started here if nobody listens; never where `DOCKER_HOST` pointed.
    pub(crate) ours: bool,
    /// It is named as a socket of a daemon of ours, which has the API versions that we have.
    pub(crate) is_tared: bool,
}

/// The socket of whoever runs this.
///
/// # Errors
/// There is no place for a user's own engine, or somebody else has it.
pub(crate) fn default_socket() -> Result<PathBuf, Failure> {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Ok(PathBuf::from(DEFAULT_SOCKET));
    }
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (data_home, home) = (variable("XDG_DATA_HOME"), variable("HOME"));
    let is_mine = |dir: &PathBuf| fs::metadata(dir).is_ok_and(|d| d.is_dir() && d.uid() == uid.as_raw());
    let runtime_dir = variable("XDG_RUNTIME_DIR").filter(is_mine);
    let environment = UserEnvironment {
        data_home: data_home.as_deref(),
        home: home.as_deref(),
        runtime_dir: runtime_dir.as_deref(),
    };
    let place = UserPlace::of(uid.as_raw(), environment)
        .map_err(|e| Failure::with_code(OWN_ERROR, e.message().to_owned()))?;
    if place.is_shared {
        require_own(&place.run_dir, uid.as_raw())?;
    }
    Ok(place.socket())
}

/// Anybody can make a directory in /tmp and wait there for somebody's requests.
fn require_own(dir: &Path, uid: u32) -> Result<(), Failure> {
    match fs::symlink_metadata(dir) {
        Ok(data) if data.is_dir() && data.uid() == uid && data.mode() & 0o022 == 0 => Ok(()),
        Ok(data) => Err(Failure::with_code(
            OWN_ERROR,
            format!(
                "{}: want a directory of user {uid} that nobody else can write to; it belongs to user {}, mode {:o}; \
                 remove it, or set XDG_RUNTIME_DIR",
                dir.display(),
                data.uid(),
                data.mode() & 0o177_777
            ),
        )),
        // It will be made.
        Err(_) => Ok(()),
    }
}

/// Picks the address from the flag and the two variables; `default` is asked if they are silent.
pub(crate) fn resolve(
    flag: Option<&str>,
    tare: Option<&str>,
    docker: Option<&str>,
    default: impl FnOnce() -> Result<PathBuf, Failure>,
) -> Result<Endpoint, Failure> {
    let given = |value: Option<&str>, name: &'static str| {
        value.filter(|v| !v.is_empty()).map(|v| (v.to_owned(), name))
    };
    let choice =
        given(flag, "--host").or_else(|| given(tare, "TARE_HOST")).or_else(|| given(docker, "DOCKER_HOST"));
    let Some((address, origin)) = choice else {
        return Ok(Endpoint { socket: default()?, ours: true, is_tared: true });
    };
    let path = unix_path(&address).ok_or_else(|| {
        Failure::with_code(
            OWN_ERROR,
            format!("{origin}: {address:?} is not a unix socket; tare connects to unix:///PATH only"),
        )
    })?;
    let is_tared = path.file_name().is_some_and(|n| n == OUR_NAME);
    Ok(Endpoint { socket: path, ours: is_tared && origin != "DOCKER_HOST", is_tared })
}

/// `unix:///path` or a bare absolute path. Abstract sockets have no owner to check and are refused.
fn unix_path(address: &str) -> Option<PathBuf> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    path.starts_with('/').then(|| Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(f: Option<&str>, t: Option<&str>, d: Option<&str>) -> Result<Endpoint, Failure> {
        super::resolve(f, t, d, || Ok(DEFAULT_SOCKET.into()))
    }

    #[test]
    fn a_directory_in_which_somebody_else_could_listen_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().expect("scratch");
        let (dir, uid) = (scratch.path().join("tare"), rustix::process::geteuid().as_raw());
        assert_eq!(require_own(&dir, uid), Ok(()), "not there yet");
        fs::create_dir(&dir).expect("made");
        assert_eq!(require_own(&dir, uid), Ok(()));
        assert!(require_own(&dir, uid + 1).is_err());
        std::os::unix::fs::symlink(&dir, scratch.path().join("link")).expect("links");
        assert!(require_own(&scratch.path().join("link"), uid).is_err());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(require_own(&dir, uid).is_err());
    }

    #[test]
    fn the_flag_wins_over_the_variables() {
        let pick = |f, t, d| resolve(f, t, d).map(|e| (e.socket.to_string_lossy().into_owned(), e.ours));
        assert_eq!(pick(None, None, None), Ok((DEFAULT_SOCKET.into(), true)));
        assert_eq!(
            pick(Some("unix:///a/tared.sock"), Some("unix:///b"), Some("/c")),
            Ok(("/a/tared.sock".into(), true))
        );
        assert_eq!(pick(None, Some("unix:///b/tared.sock"), Some("/c")), Ok(("/b/tared.sock".into(), true)));
        assert_eq!(pick(None, Some(""), Some("unix:///c")), Ok(("/c".into(), false)));
    }

    #[test]
    fn a_daemon_is_never_started_on_a_socket_that_is_not_ours() {
        assert!(!resolve(None, None, Some("unix:///run/tare/tared.sock")).expect("an address").ours);
        assert!(!resolve(Some("unix:///var/run/docker.sock"), None, None).expect("an address").ours);
    }

    #[test]
    fn a_daemon_of_ours_is_known_by_the_name_of_its_socket_whoever_points_there() {
        let is_tared = |f, t, d| resolve(f, t, d).expect("an address").is_tared;
        assert!(is_tared(None, None, None));
        assert!(is_tared(None, None, Some("unix:///run/tare/tared.sock")));
        assert!(!is_tared(None, Some("unix:///var/run/docker.sock"), None));
    }

    #[test]
    fn hosts_that_are_not_unix_sockets_are_refused_by_their_origin() {
        for address in ["tcp://1.2.3.4:2375", "ssh://me@there", "unix://@abstract", "docker.sock"] {
            let failure = resolve(None, Some(address), None).expect_err(address);
            assert!(
                failure.message.starts_with("TARE_HOST: ") && failure.message.contains("unix"),
                "{}",
                failure.message
            );
        }
    }
}
