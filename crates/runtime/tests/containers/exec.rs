//! Further processes in a running container: confined as the first, and with nothing of the runtime's.

use tare_model::sandbox::{ExecSpec, Identity};
use tare_model::{ErrorKind, Exit};

use crate::setup::{Setup, exec, read_line, terminal};

crate::tests![
    a_further_process_sees_what_the_first_sees,
    its_exit_code_and_output_arrive,
    it_is_in_the_containers_cgroups,
    it_is_confined_as_the_container_is,
    a_privileged_one_has_everything_and_no_filter,
    it_has_its_three_streams_and_no_other_descriptor,
    a_directory_behind_a_descriptor_is_refused,
    a_missing_program_is_told,
    user_and_directory_are_its_own,
    it_gets_a_terminal_of_the_container,
    it_cannot_start_in_a_dead_container,
    a_thousand_leave_nothing,
];

fn running(args: &[&str]) -> (Setup, crate::setup::Started) {
    let mut setup = Setup::new(args);
    let started = setup.start().unwrap();
    assert_eq!(started.line(), "waiting");
    (setup, started)
}

fn a_further_process_sees_what_the_first_sees() {
    let (_setup, mut started) = running(&["sleep"]);
    assert_eq!(started.exec_probe(&["host"]).out, "box");
    assert_eq!(started.exec_probe(&["ls", "/"]).out, "dev etc probe proc sys tmp");
    let pids = started.exec_probe(&["ls", "/proc"]).out;
    assert!(
        pids.starts_with("1 ") && pids.split(' ').filter(|name| name.parse::<u32>().is_ok()).count() == 2,
        "{pids}"
    );
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        let (stdio, _stdout) = crate::setup::pipes();
        let further = started.running.exec(&exec(&["sleep"]), stdio).unwrap();
        assert_eq!(of(further.pid), of(started.launched.pid), "{kind}");
        tare_sys::signal::kill(further.pid, 9).unwrap();
        crate::setup::wait(&further);
    }
    started.kill();
}

fn its_exit_code_and_output_arrive() {
    let (_setup, mut started) = running(&["sleep"]);
    let said = started.exec_probe(&["then", "echo", "hi", ",", "exit", "3"]);
    assert_eq!((said.exit, said.out.as_str()), (Exit::Code(3), "hi"));
    started.kill();
}

fn it_is_in_the_containers_cgroups() {
    let (_setup, mut started) = running(&["sleep"]);
    let (stdio, _stdout) = crate::setup::pipes();
    let further = started.running.exec(&exec(&["sleep"]), stdio).unwrap();
    let groups = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(groups(further.pid), groups(started.launched.pid));
    assert_eq!(started.running.processes().unwrap().len(), 2);
    // The first process does not end before every other one of its namespace was waited for, by us.
    started.running.signal(tare_model::Signal::KILL).unwrap();
    crate::setup::wait(&further);
    started.kill();
}

fn it_is_confined_as_the_container_is() {
    let (_setup, mut started) = running(&["sleep"]);
    let mut same = Setup::new(&["id"]);
    assert_eq!(started.exec_probe(&["id"]).out, same.output());
    started.kill();
}

fn a_privileged_one_has_everything_and_no_filter() {
    let (_setup, mut started) = running(&["sleep"]);
    let privileged = ExecSpec { privileged: true, ..exec(&["id"]) };
    let out = started.exec(&privileged).unwrap().out;
    // In a user namespace of its own there is nothing that somebody could have taken from it.
    let own = crate::setup::MAPPED.load(std::sync::atomic::Ordering::Relaxed);
    let ours = if own { u64::MAX >> 23 } else { tare_sys::capability::get().unwrap().permitted };
    assert!(out.contains(&format!("CapEff: {ours:016x}")), "{out}");
    let filter = crate::setup::own_filter();
    assert!(out.contains("CapInh: 0000000000000000") && out.contains(&filter), "{out}");
    started.kill();
}

fn it_has_its_three_streams_and_no_other_descriptor() {
    // A descriptor of the caller's that is not close-on-exec must not arrive either.
    let leak = std::fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let mut setup = Setup::new(&["then", "fds", ",", "sleep"]);
    let mut started = setup.start().unwrap();
    assert_eq!(started.line(), "0 1 2");
    assert_eq!(started.line(), "waiting");
    assert_eq!(started.exec_probe(&["fds"]).out, "0 1 2");
    started.kill();
}

fn a_directory_behind_a_descriptor_is_refused() {
    let (setup, mut started) = running(&["sleep"]);
    for fd in 0..20 {
        let spec = ExecSpec { cwd: Some(format!("/proc/self/fd/{fd}")), ..exec(&["pwd"]) };
        assert!(started.exec(&spec).is_err(), "{fd}");
    }
    std::os::unix::fs::symlink("/proc/self/fd/3", setup.upper("link")).unwrap();
    let spec = ExecSpec { cwd: Some("/link".into()), ..exec(&["pwd"]) };
    assert!(started.exec(&spec).is_err());
    started.kill();
}

fn a_missing_program_is_told() {
    let (_setup, mut started) = running(&["sleep"]);
    let mut missing = exec(&[]);
    missing.args = vec!["nonsense".into()];
    let error = started.exec(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandNotFound);
    assert_eq!(started.running.processes().unwrap().len(), 1, "no remains");
    started.kill();
}

fn user_and_directory_are_its_own() {
    let (_setup, mut started) = running(&["sleep"]);
    let mut spec = exec(&["then", "pwd", ",", "id"]);
    spec.cwd = Some("/tmp".into());
    spec.identity = Some(Identity { user: "1000:5".into(), groups: vec!["7".into()] });
    let out = started.exec(&spec).unwrap().out;
    assert!(out.starts_with("/tmp\nUid: 1000 1000 1000 1000\nGid: 5 5 5 5\nGroups: 5 7"), "{out}");
    assert!(out.contains("CapEff: 0000000000000000") && out.contains("CapPrm: 0000000000000000"), "{out}");
    started.kill();
}

fn it_gets_a_terminal_of_the_container() {
    let (_setup, mut started) = running(&["sleep"]);
    let launched = started.running.exec(&exec(&["tty"]), terminal()).unwrap();
    let line = read_line(launched.terminal.as_ref().unwrap());
    assert_eq!(line, "/dev/pts/0 33x101 controlling=true");
    crate::setup::wait(&launched);
    started.kill();
}

fn it_cannot_start_in_a_dead_container() {
    let (_setup, mut started) = running(&["sleep"]);
    started.running.signal(tare_model::Signal::KILL).unwrap();
    crate::setup::wait(&started.launched);
    assert!(started.exec(&exec(&["pwd"])).is_err());
    started.running.destroy().unwrap();
}

fn a_thousand_leave_nothing() {
    let (_setup, mut started) = running(&["sleep"]);
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    for round in 0..1000 {
        let (stdio, _stdout) = crate::setup::pipes();
        let launched = started.running.exec(&exec(&["exit", "0"]), stdio).unwrap();
        assert_eq!(crate::setup::wait(&launched), Exit::Code(0), "{round}");
    }
    assert_eq!(std::fs::read_dir("/proc/self/fd").unwrap().count(), before);
    assert_eq!(started.running.processes().unwrap().len(), 1);
    started.kill();
}
