//! Hooks of the specification, checked: programs that are run at six moments of a container's life.

use std::ffi::CString;
use std::time::Duration;

use oci_spec::runtime::{Hook as OciHook, Spec};

use super::c_string;
use crate::error::{Context, Error, Result};

/// One program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Absolute path.
    pub path: CString,
    /// Arguments, the program's own name first.
    pub args: Vec<CString>,
    /// `NAME=value`, all there is.
    pub env: Vec<CString>,
    /// When to give up.
    pub timeout: Option<Duration>,
}

/// All hooks, by moment, each list in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Host's namespaces; before the root is entered.
    pub prestart: Vec<Hook>,
    /// Host's namespaces; before the root is entered, after `prestart`.
    pub create_runtime: Vec<Hook>,
    /// Container's namespaces, a program of the host; before the root is entered.
    pub create_container: Vec<Hook>,
    /// Container's namespaces, a program of the container; just before its own.
    pub start_container: Vec<Hook>,
    /// Host's namespaces; when the program runs.
    pub poststart: Vec<Hook>,
    /// Host's namespaces; when the container is gone.
    pub poststop: Vec<Hook>,
}

// === impl Hooks ===

impl Hooks {
    /// What `hooks` asks for.
    ///
    /// # Errors
    /// A path that is not absolute, a timeout of zero, a NUL.
    pub fn of(spec: &Spec) -> Result<Self> {
        let Some(asked) = spec.hooks() else { return Ok(Self::default()) };
        #[allow(deprecated)] // `prestart` is deprecated by the specification, and Docker uses it.
        let prestart = asked.prestart();
        Ok(Self {
            prestart: list("prestart", prestart.as_deref())?,
            create_runtime: list("createRuntime", asked.create_runtime().as_deref())?,
            create_container: list("createContainer", asked.create_container().as_deref())?,
            start_container: list("startContainer", asked.start_container().as_deref())?,
            poststart: list("poststart", asked.poststart().as_deref())?,
            poststop: list("poststop", asked.poststop().as_deref())?,
        })
    }

    /// Whether some look at the container before its root is entered, and so want its mounts in place by then.
    pub(crate) fn want_mounts(&self) -> bool {
        [&self.prestart, &self.create_runtime, &self.create_container].iter().any(|list| !list.is_empty())
    }

    /// Whether some are run by the launching process while the container waits.
    pub(crate) fn want_meeting(&self) -> bool {
        !self.prestart.is_empty() || !self.create_runtime.is_empty()
    }

    /// Whether there are any that a launch runs.
    pub(crate) fn want_launch(&self) -> bool {
        self.want_mounts() || !self.start_container.is_empty()
    }
}

fn list(name: &str, asked: Option<&[OciHook]>) -> Result<Vec<Hook>> {
    let all = asked.unwrap_or_default().iter().enumerate();
    all.map(|(at, hook)| one(hook).context(|| format!("hooks.{name}[{at}]"))).collect()
}

fn one(asked: &OciHook) -> Result<Hook> {
    if !asked.path().is_absolute() {
        return Err(Error::invalid(format!("path {:?} is not absolute", asked.path())));
    }
    let path = c_string(&asked.path().to_string_lossy(), "path")?;
    let strings = |texts: &Option<Vec<String>>, what: &str| {
        texts.iter().flatten().map(|text| c_string(text, what)).collect::<Result<Vec<_>>>()
    };
    let mut args = strings(asked.args(), "args")?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let timeout = match asked.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
            _ => return Err(Error::invalid(format!("timeout {seconds} is not greater than zero"))),
        },
    };
    Ok(Hook { path, args, env: strings(asked.env(), "env")?, timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hooks: &serde_json::Value) -> Result<Hooks> {
        let text = serde_json::json!({"ociVersion": "1.0.2", "hooks": hooks});
        Hooks::of(&serde_json::from_value(text).unwrap())
    }

    #[test]
    fn every_kind_is_read_in_its_order() {
        let one = |path: &str| serde_json::json!([{"path": path, "args": ["x", "y"]}, {"path": "/second"}]);
        let hooks = of(&serde_json::json!({
            "prestart": one("/a"), "createRuntime": one("/b"), "createContainer": one("/c"),
            "startContainer": one("/d"), "poststart": one("/e"), "poststop": one("/f"),
        }))
        .unwrap();
        let first = [
            &hooks.prestart,
            &hooks.create_runtime,
            &hooks.create_container,
            &hooks.start_container,
            &hooks.poststart,
            &hooks.poststop,
        ]
        .map(|list| list[0].path.to_str().unwrap());
        assert_eq!(first, ["/a", "/b", "/c", "/d", "/e", "/f"]);
        assert_eq!(hooks.poststop[0].args, [c"x".to_owned(), c"y".to_owned()]);
        assert_eq!(hooks.poststop[1].args, [c"/second".to_owned()], "a program has at least its own name");
        assert!(hooks.want_mounts() && hooks.want_meeting() && hooks.want_launch());
    }

    #[test]
    fn what_the_specification_forbids_is_refused_with_its_place() {
        for (hook, words) in [
            (serde_json::json!({"path": "a"}), "hooks.poststop[0]: path \"a\" is not absolute"),
            (serde_json::json!({"path": "/a", "timeout": 0}), "timeout 0"),
            (serde_json::json!({"path": "/a", "timeout": -1}), "timeout -1"),
            (serde_json::json!({"path": "/a", "args": ["a\0"]}), "NUL"),
        ] {
            let error = of(&serde_json::json!({"poststop": [hook]})).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        assert_eq!(of(&serde_json::json!({})).unwrap(), Hooks::default());
    }
}
