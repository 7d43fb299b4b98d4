//! `tare-oci --systemd-cgroup` for an ordinary user, whose own systemd makes the scopes: as root of a user namespace, which
//! is how callers without privileges start a runtime. Only in the guest: it takes a user of the machine's own.

use std::path::Path;

use serde_json::json;
use tare_kit::Cmd;
use tare_kit::engine::program;

use crate::oci::Bundle;
use crate::ours;

const NAME: &str = "tare-scopes";

/// A user with a manager that runs; both are gone at the end.
struct User {
    uid: String,
}

impl User {
    fn new() -> User {
        Cmd::new("useradd").args(["--create-home", NAME]).ok();
        let user = User { uid: Cmd::new("id").args(["-u", NAME]).ok() };
        Cmd::new("systemctl").args(["start", &user.manager()]).ok();
        user
    }

    fn manager(&self) -> String {
        format!("user@{}.service", self.uid)
    }

    /// A shell script of the user's, root of a user namespace: in a service of the manager's, or started from the test's
    /// own unit, which is outside of the manager's tree as a login session is.
    fn script(&self, in_service: bool, script: &str) -> Cmd {
        let run = format!("XDG_RUNTIME_DIR=/run/user/{}", self.uid);
        let service =
            ["systemd-run", "--user", "--wait", "--pipe", "--quiet", "--collect", "-E", "XDG_RUNTIME_DIR"];
        Cmd::new("setpriv")
            .args(["--reuid", &self.uid, "--regid", &self.uid, "--init-groups", "--", "env", &run])
            .args(if in_service { &service[..] } else { &[] })
            .args(["unshare", "--user", "--map-auto", "--map-root-user", "--mount", "sh", "-c", script])
    }
}

impl Drop for User {
    fn drop(&mut self) {
        Cmd::new("systemctl").args(["stop", &self.manager()]).run();
        Cmd::new("userdel").args(["--remove", NAME]).run();
    }
}

fn bundle(user: &User) -> Bundle {
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    // In the pieces that the namespace around it has.
    let ids =
        json!([{"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 1, "hostID": 1, "size": 65535}]);
    bundle.config["linux"]["uidMappings"] = ids.clone();
    bundle.config["linux"]["gidMappings"] = ids;
    std::fs::write(bundle.path("config.json"), bundle.config.to_string()).unwrap();
    Cmd::new("chown").args(["-R", &format!("{0}:{0}", user.uid), &bundle.text("")]).ok();
    bundle
}

#[test]
fn the_users_systemd_makes_the_scope_and_moves_what_comes_from_outside() {
    let in_guest = program("tare-oci").starts_with("/guest") && Path::new("/run/systemd/system").exists();
    if !ours() || !in_guest {
        return;
    }
    let user = User::new();
    for in_service in [true, false] {
        let bundle = bundle(&user);
        let (id, at) = (bundle.id(), bundle.text(""));
        let script = format!(
            "oci='{oci} --root {at}/state --systemd-cgroup'
            show() {{ systemctl --user show --value -p $1 tare-{id}.scope; }}
            exec 2>&1
            $oci run --detach --bundle {at} {id} > {at}/said 2>&1 || {{ cat {at}/said; exit 1; }}
            show ActiveState
            $oci exec --detach {id} sleep 2000 > {at}/said 2>&1 || {{ cat {at}/said; exit 1; }}
            $oci ps --format json {id} | tr ',' '\\n' | wc -l
            $oci update --pids-limit 33 {id} && show TasksMax
            $oci kill {id} KILL && $oci delete --force {id} && show LoadState",
            oci = program("tare-oci").display(),
        );
        let said = user.script(in_service, &script).run();
        let wanted = ["active", "2", "33", "not-found"];
        assert_eq!(said.out().lines().collect::<Vec<_>>(), wanted, "in a service: {in_service}: {said}");
    }
}
