//! What confines the processes: capabilities and `SecurityOpt`.

use tare_docker_api::models::HostConfig;
use tare_model::capability::Capability;
use tare_model::container::{LabelChoice, LabelParts, Profile, SeccompChoice, Security};
use tare_model::{Error, Result};

pub(super) fn security(host: &HostConfig) -> Result<Security> {
    let raw_options = host.security_opt.clone().unwrap_or_default();
    let mut security = Security {
        privileged: host.privileged.unwrap_or_default(),
        cap_add: capabilities("HostConfig.CapAdd", host.cap_add.as_deref())?,
        cap_drop: capabilities("HostConfig.CapDrop", host.cap_drop.as_deref())?,
        unmasked_paths: unmasked(host)?,
        ..Default::default()
    };
    let mut named = Vec::new();
    for option in &raw_options {
        apply(option, &mut security, &mut named)?;
    }
    contradictions(&security, &raw_options, &named)?;
    security.raw_options = raw_options;
    Ok(security)
}

fn capabilities(field: &str, names: Option<&[String]>) -> Result<Vec<String>> {
    let canonical = |name: &String| match name.eq_ignore_ascii_case("all") {
        true => Ok("ALL".to_owned()),
        false => Capability::parse(name)
            .map(|c| c.to_string())
            .map_err(|e| Error::invalid(format!("invalid {field}: {e}"))),
    };
    names.unwrap_or_default().iter().map(canonical).collect()
}

/// Clients turn `systempaths=unconfined` into two empty lists; lists of one's own are not supported.
fn unmasked(host: &HostConfig) -> Result<bool> {
    match (host.masked_paths.as_deref(), host.readonly_paths.as_deref()) {
        (None, None) => Ok(false),
        (Some([]), Some([])) => Ok(true),
        _ => Err(Error::unsupported(
            "HostConfig.MaskedPaths and HostConfig.ReadonlyPaths: lists of one's own are not supported; leave both out, or \
             make both empty (systempaths=unconfined)",
        )),
    }
}

/// One `SecurityOpt`: `name=value`, or `name:value` as older clients write it, or a name alone.
fn apply(option: &str, security: &mut Security, profiles: &mut Vec<Profile>) -> Result<()> {
    let at = option.find(['=', ':']).unwrap_or(option.len());
    let (name, rest) = option.split_at(at);
    let value = rest.get(1..).unwrap_or("");
    match (name, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
        ("no-new-privileges", "false") => security.no_new_privileges = false,
        ("seccomp", "unconfined") => security.seccomp = SeccompChoice::Unconfined,
        ("seccomp", "builtin") => security.seccomp = SeccompChoice::Default,
        ("seccomp", json) if json.trim_start().starts_with('{') => security.seccomp = profile(json)?,
        ("systempaths", "unconfined") => security.unmasked_paths = true,
        ("profile", name) => {
            security.profile = confinement(name)?;
            profiles.push(security.profile);
        }
        // Without a name no profile is applied: this is what happens anyway.
        ("apparmor", "unconfined") => {}
        ("apparmor", name) if is_profile_name(name) => security.apparmor = Some(name.to_owned()),
        ("no-new-privileges" | "seccomp" | "systempaths" | "apparmor", _) => {
            return Err(Error::invalid(format!("invalid HostConfig.SecurityOpt {option:?}")));
        }
        ("label", value) => label(option, value, &mut security.label)?,
        _ => {
            return Err(unsupported(
                option,
                "the options are profile, seccomp, no-new-privileges, systempaths=unconfined, apparmor=NAME, \
                 label=disable, label=user:U, label=role:R, label=type:T, label=level:L, label=filetype:T",
            ));
        }
    }
    Ok(())
}

/// What the kernel can be asked for: one line.
fn is_profile_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(char::is_control)
}

/// One `label=…`; a later one of the same part counts, as with Docker.
fn label(option: &str, value: &str, choice: &mut LabelChoice) -> Result<()> {
    let both =
        || Error::invalid("conflicting options: HostConfig.SecurityOpt label=disable and another label");
    if value == "disable" {
        return match choice {
            LabelChoice::Changed(_) => Err(both()),
            _ => {
                *choice = LabelChoice::Disabled;
                Ok(())
            }
        };
    }
    if let LabelChoice::Default = choice {
        *choice = LabelChoice::Changed(LabelParts::default());
    }
    let LabelChoice::Changed(parts) = choice else { return Err(both()) };
    let (part, text) = value.split_once(':').unwrap_or((value, ""));
    let slot = match part {
        "user" => &mut parts.user,
        "role" => &mut parts.role,
        "type" => &mut parts.domain,
        "level" => &mut parts.level,
        "filetype" => &mut parts.file_type,
        _ => {
            return Err(unsupported(
                option,
                "the labels are disable, or user, role, type, level, filetype followed by a colon and a value",
            ));
        }
    };
    // A level has colons of its own; in another part they would begin the next.
    let strange = |c: char| c.is_control() || c.is_whitespace() || (c == ':' && part != "level");
    if text.is_empty() || text.contains(strange) {
        return Err(Error::invalid(format!("invalid HostConfig.SecurityOpt {option:?}")));
    }
    text.clone_into(slot);
    Ok(())
}

fn confinement(name: &str) -> Result<Profile> {
    match name {
        "default" => Ok(Profile::Default),
        "strict" => Ok(Profile::Strict),
        "docker" => Ok(Profile::Docker),
        _ => Err(Error::invalid(format!(
            "invalid HostConfig.SecurityOpt \"profile={name}\": the profiles are default, strict, docker"
        ))),
    }
}

/// Options that take each other back: none of them is dropped silently.
fn contradictions(security: &Security, options: &[String], profiles: &[Profile]) -> Result<()> {
    let refused =
        |why: &str| Err(Error::invalid(format!("conflicting options: HostConfig.SecurityOpt {why}")));
    if profiles.windows(2).any(|two| two[0] != two[1]) {
        return refused("names several profiles");
    }
    if security.profile != Profile::Strict {
        return Ok(());
    }
    let gives_back = |o: &String| matches!(o.as_str(), "no-new-privileges=false" | "no-new-privileges:false");
    if options.iter().any(gives_back) {
        return refused("profile=strict and no-new-privileges=false");
    }
    if security.privileged {
        return refused("profile=strict and Privileged");
    }
    if security.unmasked_paths {
        return refused("profile=strict and systempaths=unconfined");
    }
    Ok(())
}

fn unsupported(option: &str, why: &str) -> Error {
    let shown: String = option.chars().take(80).collect();
    Error::unsupported(format!("HostConfig.SecurityOpt {shown:?}: {why}"))
}

/// The text of a profile, which must at least be a JSON object; the runtime compiles it.
fn profile(json: &str) -> Result<SeccompChoice> {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json) {
        Ok(_) => Ok(SeccompChoice::Profile { json: json.to_owned() }),
        Err(e) => Err(Error::invalid(format!(
            "HostConfig.SecurityOpt seccomp: Decoding seccomp profile failed: {e}"
        ))),
    }
}
