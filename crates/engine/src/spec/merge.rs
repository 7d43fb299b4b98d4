//! What the user asked for over what the image proposes, by Docker's rules.
//!
//! An image's author is an attacker for all we know. Only the fields named here are taken from an image; none of them is
//! a security setting, and labels are carried along without ever being read.

use std::collections::{BTreeSet, HashMap};

use tare_model::container::{ContainerConfig, ProcessConfig};
use tare_model::{ContainerId, Error, ImageConfig, Result};

use super::defaults;
use super::host::HostFacts;
use super::mounts::clean;
use crate::api::view::MergedProcess;

/// Volumes that a container may get without asking for each with a mount: every one is a directory and a record on the
/// disk before the container is there, and an image can declare a million.
const VOLUMES_MAX: usize = 128;

/// Merges `config` over `image`.
///
/// # Errors
/// `InvalidInput`, naming the field.
pub(crate) fn merge(config: &ContainerConfig, image: &ImageConfig) -> Result<MergedProcess> {
    let user = &config.process;
    check_env(&user.env)?;
    let (entrypoint, cmd) = command(user, image)?;
    let volumes = config.volumes.iter().chain(&image.volumes);
    let merged = MergedProcess {
        entrypoint,
        cmd,
        env: env(&user.env, image),
        working_dir: working_dir(&user.working_dir, &image.working_dir)?,
        user: if user.user.is_empty() { image.user.clone() } else { user.user.clone() },
        labels: image.labels.iter().chain(&config.labels).map(|(k, v)| (k.clone(), v.clone())).collect(),
        stop_signal: match config.stop_signal {
            Some(signal) => Some(signal),
            // A signal the image misspells is no reason not to start it; `stop` then sends the default.
            None => image.stop_signal.as_deref().and_then(|s| s.parse().ok()),
        },
        exposed_ports: config.exposed_ports.union(&image.exposed_ports).cloned().collect(),
        volumes: volumes
            .map(|path| clean_volume(path))
            .collect::<Result<BTreeSet<_>>>()?
            .into_iter()
            .collect(),
        thirty_two_bit: false,
    };
    one_line("user", &merged.user)?;
    if merged.volumes.len() > VOLUMES_MAX {
        let n = merged.volumes.len();
        return Err(Error::invalid(format!(
            "the image and the request declare {n} volumes; at most {VOLUMES_MAX} are made"
        )));
    }
    Ok(merged)
}

/// The host name seen inside.
///
/// # Errors
/// `InvalidInput` for a name that the kernel or a hosts file cannot hold.
pub(crate) fn hostname(config: &ContainerConfig, id: &ContainerId, host: &HostFacts) -> Result<String> {
    use tare_model::container::{HostOrPrivate, NetworkMode};
    for (what, name) in [("hostname", &config.hostname), ("domainname", &config.domainname)] {
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.len() > 63 || !name.bytes().all(ok) {
            return Err(Error::invalid(format!(
                "invalid {what} {name:?}: want at most 63 letters, digits, '-', '_' and '.'"
            )));
        }
    }
    if config.namespaces.uts == HostOrPrivate::Host {
        if !config.hostname.is_empty() {
            return Err(Error::invalid("conflicting options: hostname and the UTS mode"));
        }
        return Ok(host.hostname.clone());
    }
    Ok(match (&config.hostname, &config.namespaces.network) {
        (name, _) if !name.is_empty() => name.clone(),
        (_, NetworkMode::Host) => host.hostname.clone(),
        _ => id.short().to_owned(),
    })
}

/// The environment of the first process: the engine's defaults, then the merged entries, later ones winning in place.
pub(crate) fn environment(process: &MergedProcess, hostname: &str, tty: bool) -> Vec<String> {
    let mut env = vec![defaults::PATH.to_owned(), format!("HOSTNAME={hostname}")];
    env.extend(tty.then(|| "TERM=xterm".to_owned()));
    overlay(env, &process.env)
}

/// The environment of an exec: the container's, then its own entries.
pub(crate) fn exec_environment(container: Vec<String>, own: &[String], tty: bool) -> Vec<String> {
    let has_term = container.iter().any(|e| key(e) == "TERM");
    let term = (tty && !has_term).then(|| "TERM=xterm".to_owned());
    overlay(container.into_iter().chain(term).collect(), own)
}

/// Refuses entries that no process can be given.
///
/// # Errors
/// `InvalidInput`, naming the entry.
pub(crate) fn check_env(env: &[String]) -> Result<()> {
    match env.iter().find(|e| e.is_empty() || e.starts_with('=') || e.contains('\0')) {
        Some(entry) => Err(Error::invalid(format!("invalid environment variable: {entry}"))),
        None => Ok(()),
    }
}

/// Refuses text that would become a second line somewhere.
fn one_line(what: &str, text: &str) -> Result<()> {
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("invalid {what} {text:?}: it has control characters")));
    }
    Ok(())
}

/// Sets entries over others, in place; an entry without `=` takes the variable away.
fn overlay(env: Vec<String>, over: &[String]) -> Vec<String> {
    // An image may have a million of them, so they are found by their names, not by looking at each.
    let mut places: HashMap<String, usize> = HashMap::new();
    for (at, entry) in env.iter().enumerate() {
        places.entry(key(entry).to_owned()).or_insert(at);
    }
    let mut env: Vec<Option<String>> = env.into_iter().map(Some).collect();
    for entry in over {
        match (places.get(key(entry)).copied(), entry.contains('=')) {
            (Some(at), true) => env[at] = Some(entry.clone()),
            (None, true) => {
                places.insert(key(entry).to_owned(), env.len());
                env.push(Some(entry.clone()));
            }
            (Some(at), false) => {
                env[at] = None;
                places.remove(key(entry));
            }
            (None, false) => {}
        }
    }
    env.into_iter().flatten().collect()
}

/// The user's entries, then those of the image that the user does not mention.
fn env(user: &[String], image: &ImageConfig) -> Vec<String> {
    let mentioned: BTreeSet<&str> = user.iter().map(|e| key(e)).collect();
    let proposed = image.environment().filter(|e| !mentioned.contains(key(e))).map(str::to_owned);
    user.iter().cloned().chain(proposed).collect()
}

fn key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

/// Entrypoint and arguments. A user's entrypoint drops the image's arguments; `[""]` means "no entrypoint at all".
fn command(user: &ProcessConfig, image: &ImageConfig) -> Result<(Vec<String>, Vec<String>)> {
    let own_entrypoint = user.entrypoint.as_ref().is_some_and(|e| !e.is_empty());
    let own_cmd = user.cmd.as_ref().is_some_and(|c| !c.is_empty());
    let mut cmd = user.cmd.clone().unwrap_or_default();
    if !own_entrypoint && !own_cmd {
        cmd = image.cmd.clone().unwrap_or_default();
    }
    let mut entrypoint = match &user.entrypoint {
        Some(entrypoint) => entrypoint.clone(),
        None => image.entrypoint.clone().unwrap_or_default(),
    };
    if entrypoint == [""] {
        entrypoint.clear();
    }
    if entrypoint.is_empty() && cmd.is_empty() {
        return Err(Error::invalid(
            "no command specified: the image has none; give one after the image's name",
        ));
    }
    if entrypoint.iter().chain(&cmd).any(|arg| arg.contains('\0')) {
        return Err(Error::invalid("invalid command: an argument has a NUL byte"));
    }
    Ok((entrypoint, cmd))
}

fn working_dir(user: &str, image: &str) -> Result<String> {
    if !user.is_empty() && !user.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{user}' is invalid, it needs to be an absolute path"
        )));
    }
    let dir = if user.is_empty() { image } else { user };
    if dir.contains('\0') {
        return Err(Error::invalid("invalid working directory: it has a NUL byte"));
    }
    Ok(if dir.is_empty() { String::new() } else { clean(dir) })
}

/// A volume's path is cleaned as text; what its symlinks do is decided by the runtime, inside the container's root.
fn clean_volume(path: &str) -> Result<String> {
    let cleaned = clean(path);
    if cleaned == "/" || path.contains('\0') {
        return Err(Error::invalid(format!("invalid volume {path:?}: destination can't be '/'")));
    }
    Ok(cleaned)
}

/// What an image asks for that is not done, to be told to whoever creates a container of it and wants it.
pub(crate) fn unheeded(config: &ContainerConfig, image: &ImageConfig) -> Option<String> {
    if config.no_healthcheck {
        return None;
    }
    let test = image.healthcheck.as_ref()?.get("Test")?.as_array()?;
    let checks = test.first().is_some_and(|word| word != "NONE");
    let text = "the image's HEALTHCHECK is not run: there are no health checks yet (--no-healthcheck avoids this warning)";
    checks.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tare_model::Signal;
    use tare_model::container::{HostOrPrivate, NetworkMode};

    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    fn some(list: &[&str]) -> Option<Vec<String>> {
        Some(strings(list))
    }

    fn merged(user: ProcessConfig, image: ImageConfig) -> Result<MergedProcess> {
        merge(&ContainerConfig { process: user, ..Default::default() }, &image)
    }

    #[test]
    fn a_health_check_of_the_image_is_not_passed_over_in_silence() {
        let image = |test: serde_json::Value| {
            let healthcheck = Some(serde_json::json!({ "Test": test }));
            ImageConfig { healthcheck, ..ImageConfig::default() }
        };
        let config = ContainerConfig::default();
        let check = image(serde_json::json!(["CMD", "true"]));
        assert!(unheeded(&config, &check).is_some_and(|said| said.contains("HEALTHCHECK")));
        let unwanted = ContainerConfig { no_healthcheck: true, ..ContainerConfig::default() };
        assert_eq!(unheeded(&unwanted, &check), None);
        for none in [serde_json::json!(["NONE"]), serde_json::json!([]), serde_json::json!(7)] {
            assert_eq!(unheeded(&config, &image(none)), None);
        }
        assert_eq!(unheeded(&config, &ImageConfig::default()), None);
    }

    #[test]
    fn entrypoint_and_command_merge_as_docker_does() {
        let image = || ImageConfig { entrypoint: some(&["e"]), cmd: some(&["c"]), ..Default::default() };
        for (entrypoint, cmd, want) in [
            (None, None, Some("e c")),
            (None, some(&["x"]), Some("e x")),
            (some(&["n"]), None, Some("n")),
            (some(&["n"]), some(&["x"]), Some("n x")),
            (some(&[]), None, Some("c")),
            (some(&[""]), some(&["x"]), Some("x")),
            (some(&[""]), None, None),
            (None, some(&[]), Some("e c")),
        ] {
            let user =
                ProcessConfig { entrypoint: entrypoint.clone(), cmd: cmd.clone(), ..Default::default() };
            let got = merged(user, image()).map(|p| p.args().join(" ")).ok();
            assert_eq!(got.as_deref(), want, "entrypoint {entrypoint:?} cmd {cmd:?}");
        }
    }

    #[test]
    fn nothing_to_execute_is_refused() {
        let e = merged(ProcessConfig::default(), ImageConfig::default()).expect_err("nothing to run");
        assert!(e.message().starts_with("no command specified"), "{e}");
    }

    fn with_command() -> ProcessConfig {
        ProcessConfig { cmd: some(&["true"]), ..Default::default() }
    }

    #[test]
    fn the_users_environment_goes_over_the_images() {
        let user = ProcessConfig { env: strings(&["A=user", "C"]), ..with_command() };
        let image = ImageConfig { env: strings(&["A=image", "B=image", "C=image"]), ..Default::default() };
        let process = merged(user, image).expect("merges");
        assert_eq!(process.env, ["A=user", "C", "B=image"]);
        let env = environment(&process, "box", true);
        assert_eq!(env, [defaults::PATH, "HOSTNAME=box", "TERM=xterm", "A=user", "B=image"]);
    }

    #[test]
    fn an_image_cannot_ask_for_variables_of_the_engine() {
        let image = ImageConfig { env: strings(&["AWS*", "HOME", "", "=x", "X=a\0b"]), ..Default::default() };
        let process = merged(with_command(), image).expect("merges");
        assert_eq!(environment(&process, "h", false), [defaults::PATH, "HOSTNAME=h"]);
    }

    #[test]
    fn path_and_hostname_can_be_replaced_and_removed() {
        let user = ProcessConfig { env: strings(&["PATH=/x", "HOSTNAME"]), ..with_command() };
        let process = merged(user, ImageConfig::default()).expect("merges");
        assert_eq!(environment(&process, "h", false), ["PATH=/x"]);
    }

    #[test]
    fn impossible_environment_entries_are_refused_by_name() {
        for bad in ["", "=x", "A=b\0c"] {
            let user = ProcessConfig { env: strings(&[bad]), ..with_command() };
            assert!(merged(user, ImageConfig::default()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_exec_inherits_the_containers_environment() {
        let env = exec_environment(strings(&["A=1", "B=2"]), &strings(&["B=3", "C=4"]), true);
        assert_eq!(env, ["A=1", "B=3", "TERM=xterm", "C=4"]);
    }

    #[test]
    fn user_and_working_directory_come_from_the_image_unless_given() {
        let image =
            ImageConfig { user: "www".into(), working_dir: "/srv/../data".into(), ..Default::default() };
        let process = merged(with_command(), image.clone()).expect("merges");
        assert_eq!((process.user.as_str(), process.working_dir.as_str()), ("www", "/data"));
        let user = ProcessConfig { user: "root".into(), working_dir: "/w".into(), ..with_command() };
        let process = merged(user, image).expect("merges");
        assert_eq!((process.user.as_str(), process.working_dir.as_str()), ("root", "/w"));
    }

    #[test]
    fn a_relative_working_directory_is_refused_from_users_and_rooted_from_images() {
        let user = ProcessConfig { working_dir: "rel".into(), ..with_command() };
        assert!(merged(user, ImageConfig::default()).is_err());
        let image = ImageConfig { working_dir: "rel/../../x".into(), ..Default::default() };
        assert_eq!(merged(with_command(), image).expect("merges").working_dir, "/x");
    }

    #[test]
    fn a_volume_of_an_image_never_climbs() {
        let image = ImageConfig { volumes: ["/../../../etc".to_owned()].into(), ..Default::default() };
        assert_eq!(merged(with_command(), image).expect("merges").volumes, ["/etc"]);
        let image = ImageConfig { volumes: ["/..".to_owned()].into(), ..Default::default() };
        assert!(merged(with_command(), image).is_err());
    }

    #[test]
    fn an_image_cannot_ask_for_volumes_without_end() {
        let with =
            |n| ImageConfig { volumes: (0..n).map(|n| format!("/v{n}")).collect(), ..Default::default() };
        assert_eq!(merged(with_command(), with(VOLUMES_MAX)).expect("merges").volumes.len(), VOLUMES_MAX);
        let e = merged(with_command(), with(VOLUMES_MAX + 1)).expect_err("too many");
        assert!(e.message().contains("129 volumes"), "{e}");
    }

    #[test]
    fn a_huge_environment_is_merged_by_name() {
        let image =
            ImageConfig { env: (0..200_000).map(|n| format!("V{n}=1")).collect(), ..Default::default() };
        let process = merged(with_command(), image).expect("merges");
        assert_eq!(environment(&process, "h", false).len(), 200_002);
    }

    #[test]
    fn a_user_with_a_line_break_is_refused() {
        let image = ImageConfig { user: "a\nroot2::0:0::/:/bin/sh".into(), ..Default::default() };
        assert!(merged(with_command(), image).is_err());
    }

    #[test]
    fn an_unknown_stop_signal_of_an_image_is_ignored() {
        let image = ImageConfig { stop_signal: Some("SIGNONSENSE".into()), ..Default::default() };
        assert_eq!(merged(with_command(), image).expect("merges").stop_signal, None);
        let image = ImageConfig { stop_signal: Some("SIGINT".into()), ..Default::default() };
        assert_eq!(merged(with_command(), image).expect("merges").stop_signal, Some(Signal::INT));
    }

    #[test]
    fn host_names_default_to_the_short_id_and_follow_the_network() {
        let id = ContainerId::from_bytes([0xab; 32]);
        let host = HostFacts::default();
        let mut config = ContainerConfig::default();
        assert_eq!(hostname(&config, &id, &host), Ok("abababababab".into()));
        config.namespaces.network = NetworkMode::Host;
        assert_eq!(hostname(&config, &id, &host), Ok("machine".into()));
        config.hostname = "web".into();
        assert_eq!(hostname(&config, &id, &host), Ok("web".into()));
        config.namespaces.uts = HostOrPrivate::Host;
        assert!(hostname(&config, &id, &host).is_err());
    }

    #[test]
    fn a_host_name_cannot_carry_a_second_line_into_a_file() {
        let id = ContainerId::from_bytes([1; 32]);
        for bad in ["a\nb", "a b", "a/b", &"x".repeat(64)] {
            let config = ContainerConfig { hostname: bad.into(), ..Default::default() };
            assert!(hostname(&config, &id, &HostFacts::default()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_variable_comes_twice(user in proptest::collection::vec("[A-C](=[a-z]?)?", 0..6),
                                   image in proptest::collection::vec("[A-C](=[a-z]?)?", 0..6)) {
            let user = ProcessConfig { env: user, ..with_command() };
            let process = merged(user, ImageConfig { env: image, ..Default::default() }).unwrap();
            let env = environment(&process, "h", false);
            let keys: BTreeSet<_> = env.iter().map(|e| key(e)).collect();
            prop_assert_eq!(keys.len(), env.len());
            prop_assert!(env.iter().all(|e| e.contains('=')));
        }
    }
}
