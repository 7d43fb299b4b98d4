//! The filter against the kernel itself: the test program runs itself again, loads the filter and makes the calls.

use std::process::{Command, Stdio};

use oci_spec::runtime::LinuxSeccomp;
use rustix::io::Errno;
use tare_model::capability::CapSet;
use tare_sys::probe;

use super::builtin::{Builtin, ThirtyTwoBit, builtin_program};
use super::compile;

const STORY: &str = "TARE_SECCOMP_STORY";

/// Runs the named story in a process of its own; it passes if the process ends well.
fn in_a_process(story: &str) {
    let output = Command::new("/proc/self/exe")
        .args(["--exact", "seccomp::kernel_tests::a_story_told_in_a_process_of_its_own", "--nocapture"])
        .env(STORY, story)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{story}: {} {said}", output.status);
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{story}: the story did not run");
}

/// Not a test by itself: without the variable it has nothing to tell.
#[test]
fn a_story_told_in_a_process_of_its_own() {
    let Ok(story) = std::env::var(STORY) else { return };
    match story.as_str() {
        "families" => families(),
        "wide" => wide(),
        "entries" => entries(),
        "namespaces" => namespaces(),
        "profile" => profile(),
        "listener" => listener(),
        other => panic!("no story {other}"),
    }
}

fn default_filter() {
    assert!(
        builtin_program(Builtin::Default, CapSet::CONTAINER_DEFAULT, ThirtyTwoBit::Refused)
            .load()
            .unwrap()
            .is_none()
    );
}

fn families() {
    const VSOCK: u64 = 40;
    assert_eq!(probe::socket_wide(VSOCK), Ok(()), "the canary needs a kernel with AF_VSOCK");
    default_filter();
    for family in [1, 2, 10] {
        assert_eq!(probe::socket_wide(family), Ok(()), "family {family}");
    }
    // These pass the filter; that they have no stream sockets is the kernel's own answer.
    assert_ne!(probe::socket_wide(16), Err(Errno::PERM));
    assert_ne!(probe::socket_wide(17), Err(Errno::PERM));
    assert_eq!(probe::socket_wide(VSOCK), Err(Errno::PERM));
    assert_eq!(probe::socketpair(VSOCK as i32), Err(Errno::PERM));
    assert_eq!(probe::socketpair(1), Ok(()));
}

fn wide() {
    const HIGH: u64 = 1 << 32;
    assert_eq!(probe::socket_wide(40 | HIGH), Ok(()), "the kernel ignores the upper half");
    default_filter();
    assert_eq!(probe::socket_wide(40 | HIGH), Err(Errno::PERM));
    assert_eq!(probe::socket_wide(2 | HIGH), Ok(()), "what the kernel takes for AF_INET is AF_INET");
    assert_eq!(probe::personality_wide(0xffff_ffff), Ok(0));
    assert_eq!(probe::personality_wide(0x0004_0000 | HIGH), Err(Errno::PERM));
}

#[cfg(target_arch = "x86_64")]
fn entries() {
    const GETPID_I386: u32 = 20;
    const SOCKETCALL: u32 = 102;
    let own = i64::from(std::process::id());
    // A pid namespace aside, the 32-bit entry works before the filter.
    assert_eq!(probe::int80(GETPID_I386, [0; 3]), Ok(own), "this test needs IA32 emulation");
    default_filter();
    assert_eq!(probe::int80(GETPID_I386, [0; 3]), Err(Errno::PERM));
    assert_eq!(probe::int80(SOCKETCALL, [1, 0, 0]), Err(Errno::PERM));
    assert_eq!(probe::nothing(0x4000_0000 | 39), Err(Errno::PERM), "getpid of x32");
    assert_eq!(probe::nothing(39), Ok(own));
    assert_eq!(probe::nothing(999), Err(Errno::NOSYS), "a call from the future");
}

#[cfg(not(target_arch = "x86_64"))]
fn entries() {}

fn namespaces() {
    const NEWUSER: u64 = 0x1000_0000;
    default_filter();
    assert_eq!(probe::unshare_wide(NEWUSER), Err(Errno::PERM));
    assert_eq!(probe::clone_with(NEWUSER), Err(Errno::PERM));
    assert_eq!(probe::clone_with(NEWUSER | 1 << 32), Err(Errno::PERM));
    assert_eq!(probe::clone_with(0), Ok(()));
    assert_eq!(probe::clone3_empty(), Err(Errno::NOSYS));
}

fn profile() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[
        {"names":["getppid"],"action":"SCMP_ACT_ERRNO","errnoRet":12},
        {"names":["personality"],"action":"SCMP_ACT_ERRNO","errnoRet":4,
         "args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}]}"#;
    let spec: LinuxSeccomp = serde_json::from_str(json).unwrap();
    assert!(compile(&spec).unwrap().load().unwrap().is_none());
    assert_eq!(probe::nothing(rustix_number("getppid")), Err(Errno::NOMEM));
    assert_eq!(probe::personality_wide(8), Err(Errno::INTR));
    assert_eq!(probe::personality_wide(0xffff_ffff), Ok(0));
}

fn listener() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/none","syscalls":[
        {"names":["acct"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    let spec: LinuxSeccomp = serde_json::from_str(json).unwrap();
    let program = compile(&spec).unwrap();
    assert!(program.needs_listener());
    drop(program.load().unwrap().unwrap());
    // With the listener gone such a call answers ENOSYS.
    assert_eq!(probe::nothing(rustix_number("acct")), Err(Errno::NOSYS));
}

fn rustix_number(name: &str) -> i64 {
    super::syscalls::number(super::Arch::NATIVE, name).map(i64::from).unwrap()
}

#[test]
fn a_socket_of_a_family_that_is_not_listed_is_eperm() {
    in_a_process("families");
}

#[test]
fn high_bits_in_an_int_argument_do_not_slip_past() {
    in_a_process("wide");
}

#[test]
fn the_32_bit_entry_and_x32_are_no_way_around() {
    in_a_process("entries");
}

#[test]
fn a_default_container_cannot_make_a_user_namespace() {
    in_a_process("namespaces");
}

#[test]
fn an_oci_profile_is_enforced_by_the_kernel() {
    in_a_process("profile");
}

#[test]
fn a_rule_that_notifies_gives_a_listener() {
    in_a_process("listener");
}

/// `cargo test -p tare-runtime -- --ignored --nocapture cost_of_the_default_filter`
#[test]
#[ignore = "a measurement, not a judgement"]
fn cost_of_the_default_filter() {
    use std::time::Instant;
    let start = Instant::now();
    let program = builtin_program(Builtin::Default, CapSet::CONTAINER_DEFAULT, ThirtyTwoBit::Refused);
    println!("compile once    {:?} ({} instructions)", start.elapsed(), program.instructions().len());
    let start = Instant::now();
    builtin_program(Builtin::Default, CapSet::CONTAINER_DEFAULT, ThirtyTwoBit::Refused);
    println!("from memory     {:?}", start.elapsed());
    let names: Vec<&str> = super::syscalls::names().collect();
    let spec = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": names[..300], "action": "SCMP_ACT_ALLOW"}]});
    let spec: LinuxSeccomp = serde_json::from_value(spec).unwrap();
    for time in ["once", "again"] {
        let start = Instant::now();
        super::compiled(&spec).unwrap();
        println!("own profile {time:<5} {:?}", start.elapsed());
    }
    let load = |_| {
        let program = std::sync::Arc::clone(&program);
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            program.load().unwrap();
            start.elapsed()
        });
        thread.join().unwrap()
    };
    let mut times: Vec<_> = (0..200).map(load).collect();
    times.sort_unstable();
    println!("load            median {:?}   p99 {:?}", times[100], times[198]);
}
