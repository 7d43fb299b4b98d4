//! The `changes` of an import: lines of a Dockerfile that set an image's defaults.

use tare_model::{Error, ImageConfig, Result, Signal};

/// An image configuration made of these lines.
///
/// # Errors
/// Names the line that is wrong or not supported.
pub(crate) fn apply<'a>(lines: impl Iterator<Item = &'a str>) -> Result<ImageConfig> {
    let mut config = ImageConfig::default();
    for line in lines.flat_map(str::lines).map(str::trim).filter(|l| !l.is_empty()) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        instruction(&mut config, word, rest.trim()).map_err(|e| e.context(format!("change {line:?}")))?;
    }
    Ok(config)
}

fn instruction(config: &mut ImageConfig, word: &str, rest: &str) -> Result<()> {
    if rest.is_empty() {
        return Err(Error::invalid("it needs at least one argument"));
    }
    match word.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = Some(command(rest)?),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)?),
        "ENV" => {
            for (name, value) in pairs(rest)? {
                config.env.retain(|e| e.split('=').next() != Some(&name));
                config.env.push(format!("{name}={value}"));
            }
        }
        "EXPOSE" => config.exposed_ports.extend(rest.split_whitespace().map(port)),
        "LABEL" => config.labels.extend(pairs(rest)?),
        "STOPSIGNAL" => config.stop_signal = Some(rest.parse::<Signal>().map(|_| rest.to_owned())?),
        "USER" => config.user = rest.to_owned(),
        "VOLUME" => config.volumes.extend(words_or_json(rest)?),
        "WORKDIR" => config.working_dir = rest.to_owned(),
        other => return Err(Error::unsupported(format!("{other} is not supported in changes"))),
    }
    Ok(())
}

/// `["a", "b"]`, or a line for the shell.
fn command(text: &str) -> Result<Vec<String>> {
    match json_list(text) {
        Some(list) => list,
        None => Ok(["/bin/sh", "-c", text].map(str::to_owned).to_vec()),
    }
}

fn words_or_json(text: &str) -> Result<Vec<String>> {
    json_list(text).unwrap_or_else(|| Ok(text.split_whitespace().map(str::to_owned).collect()))
}

fn json_list(text: &str) -> Option<Result<Vec<String>>> {
    let parsed = serde_json::from_str(text).map_err(|e| Error::invalid(format!("invalid JSON list: {e}")));
    text.starts_with('[').then_some(parsed)
}

fn port(text: &str) -> String {
    if text.contains('/') { text.to_owned() } else { format!("{text}/tcp") }
}

/// `NAME=value …` with quotes and backslashes, or `NAME the rest`.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let words = words(text)?;
    let first = words.first().map_or("", String::as_str);
    if !first.contains('=') {
        return match text.split_once(char::is_whitespace) {
            Some((name, value)) => Ok(vec![(name.to_owned(), value.trim().to_owned())]),
            None => Err(Error::invalid(format!("{text:?} has no value"))),
        };
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::invalid(format!("{word:?} is not NAME=value"))),
    };
    words.iter().map(pair).collect()
}

/// Splits at blanks outside quotes; a backslash takes the next character as it is.
fn words(text: &str) -> Result<Vec<String>> {
    let (mut words, mut current, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(current.take()),
            (None, '"' | '\'') => {
                quote = Some(c);
                current.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => current.get_or_insert_default().extend(chars.next()),
            (_, c) => current.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Error::invalid("a quote is not closed"));
    }
    words.extend(current);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_set_the_defaults_of_the_image() {
        let lines = [
            "CMD [\"nginx\", \"-g\", \"daemon off;\"]",
            "entrypoint /entry --flag",
            "ENV A=1 B=\"two words\" C=a\\ b",
            "ENV A 3 and more",
            "EXPOSE 80 53/udp",
            "LABEL tier=front",
            "VOLUME /data /logs",
            "USER www",
            "WORKDIR /srv",
            "STOPSIGNAL SIGQUIT",
        ];
        let config = apply(lines.into_iter()).expect("valid");
        assert_eq!(config.cmd.expect("cmd"), ["nginx", "-g", "daemon off;"]);
        assert_eq!(config.entrypoint.expect("entrypoint"), ["/bin/sh", "-c", "/entry --flag"]);
        assert_eq!(config.env, ["B=two words", "C=a b", "A=3 and more"]);
        assert!(config.exposed_ports.iter().eq(["53/udp", "80/tcp"]));
        assert!(config.volumes.iter().eq(["/data", "/logs"]));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("www", "/srv"));
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(config.labels.get("tier").map(String::as_str), Some("front"));
    }

    #[test]
    fn what_is_no_default_is_refused_by_its_line() {
        for bad in ["RUN rm -rf /", "CMD", "CMD [1", "ENV A", "ENV A=\"x", "ENV =x A=b", "STOPSIGNAL NOPE"] {
            let e = apply([bad].into_iter()).expect_err(bad);
            assert!(e.message().contains(&format!("{bad:?}")), "{e}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in ".{0,60}") {
            let _ = apply([line.as_str()].into_iter());
        }
    }
}
