//! What a daemon settles for itself: log, limits, directory, where its siblings are.

use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tare_model::{Error, Result};
use tracing::level_filters::LevelFilter;

/// Logs go to standard error, one line each.
pub(crate) fn log_to_stderr(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
}

/// Leaves the caller's directory and allows itself as many descriptors as it may have.
///
/// # Errors
/// The failing call.
pub(crate) fn settle() -> Result<()> {
    std::env::set_current_dir("/").map_err(|e| Error::system(format!("chdir(/): {e}")))?;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|e| Error::system(format!("setrlimit(NOFILE): {e}")))
}

/// This program.
///
/// # Errors
/// The kernel does not say.
pub(crate) fn own_path() -> Result<PathBuf> {
    std::env::current_exe().map_err(|e| Error::system(format!("readlink(/proc/self/exe): {e}")))
}

/// Where `tare-shim` is: `TARE_LIBEXEC`, else beside this program.
///
/// # Errors
/// This program's own path cannot be read.
pub(crate) fn libexec() -> Result<PathBuf> {
    let named =
        std::env::var_os("TARE_LIBEXEC").map(PathBuf::from).filter(|dir| dir.join("tare-shim").is_file());
    if let Some(dir) = named {
        return Ok(dir);
    }
    Ok(own_path()?.parent().map(PathBuf::from).unwrap_or_default())
}
