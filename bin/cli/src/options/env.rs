//! Variables and labels: from flags, from files, from the client's own environment.

use super::Parsed;

/// Looks a variable up in the client's environment; passed in, so that the rules can be tested.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The check of `-e`: there must be a name.
pub(crate) fn check_variable(text: &str) -> Parsed<()> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(())
}

/// `NAME=value` as it is; `NAME` with the client's value, or alone, which removes the image's.
pub(crate) fn variable(text: &str, lookup: Lookup<'_>) -> String {
    if text.contains('=') {
        return text.to_owned();
    }
    lookup(text).map_or_else(|| text.to_owned(), |value| format!("{text}={value}"))
}

/// The check of `--label`.
pub(crate) fn check_label(text: &str) -> Parsed<()> {
    if text.starts_with('=') || text.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok(())
}

/// `key=value`, or `key` with an empty value.
pub(crate) fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// The lines of an `--env-file` or `--label-file`: comments and blank lines skipped, leading blanks cut. A line that is
/// only a name takes its value from `lookup` or, where that has none, is left out.
pub(crate) fn file(content: &[u8], lookup: Option<Lookup<'_>>) -> Parsed<Vec<String>> {
    let text = std::str::from_utf8(content).map_err(|e| {
        let line = content[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        format!("invalid utf8 bytes at line {line}")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut out = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!("variable '{name}' contains whitespaces"));
        }
        match (line.contains('='), lookup) {
            (true, _) | (false, None) => out.push(line.to_owned()),
            (false, Some(lookup)) => out.extend(lookup(name).map(|value| format!("{name}={value}"))),
        }
    }
    Ok(out)
}
