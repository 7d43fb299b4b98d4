//! The default filter: what containers may and may not do.

use std::collections::BTreeSet;

use tare_model::capability::{CapSet, Capability};

use super::super::arch::Arch;
use super::super::builtin::{self, Builtin, ThirtyTwoBit, profile};
use super::super::interpreter::{Call, run, steps};
use super::super::profile::Action;
use super::super::{codegen, syscalls};
use super::{ALLOW, ENOSYS, EPERM, HIGH, on, x86_64};

fn default_answer(caps: CapSet, call: Call) -> u32 {
    let profile = profile(Builtin::Default, caps, ThirtyTwoBit::Refused, Arch::X86_64);
    run(&codegen::generate(&profile).unwrap(), call)
}

/// The calls of an architecture that the default filter refuses whatever the arguments.
fn refused(kind: Builtin, caps: CapSet, arch: Arch) -> BTreeSet<&'static str> {
    let named: BTreeSet<&str> = profile(kind, caps, ThirtyTwoBit::Allowed, arch)
        .rules
        .iter()
        .filter(|rule| rule.action == Action::Allow)
        .flat_map(|rule| rule.names.iter().copied())
        .collect();
    syscalls::names().filter(|name| syscalls::number(arch, name).is_some() && !named.contains(name)).collect()
}

#[test]
fn the_default_filter_refuses_the_76_calls_that_docker_refuses() {
    let docker = "acct add_key afs_syscall bpf clock_settime clone3 create_module delete_module fanotify_init \
        file_getattr file_setattr finit_module fsconfig fsmount fsopen fspick get_kernel_syms get_mempolicy getpmsg \
        init_module ioperm iopl io_uring_enter io_uring_register io_uring_setup kcmp kexec_file_load kexec_load keyctl \
        listns lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mbind migrate_pages mount \
        mount_setattr move_mount move_pages nfsservctl open_by_handle_at open_tree open_tree_attr perf_event_open \
        pidfd_getfd pivot_root process_madvise putpmsg query_module quotactl quotactl_fd reboot request_key \
        rseq_slice_yield security setdomainname sethostname set_mempolicy set_mempolicy_home_node setns settimeofday \
        swapoff swapon _sysctl sysfs syslog tuxcall umount2 unshare uprobe uselib userfaultfd ustat vhangup vserver";
    let docker: BTreeSet<&str> = docker.split_whitespace().collect();
    for kind in [Builtin::Default, Builtin::Docker] {
        assert_eq!(refused(kind, CapSet::CONTAINER_DEFAULT, Arch::X86_64), docker);
    }
    assert_eq!(docker.len(), 76);
}

#[test]
fn without_capabilities_one_more_call_is_refused() {
    assert_eq!(refused(Builtin::Default, CapSet::EMPTY, Arch::X86_64).len(), 77);
    assert!(refused(Builtin::Default, CapSet::EMPTY, Arch::X86_64).contains("chroot"));
}

#[test]
fn every_name_in_the_default_tables_is_a_call() {
    for kind in Builtin::ALL {
        for name in profile(kind, CapSet::ALL, ThirtyTwoBit::Allowed, Arch::X86_64).decisions().keys() {
            assert!(syscalls::is_known(name), "{name}");
        }
    }
}

#[test]
fn common_calls_are_allowed_and_dangerous_ones_are_not() {
    for name in ["read", "execve", "mmap", "futex", "statx", "accept4", "ptrace", "chroot"] {
        assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, x86_64(name, 0)), ALLOW, "{name}");
    }
    for name in ["mount", "bpf", "keyctl", "io_uring_setup", "unshare", "setns", "userfaultfd", "kexec_load"]
    {
        assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, x86_64(name, 0)), EPERM, "{name}");
    }
}

#[test]
fn socket_families_are_compared_by_equality_on_the_bits_the_kernel_uses() {
    for call in ["socket", "socketpair"] {
        for family in 0..64u64 {
            let wanted = if [1, 2, 10, 16, 17].contains(&family) { ALLOW } else { EPERM };
            for high in [0, HIGH, 0xffff_ffff << 32] {
                let answer = default_answer(CapSet::ALL, x86_64(call, family | high));
                assert_eq!(answer, wanted, "{call} family {family} with high bits {high:#x}");
            }
        }
    }
}

#[test]
fn clone_may_not_make_namespaces_without_sys_admin() {
    let new_user = 0x1000_0000;
    assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, x86_64("clone", 0x0100_0011)), ALLOW);
    for flag in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, new_user, 0x2000_0000, 0x4000_0000] {
        assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, x86_64("clone", flag)), EPERM, "{flag:#x}");
        assert_eq!(
            default_answer(CapSet::CONTAINER_DEFAULT, x86_64("clone", flag | HIGH)),
            EPERM,
            "{flag:#x}"
        );
    }
    let admin = CapSet::CONTAINER_DEFAULT.with(Capability::SYS_ADMIN);
    assert_eq!(default_answer(admin, x86_64("clone", new_user)), ALLOW);
}

#[test]
fn clone3_is_not_there_without_sys_admin() {
    assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, x86_64("clone3", 0)), ENOSYS);
    let admin = CapSet::CONTAINER_DEFAULT.with(Capability::SYS_ADMIN);
    assert_eq!(default_answer(admin, x86_64("clone3", 0)), ALLOW);
}

#[test]
fn only_harmless_personalities_are_allowed() {
    for persona in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
        assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, x86_64("personality", persona)), ALLOW);
    }
    for persona in [0x0004_0000, 0x0040_0000, 1, HIGH | 0x0004_0000] {
        assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, x86_64("personality", persona)), EPERM);
    }
}

#[test]
fn calls_of_the_32_bit_entry_and_x32_are_refused() {
    assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, on(Arch::I386, "socketcall", [1; 6])), EPERM);
    assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, on(Arch::I386, "getpid", [0; 6])), EPERM);
    assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, on(Arch::X32, "getpid", [0; 6])), EPERM);
    let x32_socket = on(Arch::X32, "socket", [2, 0, 0, 0, 0, 0]);
    assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, x32_socket), EPERM);
}

#[test]
fn images_that_need_32_bit_calls_get_them_but_never_x32() {
    let profile = profile(Builtin::Default, CapSet::CONTAINER_DEFAULT, ThirtyTwoBit::Allowed, Arch::X86_64);
    let program = codegen::generate(&profile).unwrap();
    for name in ["getpid", "socketcall", "mmap2", "waitpid", "fstat64", "clock_gettime64"] {
        assert_eq!(run(&program, on(Arch::I386, name, [0; 6])), ALLOW, "{name}");
    }
    for name in ["mount", "umount", "stime", "vm86", "bdflush"] {
        assert_eq!(run(&program, on(Arch::I386, name, [0; 6])), EPERM, "{name}");
    }
    assert_eq!(run(&program, on(Arch::I386, "socket", [40, 0, 0, 0, 0, 0])), EPERM);
    assert_eq!(run(&program, on(Arch::X32, "getpid", [0; 6])), EPERM);
}

#[test]
fn a_call_newer_than_the_list_is_not_there() {
    let newer = Call { nr: 900, arch: Arch::X86_64.token(), args: [0; 6] };
    assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, newer), ENOSYS);
    let none = Call { nr: u32::MAX, ..newer };
    assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, none), EPERM);
}

#[test]
fn each_capability_brings_its_calls() {
    for (cap, name) in [
        (Capability::DAC_READ_SEARCH, "open_by_handle_at"),
        (Capability::SYS_ADMIN, "mount"),
        (Capability::SYS_BOOT, "reboot"),
        (Capability::SYS_MODULE, "init_module"),
        (Capability::SYS_PTRACE, "kcmp"),
        (Capability::SYS_TIME, "clock_settime"),
        (Capability::SYS_NICE, "mbind"),
        (Capability::SYSLOG, "syslog"),
        (Capability::BPF, "bpf"),
        (Capability::PERFMON, "perf_event_open"),
    ] {
        assert_eq!(default_answer(CapSet::CONTAINER_DEFAULT, x86_64(name, 0)), EPERM, "{name} without");
        assert_eq!(
            default_answer(CapSet::CONTAINER_DEFAULT.with(cap), x86_64(name, 0)),
            ALLOW,
            "{name} with"
        );
    }
}

#[test]
fn the_default_filter_is_short_and_decides_common_calls_in_a_few_steps() {
    let profile = profile(Builtin::Default, CapSet::CONTAINER_DEFAULT, ThirtyTwoBit::Refused, Arch::X86_64);
    let program = codegen::generate(&profile).unwrap();
    assert!(program.len() < 250, "{} instructions", program.len());
    for name in ["read", "write", "futex", "epoll_wait", "sendto", "clock_gettime"] {
        let (_, count) = steps(&program, x86_64(name, 0));
        assert!(count <= 12, "{name} takes {count} instructions");
    }
}

#[test]
fn the_default_filter_compiles_for_every_machine_and_set() {
    for native in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
        for caps in [CapSet::EMPTY, CapSet::CONTAINER_STRICT, CapSet::CONTAINER_DEFAULT, CapSet::ALL] {
            for thirty_two in [ThirtyTwoBit::Refused, ThirtyTwoBit::Allowed] {
                for kind in Builtin::ALL {
                    let profile = profile(kind, caps, thirty_two, native);
                    assert_eq!(profile.conflict(), None, "{kind:?} {native:?} {caps:?}");
                    let program = codegen::generate(&profile).unwrap();
                    assert_eq!(run(&program, on(native, "read", [0; 6])), ALLOW, "{native:?} {caps:?}");
                }
            }
        }
    }
}

const NO_SUCH_PROTOCOL: u32 = 0x0005_005d;

fn answer(kind: Builtin, call: Call) -> u32 {
    let caps = if kind == Builtin::Strict { CapSet::CONTAINER_STRICT } else { CapSet::CONTAINER_DEFAULT };
    let profile = profile(kind, caps, ThirtyTwoBit::Refused, Arch::X86_64);
    run(&codegen::generate(&profile).unwrap(), call)
}

#[test]
fn dockers_filter_forbids_two_families_and_runs_32_bit_programs_and_x32() {
    for family in 0..64 {
        let wanted = if [38, 40].contains(&family) { EPERM } else { ALLOW };
        for high in [0, HIGH] {
            assert_eq!(
                answer(Builtin::Docker, x86_64("socket", family | high)),
                wanted,
                "{family} {high:#x}"
            );
        }
        assert_eq!(answer(Builtin::Docker, x86_64("socketpair", family)), ALLOW);
    }
    for arch in [Arch::I386, Arch::X32] {
        assert_eq!(answer(Builtin::Docker, on(arch, "getpid", [0; 6])), ALLOW);
        assert_eq!(answer(Builtin::Docker, on(arch, "mount", [0; 6])), EPERM);
        assert_eq!(answer(Builtin::Docker, on(arch, "socket", [40, 0, 0, 0, 0, 0])), EPERM);
    }
    assert_eq!(answer(Builtin::Docker, on(Arch::I386, "socketcall", [1; 6])), ALLOW);
    assert_eq!(answer(Builtin::Docker, on(Arch::I386, "sigsuspend", [0; 6])), EPERM, "not in Docker's list");
}

#[test]
fn the_strict_filter_refuses_more_than_the_default_one() {
    let of = |kind| refused(kind, CapSet::CONTAINER_STRICT, Arch::X86_64);
    let (strict, default) = (of(Builtin::Strict), of(Builtin::Default));
    assert!(strict.is_superset(&default));
    let more: Vec<&str> = strict.difference(&default).copied().collect();
    assert_eq!(
        more.join(" "),
        "adjtimex clock_adjtime epoll_ctl_old epoll_wait_old fanotify_mark memfd_secret modify_ldt mq_getsetattr \
         mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink name_to_handle_at process_mrelease \
         process_vm_readv process_vm_writev ptrace remap_file_pages splice tee vmsplice"
    );
}

#[test]
fn the_strict_filter_looks_into_arguments() {
    let strict = |name, args| answer(Builtin::Strict, on(Arch::X86_64, name, args));
    for family in 0..64 {
        let wanted = if [1, 2, 10, 16].contains(&family) { ALLOW } else { EPERM };
        assert_eq!(strict("socket", [family, 0, 0, 0, 0, 0]), wanted, "{family}");
        assert_eq!(strict("socketpair", [family, 0, 0, 0, 0, 0]), if family == 1 { ALLOW } else { EPERM });
    }
    for protocol in 1..32 {
        let answer = strict("socket", [16, 3, protocol, 0, 0, 0]);
        assert_eq!(answer, NO_SUCH_PROTOCOL, "netlink protocol {protocol}");
        assert_eq!(strict("socket", [2, 3, protocol, 0, 0, 0]), ALLOW, "internet protocol {protocol}");
    }
    for (request, wanted) in [(0x5413, ALLOW), (0x5412, EPERM), (0x5412 | HIGH, EPERM), (0x541c, EPERM)] {
        assert_eq!(strict("ioctl", [0, request, 0, 0, 0, 0]), wanted, "ioctl {request:#x}");
    }
    for (kind, wanted) in [(0o010_644, ALLOW), (0o644, ALLOW), (0o020_666, EPERM), (0o060_666, EPERM)] {
        assert_eq!(strict("mknod", [0, kind, 0, 0, 0, 0]), wanted, "mknod {kind:o}");
        assert_eq!(strict("mknodat", [0, 0, kind, 0, 0, 0]), wanted, "mknodat {kind:o}");
    }
    assert_eq!(strict("personality", [8, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(strict("personality", [0xffff_ffff, 0, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn arm_images_get_their_calls_on_aarch64_with_the_families_held() {
    let profile = profile(Builtin::Default, CapSet::CONTAINER_DEFAULT, ThirtyTwoBit::Allowed, Arch::Aarch64);
    let program = codegen::generate(&profile).unwrap();
    for name in ["getpid", "set_tls", "cacheflush", "sync_file_range2", "recv", "mmap2"] {
        assert_eq!(run(&program, on(Arch::Arm, name, [0; 6])), ALLOW, "{name}");
    }
    assert_eq!(run(&program, on(Arch::Arm, "socket", [38, 0, 0, 0, 0, 0])), EPERM);
}

#[test]
fn a_program_is_compiled_once_for_capabilities_that_make_no_difference() {
    let of = |kind, caps| builtin::builtin_program(kind, caps, ThirtyTwoBit::Refused);
    let (caps, fewer) = (CapSet::CONTAINER_DEFAULT, CapSet::CONTAINER_DEFAULT.without(Capability::NET_RAW));
    let same = |one: &std::sync::Arc<_>, other: &std::sync::Arc<_>| std::sync::Arc::ptr_eq(one, other);
    let one = of(Builtin::Default, caps);
    assert!(same(&one, &of(Builtin::Default, fewer)));
    assert!(!same(&one, &of(Builtin::Default, CapSet::ALL)));
    assert!(!same(&one, &of(Builtin::Docker, caps)));
    assert!(!same(&of(Builtin::Strict, caps), &of(Builtin::Strict, fewer)));
}

#[test]
fn capabilities_bring_back_what_the_strict_filter_left_out() {
    for (cap, call) in [
        (Capability::SYS_PTRACE, x86_64("ptrace", 0)),
        (Capability::MKNOD, on(Arch::X86_64, "mknod", [0, 0o020_666, 0, 0, 0, 0])),
        (Capability::NET_RAW, x86_64("socket", 17)),
        (Capability::NET_ADMIN, on(Arch::X86_64, "socket", [16, 3, 12, 0, 0, 0])),
        (Capability::SYS_TIME, x86_64("adjtimex", 0)),
    ] {
        let of = |caps| {
            let profile = profile(Builtin::Strict, caps, ThirtyTwoBit::Refused, Arch::X86_64);
            run(&codegen::generate(&profile).unwrap(), call)
        };
        assert!([EPERM, NO_SUCH_PROTOCOL].contains(&of(CapSet::CONTAINER_STRICT)), "{cap} without");
        assert_eq!(of(CapSet::CONTAINER_STRICT.with(cap)), ALLOW, "{cap} with");
    }
}
