//! Option values: what Docker takes is taken, what it refuses is refused in its words.

use super::*;
use proptest::prelude::*;
use std::path::Path;
use tare_docker_api::models::{HostConfig, MountType};
use time::macros::datetime;

#[test]
fn sizes_count_in_1024s() {
    for (text, bytes) in [
        ("0", 0),
        ("512", 512),
        ("1b", 1),
        ("1k", 1024),
        ("2KB", 2048),
        ("1.5m", 1_572_864),
        ("1GiB", 1 << 30),
        ("1 t", 1 << 40),
    ] {
        assert_eq!(size::bytes(text), Ok(bytes), "{text}");
    }
    assert_eq!(size::bytes("abc"), Err("invalid size: 'abc'".into()));
    assert_eq!(size::bytes("1x"), Err("invalid suffix: 'x'".into()));
    for text in ["", "-1", "1e5k", "1kbb", "1bb", "1.2.3", "99999999p"] {
        assert!(size::bytes(text).is_err(), "{text}");
    }
    assert_eq!(size::bytes_or_unlimited("-1"), Ok(-1));
}

#[test]
fn processors_are_counted_exactly() {
    assert_eq!(size::nano_cpus("1.5"), Ok(1_500_000_000));
    assert_eq!(size::nano_cpus(".1"), Ok(100_000_000));
    assert_eq!(size::nano_cpus("0.000000001"), Ok(1));
    assert_eq!(size::nano_cpus("0.0000000001"), Err("value is too precise".into()));
    assert_eq!(size::nano_cpus("abc"), Err("failed to parse abc as a rational number".into()));
    assert!(
        size::nano_cpus(".").is_err()
            && size::nano_cpus("-1").is_err()
            && size::nano_cpus("99999999999").is_err()
    );
}

#[test]
fn a_variable_without_a_value_takes_the_clients() {
    let lookup = |name: &str| (name == "HOME").then(|| "/root".to_owned());
    assert_eq!(env::variable("HOME", &lookup), "HOME=/root");
    assert_eq!(env::variable("NONE", &lookup), "NONE");
    assert_eq!(env::variable("A=", &lookup), "A=");
    assert_eq!(env::check_variable("="), Err("invalid environment variable: =".into()));
}

#[test]
fn an_env_file_is_read_as_docker_reads_it() {
    let lookup = |name: &str| (name == "HOME").then(|| "/root".to_owned());
    let content = "\u{feff}# a comment\n\n  A=1 \nB=x y=z\nHOME\nNONE\nC=\"q\"\n";
    assert_eq!(
        env::file(content.as_bytes(), Some(&lookup)),
        Ok(vec!["A=1 ".into(), "B=x y=z".into(), "HOME=/root".into(), "C=\"q\"".into()])
    );
    assert_eq!(env::file(b"A B=1", Some(&lookup)), Err("variable 'A B' contains whitespaces".into()));
    assert_eq!(env::file(b"=1", Some(&lookup)), Err("no variable name on line '=1'".into()));
    assert_eq!(env::file(b"A=1\n\xff", Some(&lookup)), Err("invalid utf8 bytes at line 2".into()));
    assert_eq!(env::file(b"only\n", None), Ok(vec!["only".into()]));
}

#[test]
fn volumes_are_binds_or_anonymous() {
    let cwd = Path::new("/work/dir");
    assert_eq!(mount::volume("/data", cwd), Ok(mount::Volume::Anonymous("/data".into())));
    assert_eq!(mount::volume("/a:/b:ro,z", cwd), Ok(mount::Volume::Bind("/a:/b:ro,z".into())));
    assert_eq!(mount::volume("./x:/b", cwd), Ok(mount::Volume::Bind("/work/dir/x:/b".into())));
    assert_eq!(mount::volume("../x:/b", cwd), Ok(mount::Volume::Bind("/work/x:/b".into())));
    assert_eq!(mount::volume("name:/b", cwd), Ok(mount::Volume::Bind("name:/b".into())));
    for (text, word) in [
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        ("/a:b", "must be absolute"),
        ("/a:/", "can't be '/'"),
        (":/b", "empty section"),
        ("/a:/b:foo", "invalid mode: foo"),
    ] {
        let error = mount::volume(text, cwd).expect_err(text);
        assert!(error.contains(word) && error.contains("--volume"), "{error}");
    }
}

#[test]
fn mounts_take_dockers_keys() {
    let m = mount::mount("type=bind,\"src=/a,b\",dst=/c,readonly,bind-propagation=rslave", Path::new("/"))
        .expect("a mount");
    assert_eq!(
        (m.typ, m.source.as_deref(), m.target.as_deref(), m.read_only),
        (Some(MountType::BIND), Some("/a,b"), Some("/c"), Some(true))
    );
    let m =
        mount::mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770", Path::new("/")).expect("a mount");
    let options = m.tmpfs_options.expect("options");
    assert_eq!((options.size_bytes, options.mode), (Some(1 << 20), Some(0o1770)));
    let m = mount::mount("type=bind,src=.,dst=/c", Path::new("/w")).expect("a mount");
    assert_eq!(m.source.as_deref(), Some("/w"));
}

#[test]
fn bad_mounts_are_refused_in_dockers_words() {
    for (text, want) in [
        ("type=bind", "target is required"),
        ("type=tmpfs,dst=/a,tmpfs-size=x", "invalid value for tmpfs-size: x"),
        ("dst=/a,foo", "invalid field 'foo' must be a key=value pair"),
        ("dst=/a,foo=1", "unknown option 'foo' in 'foo=1'"),
        ("type=tmpfs,dst=/a,bind-propagation=rslave", "cannot mix 'bind-*' options with mount type 'tmpfs'"),
        ("type=bind,dst=/a", "source is required for mount type 'bind'"),
        ("type=tmpfs,dst=/a,src=/x", "cannot specify a source for mount type 'tmpfs'"),
        ("dst=\"/a", "bare \" in a field that does not start with one"),
    ] {
        assert_eq!(mount::check_mount(text), Err(want.into()), "{text}");
    }
}

#[test]
fn ulimits_have_a_soft_and_a_hard_value() {
    let u = resource::ulimit("nofile=1024:2048").expect("a limit");
    assert_eq!((u.name.as_deref(), u.soft, u.hard), (Some("nofile"), Some(1024), Some(2048)));
    assert_eq!(resource::ulimit("core=-1").map(|u| u.hard), Ok(Some(-1)));
    assert_eq!(resource::check_ulimit("a"), Err("invalid ulimit argument: a".into()));
    assert_eq!(resource::check_ulimit("foo=1"), Err("invalid ulimit type: foo".into()));
    assert!(resource::check_ulimit("nofile=2:1").is_err() && resource::check_ulimit("nofile=1:2:3").is_err());
    assert!(resource::check_ulimit("nofile=-1:5").is_err() && resource::check_ulimit("nofile=-2").is_err());
}

#[test]
fn devices_have_up_to_three_parts() {
    let parts =
        |text| resource::device(text).map(|d| (d.path_on_host, d.path_in_container, d.cgroup_permissions));
    let want = |a: &str, b: &str, c: &str| Ok((Some(a.to_owned()), Some(b.to_owned()), Some(c.to_owned())));
    assert_eq!(parts("/dev/kvm"), want("/dev/kvm", "/dev/kvm", "rwm"));
    assert_eq!(parts("/dev/kvm:r"), want("/dev/kvm", "/dev/kvm", "r"));
    assert_eq!(parts("/dev/kvm:/dev/x:rw"), want("/dev/kvm", "/dev/x", "rw"));
    for text in ["/dev/a:/b:rr", "/dev/a:b", "dev", "/a:/b:r:w", "vendor.com/gpu=all"] {
        assert!(parts(text).is_err(), "{text}");
    }
}

#[test]
fn restart_policies_are_dockers_four() {
    assert_eq!(resource::restart("on-failure:3").map(|p| p.maximum_retry_count), Ok(Some(3)));
    for text in ["sometimes", "always:3", "on-failure:x"] {
        assert!(resource::restart(text).is_err(), "{text}");
    }
}

#[test]
fn security_options_are_checked_and_profiles_read() {
    let mut host = HostConfig::default();
    confine::security(
        &["no-new-privileges", "seccomp=unconfined", "systempaths=unconfined", "profile=strict"],
        &mut host,
    )
    .expect("good options");
    assert_eq!(
        host.security_opt,
        Some(vec!["no-new-privileges=true".into(), "seccomp=unconfined".into(), "profile=strict".into()])
    );
    assert_eq!(host.masked_paths, Some(vec![]));
    let error =
        |option: &str| confine::security(&[option], &mut HostConfig::default()).expect_err("a bad option");
    assert_eq!(error("foo"), "Invalid --security-opt: \"foo\"");
    assert_eq!(
        error("seccomp=/nope"),
        "opening seccomp profile (/nope) failed: open /nope: no such file or directory"
    );
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("p.json");
    std::fs::write(&path, "{ \"defaultAction\" :\n \"SCMP_ACT_ALLOW\" }").expect("a file");
    confine::security(&[&format!("seccomp={}", path.display())], &mut host).expect("a profile");
    assert_eq!(host.security_opt, Some(vec!["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}".into()]));
}

#[test]
fn namespace_modes_are_checked_by_flag() {
    assert_eq!(confine::pid("foo"), Err("--pid: invalid PID mode".into()));
    assert!(confine::pid("container:x").is_ok() && confine::pid("container:").is_err());
    assert_eq!(confine::uts("foo"), Err("--uts: invalid UTS mode".into()));
    assert_eq!(confine::cgroupns("foo").err(), Some("--cgroupns: invalid CGROUP mode".into()));
    assert_eq!(confine::userns("foo"), Err("--userns: invalid USER mode".into()));
    assert!(confine::ipc("shareable").is_ok() && confine::ipc("foo").is_err());
}

#[test]
fn points_in_time_come_in_three_forms() {
    let now = datetime!(2024-01-02 00:00:10.5 UTC);
    assert_eq!(when::timestamp("10s", now), Ok("1704153600.500000000".into()));
    assert_eq!(when::timestamp("2024-01-02", now), Ok("1704153600.000000000".into()));
    assert_eq!(when::timestamp("2024-01-02T01:00:00+01:00", now), Ok("1704153600.000000000".into()));
    assert_eq!(when::timestamp("2024-01-02T00:00:00.25", now), Ok("1704153600.250000000".into()));
    assert_eq!(when::timestamp("1704153600.25", now), Ok("1704153600.25".into()));
    assert_eq!(when::timestamp("0", now), Ok("0".into()), "the beginning of all");
    assert_eq!(when::timestamp("0s", now), Ok("1704153610.500000000".into()));
    assert!(when::timestamp("yesterday", now).is_err());
    assert_eq!(when::duration("1h1.5m"), Some(3_690_000_000_000));
}

#[test]
fn filters_become_the_apis_map() {
    assert_eq!(
        filter::query(&["status=exited", "status=dead", "label=a=b"]),
        Some(r#"{"label":["a=b"],"status":["exited","dead"]}"#.into())
    );
    assert_eq!(filter::query(&[]), None);
    assert!(filter::check("foo").is_err());
}

#[test]
fn detach_keys_have_dockers_notation() {
    assert_eq!(keys::parse("ctrl-p,ctrl-q"), Ok(vec![16, 17]));
    assert_eq!(keys::parse("a,ctrl-@,ctrl-[,ctrl-_"), Ok(vec![b'a', 0, 27, 31]));
    assert!(keys::parse("foo").is_err() && keys::parse("ctrl-").is_err() && keys::parse("").is_err());
}

#[test]
fn a_repeated_first_key_does_not_hide_the_sequence() {
    let mut out = Vec::new();
    let mut d = keys::Detacher::new(b"pq".to_vec());
    assert!(d.feed(b"xppq", &mut out));
    assert_eq!(out, b"xp");
    let (mut out, mut d) = (Vec::new(), keys::Detacher::new(b"aab".to_vec()));
    assert!(d.feed(b"aaab", &mut out));
    assert_eq!(out, b"a");
}

proptest! {
    #[test]
    fn typed_bytes_pass_until_the_keys_whatever_the_reads(
        typed in prop::collection::vec(97u8..100, 0..40),
        keys in prop::collection::vec(97u8..100, 1..4),
        step in 1usize..5,
    ) {
        let (mut d, mut out, mut hit) = (keys::Detacher::new(keys.clone()), Vec::new(), false);
        for piece in typed.chunks(step) {
            if d.feed(piece, &mut out) { hit = true; break; }
        }
        if !hit { d.finish(&mut out); }
        let at = typed.windows(keys.len()).position(|w| w == keys);
        prop_assert_eq!(hit, at.is_some());
        prop_assert_eq!(out, &typed[..at.unwrap_or(typed.len())]);
    }

    #[test]
    fn option_parsers_never_panic(text in "\\PC{0,30}", ascii in "[-a-z0-9=:,./\"]{0,30}") {
        for t in [text.as_str(), ascii.as_str()] {
            let _ = size::bytes(t);
            let _ = size::nano_cpus(t);
            let _ = mount::check_mount(t);
            let _ = mount::volume(t, Path::new("/"));
            let _ = resource::check_ulimit(t);
            let _ = resource::check_device(t);
            let _ = resource::check_restart(t);
            let _ = when::timestamp(t, datetime!(2024-01-01 0:00 UTC));
            let _ = keys::parse(t);
            let _ = env::file(t.as_bytes(), None);
            let _ = filter::query(&[t]);
        }
    }

    #[test]
    fn whole_sizes_are_exact(n in 0u32..1_000_000, unit in 0usize..4) {
        let text = format!("{n}{}", ["", "k", "m", "g"][unit]);
        prop_assert_eq!(size::bytes(&text), Ok(i64::from(n) << (10 * unit)));
    }
}

#[test]
fn limits_of_single_devices_are_read_as_docker_reads_them() {
    let rate = resource::device_bytes("/dev/vda:1mb").expect("valid");
    assert_eq!((rate.path.as_deref(), rate.rate), (Some("/dev/vda"), Some(1 << 20)));
    assert_eq!(resource::device_operations("/dev/vda:100").expect("valid").rate, Some(100));
    assert_eq!(resource::device_weight("/dev/vda:500").expect("valid").weight, Some(500));
    assert_eq!(resource::device_weight("/dev/vda"), Err("bad format: /dev/vda".into()));
    assert_eq!(resource::device_bytes("vda:1mb"), Err("bad format for device path: vda:1mb".into()));
    for bad in ["/dev/vda:-1", "/dev/vda:x", "/dev/vda:", "/dev/vda:1mb"] {
        assert!(resource::device_operations(bad).is_err(), "{bad}");
    }
    for bad in ["/dev/vda:5", "/dev/vda:1001", "/dev/vda:x"] {
        assert!(resource::device_weight(bad).is_err(), "{bad}");
    }
}

#[test]
fn device_rules_are_checked_before_they_are_sent() {
    for good in ["c 42:* rwm", "a *:* m", "b 8:0 r"] {
        assert_eq!(resource::check_device_rule(good), Ok(()), "{good}");
    }
    for bad in ["", "c 42 rwm", "x 1:1 r", "c 1:1 rx", "c 1:1", "c -1:1 r"] {
        assert!(resource::check_device_rule(bad).is_err(), "{bad}");
    }
}
