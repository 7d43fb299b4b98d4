//! `-v`, `--mount` and `--tmpfs`.

use super::{Parsed, size};
use std::path::Path;
use tare_docker_api::models::{
    Mount, MountBindOptions, MountBindOptionsPropagationEnum as Propagation, MountTmpfsOptions, MountType,
};

/// Words that may stand in the third part of `-v`.
const MODES: &[&str] = &[
    "ro",
    "rw",
    "z",
    "Z",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "nocopy",
    "consistent",
    "cached",
    "delegated",
];

/// What a `-v` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// An anonymous volume at this path.
    Anonymous(String),
    /// `source:target[:mode]` as the API's `Binds` has it.
    Bind(String),
}

/// Takes a `-v` apart. A source that starts with a dot is relative to `cwd`, as in a shell.
pub(crate) fn volume(text: &str, cwd: &Path) -> Parsed<Volume> {
    let bad = |why: &str| {
        format!("invalid volume specification: '{text}': {why} (--volume wants [SOURCE:]TARGET[:MODE])")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => (None, target, None),
        [source, target] => (Some(source), target, None),
        [source, target, mode] => (Some(source), target, Some(mode)),
        _ => return Err(bad("too many colons")),
    };
    if !target.starts_with('/') {
        return Err(bad(&format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    if target.trim_end_matches('/').is_empty() {
        return Err(bad("destination can't be '/'"));
    }
    let Some(source) = source else { return Ok(Volume::Anonymous(target.to_owned())) };
    if source.is_empty() {
        return Err(bad("empty section between colons"));
    }
    if let Some(mode) = mode.into_iter().flat_map(|m| m.split(',')).find(|m| !MODES.contains(m)) {
        return Err(bad(&format!("invalid mode: {mode}")));
    }
    let mode = mode.map_or_else(String::new, |m| format!(":{m}"));
    Ok(Volume::Bind(format!("{}:{target}{mode}", absolute(source, cwd))))
}

/// `./x` and `../x` as absolute paths; names and absolute paths as they are.
fn absolute(source: &str, cwd: &Path) -> String {
    if !source.starts_with('.') {
        return source.to_owned();
    }
    let mut out = cwd.to_owned();
    for part in Path::new(source).components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::Normal(name) => out.push(name),
            _ => {}
        }
    }
    out.to_string_lossy().into_owned()
}

/// `--tmpfs /path[:options]`.
pub(crate) fn tmpfs(text: &str) -> Parsed<(String, String)> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    if path.starts_with('/') {
        return Ok((path.to_owned(), options.to_owned()));
    }
    Err(format!("invalid mount path: '{path}' mount path must be absolute"))
}

/// The check of `--tmpfs`.
pub(crate) fn check_tmpfs(text: &str) -> Parsed<()> {
    tmpfs(text).map(drop)
}

/// The check of `--mount`; relative sources are resolved later, when the mount is taken.
pub(crate) fn check_mount(text: &str) -> Parsed<()> {
    mount(text, Path::new("/")).map(drop)
}

/// `--mount type=bind,src=/a,dst=/b,readonly`: comma-separated, double quotes around a field that holds a comma.
pub(crate) fn mount(text: &str, cwd: &Path) -> Parsed<Mount> {
    let mut mount = Mount { typ: Some(MountType::VOLUME), ..Mount::default() };
    for field in csv(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        set_field(&mut mount, &key, value, &field, cwd)?;
    }
    if mount.target.as_deref().unwrap_or_default().is_empty() {
        return Err("target is required".to_owned());
    }
    check_type(&mount)?;
    Ok(mount)
}

fn set_field(mount: &mut Mount, key: &str, value: Option<&str>, field: &str, cwd: &Path) -> Parsed<()> {
    if matches!(key, "readonly" | "ro" | "bind-nonrecursive") {
        let on = truth(key, value)?;
        if key == "bind-nonrecursive" {
            bind(mount).non_recursive = Some(on);
        } else {
            mount.read_only = Some(on);
        }
        return Ok(());
    }
    let value = value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
    match key {
        "type" => mount.typ = Some(mount_type(value)?),
        "source" | "src" => mount.source = Some(absolute(value, cwd)),
        "target" | "dst" | "destination" => mount.target = Some(value.to_owned()),
        "consistency" => mount.consistency = Some(value.to_lowercase()),
        "bind-propagation" => bind(mount).propagation = Some(propagation(value)?),
        "bind-recursive" => recursive(mount, value)?,
        "tmpfs-size" => {
            let size = size::bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount.tmpfs_options.get_or_insert_with(MountTmpfsOptions::default).size_bytes = Some(size);
        }
        "tmpfs-mode" => {
            let mode =
                i64::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount.tmpfs_options.get_or_insert_with(MountTmpfsOptions::default).mode = Some(mode);
        }
        key if key.starts_with("volume-") || key.starts_with("image-") => {
            return Err(format!(
                "option '{key}' is not supported yet: volumes come later, use type=bind or type=tmpfs"
            ));
        }
        key => return Err(format!("unknown option '{key}' in '{field}'")),
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut MountBindOptions {
    mount.bind_options.get_or_insert_with(MountBindOptions::default)
}

fn recursive(mount: &mut Mount, value: &str) -> Parsed<()> {
    match value {
        "enabled" => {}
        "disabled" => bind(mount).non_recursive = Some(true),
        "writable" => bind(mount).read_only_non_recursive = Some(true),
        "readonly" => bind(mount).read_only_force_recursive = Some(true),
        _ => {
            return Err(format!(
                "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
    }
    Ok(())
}

fn truth(key: &str, value: Option<&str>) -> Parsed<bool> {
    match value {
        None | Some("1" | "true") => Ok(true),
        Some("0" | "false") => Ok(false),
        Some(other) => Err(format!("invalid value for {key}: {other}")),
    }
}

fn mount_type(value: &str) -> Parsed<MountType> {
    match value.to_lowercase().as_str() {
        "bind" => Ok(MountType::BIND),
        "tmpfs" => Ok(MountType::TMPFS),
        "volume" => Ok(MountType::VOLUME),
        _ => Err(format!("mount type {value:?} is not supported yet: use bind or tmpfs")),
    }
}

fn propagation(value: &str) -> Parsed<Propagation> {
    match value.to_lowercase().as_str() {
        "private" => Ok(Propagation::PRIVATE),
        "rprivate" => Ok(Propagation::RPRIVATE),
        "shared" => Ok(Propagation::SHARED),
        "rshared" => Ok(Propagation::RSHARED),
        "slave" => Ok(Propagation::SLAVE),
        "rslave" => Ok(Propagation::RSLAVE),
        _ => Err(format!("invalid value for bind-propagation: {value}")),
    }
}

/// Options of one type on a mount of another are mistakes worth telling.
fn check_type(mount: &Mount) -> Parsed<()> {
    let typ = mount.typ.unwrap_or(MountType::VOLUME);
    if mount.bind_options.is_some() && typ != MountType::BIND {
        return Err(format!("cannot mix 'bind-*' options with mount type '{typ}'"));
    }
    if mount.tmpfs_options.is_some() && typ != MountType::TMPFS {
        return Err(format!("cannot mix 'tmpfs-*' options with mount type '{typ}'"));
    }
    if typ == MountType::TMPFS && mount.source.is_some() {
        return Err("cannot specify a source for mount type 'tmpfs'".to_owned());
    }
    if typ == MountType::BIND && mount.source.is_none() {
        return Err("source is required for mount type 'bind'".to_owned());
    }
    Ok(())
}

/// One line of comma-separated fields; quotes double inside quotes.
pub(super) fn csv(text: &str) -> Parsed<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.push(chars.next().unwrap_or('"')),
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            '"' => return Err("bare \" in a field that does not start with one".to_owned()),
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err("a quoted field does not end".to_owned());
    }
    fields.push(field);
    Ok(fields)
}
