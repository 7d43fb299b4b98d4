//! Images and volumes that try to lead the runtime out of the root. Numbers are rows of the table of published attacks
//! that this room was built against.

use std::os::unix::fs::symlink;

use serde_json::json;
use tare_model::ErrorKind;

use crate::setup::{Canary, Setup};

crate::tests![
    row_2_standard_streams_are_not_opened_through_the_image,
    row_3_default_mountpoints_that_are_links_lead_nowhere,
    row_4_nothing_is_mounted_inside_proc,
    row_9_a_destination_that_is_a_link_stays_inside,
    row_10_and_21_proc_and_sys_must_be_real_directories,
    row_18_masks_do_not_come_from_the_images_null_device,
    row_26_a_dev_that_is_a_link_leads_nowhere,
    row_28_the_images_null_device_is_not_opened,
    row_73_files_put_into_etc_stay_inside,
    row_94_host_namespaces_keep_their_parameters,
    exchanging_a_destination_never_leads_out,
];

fn row_2_standard_streams_are_not_opened_through_the_image() {
    let canary = Canary::new();
    for own_dev in [true, false] {
        for (hostile, place) in [(false, "/tmp"), (true, canary.path().to_str().unwrap())] {
            let mut setup = Setup::new(&["echo", "out"]);
            // A device's own place must be free, or hidden.
            let tty = own_dev.then_some("tty");
            for name in ["console", "stdout", "stderr", "stdin"].into_iter().chain(tty) {
                symlink(format!("{place}/{name}"), setup.lower("dev").join(name)).unwrap();
            }
            for name in ["pts", "shm", "mqueue"] {
                let dev = setup.lower("dev").join(name);
                if hostile { symlink(canary.path().join(name), dev) } else { std::fs::create_dir(dev) }
                    .unwrap();
            }
            if !own_dev {
                without(&mut setup, "/dev");
            }
            assert_eq!(setup.output(), "out", "own /dev: {own_dev}, {place}");
            canary.is_untouched();
        }
    }
}

fn row_3_default_mountpoints_that_are_links_lead_nowhere() {
    let canary = Canary::new();
    for name in ["proc", "sys", "dev"] {
        for target in [canary.path().to_owned(), canary.path().join("made")] {
            let mut setup = Setup::new(&["echo", "out"]);
            assert_eq!(setup.output(), "out");
            std::fs::remove_dir(setup.lower(name)).unwrap();
            symlink(target, setup.lower(name)).unwrap();
            for _ in 0..2 {
                // Where /dev is has no weight; it goes to a place inside.
                if name == "dev" {
                    assert_eq!(setup.output(), "out");
                } else {
                    assert_eq!(setup.refused().kind(), ErrorKind::Forbidden);
                }
                canary.is_untouched();
            }
        }
    }
}

fn row_4_nothing_is_mounted_inside_proc() {
    let canary = Canary::new();
    let mut setup = Setup::new(&["exit", "0"]);
    symlink("/proc/self/attr", setup.lower("attr")).unwrap();
    let last = setup.oci["mounts"].as_array().unwrap().len();
    for destination in
        ["/proc", "/proc/", "/proc/self/attr", "/proc/self", "/proc/sys", "/attr", "/proc/self/fd/1"]
    {
        setup.oci["mounts"].as_array_mut().unwrap().truncate(last);
        setup.mount(json!({"destination": destination, "source": canary.path(), "options": ["bind"]}));
        let error = setup.refused();
        assert!(matches!(error.kind(), ErrorKind::Forbidden | ErrorKind::System), "{destination}: {error}");
    }
    // What LXCFS covers may be covered.
    setup.oci["mounts"].as_array_mut().unwrap().truncate(last);
    setup.mount(
        json!({"destination": "/proc/uptime", "source": canary.path().join("secret"), "options": ["bind"]}),
    );
    setup.set("/process/args", json!(["/probe", "cat", "/proc/uptime"]));
    assert_eq!(setup.output(), "untouched");
}

fn row_9_a_destination_that_is_a_link_stays_inside() {
    let (canary, source) = (Canary::new(), Canary::new());
    let mut setup = Setup::new(&["cat", "/mnt/secret"]);
    symlink(canary.path().join("made"), setup.lower("mnt")).unwrap();
    setup.mount(json!({"destination": "/mnt", "source": source.path(), "options": ["bind"]}));
    assert_eq!(setup.output(), "untouched");
    canary.is_untouched();
    let inside = canary.path().join("made");
    assert!(setup.upper(inside.strip_prefix("/").unwrap().to_str().unwrap()).is_dir());
}

fn row_10_and_21_proc_and_sys_must_be_real_directories() {
    for (name, target) in [("proc", "/etc"), ("sys", "/etc"), ("proc", "/"), ("proc", "tmp")] {
        let mut setup = Setup::new(&["echo", "out"]);
        assert_eq!(setup.output(), "out");
        std::fs::remove_dir(setup.lower(name)).unwrap();
        symlink(target, setup.lower(name)).unwrap();
        let error = setup.refused();
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{name} -> {target}: {error}");
    }
}

fn row_18_masks_do_not_come_from_the_images_null_device() {
    let mut setup = Setup::new(&["then", "stat", "/proc/keys", ",", "append", "/proc/keys", "|/evil"]);
    // A /dev that is a volume, with a null device that is a link to where it would hurt.
    let dev = setup.dir.path().join("dev");
    std::fs::create_dir(&dev).unwrap();
    symlink("/proc/sys/kernel/core_pattern", dev.join("null")).unwrap();
    for mount in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        without(&mut setup, mount);
    }
    setup.mount(json!({"destination": "/dev", "source": dev, "options": ["bind"]}));
    let out = setup.output();
    assert!(out.lines().next().unwrap().ends_with("dev 1:3"), "{out}");
    assert!(!std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap().contains("evil"));
}

fn row_26_a_dev_that_is_a_link_leads_nowhere() {
    let canary = Canary::new();
    for keep_tmpfs in [true, false] {
        for hostile in [false, true] {
            let mut setup = Setup::new(&["echo", "out"]);
            if hostile {
                std::fs::remove_dir(setup.lower("dev")).unwrap();
                symlink(canary.path(), setup.lower("dev")).unwrap();
            }
            if !keep_tmpfs {
                for mount in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
                    without(&mut setup, mount);
                }
            }
            assert_eq!(setup.output(), "out", "tmpfs: {keep_tmpfs}, link: {hostile}");
            canary.is_untouched();
        }
    }
}

fn row_28_the_images_null_device_is_not_opened() {
    use std::os::unix::fs::MetadataExt;
    let mut setup = Setup::new(&["cat", "/dev/null"]);
    let dev = setup.dir.path().join("dev");
    std::fs::create_dir(&dev).unwrap();
    std::fs::write(dev.join("null"), "untouched").unwrap();
    for mount in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        without(&mut setup, mount);
    }
    setup.mount(json!({"destination": "/dev", "source": dev, "options": ["bind"]}));
    setup.user("1000");
    assert_eq!(setup.output(), "untouched", "it is there");
    assert_eq!(std::fs::metadata(dev.join("null")).unwrap().uid(), 0, "not given away");
    assert_eq!(std::fs::read_to_string(dev.join("null")).unwrap(), "untouched");
}

fn row_73_files_put_into_etc_stay_inside() {
    let canary = Canary::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "ours").unwrap();
    for parent_is_link in [false, true] {
        let mut setup = Setup::new(&[
            "then",
            "cat",
            "/etc/hosts",
            ",",
            "cat",
            "/etc/hostname",
            ",",
            "cat",
            "/etc/resolv.conf",
        ]);
        if parent_is_link {
            std::fs::remove_dir(setup.lower("etc")).unwrap();
            symlink(canary.path(), setup.lower("etc")).unwrap();
        }
        for name in ["hosts", "hostname", "resolv.conf"] {
            if !parent_is_link {
                symlink(canary.path().join(name), setup.lower("etc").join(name)).unwrap();
            }
            let destination = format!("/etc/{name}");
            setup.mount(json!({"destination": destination, "source": file.path(), "options": ["bind"]}));
        }
        assert_eq!(setup.output(), "ours\nours\nours");
        canary.is_untouched();
    }
}

fn row_94_host_namespaces_keep_their_parameters() {
    let path = "/proc/sys/net/ipv4/ip_forward";
    let before = std::fs::read_to_string(path).unwrap();
    let mut setup = Setup::new(&["exit", "0"]);
    setup.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    assert_eq!(setup.run().unwrap().exit, tare_model::Exit::Code(0));
    setup.oci["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != json!("network"));
    assert_eq!(setup.refused().kind(), ErrorKind::Forbidden);
    assert_eq!(std::fs::read_to_string(path).unwrap(), before);
}

/// Row 12: a directory and a link outwards change places all the time while containers are started on them.
fn exchanging_a_destination_never_leads_out() {
    use tare_sys::process::{Forked, Namespaces, exit_now, fork};
    let (canary, source) = (Canary::new(), Canary::new());
    let mut setup = Setup::new(&["exit", "0"]);
    let volume = setup.dir.path().join("volume");
    std::fs::create_dir_all(volume.join("real/deep")).unwrap();
    symlink(canary.path(), volume.join("link")).unwrap();
    setup.mount(json!({"destination": "/volume", "source": volume, "options": ["rbind"]}));
    for number in 0..10 {
        let destination = format!("/volume/real/deep{number}");
        setup.mount(json!({"destination": destination, "source": source.path(), "options": ["bind"]}));
    }
    let exchanger = match fork(Namespaces::NONE, None).unwrap() {
        Forked::Child => {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            loop {
                if rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    volume.join("real"),
                    rustix::fs::CWD,
                    volume.join("link"),
                    flags,
                )
                .is_err()
                {
                    exit_now(1);
                }
            }
        }
        Forked::Parent { pid, .. } => pid,
    };
    let mut ran = 0;
    for _ in 0..60 {
        // A start may fail, for the place may be gone between two looks; it may not succeed elsewhere.
        let _ = setup.start().map(|started| {
            crate::setup::wait(&started.launched);
            let mut running = started.running;
            running.destroy().unwrap();
            ran += 1;
        });
    }
    rustix::process::kill_process(exchanger, rustix::process::Signal::KILL).unwrap();
    rustix::process::waitpid(Some(exchanger), rustix::process::WaitOptions::empty()).unwrap();
    canary.is_untouched();
    assert!(ran > 0, "not one container ran");
}

fn without(setup: &mut Setup, destination: &str) {
    setup.oci["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != json!(destination));
}
