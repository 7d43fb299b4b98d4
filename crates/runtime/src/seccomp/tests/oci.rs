//! OCI documents: what each of their words comes to.

use oci_spec::runtime::LinuxSeccomp;
use tare_sys::seccomp::Flags;

use super::super::arch::Arch;
use super::super::interpreter::{Call, run};
use super::super::{Error, compile_for};
use super::{ALLOW, ENOSYS, EPERM, HIGH, KILL_PROCESS, on, x86_64};

fn oci(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn answer(json: &str, call: Call) -> u32 {
    run(compile_for(&oci(json), Arch::X86_64).unwrap().instructions(), call)
}

#[test]
fn error_numbers_come_from_the_rule_the_default_or_eperm() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":13,"syscalls":[
        {"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":5},
        {"names":["write"],"action":"SCMP_ACT_ERRNO"},
        {"names":["open"],"action":"SCMP_ACT_TRACE","errnoRet":77},
        {"names":["statx"],"action":"SCMP_ACT_ALLOW"}]}"#;
    assert_eq!(answer(profile, x86_64("read", 0)), 0x0005_0005);
    assert_eq!(answer(profile, x86_64("write", 0)), EPERM);
    assert_eq!(answer(profile, x86_64("open", 0)), 0x7ff0_004d);
    assert_eq!(answer(profile, x86_64("getpid", 0)), 0x0005_000d);
}

#[test]
fn every_action_of_the_specification_becomes_the_kernels() {
    for (name, code) in [
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS),
        ("SCMP_ACT_TRAP", 0x0003_0000),
        ("SCMP_ACT_ERRNO", EPERM),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
        ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
    ] {
        let profile = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x","syscalls":[{{"names":["read"],"action":"{name}"}}]}}"#
        );
        assert_eq!(answer(&profile, x86_64("read", 0)), code, "{name}");
        assert_eq!(answer(&profile, x86_64("write", 0)), ALLOW);
    }
}

#[test]
fn operators_compare_all_64_bits() {
    let profile = |op: &str, value: u64| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["lseek"],"action":"SCMP_ACT_ALLOW",
            "args":[{{"index":1,"value":{value},"op":"{op}"}}]}}]}}"#
        )
    };
    let limit = 5 * HIGH + 7;
    for (op, below, equal, above) in [
        ("SCMP_CMP_NE", true, false, true),
        ("SCMP_CMP_LT", true, false, false),
        ("SCMP_CMP_LE", true, true, false),
        ("SCMP_CMP_EQ", false, true, false),
        ("SCMP_CMP_GE", false, true, true),
        ("SCMP_CMP_GT", false, false, true),
    ] {
        for (given, wanted) in [
            (limit - HIGH, below),
            (limit - 1, below),
            (limit - HIGH + 100, below),
            (limit, equal),
            (limit + 1, above),
            (limit + HIGH - 7, above),
        ] {
            let got = answer(&profile(op, limit), on(Arch::X86_64, "lseek", [0, given, 0, 0, 0, 0]));
            assert_eq!(got == ALLOW, wanted, "{given:#x} {op} {limit:#x}");
        }
    }
}

#[test]
fn masked_comparison_takes_the_mask_first() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["mprotect"],"action":"SCMP_ACT_ALLOW",
        "args":[{"index":2,"value":4,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
    assert_eq!(answer(profile, on(Arch::X86_64, "mprotect", [0, 0, 3, 0, 0, 0])), ALLOW);
    assert_eq!(answer(profile, on(Arch::X86_64, "mprotect", [0, 0, 7, 0, 0, 0])), EPERM);
}

#[test]
fn a_profile_that_forbids_a_family_is_not_fooled_by_high_bits() {
    for (op, values) in [("SCMP_CMP_NE", vec![40]), ("SCMP_CMP_GT", vec![40])] {
        let rules: Vec<String> = values
            .iter()
            .map(|value: &u64| {
                format!(
                    r#"{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":{value},"op":"{op}"}}]}}"#
                )
            })
            .collect();
        let profile = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, rules.join(","));
        assert_eq!(answer(&profile, x86_64("socket", 40)), EPERM, "{op}");
        assert_eq!(answer(&profile, x86_64("socket", 40 | HIGH)), EPERM, "{op} with high bits");
    }
}

#[test]
fn several_conditions_on_one_argument_are_alternatives() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["lseek"],"action":"SCMP_ACT_ALLOW",
        "args":[{"index":0,"value":3,"op":"SCMP_CMP_EQ"},{"index":0,"value":5,"op":"SCMP_CMP_EQ"}]}]}"#;
    assert_eq!(answer(profile, x86_64("lseek", 3)), ALLOW);
    assert_eq!(answer(profile, x86_64("lseek", 5)), ALLOW);
    assert_eq!(answer(profile, x86_64("lseek", 4)), EPERM);
}

#[test]
fn conditions_on_different_arguments_must_all_hold() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["lseek"],"action":"SCMP_ACT_ALLOW",
        "args":[{"index":0,"value":3,"op":"SCMP_CMP_EQ"},{"index":2,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
    assert_eq!(answer(profile, on(Arch::X86_64, "lseek", [3, 0, 1, 0, 0, 0])), ALLOW);
    assert_eq!(answer(profile, on(Arch::X86_64, "lseek", [3, 0, 2, 0, 0, 0])), EPERM);
}

#[test]
fn unknown_names_are_noted_and_the_rest_is_compiled() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86","SCMP_ARCH_MIPS"],
        "syscalls":[{"names":["read","frobnicate"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let program = compile_for(&oci(json), Arch::X86_64).unwrap();
    assert_eq!(program.notes().len(), 2, "{:?}", program.notes());
    assert!(program.notes().iter().any(|note| note.contains("\"frobnicate\"")));
    assert_eq!(run(program.instructions(), x86_64("read", 0)), ALLOW);
    assert_eq!(run(program.instructions(), on(Arch::I386, "read", [0; 6])), ALLOW);
}

#[test]
fn calls_of_an_architecture_that_is_not_listed_kill() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
    assert_eq!(answer(json, on(Arch::I386, "getpid", [0; 6])), KILL_PROCESS);
    assert_eq!(answer(json, on(Arch::X32, "getpid", [0; 6])), KILL_PROCESS);
    assert_eq!(answer(json, x86_64("getpid", 0)), ALLOW);
}

#[test]
fn newer_calls_are_not_there_only_if_the_default_forbids() {
    let newer = Call { nr: 300, arch: Arch::X86_64.token(), args: [0; 6] };
    let forbids =
        r#"{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["execve"],"action":"SCMP_ACT_ALLOW"}]}"#;
    assert_eq!(answer(forbids, newer), ENOSYS);
    assert_eq!(answer(forbids, x86_64("write", 0)), 0);
    let allows =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["execve"],"action":"SCMP_ACT_ERRNO"}]}"#;
    assert_eq!(answer(allows, newer), ALLOW);
}

#[test]
fn contradictions_are_refused_by_name() {
    let refused = |json: &str| compile_for(&oci(json), Arch::X86_64).unwrap_err();
    let error = refused(r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#);
    assert!(matches!(error, Error::NumberNotTaken { .. }), "{error}");
    let error = refused(r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#);
    assert!(matches!(error, Error::NumberTooLarge { number: 5000, .. }), "{error}");
    assert_eq!(refused(r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/x"}"#), Error::NotifyByDefault);
    let error = refused(r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}"#);
    assert_eq!(error, Error::MetadataForNobody);
    let rule = |rule: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
    assert_eq!(refused(&rule(r#"{"names":["read"],"action":"SCMP_ACT_NOTIFY"}"#)), Error::NoListener);
    assert_eq!(refused(&rule(r#"{"names":[],"action":"SCMP_ACT_LOG"}"#)), Error::NoNames);
    let error = refused(&rule(
        r#"{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#,
    ));
    assert_eq!(error, Error::NoSuchArgument { call: "read".to_owned(), index: 6 });
}

#[test]
fn a_program_longer_than_the_kernel_takes_is_refused() {
    let rules: Vec<String> = (0..1500)
        .map(|value| {
            format!(
                r#"{{"names":["lseek"],"action":"SCMP_ACT_ALLOW","args":[{{"index":1,"value":{value},"op":"SCMP_CMP_EQ"}}]}}"#
            )
        })
        .collect();
    let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, rules.join(","));
    let error = compile_for(&oci(&json), Arch::X86_64).unwrap_err();
    assert!(matches!(error, Error::TooLong { instructions } if instructions > 4096), "{error}");
}

/// A profile of these rules.
fn rules(default: &str, rules: &[&str]) -> LinuxSeccomp {
    oci(&format!(r#"{{"defaultAction":"SCMP_ACT_{default}","syscalls":[{}]}}"#, rules.join(",")))
}

#[test]
fn rules_of_which_one_could_never_apply_are_refused_by_name() {
    let everything = r#"{"names":["socket","read"],"action":"SCMP_ACT_ALLOW"}"#;
    let everything_else = r#"{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":22}"#;
    let one =
        r#"{"names":["socket"],"action":"SCMP_ACT_KILL","args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}"#;
    let same =
        r#"{"names":["socket"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}"#;
    for pair in [[everything, everything_else], [everything, one], [one, everything], [one, same]] {
        let error = compile_for(&rules("ERRNO", &pair), Arch::X86_64).unwrap_err();
        assert!(matches!(&error, Error::Conflict { call, .. } if call == "socket"), "{error}");
    }
}

#[test]
fn rules_that_say_the_same_twice_or_repeat_the_default_are_no_contradiction() {
    let family = |value: u64| {
        format!(
            r#"{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":{value},"op":"SCMP_CMP_EQ"}}]}}"#
        )
    };
    let refuse = r#"{"names":["socket"],"action":"SCMP_ACT_ERRNO"}"#;
    let spec = rules("ERRNO", &[refuse, &family(1), &family(1), &family(2)]);
    let program = compile_for(&spec, Arch::X86_64).unwrap();
    for (family, wanted) in [(1, ALLOW), (2, ALLOW), (3, EPERM)] {
        assert_eq!(run(program.instructions(), x86_64("socket", family)), wanted, "{family}");
    }
    let allow = r#"{"names":["socket"],"action":"SCMP_ACT_ALLOW"}"#;
    let program = compile_for(&rules("ERRNO", &[&family(1), allow]), Arch::X86_64).unwrap();
    assert_eq!(run(program.instructions(), x86_64("socket", 3)), ALLOW);
}

#[test]
fn a_negative_number_is_the_int_that_the_kernel_sees() {
    let minus_one = u64::MAX;
    let spec = rules(
        "ALLOW",
        &[&format!(
            r#"{{"names":["kill"],"action":"SCMP_ACT_ERRNO","args":[{{"index":0,"value":{minus_one},"op":"SCMP_CMP_EQ"}}]}}"#
        )],
    );
    let program = compile_for(&spec, Arch::X86_64).unwrap();
    for given in [minus_one, 0xffff_ffff] {
        assert_eq!(run(program.instructions(), x86_64("kill", given)), EPERM, "{given:#x}");
    }
    assert_eq!(run(program.instructions(), x86_64("kill", 1)), ALLOW);
}

#[test]
fn wait_killable_without_a_listener_is_left_out_because_the_kernel_refuses_it() {
    let program = |listener: &str| {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]{listener}}}"#
        );
        compile_for(&oci(&json), Arch::X86_64).unwrap()
    };
    assert!(!program("").flags.contains(Flags::WAIT_KILLABLE_RECV));
    assert_eq!(program("").notes().len(), 1);
    let listener = r#","listenerPath":"/x","syscalls":[{"names":["acct"],"action":"SCMP_ACT_NOTIFY"}]"#;
    assert!(program(listener).flags.contains(Flags::WAIT_KILLABLE_RECV));
}

#[test]
fn both_names_of_a_call_mean_one_call() {
    let spec = rules(
        "ERRNO",
        &[r#"{"names":["arm_sync_file_range","sync_file_range2"],"action":"SCMP_ACT_ALLOW"}"#],
    );
    let mut spec = spec;
    spec.set_architectures(Some(vec![oci_spec::runtime::Arch::ScmpArchArm]));
    let program = compile_for(&spec, Arch::Aarch64).unwrap();
    assert!(program.notes().is_empty(), "{:?}", program.notes());
    assert_eq!(run(program.instructions(), on(Arch::Arm, "sync_file_range2", [0; 6])), ALLOW);
    assert_eq!(run(program.instructions(), on(Arch::Aarch64, "read", [0; 6])), EPERM);
}
