//! Options of tmpfs mounts, as Docker's `--tmpfs` takes them: an allow-list, with safe defaults.

use tare_model::{Error, Result};

/// Flags that may be given, and the one each turns off.
const FLAGS: &[(&str, &str)] = &[
    ("noexec", "exec"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("ro", "rw"),
    ("sync", "async"),
    ("noatime", "atime"),
    ("nodiratime", "diratime"),
    ("relatime", "norelatime"),
    ("strictatime", "nostrictatime"),
];

/// Settings that take a value.
const VALUES: &[&str] = &["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"];

/// The complete options of a tmpfs: `noexec,nosuid,nodev` unless turned off, then what was asked for.
///
/// # Errors
/// `InvalidInput`, naming the option.
pub(crate) fn options(
    size: Option<u64>,
    mode: Option<u32>,
    asked: &[String],
    readonly: bool,
) -> Result<Vec<String>> {
    let mut all: Vec<String> = ["noexec", "nosuid", "nodev"].map(String::from).into();
    for option in asked.iter().flat_map(|o| o.split(',')).filter(|o| !o.is_empty()) {
        add(&mut all, option)?;
    }
    if let Some(size) = size {
        set(&mut all, "size", &size.to_string());
    }
    match mode {
        Some(mode) if mode <= 0o7777 => set(&mut all, "mode", &format!("{mode:o}")),
        Some(mode) => return Err(Error::invalid(format!("invalid tmpfs mode {mode:o}: want at most 7777"))),
        None => {}
    }
    if readonly {
        add(&mut all, "ro")?;
    }
    Ok(all)
}

fn add(all: &mut Vec<String>, option: &str) -> Result<()> {
    if let Some((on, off)) = FLAGS.iter().find(|(on, off)| *on == option || *off == option) {
        all.retain(|o| o != on && o != off);
        all.push(option.to_owned());
        return Ok(());
    }
    match option.split_once('=') {
        Some((name, value)) if VALUES.contains(&name) && is_value(name, value) => set(all, name, value),
        _ => return Err(Error::invalid(format!("invalid tmpfs option {option:?}"))),
    }
    Ok(())
}

fn set(all: &mut Vec<String>, name: &str, value: &str) {
    all.retain(|o| o.split_once('=').is_none_or(|(n, _)| n != name));
    all.push(format!("{name}={value}"));
}

/// Digits; a size may end in a unit.
fn is_value(name: &str, value: &str) -> bool {
    let digits = match name {
        "size" => value.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', '%']).unwrap_or(value),
        _ => value,
    };
    !digits.is_empty() && digits.len() <= 20 && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(asked: &str) -> Result<String> {
        options(None, None, &[asked.to_owned()], false).map(|o| o.join(","))
    }

    #[test]
    fn a_tmpfs_is_not_executable_unless_asked() {
        assert_eq!(of("").as_deref(), Ok("noexec,nosuid,nodev"));
        assert_eq!(of("exec,size=64m").as_deref(), Ok("nosuid,nodev,exec,size=64m"));
    }

    #[test]
    fn later_options_win_and_typed_ones_win_over_text() {
        assert_eq!(of("size=1k,size=2k,rw,ro").as_deref(), Ok("noexec,nosuid,nodev,size=2k,ro"));
        let all = options(Some(4096), Some(0o1777), &["size=1k,mode=700".to_owned()], true).expect("valid");
        assert_eq!(all.join(","), "noexec,nosuid,nodev,size=4096,mode=1777,ro");
    }

    #[test]
    fn unknown_options_are_refused_by_name() {
        for bad in ["context=x", "size=", "size=1k;rm", "bind", "mpol=bind", "size=1,\nx", "uid=-1"] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
