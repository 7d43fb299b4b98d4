//! Which daemon: `-H`, then `TARE_HOST`, then `DOCKER_HOST`, then the default socket; unix sockets only.

use crate::failure::Failure;
use std::path::{Path, PathBuf};

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
}

/// Picks the address from the flag and the two variables.
pub(crate) fn resolve(
    flag: Option<&str>,
    tare: Option<&str>,
    docker: Option<&str>,
) -> Result<Endpoint, Failure> {
    let given = |value: Option<&str>, name: &'static str| {
        value.filter(|v| !v.is_empty()).map(|v| (v.to_owned(), name))
    };
    let choice =
        given(flag, "--host").or_else(|| given(tare, "TARE_HOST")).or_else(|| given(docker, "DOCKER_HOST"));
    let Some((address, origin)) = choice else {
        return Ok(Endpoint { socket: PathBuf::from(DEFAULT_SOCKET), ours: true });
    };
    let path = unix_path(&address).ok_or_else(|| {
        Failure::with_code(
            crate::failure::OWN_ERROR,
            format!("{origin}: {address:?} is not a unix socket; tare connects to unix:///PATH only"),
        )
    })?;
    let ours = origin != "DOCKER_HOST" && path.file_name().is_some_and(|n| n == OUR_NAME);
    Ok(Endpoint { socket: path, ours })
}

/// `unix:///path` or a bare absolute path. Abstract sockets have no owner to check and are refused.
fn unix_path(address: &str) -> Option<PathBuf> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    path.starts_with('/').then(|| Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
