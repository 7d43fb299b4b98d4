//! Running other programs from the top of the checkout, with errors that name the command.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A task's outcome: nothing, or a sentence for the reader.
pub(crate) type Done<T = ()> = Result<T, String>;

/// The top of the checkout.
pub(crate) fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A command that runs at the top of the checkout.
pub(crate) fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(top());
    command
}

/// The cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    command(&env::var("CARGO").unwrap_or_else(|_| "cargo".into()), args)
}

/// Runs `command`, its output shown; an error if it fails.
pub(crate) fn run(command: &mut Command) -> Done {
    let shown = shown(command);
    println!("$ {shown}");
    let status = command.status().map_err(|e| format!("cannot run `{shown}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` failed: {status}")) }
}

/// Runs `command`, what it writes shown on standard error: standard output is for something else.
pub(crate) fn run_to_stderr(command: &mut Command) -> Done {
    let shown = shown(command);
    let status =
        command.stdout(std::io::stderr()).status().map_err(|e| format!("cannot run `{shown}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` failed: {status}")) }
}

/// Runs `command` and shows what it wrote only if it fails.
pub(crate) fn quiet(command: &mut Command) -> Done {
    let shown = shown(command);
    let out = command.stdin(Stdio::null()).output().map_err(|e| format!("cannot run `{shown}`: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Err(format!("`{shown}` failed: {}\n{said}", out.status))
}

/// Runs `command` and returns what it wrote to standard output; an error if it fails.
pub(crate) fn output(command: &mut Command) -> Done<String> {
    let shown = shown(command);
    let out = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cannot run `{shown}`: {e}"))?;
    if !out.status.success() {
        return Err(format!("`{shown}` failed: {}", out.status));
    }
    String::from_utf8(out.stdout).map_err(|e| format!("`{shown}` wrote text that is not UTF-8: {e}"))
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![file_name(Path::new(command.get_program()))];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// True if `program` is on PATH.
pub(crate) fn have(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// An error unless we are root: `task` makes namespaces, mounts and cgroups.
pub(crate) fn need_root(task: &str) -> Done {
    let uid = fs::metadata("/proc/self").map_err(|e| format!("cannot stat /proc/self: {e}"))?.uid();
    if uid == 0 {
        return Ok(());
    }
    Err(format!(
        "`cargo xtask {task}` needs root: it makes namespaces, mounts and cgroups. Run it under sudo"
    ))
}

/// Where cargo puts the programs of `profile` (`debug` or `release`): the target is named in `.cargo/config.toml`.
pub(crate) fn programs(profile: &str) -> Done<PathBuf> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("`rustc -vV` names no host")?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| top().join("target"), PathBuf::from);
    Ok(target.join(host).join(profile))
}

/// Every file with the given extension that git knows or would add, relative to the top.
pub(crate) fn files(extension: &str) -> Done<Vec<PathBuf>> {
    let pattern = format!("*.{extension}");
    let listed = output(&mut command(
        "git",
        &["ls-files", "--cached", "--others", "--exclude-standard", "--", &pattern],
    ))?;
    Ok(listed.lines().map(PathBuf::from).filter(|p| top().join(p).is_file()).collect())
}
