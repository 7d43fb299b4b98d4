//! Terminals: of the container's own devpts, controlling, of the right size, on /dev/console.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::setup::{Canary, Setup, read_line, terminal, wait};

crate::tests![
    a_terminal_is_the_containers_own_and_controlling,
    the_console_is_the_terminal,
    a_terminal_belongs_to_the_programs_user,
    a_console_that_is_a_link_is_not_followed,
    an_image_without_devpts_gets_no_terminal,
];

fn start(setup: &mut Setup) -> Result<(crate::setup::Started, String), tare_model::Error> {
    let started = setup.start_with(terminal(), None)?;
    let line = read_line(started.launched.terminal.as_ref().unwrap());
    Ok((started, line))
}

fn a_terminal_is_the_containers_own_and_controlling() {
    let (mut started, line) = start(&mut Setup::new(&["tty"])).unwrap();
    assert_eq!(line, "/dev/pts/0 33x101 controlling=true");
    wait(&started.launched);
    started.running.destroy().unwrap();
}

fn the_console_is_the_terminal() {
    let (mut started, line) =
        start(&mut Setup::new(&["append", "/dev/console", "to the console\n"])).unwrap();
    assert_eq!(line, "to the console");
    wait(&started.launched);
    started.running.destroy().unwrap();
}

fn a_terminal_belongs_to_the_programs_user() {
    let (mut started, line) = start(Setup::new(&["stat", "/dev/pts/0"]).user("1000")).unwrap();
    assert!(line.starts_with("20620 1000:5 "), "{line}");
    wait(&started.launched);
    started.running.destroy().unwrap();
}

fn a_console_that_is_a_link_is_not_followed() {
    let canary = Canary::new();
    let mut setup = Setup::new(&["tty"]);
    symlink(canary.path().join("new"), setup.lower("dev/console")).unwrap();
    // With a /dev of its own the image's link is hidden.
    let (mut started, line) = start(&mut setup).unwrap();
    assert!(line.starts_with("/dev/pts/0"), "{line}");
    wait(&started.launched);
    started.running.destroy().unwrap();
    // Without, it is refused.
    let mounts = setup.oci["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != json!("/dev"));
    assert!(start(&mut setup).map(drop).is_err());
    canary.is_untouched();
}

fn an_image_without_devpts_gets_no_terminal() {
    let mut setup = Setup::new(&["tty"]);
    let mounts = setup.oci["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != json!("/dev/pts"));
    let error = start(&mut setup).map(drop).unwrap_err();
    assert!(error.message().contains("/dev/pts"), "{error}");
    crate::setup::nothing_left(setup.oci["linux"]["cgroupsPath"].as_str().unwrap());
}
